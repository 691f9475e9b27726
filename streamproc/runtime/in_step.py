"""Partitions in step: of a stage that hands its rows on, none is read far ahead of the others in event time.

What several partitions hand on meets in one partition of the next stage, whose windows should see it about in the order
of event time, also after an outage, when all are behind and one worker is faster than another.

1. of what waits the oldest is next, over all stages: so no backlog grows between them
2. records of one partition stay in order: one that is older than those before it comes right behind them
3. a partition that is behind (progress.py) holds back what is newer by more than the slack than it, or than what of it
   waits here: another worker's; one of ours that is not read, or not restored, yet; one of which more is to come
4. one record of what another worker's partition holds back goes alone, if the last commit does not say how far its
   own has come: two workers, both after an outage, would wait for each other
5. never for longer than `patience_s`: then a partition is not waited for until it has caught up
6. nor does what has come to the log lately wait for longer: whoever is behind comes after it then, until it has caught
   up, but for a part of each batch
"""

from __future__ import annotations

__all__ = ["InStep", "Lane"]

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import structlog

from streamproc.clock import Clock
from streamproc.eventlog.contract import NO_OFFSET, Chunk, GroupReader, TopicPartition
from streamproc.runtime.chunks import rows_of, split_chunk
from streamproc.runtime.progress import LONG_AGO, Progress

I64 = npt.NDArray[np.int64]
_NOTHING: I64 = np.zeros(0, np.int64)
_ROWS_ALONE_MAX = 1_000
_LATELY_MS = 30_000
_LAST = 1 << 60
_SHARE = 4


class Lane(NamedTuple):
    """A stage's source: the `slack_ms` of its partitions (None: they need not be in step), and the event times, ms, of
    a chunk's records; of one that cannot be read: long ago.

    `others`: topics whose records come merged with the source's (merging_reader.py). They wait in the queue of the
    source's partition, in the order in which they came.
    """

    topic: str
    slack_ms: int | None
    times_of: Callable[[Chunk], I64]
    others: tuple[str, ...] = ()


class Waiting(NamedTuple):
    """Records that wait, their event times, and since when they do, by the monotonic clock."""

    chunk: Chunk
    times: I64
    since: float


class Floor(NamedTuple):
    """The event time of the furthest behind of a lane's partitions that are behind, and which one that is."""

    time: int
    blocker: TopicPartition


class InStep:
    """A `Queue`, see collector.py: a queue a partition. More than `rows_max` records of one are not read ahead.

    Args:
        ours: which partitions this worker has.
        held: told of each time that patience ended.
    """

    is_far_behind = False

    def __init__(
        self, lanes: Sequence[Lane], reader: GroupReader, progress: Progress, clock: Clock, *, rows_max: int,
        patience_s: float, ours: Callable[[], Set[TopicPartition]], held: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        self._lanes = {topic: lane for lane in lanes for topic in (lane.topic, *lane.others)}
        self._first = lanes[0].topic
        self._slack_ms = max((lane.slack_ms or 0 for lane in lanes), default=0)
        self._reader, self._progress, self._clock = reader, progress, clock
        self._rows_max, self._patience_s, self._held = rows_max, patience_s, held
        self._ours = ours
        self._queues: dict[TopicPartition, deque[Waiting]] = {}
        self._paused: dict[TopicPartition, dict[TopicPartition, int]] = {}
        self._ignored: set[TopicPartition] = set()
        self._held_since: float | None = None
        self._read: dict[TopicPartition, int] = {}
        """Where reading stood when a poll's records came: what a poll under way has passed nobody has yet."""
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
        if self._next(floors) is None:
            return None
        tps, order = self._order(_ROWS_ALONE_MAX, floors)
        chunk = self._queues[tps[order[0]]][0].chunk
        others = np.flatnonzero(order != order[0])
        alone = min(int(others[0]) if others.size else len(order), len(chunk.offsets))
        return split_chunk(chunk, alone)[0] if alone < len(chunk.offsets) else chunk

    def ready(self) -> bool:
        """See `Queue`. What is held back for too long is not held back any more."""
        if self.rows == 0:
            return False
        self._look()
        if self._next(self._floors()) is not None:
            self._held_since = None
            return True
        now = self._clock.monotonic()
        if self._held_since is None:
            self._held_since = now
        if now - self._held_since < self._patience_s or not self._progress.known:
            return False
        self._held_since = None
        self._let_go(self._in_the_way())
        return self._next(self._floors()) is not None

    def takeable(self, rows: int) -> int:
        """See `Queue`."""
        self._look()
        floors = self._floors()
        return min(rows, sum(len(self._allowed(tp, rows, floors)) for tp in self._queues))

    def _look(self) -> None:
        """Keep up with the others; also when one full batch follows another, and nobody asks whether any is `ready`."""
        self._progress.look(urgent=self._held_since is not None)
        if (time := self._overdue()) is not None:
            self._let_go(self._before(time))

    def _let_go(self, gone: set[TopicPartition]) -> None:
        """5. They are not waited for until they have caught up."""
        gone -= self._ignored
        if gone:
            self._ignored |= gone
            names = sorted(f"{tp.topic}[{tp.partition}]" for tp in gone)
            structlog.get_logger("in_step").warning("not waited for any longer: it is behind", partitions=names)
            self._held()

    def extend(self, chunks: Iterable[Chunk]) -> None:
        """See `Queue`."""
        now = self._clock.monotonic()
        for chunk in chunks:
            lane = self._lanes[chunk.tp.topic]
            tp = TopicPartition(lane.topic, chunk.tp.partition)
            queue = self._queues.setdefault(tp, deque())
            queue.append(Waiting(chunk, lane.times_of(chunk), now))
            self.rows += len(chunk.offsets)
            if tp not in self._paused and _rows(queue) >= self._rows_max:
                self._pause(tp, lane.others)
        self._read = {tp: self._reader.position(tp) for tp in self._progress.partitions}

    def _pause(self, tp: TopicPartition, others: Sequence[str]) -> None:
        """No more of a partition for now; nor of what is merged with it: nobody may wait for what is not read."""
        inputs = [tp, *(TopicPartition(topic, tp.partition) for topic in others)]
        self._paused[tp] = {one: self._reader.position(one) for one in inputs} if others else {}
        for one in inputs:
            self._reader.pause(one)

    def take(self, rows: int) -> list[Chunk]:
        """See `Queue`."""
        self._look()
        taken: list[Chunk] = []
        for tp, count in self._oldest(rows, self._floors()):
            pieces = self._cut(tp, count)
            taken += pieces
            self.rows -= count
            self._after(tp, pieces[-1])
        return taken

    def passed(self, chunk: Chunk) -> None:
        """See `Queue`."""
        lane, last = self._lanes[chunk.tp.topic], len(chunk.offsets) - 1
        if lane.slack_ms is not None:
            time = int(lane.times_of(rows_of(chunk, last, last + 1))[0])
            self.reached[chunk.tp] = max(self.reached.get(chunk.tp, LONG_AGO), time)

    def clear(self) -> None:
        """See `Queue`."""
        self._queues.clear()
        self._paused.clear()
        self._read.clear()
        self.reached.clear()
        self._progress.forget()
        self.rows, self._held_since = 0, None

    def _next(self, floors: Mapping[str, Floor]) -> TopicPartition | None:
        """1. The partition with the oldest head among those that are not held back."""
        for time, tp in sorted((self._time(tp), tp) for tp in self._queues):
            if not self._is_held(tp, time, floors) or self._goes_alone(tp, time, floors[tp.topic]):
                return tp
        return None

    def _is_held(self, tp: TopicPartition, time: int, floors: Mapping[str, Floor]) -> bool:
        slack, floor = self._lanes[tp.topic].slack_ms, floors.get(tp.topic)
        return floor is not None and slack is not None and time > floor.time + slack

    def _goes_alone(self, tp: TopicPartition, time: int, floor: Floor) -> bool:
        """4. Whether its first record does. One of ours that it waits for will be read, and needs no sign of it."""
        return self._progress.known and floor.blocker not in self._ours() and self._said(tp) < time

    def _said(self, tp: TopicPartition) -> int:
        """Up to which event time the others know, or will know, that it has come."""
        return max(self.reached.get(tp, LONG_AGO), self._progress.time(tp))

    def _oldest(self, rows: int, floors: Mapping[str, Floor]) -> list[tuple[TopicPartition, int]]:
        """How many records of which partition are the next `rows`; the partition of the oldest first."""
        tps, order = self._order(rows, floors)
        counts = np.bincount(order, minlength=len(tps)).tolist()
        return [(tps[i], counts[i]) for i in dict.fromkeys(order.tolist())]

    def _order(self, rows: int, floors: Mapping[str, Floor]) -> tuple[list[TopicPartition], I64]:
        """1. and 2.: all partitions of which anything waits, and to which of them the next `rows` records belong."""
        tps = sorted(self._queues)
        times = [self._allowed(tp, rows, floors) for tp in tps]
        times = [some + _LAST * (tp in self._ignored) for tp, some in zip(tps, times, strict=True)]
        of = np.repeat(np.arange(len(tps)), [len(some) for some in times]).astype(np.int64)
        joined = np.concatenate([_NOTHING, *times])
        order, last = of[np.argsort(joined, kind="stable")], int((joined >= _LAST).sum())
        spared = min(last, max(rows - (len(order) - last), rows // _SHARE))  # 6.
        first = order[: len(order) - last][: rows - spared]
        return tps, np.concatenate([first, order[len(order) - last :][:spared]])

    def _allowed(self, tp: TopicPartition, rows: int, floors: Mapping[str, Floor]) -> I64:
        """The times of a partition's next records, `rows` at most, that are not held back: rising, see 2."""
        parts: list[I64] = []
        for waiting in self._queues[tp]:
            parts.append(waiting.times[:rows])
            rows -= len(parts[-1])
            if rows == 0:
                break
        times = np.maximum.accumulate(np.concatenate(parts))
        slack, floor = self._lanes[tp.topic].slack_ms, floors.get(tp.topic)
        if slack is None or floor is None:
            return times
        count = int(np.searchsorted(times, floor.time + slack, side="right"))
        return times[: max(count, int(self._goes_alone(tp, int(times[0]), floor)))]

    def _cut(self, tp: TopicPartition, count: int) -> list[Chunk]:
        """The next `count` records of a partition, taken off its queue."""
        queue, pieces = self._queues[tp], list[Chunk]()
        while count:
            chunk, times, since = queue.popleft()
            size = len(chunk.offsets)
            if count < size:
                chunk, rest = split_chunk(chunk, count)
                queue.appendleft(Waiting(rest, times[count:], since))
                size = count
            pieces.append(chunk)
            count -= size
            if not queue:
                self.reached[tp] = max(self.reached.get(tp, LONG_AGO), int(times[-1]))
        return pieces

    def _after(self, tp: TopicPartition, last: Chunk) -> None:
        """Records up to `last` were taken off a partition's queue."""
        queue = self._queues[tp]
        if queue:
            time = self._time(tp)
            self.reached[tp] = max(self.reached.get(tp, time), time)
        else:
            del self._queues[tp]
        if tp in self._paused and _rows(queue) <= self._rows_max // 2:
            places = self._paused.pop(tp) or {tp: (queue[-1].chunk if queue else last).next_offset}
            for one, offset in places.items():
                self._reader.resume(one, offset)

    def _floors(self) -> dict[str, Floor]:
        """3. By topic: the furthest behind."""
        found: dict[str, Floor] = {}
        for tp, time in (self._behind() | self._to_come()).items():
            if tp not in self._ignored and (tp.topic not in found or time < found[tp.topic].time):
                found[tp.topic] = Floor(time, tp)
        return found

    def _to_come(self) -> dict[TopicPartition, int]:
        """The newest event times of what waits of partitions of which more lies in the log."""
        tps = [tp for tp in self._progress.partitions if tp in self._queues]
        more = [tp for tp in tps if self._progress.behind(tp, self._read.get(tp, NO_OFFSET)) is not None]
        return {tp: max(int(waiting.times.max()) for waiting in self._queues[tp]) for tp in more}

    def _in_the_way(self) -> set[TopicPartition]:
        """Those behind that hold back the oldest head of their stage."""
        heads: dict[str, int] = {}
        for tp in self._queues:
            heads[tp.topic] = min(heads.get(tp.topic, self._time(tp)), self._time(tp))
        behind = {tp: time for tp, time in self._behind().items() if tp.topic in heads}
        return {tp for tp, time in behind.items() if self._is_held(tp, heads[tp.topic], {tp.topic: Floor(time, tp)})}

    def _behind(self) -> dict[TopicPartition, int]:
        """The event times of those behind of which nothing waits; 5. an ignored one that caught up counts anew."""
        behind: dict[TopicPartition, int] = {}
        for tp in self._progress.partitions:
            if tp not in self._queues:
                time = self._progress.behind(tp, self._read.get(tp, NO_OFFSET))
                if time is not None:
                    behind[tp] = max(time, self.reached.get(tp, time))
        heads = {tp: self._time(tp) for tp in self._queues} if self._ignored else {}
        for tp in list(self._ignored):
            reached = [at for other, at in (heads | self.reached).items() if other.topic == tp.topic and other != tp]
            time = heads.get(tp, behind.get(tp))
            if time is None or (reached and time >= max(reached) - self._slack_of(tp)):
                self._ignored.remove(tp)
        return behind

    def _overdue(self) -> int | None:
        """6. The oldest event time of what waits too long in the pipeline's source though it came to the log lately."""
        now, wall_ms = self._clock.monotonic(), self._clock.now_ms()
        found = [
            self._time(tp) for tp, queue in self._queues.items()
            if tp.topic == self._first and now - queue[0].since >= self._patience_s
            and wall_ms - queue[0].chunk.timestamps[0] < _LATELY_MS
        ]  # fmt: skip
        return min(found, default=None)

    def _before(self, time: int) -> set[TopicPartition]:
        """Partitions that are before an event time by more than the slack, waiting or behind."""
        times = self._behind() | {tp: self._time(tp) for tp in self._queues}
        return {tp for tp, at in times.items() if at + self._slack_of(tp) < time}

    def _slack_of(self, tp: TopicPartition) -> int:
        """How far from the others, ms, is not behind yet: what a stage hands on is apart by as much in the last one."""
        slack = self._lanes[tp.topic].slack_ms
        return self._slack_ms if slack is None else slack

    def _time(self, tp: TopicPartition) -> int:
        """Of the first record that waits."""
        return int(self._queues[tp][0].times[0])


def _rows(queue: Iterable[Waiting]) -> int:
    return sum(len(waiting.times) for waiting in queue)
