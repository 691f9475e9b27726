"""Sequence patterns: units of their work a row, and bytes of a key that has a beginning of each.

How many rows may begin or bring on a match nobody knows beforehand: a unit holds the benchmark's, 5 % of all.
"""

from __future__ import annotations

__all__ = ["EACH", "SHARED", "pattern_state"]

from typing import Any

import msgspec

from operators.patterns.matcher import Attempt, KeyRuns, Run
from operators.patterns.nfa import DONE, compile_pattern
from operators.patterns.operator import PatternOperator
from operators.patterns.slots import SlotKind
from operators.patterns.spec import PatternSpec
from operators.patterns.timeouts import TimedPatternOperator
from operators.schema import Kind
from state.due import ENTRY_BYTES
from streamproc.language.costing.prediction import KeyState
from streamproc.language.costing.state import memory_bytes, stored_bytes
from streamproc.language.costing.units import Units
from streamproc.language.items import KEY_TEXT

SHARED = Units({"pattern": 1})
"""What the patterns of a key share."""
EACH = Units({"pattern:each": 1})
_BEGIN_MS = 1_767_225_600_000
_VALUE, _TEXT = 12_345, "merchant-00001234"


def pattern_state(step: PatternOperator) -> KeyState:
    """What a key keeps while a match of each pattern has begun."""
    (table,) = step.tables
    begun = [(number, _begun(spec)) for number, spec in enumerate(step.specs)]
    blob = len(msgspec.msgpack.encode(begun))
    timer = ENTRY_BYTES if isinstance(step, TimedPatternOperator) else 0
    return KeyState(
        table=table.name,
        key=step.specs[0].key.removeprefix(KEY_TEXT),
        kept_ms=table.ttl_ms,
        entries=len(begun),
        entry_bytes=blob // len(begun),
        bytes=memory_bytes(table, 0) + blob + timer,
        stored_bytes=stored_bytes(table, 0) + blob,
        ttl_ms=table.ttl_ms,
    )


def _begun(spec: PatternSpec) -> KeyRuns:
    """A state whose one attempt has taken the first row it can begin with."""
    program = compile_pattern(spec.pattern)
    values = [_value(slot.kind, slot.of.kind) for slot in spec.slots]
    place = next(place for place, _ in program.starts if place != DONE)
    runs = [Run(on, gap, False, values, []) for on, gap in program.follow[place] if on != DONE]
    return KeyRuns(1, 0, [Attempt(0, _BEGIN_MS, runs)])


def _value(kind: SlotKind, of: Kind) -> Any:
    value: Any = _TEXT if of is Kind.STRING else _VALUE
    return [value] if kind in (SlotKind.FIRST, SlotKind.LAST) else value
