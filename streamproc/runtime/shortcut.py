"""The shortcut: what a stage hands on to tasks of this worker goes through the next stage in the same transaction.

A hop by way of the log costs a row one transaction more, for it is read again once it is committed. Where a worker has
all partitions of a stage nobody else writes to the topic behind it, so it is known where the records will lie:

1. the next stage reads what this one hands on; no call is made on the way, and no stage stands beside it
2. all tasks of all stages are this worker's, and run
3. nothing of the next stage waits, nor lies unread in the log, of its other streams neither; no clock of it ticks in
   this batch. A stage that hands on itself takes all that is given to it, for its partitions are kept in step, or
   nothing; the last one takes it partition by partition
4. the writer knows where the records will lie: it has written to each of these partitions, since none was another's
5. they are taken as read from there; the log puts them there, or fails the transaction (`OutputRecords.base`)
6. what comes of them by way of the log later is left out by the reader (`SkippingReader`)

They are written all the same: a replay, and whoever restores the next stage elsewhere, reads them. Journal and offsets
of the next stage name them as if they had been read. If any of this does not hold, rows go by way of the log.
"""

from __future__ import annotations

__all__ = ["Shortcut", "SkippingReader"]

from collections.abc import Callable, Mapping, Sequence, Set

from streamproc.eventlog.contract import (
    ANY_OFFSET,
    NO_OFFSET,
    Chunk,
    CommittedOffset,
    GroupReader,
    OutputRecords,
    Place,
    TopicPartition,
)
from streamproc.runtime.care import Care
from streamproc.runtime.chunks import rows_of
from streamproc.runtime.collector import Collector
from streamproc.runtime.partition_task import Phase
from streamproc.runtime.progress import Progress
from streamproc.runtime.results import AtHand
from streamproc.runtime.rows import TaskInput
from streamproc.runtime.stage import Part, Stage, by_stage

Placing = Callable[[TopicPartition], Place | None]


class SkippingReader:
    """A group's reader that leaves out what was decided before it was read."""

    def __init__(self, reader: GroupReader) -> None:
        self._reader = reader
        self._until: dict[TopicPartition, int] = {}

    def skip(self, tp: TopicPartition, until: int) -> None:
        """Deliver no records of it before that offset, unless it is read again from there (`resume`)."""
        self._until[tp] = until

    async def start(self) -> None:
        await self._reader.start()

    async def poll(self, timeout_ms: int) -> list[Chunk]:
        chunks = await self._reader.poll(timeout_ms)
        return [kept for chunk in chunks if (kept := self._kept(chunk)) is not None] if self._until else chunks

    def _kept(self, chunk: Chunk) -> Chunk | None:
        until = self._until.get(chunk.tp, 0)
        if chunk.offsets[0] >= until:
            return chunk
        if chunk.offsets[-1] < until:
            return None
        first = next(place for place, offset in enumerate(chunk.offsets) if offset >= until)
        return rows_of(chunk, first, len(chunk.offsets))

    async def committed(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, CommittedOffset]:
        return await self._reader.committed(partitions)

    def resume(self, tp: TopicPartition, offset: int) -> None:
        self._until.pop(tp, None)
        self._reader.resume(tp, offset)

    def pause(self, tp: TopicPartition) -> None:
        self._until.pop(tp, None)
        self._reader.pause(tp)

    def position(self, tp: TopicPartition) -> int:
        position = self._reader.position(tp)
        return position if position == NO_OFFSET else max(position, self._until.get(tp, 0))

    def caught_up(self, tp: TopicPartition) -> bool:
        return self._reader.caught_up(tp)

    async def close(self, *, leave: bool = False) -> None:
        await self._reader.close(leave=leave)


class Shortcut:
    """Computes a batch, stage after stage. `place` says where the writer's records will lie, `skip` is the reader's."""

    def __init__(
        self, stages: Sequence[Stage], reader: GroupReader, collector: Collector, progress: Progress, care: Care, *,
        place: Placing, skip: Callable[[TopicPartition, int], None],
    ) -> None:  # fmt: skip
        self._stages, self._reader, self._collector, self._progress = stages, reader, collector, progress
        self._queue = collector.queue
        self._care, self._written, self._skip = care, place, skip
        self._stale: set[TopicPartition] = set()

    @property
    def is_open(self) -> bool:
        """2. Whether rows may go this way now."""
        if len(self._stages) == 1 or self._care:
            return False
        return all(
            len(stage.tasks) == stage.partitions and all(task.phase is Phase.RUNNING for task in stage.tasks.values())
            for stage in self._stages
        )

    def compute(self, inputs: Sequence[TaskInput], now_ms: int) -> list[Part]:
        """Steps 2-4 of all stages, over what was taken and what these hand on to each other; see `Stage.compute`."""
        parts, last, taken = list[Part](), None, dict(by_stage(self._stages, inputs))
        is_open = self.is_open and self._collector.take_up()  # that comes before what is handed on now
        for stage in self._stages:
            mine, at_hand = taken.get(stage, []), None
            if is_open and last is not None and _follows(last.stage, stage):
                mine, at_hand = self._joined(last, stage, mine)
            last = stage.compute(mine, now_ms, at_hand) if mine else None
            parts += [last] if last is not None else []
        return parts

    def took(self, outputs: Sequence[OutputRecords]) -> bool:
        """Whether all that is handed on went this way: else some of it is only read once its transaction is committed,
        and a batch that is computed before that would send more of these partitions after it.
        """
        sources = {stage.source for stage in self._stages[1:]}
        return all(out.base != ANY_OFFSET for out in outputs if out.tp.topic in sources)

    def expected(self, waiting: Set[TopicPartition], due: Sequence[TaskInput]) -> list[TopicPartition]:
        """What a transaction over `waiting` and `due` ticks will write to, as far as that is known in advance."""
        found = [stage.journal(one.source) for stage, mine in by_stage(self._stages, due) for one in mine]
        is_open, before = self.is_open, frozenset[TopicPartition]()
        for stage in self._stages:
            sources = {stage.inputs[tp].source for tp in waiting & stage.inputs.keys()}
            sources |= before & stage.tasks.keys()
            found += stage.expected(sorted(sources))
            before = stage.handed_to if sources and is_open else frozenset()
        return found

    def distrust(self) -> None:
        """Partitions have changed hands: others may have written where the writer did."""
        self._stale = {TopicPartition(one.source, p) for one in self._stages for p in range(one.partitions)}

    def committed(self, outputs: Sequence[OutputRecords], own: Mapping[TopicPartition, int]) -> int:
        """A transaction of these is; how many records went this way. `own`: see `Progress.wrote`."""
        self._progress.wrote(own)
        self._stale -= {out.tp for out in outputs}
        for tp in self._progress.partitions:
            if (place := self._place(tp)) is not None:
                self._progress.marked(tp, place.end, place.base)
        return sum(len(out.keys) for out in outputs if out.base != ANY_OFFSET)

    def _joined(self, last: Part, stage: Stage, mine: list[TaskInput]) -> tuple[list[TaskInput], AtHand | None]:
        """`mine`, and what the stage before hands on, if it may go this way."""
        by_task = {given.source: given for given in mine}
        handed, outputs = last.computed.handed, self._at_hand(last, stage, by_task)
        for out in outputs:
            place = self._place(out.tp)
            assert place is not None
            out.base = place.base
            chunk = _as_read(out, place.base)
            known = by_task.get(out.tp)
            chunks = [chunk] if known is None else [*known.chunks, chunk]
            by_task[out.tp] = TaskInput(out.tp.partition, out.tp, chunks)
            self._skip(out.tp, chunk.next_offset)
            self._queue.passed(chunk)
        taken = sorted(out.tp for out in outputs)
        at_hand = handed.at_hand(taken) if taken and handed is not None else None
        return [by_task[source] for source in sorted(by_task)], at_hand

    def _at_hand(self, last: Part, stage: Stage, mine: Mapping[TopicPartition, TaskInput]) -> list[OutputRecords]:
        """3. and 4. What of the rows handed on may go this way."""
        sent = [out for out in last.computed.outputs if out.tp.topic == stage.source and out.keys]
        if stage.plan.handoff is None:
            return [out for out in sent if self._place(out.tp) and self._is_at_end(stage, out.tp, mine.get(out.tp))]
        ends = all(self._is_at_end(stage, source, mine.get(source)) for source in stage.tasks)
        return sent if ends and all(self._place(out.tp) for out in sent) else []

    def _place(self, tp: TopicPartition) -> Place | None:
        return None if tp in self._stale else self._written(tp)

    def _is_at_end(self, stage: Stage, source: TopicPartition, given: TaskInput | None) -> bool:
        """3. Whether a task has taken, with what it is `given`, all that there is of it."""
        if source in self._queue.partitions or (given is not None and given.tick is not None):
            return False
        task = stage.tasks[source]
        if not all(self._reader.caught_up(other) for other in task.inputs[1:]):
            return False
        own = [chunk.next_offset for chunk in (given.chunks if given else ()) if chunk.tp == source]
        reached, place = max([task.computed.position, *own]), self._place(source)
        if place is not None:
            return reached >= place.end
        return source not in self._progress.partitions or self._progress.behind(source, reached) is None


def _follows(last: Stage, stage: Stage) -> bool:
    """1."""
    sent = last.plan.handoff
    alone = sent is not None and sent.part is None and not sent.beside
    return sent is not None and sent.topic == stage.source and alone and stage.plan.gather is None


def _as_read(out: OutputRecords, base: int) -> Chunk:
    """5. The records as the reader would deliver them."""
    count = len(out.keys)
    end = base + count
    return Chunk(out.tp, range(base, end), out.keys, out.values, [out.timestamp_ms] * count, end)
