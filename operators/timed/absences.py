"""Absence: after an event, the one that was to follow fails to come within a time.

Whether it came is a matter of event times, not of the order of arrival: a row that was missed may come before the one
that waits for it. So the times of such rows are remembered, as far as a row in time may still ask for them.
"""

from __future__ import annotations

__all__ = ["AbsencesLogic", "Waiting"]

from bisect import insort
from collections.abc import Sequence

import msgspec

from operators.timed.logic import Fired, Missed, Said, TimedRow
from operators.timed.spec import PENDING_MAX, AbsenceSpec


class Waiting(msgspec.Struct, array_like=True):
    """`after`: (time, id) of the rows that wait, by time; `seen`: times of rows that ended such a wait, rising."""

    after: list[tuple[int, str]] = []
    seen: list[int] = []


class AbsencesLogic:
    """See `WindowLogic`."""

    def __init__(self, rule: AbsenceSpec) -> None:
        self._within = rule.within
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(Waiting).decode

    def new(self) -> Waiting:
        """Nothing waits."""
        return Waiting()

    def load(self, stored: bytes) -> Waiting:
        """From bytes."""
        return self._decode(stored)

    def store(self, state: Waiting) -> bytes:
        """As bytes."""
        return self._encode(state) if state.after or state.seen else b""

    def row(self, state: Waiting, row: TimedRow, watermark: int) -> tuple[Sequence[Said], int | None]:
        """The row ends waits, begins one, or both; none of its own."""
        self._purge(state, watermark)
        time, within = row.time, self._within
        begins, ends = row.marks
        said: list[Said] = []
        if ends:
            if time <= watermark - within:
                said.append(Missed(1, 1))  # whatever waited for it has been told
            else:
                state.after = [one for one in state.after if not one[0] < time < one[0] + within]
                self._remember(state, time)
        if not begins:
            return said, None
        if time + within <= watermark:
            return [*said, Missed(1, 1)], None
        if any(time < seen < time + within for seen in state.seen):
            return said, None
        if len(state.after) >= PENDING_MAX:
            return [*said, Missed(1, 1, "too_many")], None
        insort(state.after, (time, row.id))
        return said, time + within

    def fire(self, state: Waiting, due: int) -> Sequence[Said]:
        """Rows that have waited in vain until `due`."""
        said = [Fired(time, due, id=name) for time, name in state.after if time + self._within == due]
        state.after = [one for one in state.after if one[0] + self._within != due]
        self._purge(state, due)
        return said

    def due(self, state: Waiting, watermark: int) -> int | None:
        """When the first wait is over."""
        return state.after[0][0] + self._within if state.after else None

    def closes(self, state: Waiting) -> int:
        """When the last wait is over, and none that may still begin is ended by what was seen."""
        return max([*(time for time, _ in state.after[-1:]), *state.seen[-1:]]) + self._within

    def open_windows(self, state: Waiting, watermark: int) -> int:
        """See `WindowLogic`: rows that wait."""
        return sum(time + self._within > watermark for time, _ in state.after)

    def _remember(self, state: Waiting, time: int) -> None:
        """Of three times within the bound, the middle one is not needed: whoever it helps, the last one helps too."""
        insort(state.seen, time)
        kept: list[int] = []
        for seen in state.seen:
            while len(kept) > 1 and seen - kept[-2] < self._within:
                kept.pop()
            if not kept or kept[-1] != seen:
                kept.append(seen)
        state.seen = kept

    def _purge(self, state: Waiting, watermark: int) -> None:
        limit = watermark - self._within
        if state.seen and state.seen[0] <= limit:
            state.seen = [time for time in state.seen if time > limit]
