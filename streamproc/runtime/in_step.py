"""Partitions in step: of a stage that hands its rows on, none is read far ahead of the others in event time.

What several partitions hand on meets in one partition of the next stage, whose windows should see it about in the order
of event time, also after an outage, when all are behind and one worker is faster than another.

1. of what waits, the partition with the oldest head is next, over all stages: so no backlog grows between them
2. it is read in pieces that end before the event time of any other partition's head, plus the stage's `slack_ms`
3. a partition of which nothing waits here, and which is behind (progress.py), holds back what is newer than it by more
   than the slack: another worker's; or one of ours that is not read, or not restored, yet
4. one record of what is held back goes alone, if the last commit does not say how far its partition has come: two
   workers, both after an outage, would wait for each other
5. never for longer than `patience_s`: then a partition is not waited for until it has caught up
"""

from __future__ import annotations

__all__ = ["InStep", "Lane"]

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import structlog

from streamproc.clock import Clock
from streamproc.eventlog.contract import Chunk, GroupReader, TopicPartition
from streamproc.runtime.collector import split_chunk
from streamproc.runtime.progress import LONG_AGO, Progress

_PIECE_ROWS = 256


class Lane(NamedTuple):
    """A stage's source: the `slack_ms` of its partitions (None: they need not be in step), and the event time, ms, of
    a chunk's record at an index; of one that cannot be read: long ago."""

    topic: str
    slack_ms: int | None
    time_of: Callable[[Chunk, int], int]


class Floor(NamedTuple):
    """The event time of the furthest behind of a lane's partitions of which nothing waits, and which one that is."""

    time: int
    blocker: TopicPartition


class InStep:
    """A `Queue`, see collector.py: a queue a partition. More than `rows_max` records of one are not read ahead.

    Args:
        held: told of each time that patience ended.
    """

    def __init__(
        self, lanes: Sequence[Lane], reader: GroupReader, progress: Progress, clock: Clock, *, rows_max: int,
        patience_s: float, held: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        self._lanes = {lane.topic: lane for lane in lanes}
        self._reader, self._progress, self._clock = reader, progress, clock
        self._rows_max, self._patience_s, self._held = rows_max, patience_s, held
        self._queues: dict[TopicPartition, deque[Chunk]] = {}
        self._heads: dict[TopicPartition, tuple[int, int]] = {}  # offset and event time of a queue's first record
        self._paused: set[TopicPartition] = set()
        self._ignored: set[TopicPartition] = set()
        self._held_since: float | None = None
        self.rows = 0
        self.reached: dict[TopicPartition, int] = {}

    @property
    def partitions(self) -> set[TopicPartition]:
        """See `Queue`."""
        return set(self._queues)

    @property
    def head(self) -> Chunk | None:
        """See `Queue`."""
        floors = self._floors()
        if (tp := self._next(floors)) is None:
            return None
        chunk, most = self._queues[tp][0], self._most(tp, floors)
        return split_chunk(chunk, most)[0] if most < len(chunk.offsets) else chunk

    def ready(self) -> bool:
        """See `Queue`. What is held back for too long is not held back any more."""
        if self.rows == 0:
            return False
        self._progress.look(urgent=self._held_since is not None)
        floors = self._floors()
        if self._next(floors) is not None:
            self._held_since = None
            return True
        now = self._clock.monotonic()
        if self._held_since is None:
            self._held_since = now
        if now - self._held_since < self._patience_s or not self._progress.known:
            return False
        self._held_since = None
        self._ignored |= {floor.blocker for floor in floors.values()}
        names = sorted(f"{floor.blocker.topic}[{floor.blocker.partition}]" for floor in floors.values())
        structlog.get_logger("in_step").warning("not waited for any longer: it is behind", partitions=names)
        self._held()
        return self._next(self._floors()) is not None

    def extend(self, chunks: Iterable[Chunk]) -> None:
        """See `Queue`."""
        for chunk in chunks:
            queue = self._queues.setdefault(chunk.tp, deque())
            queue.append(chunk)
            self.rows += len(chunk.offsets)
            if chunk.tp not in self._paused and _rows(queue) >= self._rows_max:
                self._reader.pause(chunk.tp)
                self._paused.add(chunk.tp)

    def take(self, rows: int) -> list[Chunk]:
        """See `Queue`."""
        floors = self._floors()
        taken: list[Chunk] = []
        while rows > 0 and (tp := self._next(floors)) is not None:
            piece = self._piece(tp, rows, floors)
            taken.append(piece)
            rows -= len(piece.offsets)
            self.rows -= len(piece.offsets)
            self._after(piece)
        return taken

    def clear(self) -> None:
        """See `Queue`."""
        self._queues.clear()
        self._heads.clear()
        self._paused.clear()
        self.reached.clear()
        self._progress.forget()
        self.rows, self._held_since = 0, None

    def _next(self, floors: Mapping[str, Floor]) -> TopicPartition | None:
        """1. The partition with the oldest head among those that are not held back."""
        for time, tp in sorted((self._time(tp), tp) for tp in self._queues):
            if not self._is_held(tp, time, floors) or self._said(tp) < time:
                return tp
        return None

    def _is_held(self, tp: TopicPartition, time: int, floors: Mapping[str, Floor]) -> bool:
        slack, floor = self._lanes[tp.topic].slack_ms, floors.get(tp.topic)
        return floor is not None and slack is not None and time > floor.time + slack

    def _said(self, tp: TopicPartition) -> int:
        """Up to which event time the others know, or will know, that it has come."""
        return max(self.reached.get(tp, LONG_AGO), self._progress.time(tp))

    def _piece(self, tp: TopicPartition, rows: int, floors: Mapping[str, Floor]) -> Chunk:
        """The next records of a partition, taken off its queue."""
        queue, most = self._queues[tp], min(rows, self._most(tp, floors))
        chunk = queue.popleft()
        if most < len(chunk.offsets):
            chunk, rest = split_chunk(chunk, most)
            queue.appendleft(rest)
        return chunk

    def _most(self, tp: TopicPartition, floors: Mapping[str, Floor]) -> int:
        """2. How many records of a partition's first chunk come next."""
        lane, chunk = self._lanes[tp.topic], self._queues[tp][0]
        if self._is_held(tp, self._time(tp), floors):
            return 1
        most = min(len(chunk.offsets), _PIECE_ROWS)
        others = [self._time(other) for other in self._queues if other.topic == tp.topic and other != tp]
        others += [floors[tp.topic].time] if tp.topic in floors else []
        if lane.slack_ms is not None and others:
            until = min(others) + lane.slack_ms
            while most > 1 and lane.time_of(chunk, most - 1) > until:
                most //= 2
        return most

    def _after(self, piece: Chunk) -> None:
        """A piece was taken off its queue."""
        tp, queue = piece.tp, self._queues[piece.tp]
        if queue:
            time = self._time(tp)
        else:
            time = self._lanes[tp.topic].time_of(piece, len(piece.offsets) - 1)
            del self._queues[tp], self._heads[tp]
        self.reached[tp] = max(self.reached.get(tp, time), time)
        if tp in self._paused and _rows(queue) <= self._rows_max // 2:
            self._paused.remove(tp)
            self._reader.resume(tp, (queue[-1] if queue else piece).next_offset)

    def _floors(self) -> dict[str, Floor]:
        """3. By topic: who is behind, and not waiting here."""
        found: dict[str, Floor] = {}
        for tp, time in self._behind().items():
            if tp not in self._ignored and (tp.topic not in found or time < found[tp.topic].time):
                found[tp.topic] = Floor(time, tp)
        return found

    def _behind(self) -> dict[TopicPartition, int]:
        """The event times of those behind of which nothing waits; 5. an ignored one that caught up counts anew."""
        behind: dict[TopicPartition, int] = {}
        for tp in self._progress.partitions:
            if tp not in self._queues:
                time = self._progress.behind(tp, self._reader.position(tp))
                if time is not None:
                    behind[tp] = max(time, self.reached.get(tp, time))
        for tp in list(self._ignored):
            reached = [at for other, at in self.reached.items() if other.topic == tp.topic]
            if tp not in behind or (reached and behind[tp] >= max(reached) - (self._lanes[tp.topic].slack_ms or 0)):
                self._ignored.remove(tp)
        return behind

    def _time(self, tp: TopicPartition) -> int:
        """Of the first record that waits."""
        chunk = self._queues[tp][0]
        offset, time = self._heads.get(tp, (-1, 0))
        if offset != chunk.offsets[0]:
            time = self._lanes[tp.topic].time_of(chunk, 0)
            self._heads[tp] = chunk.offsets[0], time
        return time


def _rows(queue: Iterable[Chunk]) -> int:
    return sum(len(chunk.offsets) for chunk in queue)
