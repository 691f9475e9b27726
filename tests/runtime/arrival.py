"""The simplest queue of a collector: first come, first taken."""

from __future__ import annotations

__all__ = ["InArrivalOrder"]

from collections import deque
from collections.abc import Iterable, Mapping

from streamproc.eventlog.contract import Chunk, TopicPartition
from streamproc.runtime.chunks import split_chunk


class InArrivalOrder:
    """A queue: first come, first taken."""

    reached: Mapping[TopicPartition, int] = {}

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

    def clear(self) -> None:
        """See `Queue`."""
        self._chunks.clear()
        self.rows = 0
