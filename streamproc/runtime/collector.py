"""Collect: polls while a transaction is in flight, so that what arrives meanwhile becomes the next batch.

That is group commit: one waiting event makes a batch of one (no timer, no linger), and under load batches grow by
themselves. `take` is bounded by rows; chunks are cut, never reordered.
"""

from __future__ import annotations

__all__ = ["Collector", "split_chunk"]

import asyncio
import heapq
from collections import deque
from collections.abc import Callable
from typing import Any

from streamproc.eventlog.contract import Chunk, GroupReader, TopicPartition

_POLL_TIMEOUT_MS = 200
_PIECE_ROWS = 256
_PAUSE_SECONDS = 0.002
"""Between two polls while a transaction is in flight: what comes meanwhile waits for its end anyway."""


def split_chunk(chunk: Chunk, rows: int) -> tuple[Chunk, Chunk]:
    """The first `rows` records and the rest, both non-empty."""
    headers = chunk.headers
    first = Chunk(
        chunk.tp,
        chunk.offsets[:rows],
        chunk.keys[:rows],
        chunk.values[:rows],
        chunk.timestamps[:rows],
        chunk.offsets[rows],
        headers and headers[:rows],
    )
    rest = Chunk(
        chunk.tp,
        chunk.offsets[rows:],
        chunk.keys[rows:],
        chunk.values[rows:],
        chunk.timestamps[rows:],
        chunk.next_offset,
        headers and headers[rows:],
    )
    return first, rest


class Collector:
    """Buffers at most `rows_max` records beyond what one poll brings."""

    def __init__(self, reader: GroupReader, rows_max: int) -> None:
        self._reader = reader
        self._rows_max = rows_max
        self._chunks: deque[Chunk] = deque()
        self._rows = 0
        self._poll: asyncio.Task[list[Chunk]] | None = None

    @property
    def rows(self) -> int:
        """Records that wait."""
        return self._rows

    @property
    def idle(self) -> bool:
        """Whether nothing waits, and no poll has brought anything that was not looked at yet."""
        return self._rows == 0 and (self._poll is None or not self._poll.done())

    @property
    def partitions(self) -> set[TopicPartition]:
        """Whose records wait."""
        return {chunk.tp for chunk in self._chunks}

    @property
    def head(self) -> Chunk | None:
        """The records that `take` takes first."""
        return self._chunks[0] if self._chunks else None

    async def wait(self, timeout_s: float = 0.1) -> bool:
        """Whether anything waits, after at most `timeout_s`.

        Raises:
            EventLogError: polling failed.
        """
        poll = self._polling()
        if self._rows == 0:
            await asyncio.wait([poll], timeout=timeout_s)
        else:
            await asyncio.sleep(0)  # what has arrived by now comes along
        self._harvest()
        return self._rows > 0

    async def during(self, work: asyncio.Future[Any], rows: int | None = None) -> bool:
        """Collect until `work` is done or, if given, `rows` records wait; whether `work` is done.

        A failure of `work` is in `work`; one of a poll waits for `wait`.
        """
        while not work.done():
            poll = self._polling()
            if rows is not None and self._rows >= rows:
                return False
            if self._rows >= self._rows_max or (poll.done() and poll.exception() is not None):
                await asyncio.wait([work])
                break
            both: list[asyncio.Future[Any]] = [work, poll]
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if poll.done() and poll.exception() is None:
                self._harvest()
                await asyncio.wait([work], timeout=_PAUSE_SECONDS)
        return True

    def take(self, rows: int) -> list[Chunk]:
        """Up to `rows` records, in order."""
        taken: list[Chunk] = []
        while self._chunks and rows > 0:
            chunk = self._chunks.popleft()
            if len(chunk.offsets) > rows:
                chunk, rest = split_chunk(chunk, rows)
                self._chunks.appendleft(rest)
            taken.append(chunk)
            rows -= len(chunk.offsets)
            self._rows -= len(chunk.offsets)
        return taken

    def take_in_step(self, rows: int, time_of: Callable[[Chunk], int]) -> list[Chunk]:
        """Up to `rows` records, in order within each partition; small pieces of all partitions, the oldest head first.

        So no partition runs far ahead of another one in time, and what they hand on arrives about in order.
        """
        queues: dict[TopicPartition, deque[Chunk]] = {}
        for chunk in self._chunks:
            queues.setdefault(chunk.tp, deque()).append(chunk)
        heads = [(time_of(queue[0]), tp) for tp, queue in queues.items()]
        heapq.heapify(heads)
        taken: list[Chunk] = []
        while heads and rows > 0:
            _, tp = heads[0]
            queue = queues[tp]
            piece = queue.popleft()
            if len(piece.offsets) > (most := min(rows, _PIECE_ROWS)):
                piece, rest = split_chunk(piece, most)
                queue.appendleft(rest)
            taken.append(piece)
            rows -= len(piece.offsets)
            self._rows -= len(piece.offsets)
            if queue:
                heapq.heapreplace(heads, (time_of(queue[0]), tp))
            else:
                heapq.heappop(heads)
        self._chunks = deque(chunk for queue in queues.values() for chunk in queue)
        return taken

    async def reset(self) -> None:
        """Forget what waits and end a poll under way; the reader is then told where to go on."""
        if self._poll is not None:
            self._poll.cancel()
            await asyncio.gather(self._poll, return_exceptions=True)
            self._poll = None
        self._chunks.clear()
        self._rows = 0

    def _polling(self) -> asyncio.Task[list[Chunk]]:
        if self._poll is None:
            self._poll = asyncio.get_running_loop().create_task(self._reader.poll(_POLL_TIMEOUT_MS), name="collect")
        return self._poll

    def _harvest(self) -> None:
        if self._poll is not None and self._poll.done():
            poll, self._poll = self._poll, None
            chunks = poll.result()
            self._chunks.extend(chunks)
            self._rows += sum(len(chunk.offsets) for chunk in chunks)
