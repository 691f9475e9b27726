"""The shortcut: what a stage hands on to tasks of this worker goes through the next stage in the same transaction.

A hop by way of the log costs a row one transaction more, for it is read again once it is committed. Where a worker has
all partitions of a stage nobody else writes to the topic behind it, so it is known where the records will lie:

1. the next stage reads what this one hands on, and nothing else; no call is made on the way
2. all tasks of all stages are this worker's, and run
3. nothing of the next stage waits, nor lies unread in the log; no clock of it ticks in this batch
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
from streamproc.runtime.chunks import rows_of
from streamproc.runtime.collector import Queue
from streamproc.runtime.partition_task import Phase
from streamproc.runtime.progress import Progress
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
    """Computes a batch, stage after stage. `place` says where the writer's records will lie; `barred`: no row may go
    this way now.
    """

    def __init__(
        self, stages: Sequence[Stage], reader: SkippingReader, queue: Queue, progress: Progress, *, place: Placing,
        barred: Callable[[], bool],
    ) -> None:  # fmt: skip
        self._stages, self._reader, self._queue, self._progress = stages, reader, queue, progress
        self._written, self._barred = place, barred
        self._stale: set[TopicPartition] = set()

    @property
    def is_open(self) -> bool:
        """2. Whether rows may go this way now."""
        if len(self._stages) == 1 or self._barred():
            return False
        return all(
            len(stage.tasks) == stage.partitions and all(task.phase is Phase.RUNNING for task in stage.tasks.values())
            for stage in self._stages
        )

    def compute(self, inputs: Sequence[TaskInput], now_ms: int) -> list[Part]:
        """Steps 2-4 of all stages, over what was taken and what these hand on to each other; see `Stage.compute`."""
        parts, is_open, last = list[Part](), self.is_open, None
        for stage in self._stages:
            mine = [given for given in inputs if given.source.topic == stage.source]
            if is_open and last is not None and _follows(last.stage, stage):
                mine = self._joined(last, stage, mine)
            last = stage.compute(mine, now_ms) if mine else None
            parts += [last] if last is not None else []
        return parts

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

    def _joined(self, last: Part, stage: Stage, mine: list[TaskInput]) -> list[TaskInput]:
        """`mine`, and what the stage before hands on, if it may go this way."""
        sent = [out for out in last.computed.outputs if out.tp.topic == stage.source and out.keys]
        places = [self._place(out.tp) for out in sent]
        if not all(places) or not self._is_at_end(stage, mine):
            return mine
        by_task = {given.source: given for given in mine}
        for out, place in zip(sent, places, strict=True):
            assert place is not None
            out.base = place.base
            chunk = _as_read(out, place.base)
            known = by_task.get(out.tp)
            chunks = [chunk] if known is None else [*known.chunks, chunk]
            by_task[out.tp] = TaskInput(out.tp.partition, out.tp, chunks)
            self._reader.skip(out.tp, chunk.next_offset)
            self._queue.passed(chunk)
        return [by_task[source] for source in sorted(by_task)]

    def _is_at_end(self, stage: Stage, mine: Sequence[TaskInput]) -> bool:
        """3. Whether a stage has taken, with `mine`, all that there is of it."""
        if any(given.tick is not None for given in mine):
            return False
        if any(tp.topic == stage.source for tp in self._queue.partitions):
            return False
        reached = {source: task.computed.position for source, task in stage.tasks.items()}
        reached |= {given.source: given.stop for given in mine}
        return not any(self._lacks(source, position) for source, position in reached.items())

    def _place(self, tp: TopicPartition) -> Place | None:
        return None if tp in self._stale else self._written(tp)

    def _lacks(self, source: TopicPartition, reached: int) -> bool:
        place = self._place(source)
        if place is not None:
            return reached < place.end
        return source in self._progress.partitions and self._progress.behind(source, reached) is not None


def _follows(last: Stage, stage: Stage) -> bool:
    """1."""
    sent = last.plan.handoff
    alone = len(stage.topics) == 1 and stage.plan.gather is None
    return sent is not None and sent.topic == stage.source and sent.part is None and not sent.beside and alone


def _as_read(out: OutputRecords, base: int) -> Chunk:
    """5. The records as the reader would deliver them."""
    count = len(out.keys)
    end = base + count
    return Chunk(out.tp, range(base, end), out.keys, out.values, [out.timestamp_ms] * count, end)
