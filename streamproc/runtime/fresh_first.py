"""Fresh records first: a partition that is far behind, after an outage or a restore, does not keep the others waiting.

1. a partition is behind while the record that it would decide next came to the log too long ago
2. while only some are behind, a batch takes what the others have, and of those no more than a part (`_SHARE`) of a full
   one: neither do they fill it, nor are they forgotten
3. if all are, or none is, the first that came is the first that is taken
4. beside a partition that has caught up with the log, those behind fill no more than half of the room for what waits:
   their rest stays in the log, and the others go on being read
5. where no partition has caught up, and the last that was read of each came more than a second ago, batches may be
   larger (pace.py)

Records of a partition are never reordered: nothing that is computed depends on which partition's turn it is.
"""

from __future__ import annotations

__all__ = ["FreshFirst"]

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Set

from streamproc.eventlog.contract import NO_OFFSET, Chunk, GroupReader, TopicPartition
from streamproc.runtime.chunks import split_chunk

_SHARE = 4
_LATELY_MS = 1_000


class FreshFirst:
    """A `Queue`, see collector.py, of the records of one stage that reads one topic.

    Args:
        reader: is told to pause.
        now_ms: the time by the wall clock.
        ours: the partitions that this worker has.
        within_ms: what came to the log longer ago is behind; 0: a second.
        rows_max: how many records the collector lets wait.
    """

    reached: Mapping[TopicPartition, int] = {}

    def __init__(
        self, reader: GroupReader, now_ms: Callable[[], int], ours: Callable[[], Set[TopicPartition]], *,
        within_ms: int, rows_max: int,
    ) -> None:  # fmt: skip
        self._reader, self._now_ms, self._ours = reader, now_ms, ours
        self._within_ms, self._rows_max = within_ms or _LATELY_MS, rows_max
        self._chunks: deque[Chunk] = deque()
        self._paused: dict[TopicPartition, int] = {}
        self._newest: dict[TopicPartition, int] = {}
        self.rows = 0

    @property
    def partitions(self) -> set[TopicPartition]:
        """See `Queue`."""
        return {chunk.tp for chunk in self._chunks}

    @property
    def head(self) -> Chunk | None:
        """See `Queue`."""
        behind = self._behind()
        return next((chunk for chunk in self._chunks if chunk.tp not in behind), None)

    @property
    def is_far_behind(self) -> bool:
        """See `Queue`. 5. Who has caught up does not look so while its next records are fetched and not polled."""
        since, ours = self._now_ms() - _LATELY_MS, self._ours()
        late = self.rows > 0 and all(came < since for tp, came in self._newest.items() if tp in ours)
        return late and not any(self._reader.caught_up(tp) for tp in ours)

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
            self._newest[chunk.tp] = chunk.timestamps[-1]
            self.rows += len(chunk.offsets)
        if self.rows >= self._rows_max // 2:
            self._hold_back()

    def take(self, rows: int) -> list[Chunk]:
        """See `Queue`."""
        behind, head = self._behind(), self.head
        share = rows // _SHARE if behind and head is not None and rows > len(head.offsets) else 0
        taken = self._take(rows - share, behind)
        if share:
            taken += self._take(share, {chunk.tp for chunk in self._chunks} - behind)
        self._let_go()
        return taken

    def passed(self, chunk: Chunk) -> None:
        """See `Queue`."""

    def clear(self) -> None:
        """See `Queue`."""
        self._chunks.clear()
        self._paused.clear()
        self._newest.clear()
        self.rows = 0

    def _take(self, rows: int, spared: Set[TopicPartition]) -> list[Chunk]:
        """The first `rows` records of partitions that are not `spared`."""
        taken, kept = list[Chunk](), list[Chunk]()
        while self._chunks and rows > 0:
            chunk = self._chunks.popleft()
            if chunk.tp in spared:
                kept.append(chunk)
                continue
            if len(chunk.offsets) > rows:
                chunk, rest = split_chunk(chunk, rows)
                self._chunks.appendleft(rest)
            taken.append(chunk)
            rows -= len(chunk.offsets)
        self._chunks.extendleft(reversed(kept))
        self.rows -= sum(len(chunk.offsets) for chunk in taken)
        return taken

    def _behind(self) -> set[TopicPartition]:
        """1. and 3.: partitions that others go before."""
        heads: dict[TopicPartition, int] = {}
        for chunk in self._chunks:
            heads.setdefault(chunk.tp, chunk.timestamps[0])
        since = self._now_ms() - self._within_ms
        behind = {tp for tp, came in heads.items() if came < since}
        return behind if len(behind) < len(heads) else set()

    def _hold_back(self) -> None:
        """4. No more for now of partitions that are behind."""
        since = self._now_ms() - self._within_ms
        late = {chunk.tp for chunk in self._chunks if chunk.timestamps[0] < since}
        ours = self._ours()
        if all(tp in late or not self._reader.caught_up(tp) for tp in ours):
            return
        for tp in sorted((late & ours) - self._paused.keys()):
            if (at := self._reader.position(tp)) != NO_OFFSET:
                self._paused[tp] = at
                self._reader.pause(tp)

    def _let_go(self) -> None:
        """Read on where little is left."""
        if not self._paused:
            return
        waiting = dict.fromkeys(self._paused, 0)
        for chunk in self._chunks:
            if chunk.tp in waiting:
                waiting[chunk.tp] += len(chunk.offsets)
        for tp, rows in waiting.items():
            if rows <= self._rows_max // 8:
                self._reader.resume(tp, self._paused.pop(tp))
