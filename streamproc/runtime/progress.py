"""How far the group has come in all partitions of its topics, whoever has them: a look at the log now and then.

A partition is behind if what was there at the look before the last one is not decided, or what was written here. Its
event time is that of the last commit (`JournalHead.time`), or long ago. Offsets that no record will ever have, of
transactions' marks, are no lag.
"""

from __future__ import annotations

__all__ = ["LONG_AGO", "Progress"]

import asyncio
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import structlog

from state.errors import EventLogError, StateCorruptedError
from streamproc.clock import Clock
from streamproc.eventlog.contract import EventLog, TopicPartition
from streamproc.runtime.ending import nothing_between
from streamproc.runtime.journal import JournalHead

LONG_AGO = -1
_EVERY_SECONDS, _URGENT_SECONDS = 0.25, 0.01
_SILENT_SECONDS = 5.0
"""So long looks may fail before it is said."""
_MARKS_MAX = 8


class _Look(NamedTuple):
    """Of all partitions: the next offset to decide, its event time, and the end."""

    positions: dict[TopicPartition, int]
    times: dict[TopicPartition, int]
    ends: dict[TopicPartition, int]


class Progress:
    """What the last looks saw. `look` never waits: it begins one if it is time, and takes up one that has ended."""

    def __init__(self, log: EventLog, group: str, clock: Clock) -> None:
        self._log, self._group, self._clock = log, group, clock
        self.partitions: Sequence[TopicPartition] = ()
        self._last: _Look | None = None
        self._had: dict[TopicPartition, int] = {}
        self._wrote: dict[TopicPartition, int] = {}
        self._empty: dict[TopicPartition, tuple[int, int]] = {}  # from, to: no record lies there
        self._running: asyncio.Task[_Look] | None = None
        self._begun = 0.0
        self._failing_since: float | None = None
        self._is_told = False

    @property
    def known(self) -> bool:
        """Whether there was a look since `forget`."""
        return self._last is not None

    def behind(self, tp: TopicPartition, read: int) -> int | None:
        """The event time, ms, of a partition that is behind; None: it is not. `read`: how far it is read here, if so.

        All are, long ago, until the first look.
        """
        if self._last is None:
            return LONG_AGO
        position = max(self._last.positions[tp], read)
        return None if position >= max(self._had[tp], self._wrote.get(tp, 0)) else self._last.times[tp]

    def wrote(self, ends: Mapping[TopicPartition, int]) -> None:
        """The last offsets of what was committed here for our own partitions: no look is needed to know of it, and a
        backlog would have gone through the next stage before one tells.
        """
        self._wrote |= {tp: end + 1 for tp, end in ends.items()}

    def marked(self, tp: TopicPartition, start: int, stop: int) -> None:
        """If a partition ends at `stop`, no record lies from `start` on: nobody need look."""
        self._empty[tp] = start, stop

    def time(self, tp: TopicPartition) -> int:
        """The event time, ms, up to which the group has come, as its last commit says; long ago if it does not."""
        return LONG_AGO if self._last is None else self._last.times.get(tp, LONG_AGO)

    def look(self, *, urgent: bool = False) -> None:
        """Keep up to date, every 250 ms, or every 10 when it is `urgent`."""
        if self._running is not None and self._running.done():
            self._take_up(self._running)
            self._running = None
        every = _URGENT_SECONDS if urgent else _EVERY_SECONDS
        now = self._clock.monotonic()
        if self._running is None and (self._last is None or now - self._begun >= every):
            self._begun = now
            self._running = asyncio.get_running_loop().create_task(self._look(), name="progress")

    def forget(self) -> None:
        """Partitions change hands: nothing is known until the next look, which begins after this."""
        self._last = None
        self._wrote = {}
        if self._running is not None:
            self._running.cancel()
            self._running = None

    async def close(self) -> None:
        """End a look under way."""
        running = self._running
        self.forget()
        if running is not None:
            await asyncio.gather(running, return_exceptions=True)

    def _take_up(self, ended: asyncio.Task[_Look]) -> None:
        if ended.cancelled():
            return
        error = ended.exception()
        if isinstance(error, EventLogError):
            self._failed(error)
            return
        self._failing_since, self._is_told = None, False
        found = ended.result()
        self._had = found.ends if self._last is None else self._last.ends
        self._last = found

    def _failed(self, error: EventLogError) -> None:
        """A look for nothing is borne; while all fail, partitions are held back by what was seen long ago."""
        now = self._clock.monotonic()
        if self._failing_since is None:
            self._failing_since = now
        logger, says = structlog.get_logger("in_step"), "the log did not say how far all are"
        if self._is_told or now - self._failing_since < _SILENT_SECONDS:
            logger.debug(says, error=str(error))
            return
        self._is_told = True
        logger.warning(says, error=str(error), seconds=now - self._failing_since)

    async def _look(self) -> _Look:
        admin, tps = self._log.admin(), list(self.partitions)
        ends, committed = await asyncio.gather(admin.end_offsets(tps), admin.committed(self._group, tps))
        begins = await admin.begin_offsets([tp for tp in tps if tp not in committed and ends[tp] > 0])
        positions = {tp: committed[tp].offset if tp in committed else begins.get(tp, 0) for tp in tps}
        await self._pass_marks(positions, ends)
        times = {tp: _time_of(committed[tp].metadata) if tp in committed else LONG_AGO for tp in tps}
        return _Look(positions, times, ends)

    async def _pass_marks(self, positions: dict[TopicPartition, int], ends: Mapping[TopicPartition, int]) -> None:
        """Move positions that have not moved since the last look over what no record lies in."""
        for tp, position in positions.items():
            gap = position, ends[tp]
            stands = self._last is not None and self._last.positions[tp] == position < ends[tp] <= position + _MARKS_MAX
            if gap != self._empty.get(tp) and stands and await nothing_between(self._log, {tp: gap}):
                self._empty[tp] = gap
            if gap == self._empty.get(tp):
                positions[tp] = ends[tp]


def _time_of(metadata: str) -> int:
    try:
        return JournalHead.parse(metadata).time
    except StateCorruptedError:
        return LONG_AGO
