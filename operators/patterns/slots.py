"""What a run remembers of its rows: one value a slot, brought forward row by row, so that no run keeps its rows.

`A.x` is the slot LAST(A.x), COUNT(A.*) the slot COUNT. A row counts for a slot if the variable it was taken for is one
of the slot's. Values are physical (a decimal(2) of 12.34 is 1234) and exact: sums are whole numbers.
"""

from __future__ import annotations

__all__ = ["CLASSIFIER", "OFFSET_MAX", "ROW_NUMBER", "Slot", "SlotKind", "begin", "bring", "counting", "value_of"]

from collections.abc import Sequence
from enum import StrEnum
from typing import Any, Final

import msgspec

from operators.schema import DataType
from state.errors import RecordError

CLASSIFIER: Final = -1
"""As a slot's column: the name of the variable that the row was taken for."""
ROW_NUMBER: Final = -2
"""As a slot's column: the row's number in the key."""
OFFSET_MAX: Final = 100
_INT64_MAX = 2**63 - 1

Values = list[Any]


class SlotKind(StrEnum):
    """What is remembered. FIRST and LAST: of the row `offset` behind the first, before the last; NULLs count."""

    FIRST = "first"
    LAST = "last"
    COUNT = "count"
    SUM = "sum"
    MIN = "min"
    MAX = "max"


class Slot(msgspec.Struct, frozen=True):
    """`name`: of the column that expressions read; `of`: its type. `column`: number of the row's value, None: COUNT(*).

    `variables`: bit i is set if rows of variable i count.
    """

    name: str
    kind: SlotKind
    variables: int
    column: int | None
    of: DataType
    offset: int = 0


def begin(slots: Sequence[Slot]) -> Values:
    """The values before the first row."""
    return [
        [] if slot.kind in (SlotKind.FIRST, SlotKind.LAST) else 0 if slot.kind is SlotKind.COUNT else None
        for slot in slots
    ]


def counting(slots: Sequence[Slot], variable: int) -> tuple[tuple[int, Slot], ...]:
    """The slots that a row taken for `variable` counts for, each with its place."""
    return tuple([(i, slot) for i, slot in enumerate(slots) if slot.variables >> variable & 1])


def bring(slots: Sequence[tuple[int, Slot]], values: Values, row: Sequence[Any], *, name: str, number: int) -> Values:
    """The values behind a row that counts for `slots`; `values` is not changed. `name`: of the variable that the row
    was taken for; `number`: the row's.

    Raises:
        RecordError: a sum leaves int64.
    """
    found = values
    for i, slot in slots:
        if slot.column is None:
            value: Any = True
        elif slot.column >= 0:
            value = row[slot.column]
        else:
            value = name if slot.column == CLASSIFIER else number
        after = _after(slot, values[i], value)
        if after is not values[i]:
            found = values.copy() if found is values else found
            found[i] = after
    return found


def _after(slot: Slot, known: Any, value: Any) -> Any:
    match slot.kind:
        case SlotKind.FIRST:
            return known if len(known) > slot.offset else [*known, value]
        case SlotKind.LAST:
            return [*known[-slot.offset :], value] if slot.offset else [value]
    if value is None:
        return known
    match slot.kind:
        case SlotKind.COUNT:
            return known + 1
        case SlotKind.SUM:
            total = value if known is None else known + value
            if abs(total) > _INT64_MAX:
                raise RecordError("overflow", f"in a sum of a pattern ({slot.name})")
            return total
        case SlotKind.MIN:
            return value if known is None or value < known else known
        case _:
            return value if known is None or value > known else known


def value_of(slot: Slot, known: Any) -> Any:
    """What a slot's column says; None is NULL."""
    if slot.kind is SlotKind.FIRST:
        return known[slot.offset] if len(known) > slot.offset else None
    if slot.kind is SlotKind.LAST:
        return known[0] if len(known) > slot.offset else None
    return known
