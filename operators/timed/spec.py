"""What a timed operator computes: plain data that the language writes and the operators, the encoder and tests read."""

from __future__ import annotations

__all__ = [
    "PENDING_MAX",
    "SLICES_MAX",
    "WHEN",
    "AbsenceSpec",
    "AlertSpec",
    "TimedAggregate",
    "TimedSpec",
    "WindowKind",
    "WindowSpec",
    "check",
    "result_fields",
]

from enum import StrEnum
from math import gcd

import msgspec

from operators.expressions import ExpressionOperator
from operators.operator import FLOAT64, INT64, STRING, TIMESTAMP, OutputField
from operators.schema import DataType, Kind
from state.errors import ConfigError

SLICES_MAX = 1_000
"""Slices of one window, and windows of one row."""
PENDING_MAX = 1_000
"""Events of one key that an absence waits for at once; beyond, they are reported, not waited for."""
WHEN = "when"
"""The column of an alert's condition."""
_EXACT = (Kind.INT64, Kind.DECIMAL)
_ORDERED = (*_EXACT, Kind.TIMESTAMP)


class WindowKind(StrEnum):
    """Named as in Flink SQL."""

    TUMBLE = "tumble"
    HOP = "hop"
    SESSION = "session"
    CUMULATE = "cumulate"


class TimedAggregate(StrEnum):
    """What is told of a window's rows."""

    COUNT = "count"
    SUM = "sum"
    MEAN = "mean"
    MIN = "min"
    MAX = "max"


class WindowSpec(msgspec.Struct, frozen=True):
    """Windows of event time; all lengths in ms.

    Args:
        kind: how rows are put into windows.
        size: of a window; of a session: the gap that ends it.
        every: hop: from one begin to the next; cumulate: the step by which a window grows; else 0.
        offset: windows begin at multiples of their length (hop: of `every`), and so much later.
        lateness: so long after its end, by the watermark, a window still takes rows; each gives an updated result.
        of: the column that is aggregated; None: rows are counted.
        type: of that column.
        where: a bool column; other rows do not count.
        aggregates: in the analyst's order.
        different: of a session: `of` holds texts, and equal ones are counted once.
    """

    kind: WindowKind
    size: int
    aggregates: tuple[TimedAggregate, ...]
    every: int = 0
    offset: int = 0
    lateness: int = 0
    of: str | None = None
    type: DataType | None = None
    where: str | None = None
    different: bool = False

    @property
    def slice(self) -> int:
        """The longest stretch (ms) of which each window of this kind holds all or nothing."""
        match self.kind:
            case WindowKind.HOP:
                return gcd(self.size, self.every)
            case WindowKind.CUMULATE:
                return self.every
            case _:
                return self.size


class AbsenceSpec(msgspec.Struct, frozen=True):
    """After a row where `after` is true, a row of the key where `without` is true fails to come for `within` ms.

    Both are bool columns. The row that is missed would lie strictly between the first one's time and `within` past it.
    """

    after: str
    without: str
    within: int


class TimedSpec(msgspec.Struct, frozen=True):
    """One entry of `windows:` or `absences:`.

    Args:
        name: unique in the pipeline; what its results are called.
        per: the column whose values it is kept for, as the analyst calls it.
        key: the string column that holds its text.
        rule: what is computed.
        disorder: ms by which the watermark lies behind the newest event time of the task.
        id: the string or int64 column that says which row it was.
    """

    name: str
    per: str
    key: str
    rule: WindowSpec | AbsenceSpec
    disorder: int = 0
    id: str = ""


class AlertSpec(msgspec.Struct, frozen=True):
    """How results of the timed operator `name` are told. `when`: gives the bool column `WHEN`; None: all are told."""

    name: str
    reason: str
    when: ExpressionOperator | None = None


def result_fields(spec: TimedSpec, rule: WindowSpec) -> tuple[OutputField, ...]:
    """The columns of a window's results, which `when` may read; the key under the analyst's name for it, as text."""
    of = rule.type or INT64
    kinds: dict[TimedAggregate, OutputField] = {
        TimedAggregate.COUNT: OutputField("count", INT64, nullable=False),
        TimedAggregate.SUM: OutputField("sum", of),
        TimedAggregate.MEAN: OutputField("mean", FLOAT64),
        TimedAggregate.MIN: OutputField("min", of),
        TimedAggregate.MAX: OutputField("max", of),
    }
    bounds = [OutputField(name, TIMESTAMP, nullable=False) for name in ("window_start", "window_end")]
    found = [*bounds, OutputField("revision", INT64, nullable=False), *(kinds[one] for one in rule.aggregates)]
    if spec.per not in {field.name for field in found}:
        found.append(OutputField(spec.per, STRING, nullable=False))
    return tuple(found)


def check(rule: WindowSpec | AbsenceSpec) -> None:
    """Refuse what cannot be computed, or not exactly.

    Raises:
        ConfigError: says what and what to do.
    """
    if isinstance(rule, WindowSpec):
        _check_lengths(rule)
        _check_aggregates(rule)
    elif rule.within <= 0:
        raise ConfigError("within must be longer than 0 ms")


def _check_lengths(rule: WindowSpec) -> None:
    kind, size, every = rule.kind, rule.size, rule.every
    if size <= 0 or rule.lateness < 0:
        raise ConfigError(f"{kind}: a window is longer than 0 ms")
    if kind in (WindowKind.HOP, WindowKind.CUMULATE):
        if not 0 < every <= size:
            raise ConfigError(f"{kind}: the step must be longer than 0 ms, and not longer than the window")
        if kind is WindowKind.CUMULATE and size % every:
            raise ConfigError("cumulate: the window must be a multiple of its step")
        if size // rule.slice > SLICES_MAX:
            hint = f"a window of {SLICES_MAX} steps at most, best a multiple of its step"
            raise ConfigError(f"{kind}: a window would be cut into {size // rule.slice} pieces", hint=hint)


def _check_aggregates(rule: WindowSpec) -> None:
    if rule.different and (rule.kind is not WindowKind.SESSION or rule.aggregates != (TimedAggregate.COUNT,)):
        raise ConfigError("different values are counted, of a session")
    for aggregate in rule.aggregates:
        if aggregate is TimedAggregate.COUNT:
            continue
        if rule.of is None or rule.type is None:
            raise ConfigError(f"{aggregate} needs a column, not *", hint="of: amount")
        ordered = aggregate in (TimedAggregate.MIN, TimedAggregate.MAX)
        if rule.type.kind not in (_ORDERED if ordered else _EXACT):
            hint = "declare decimal(n)" if rule.type.kind is Kind.FLOAT64 else "int64 and decimal(n) can be aggregated"
            raise ConfigError(f"{aggregate} of {rule.type} is not exact, or has no meaning", hint=hint)
