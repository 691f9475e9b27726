"""What the timed operators share: what one key's rows and timers give, and the contract of the three kinds.

Times are ms of event time. `watermark` (W): no row that counts as in time comes with an earlier event time any more. A
window [start, end) is due when W >= end, and closed, for good, when W >= end + lateness.
"""

from __future__ import annotations

__all__ = [
    "Accumulator",
    "Fired",
    "KeyLogic",
    "Missed",
    "Pair",
    "Said",
    "Timed",
    "TimedRow",
    "Told",
    "WindowLogic",
    "added",
    "combined",
    "counted",
    "values_of",
]

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

from operators.timed.spec import TimedAggregate
from state.errors import RecordError

INT64_MAX = 2**63 - 1

Accumulator = tuple[int, int, int, int, int]
"""(rows, values that are not NULL, their sum, least, greatest); the last two are 0 without values."""


class TimedRow(NamedTuple):
    """A row as a timed operator sees it: `value` of the aggregated column (None: NULL; a text where different ones are
    counted), `marks`: after, without.
    """

    time: int
    value: Any
    marks: tuple[bool, bool]
    id: str


class Fired(NamedTuple):
    """A result: of [start, end). `revision`: how often it was told before; `replaces`: windows that are void by it.

    `values`: see `values_of`; empty for an absence, whose start is the time of the row `id` and end its deadline.
    """

    start: int
    end: int
    values: tuple[Any, ...] = ()
    revision: int = 0
    replaces: tuple[tuple[int, int], ...] = ()
    id: str = ""


class Missed(NamedTuple):
    """A row that came too late for `missed` of its `windows`; or for which there is no room."""

    missed: int
    windows: int
    reason: str = "too_late"


class Told(NamedTuple):
    """A row that waited for its time: `values` of the columns that it has."""

    values: tuple[Any, ...]


class Pair(NamedTuple):
    """Two rows that go together, by the values of their columns; None where a row has no other."""

    left: tuple[Any, ...] | None
    right: tuple[Any, ...] | None


Said = Fired | Missed | Told | Pair


class Timed(Protocol):
    """A row as its key's logic sees it."""

    @property
    def time(self) -> int:
        """Its event time, ms."""
        ...


R_contra = TypeVar("R_contra", bound=Timed, contravariant=True)


class KeyLogic(Protocol[R_contra]):
    """One kind of window at work on the state of one key; state objects are changed in place."""

    def new(self) -> Any:
        """The state of a key that is new."""
        ...

    def load(self, stored: bytes) -> Any:
        """State from its bytes."""
        ...

    def store(self, state: Any) -> bytes:
        """The state as bytes, the same for equal states; empty if it is as new."""
        ...

    def row(self, state: Any, row: R_contra, watermark: int) -> tuple[Sequence[Said], int | None]:
        """Take a row; what it gives, and the time at which it lets something be due, if it does.

        `watermark` is that before the row.
        """
        ...

    def fire(self, state: Any, due: int) -> Sequence[Said]:
        """What is due at `due`: nothing, if the state no longer is what it was when it was put down for then."""
        ...

    def due(self, state: Any, watermark: int) -> int | None:
        """The next time at which something is due, after the watermark; None: nothing."""
        ...

    def closes(self, state: Any) -> int:
        """The watermark from which on the state is as good as new; only of states that `store` does not find new."""
        ...


class WindowLogic(KeyLogic[TimedRow], Protocol):
    """A kind of window or of wait, which has open ones."""

    def open_windows(self, state: Any, watermark: int) -> int:
        """How many have begun and have not ended by the watermark."""
        ...


def counted(before: Accumulator | None, value: int | None) -> Accumulator:
    """With one more row.

    Raises:
        RecordError: the sum leaves 64 bits.
    """
    if before is None:
        return (1, 0, 0, 0, 0) if value is None else (1, 1, value, value, value)
    return combined(before, (1, 0, 0, 0, 0) if value is None else (1, 1, value, value, value))


def combined(one: Accumulator, other: Accumulator) -> Accumulator:
    """Of the rows of both.

    Raises:
        RecordError: the sum leaves 64 bits.
    """
    found = added(one, other)
    if not -INT64_MAX <= found[2] <= INT64_MAX:
        raise RecordError("overflow", "the sum of a window leaves 64 bits")
    return found


def added(one: Accumulator, other: Accumulator) -> Accumulator:
    """Of the rows of both, however large: for results that are told, not kept."""
    total = one[2] + other[2]
    if not one[1] or not other[1]:
        some = one if one[1] else other
        return (one[0] + other[0], some[1], total, some[3], some[4])
    return (one[0] + other[0], one[1] + other[1], total, min(one[3], other[3]), max(one[4], other[4]))


def values_of(aggregates: Iterable[TimedAggregate], rows_counted: bool, found: Accumulator) -> tuple[Any, ...]:
    """One value an aggregate: an int, None, or for a mean (sum, count). A sum that leaves 64 bits is None.

    `rows_counted`: whether `count` counts rows, not values.
    """
    rows, values, total, least, most = found
    out: list[Any] = []
    for aggregate in aggregates:
        match aggregate:
            case TimedAggregate.COUNT:
                out.append(rows if rows_counted else values)
            case TimedAggregate.SUM:
                out.append(total if values and -INT64_MAX <= total <= INT64_MAX else None)
            case TimedAggregate.MEAN:
                out.append((total, values) if values else None)
            case TimedAggregate.MIN:
                out.append(least if values else None)
            case TimedAggregate.MAX:
                out.append(most if values else None)
    return tuple(out)
