"""Session windows of one key: rows that follow each other within the gap; a late row may join sessions.

A session is [first row, last row + gap). A row at exactly the gap still belongs to it, as in Flink and Kafka Streams.
Where different values are counted, sessions keep them, and join them as they are joined themselves.
"""

from __future__ import annotations

__all__ = ["DIFFERENT_MAX", "Session", "Sessions", "SessionsLogic"]

from collections.abc import Sequence

import msgspec

from operators.timed.logic import Accumulator, Fired, Missed, Said, TimedRow, combined, counted, values_of
from operators.timed.spec import WindowSpec

DIFFERENT_MAX = 10_000
"""Different values that a session keeps, and so counts, at most."""


class Session(msgspec.Struct, array_like=True):
    """`told`: the windows that were told and not yet replaced; `revision`: of the next result.

    `different`: the values, where different ones are counted.
    """

    start: int
    end: int
    found: Accumulator
    revision: int = 0
    told: list[tuple[int, int]] = []
    different: set[str] = set()


class Sessions(msgspec.Struct, array_like=True):
    """Of one key: those that are not closed, by time; no two of them touch."""

    open: list[Session] = []


class SessionsLogic:
    """See `WindowLogic`."""

    def __init__(self, rule: WindowSpec) -> None:
        self._rule = rule
        self._encode = msgspec.msgpack.Encoder(order="deterministic").encode
        self._decode = msgspec.msgpack.Decoder(Sessions).decode

    def new(self) -> Sessions:
        """No sessions."""
        return Sessions()

    def load(self, stored: bytes) -> Sessions:
        """From bytes."""
        return self._decode(stored)

    def store(self, state: Sessions) -> bytes:
        """As bytes."""
        return self._encode(state) if state.open else b""

    def row(self, state: Sessions, row: TimedRow, watermark: int) -> tuple[Sequence[Said], int | None]:
        """The row begins a session, or joins those that it touches; an ended one is told anew."""
        self._purge(state, watermark)
        start, end = row.time, row.time + self._rule.size
        touched = [one for one in state.open if one.start <= end and start <= one.end]
        if not touched and end + self._rule.lateness <= watermark:
            return [Missed(1, 1)], None
        merged = self._of(row)
        for one in touched:
            merged = _merged(merged, one)
        state.open = sorted([one for one in state.open if one not in touched] + [merged], key=lambda one: one.start)
        if merged.end <= watermark:
            return [self._result(merged)], None
        return [], merged.end

    def fire(self, state: Sessions, due: int) -> Sequence[Said]:
        """The session that ends at `due`."""
        said = [self._result(one) for one in state.open if one.end == due]
        self._purge(state, due)
        return said

    def due(self, state: Sessions, watermark: int) -> int | None:
        """The next end."""
        return min((one.end for one in state.open if one.end > watermark), default=None)

    def closes(self, state: Sessions) -> int:
        """The last end, and its lateness."""
        return state.open[-1].end + self._rule.lateness

    def open_windows(self, state: Sessions, watermark: int) -> int:
        """See `WindowLogic`."""
        return sum(one.end > watermark for one in state.open)

    def _of(self, row: TimedRow) -> Session:
        """The session of one row."""
        start, end = row.time, row.time + self._rule.size
        if not self._rule.different:
            return Session(start, end, counted(None, row.value))
        return Session(start, end, counted(None, None), different=set() if row.value is None else {row.value})

    def _result(self, one: Session) -> Fired:
        rule = self._rule
        values = (len(one.different),) if rule.different else values_of(rule.aggregates, rule.of is None, one.found)
        bounds = (one.start, one.end)
        said = Fired(*bounds, values, one.revision, tuple(told for told in one.told if told != bounds))
        one.revision, one.told = one.revision + 1, [bounds]
        return said

    def _purge(self, state: Sessions, watermark: int) -> None:
        limit = watermark - self._rule.lateness
        if state.open and state.open[0].end <= limit:
            state.open = [one for one in state.open if one.end > limit]


def _merged(one: Session, other: Session) -> Session:
    return Session(
        min(one.start, other.start),
        max(one.end, other.end),
        combined(one.found, other.found),
        max(one.revision, other.revision),
        sorted(one.told + other.told),
        _joined(one.different, other.different),
    )


def _joined(one: set[str], other: set[str]) -> set[str]:
    """The values of both, in the larger one, as far as there is room."""
    most, more = (one, other) if len(one) >= len(other) else (other, one)
    room = DIFFERENT_MAX - len(most)
    new = more - most
    most |= new if len(new) <= room else set(sorted(new)[:room])
    return most
