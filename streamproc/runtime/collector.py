"""Collect: polls while a transaction is in flight, so that what arrives meanwhile becomes the next batch.

That is group commit: one waiting event makes a batch of one (no timer, no linger), and under load batches grow by
themselves. `take` is bounded by rows; chunks are cut, and a partition's never reordered. In which order partitions
come, and what must wait, is the queue's: as they came (`InArrivalOrder`), fresh ones first (fresh_first.py), or in step
(in_step.py).
"""

from __future__ import annotations

__all__ = ["Collector", "InArrivalOrder", "Queue"]

import asyncio
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from streamproc.eventlog.contract import Chunk, GroupReader, TopicPartition
from streamproc.runtime.chunks import split_chunk

_POLL_TIMEOUT_MS = 200
_HELD_SECONDS = 0.01
"""Until what waits, and may not be taken yet, is looked at again."""
_PAUSE_SECONDS = 0.002
"""Between two polls while a transaction is in flight: what comes meanwhile waits for its end anyway."""
_OWN_SECONDS = 0.005
"""How long to wait for what was committed here for ourselves: readers see it a moment later."""


class Queue(Protocol):
    """What was collected and waits to be decided."""

    @property
    def rows(self) -> int:
        """Records that wait."""
        ...

    @property
    def partitions(self) -> set[TopicPartition]:
        """Whose records wait."""
        ...

    @property
    def head(self) -> Chunk | None:
        """The records that `take` takes first: if no more are asked for, these alone."""
        ...

    @property
    def reached(self) -> Mapping[TopicPartition, int]:
        """Where that is known: the event time, ms, up to which all records of a partition were taken."""
        ...

    @property
    def is_far_behind(self) -> bool:
        """Whether all that is read came to the log long ago, and more waits there: nobody waits for the next batch."""
        ...

    def ready(self) -> bool:
        """Whether `take` would take anything now."""
        ...

    def takeable(self, rows: int) -> int:
        """How many of `rows` records are there to be taken: what is held back is not."""
        ...

    def extend(self, chunks: Iterable[Chunk]) -> None:
        """These came."""
        ...

    def take(self, rows: int) -> list[Chunk]:
        """Up to `rows` records, each partition's in order."""
        ...

    def passed(self, chunk: Chunk) -> None:
        """These were taken without waiting here (shortcut.py)."""
        ...

    def clear(self) -> None:
        """Forget them: all partitions will be read again from where they stand."""
        ...


class InArrivalOrder:
    """A queue: first come, first taken."""

    reached: Mapping[TopicPartition, int] = {}
    is_far_behind = False

    def __init__(self) -> None:
        self._chunks: deque[Chunk] = deque()
        self.rows = 0

    @property
    def partitions(self) -> set[TopicPartition]:
        """See `Queue`."""
        return {chunk.tp for chunk in self._chunks}

    @property
    def head(self) -> Chunk | None:
        """See `Queue`."""
        return self._chunks[0] if self._chunks else None

    def ready(self) -> bool:
        """See `Queue`."""
        return self.rows > 0

    def takeable(self, rows: int) -> int:
        """See `Queue`."""
        return min(rows, self.rows)

    def extend(self, chunks: Iterable[Chunk]) -> None:
        """See `Queue`."""
        for chunk in chunks:
            self._chunks.append(chunk)
            self.rows += len(chunk.offsets)

    def take(self, rows: int) -> list[Chunk]:
        """See `Queue`."""
        taken: list[Chunk] = []
        while self._chunks and rows > 0:
            chunk = self._chunks.popleft()
            if len(chunk.offsets) > rows:
                chunk, rest = split_chunk(chunk, rows)
                self._chunks.appendleft(rest)
            taken.append(chunk)
            rows -= len(chunk.offsets)
            self.rows -= len(chunk.offsets)
        return taken

    def passed(self, chunk: Chunk) -> None:
        """See `Queue`."""

    def clear(self) -> None:
        """See `Queue`."""
        self._chunks.clear()
        self.rows = 0


class Collector:
    """Buffers at most `rows_max` records beyond what one poll brings."""

    def __init__(self, reader: GroupReader, rows_max: int, queue: Queue) -> None:
        self._reader = reader
        self._rows_max = rows_max
        self.queue = queue
        self._poll: asyncio.Task[list[Chunk]] | None = None
        self._own: dict[TopicPartition, int] = {}

    @property
    def idle(self) -> bool:
        """Whether nothing waits, and no poll has brought anything that was not looked at yet."""
        return self.queue.rows == 0 and (self._poll is None or not self._poll.done())

    async def wait(self, timeout_s: float = 0.1, sooner: asyncio.Future[Any] | None = None) -> bool:
        """Whether anything waits that may be taken, after at most `timeout_s`, or when `sooner` is done.

        Raises:
            EventLogError: polling failed.
        """
        if self.queue.rows >= self._rows_max and self.queue.ready():
            return True
        await self._collect_own()
        poll = self._polling()
        if self.queue.ready():
            await asyncio.sleep(0)  # what has arrived by now comes along
        else:
            either = [poll] if sooner is None else [poll, sooner]
            timeout_s = _HELD_SECONDS if self.queue.rows else timeout_s
            await asyncio.wait(either, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        self._harvest()
        return self.queue.ready()

    async def during(self, work: asyncio.Future[Any], rows: int | None = None) -> bool:
        """Collect until `work` is done or, if given, `rows` records wait that may be taken; whether `work` is done.

        A failure of `work` is in `work`; one of a poll waits for `wait`.
        """
        while not work.done():
            poll = self._polling()
            if rows is not None and self._waits(rows):
                return False
            if self.queue.rows >= self._rows_max or (poll.done() and poll.exception() is not None):
                await asyncio.wait([work])
                break
            both: list[asyncio.Future[Any]] = [work, poll]
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if poll.done() and poll.exception() is None:
                self._harvest()
                await asyncio.wait([work], timeout=_PAUSE_SECONDS)
        return True

    def _waits(self, rows: int) -> bool:
        """Whether so many wait and may be taken; where no more can be collected, any that may."""
        waiting = self.queue.rows
        return waiting >= rows and self.queue.takeable(rows) >= (rows if waiting < self._rows_max else 1)

    def take_up(self) -> bool:
        """Whether all that polls have brought by now waits in the queue: not where there is no room, or one failed."""
        if self._poll is None or not self._poll.done():
            return True
        if self.queue.rows >= self._rows_max or self._poll.exception() is not None:
            return False
        self._harvest()
        return True

    def expect(self, ends: Mapping[TopicPartition, int]) -> None:
        """The last offsets of what a transaction has just handed on to partitions that are read here: `wait` collects
        it first, for a batch that begins without it makes it wait for a whole transaction.
        """
        self._own = {tp: end for tp, end in ends.items() if self._is_to_come(tp, end)}

    def _is_to_come(self, tp: TopicPartition, end: int) -> bool:
        return 0 <= self._reader.position(tp) <= end

    async def _collect_own(self) -> None:
        deadline = asyncio.get_running_loop().time() + _OWN_SECONDS
        while self._own and (left := deadline - asyncio.get_running_loop().time()) > 0:
            poll = self._polling()
            await asyncio.wait([poll], timeout=left)
            if poll.done() and poll.exception() is not None:
                break
            self._harvest()
            self._own = {tp: end for tp, end in self._own.items() if self._is_to_come(tp, end)}
        self._own = {}

    async def reset(self) -> None:
        """Forget what waits and end a poll under way; the reader is then told where to go on."""
        if self._poll is not None:
            self._poll.cancel()
            await asyncio.gather(self._poll, return_exceptions=True)
            self._poll = None
        self.queue.clear()
        self._own = {}

    def _polling(self) -> asyncio.Task[list[Chunk]]:
        if self._poll is None:
            self._poll = asyncio.get_running_loop().create_task(self._reader.poll(_POLL_TIMEOUT_MS), name="collect")
        return self._poll

    def _harvest(self) -> None:
        if self._poll is not None and self._poll.done():
            poll, self._poll = self._poll, None
            self.queue.extend(poll.result())
