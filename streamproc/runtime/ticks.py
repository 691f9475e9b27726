"""Clock ticks: where a task's input rests, its event time goes on with the wall clock, so that timers fire.

A task whose input has brought nothing for `idle_ms`, and is read to its end, is taken to be as far in event time as
its newest row and the time that has passed since it was decided. It ticks when something is due by then, and not else:
a tick is a transaction, with a journal record and offsets, and a replay obeys it without looking at any clock. A worker
counts only time that it has seen pass: what waited in the log while nobody read it is no rest. A later stage rests only
if the stages before it have decided all there is, and calls on the way are answered; while there is always work for
other partitions, it rests up to the moment of which this is true (passing.py).
"""

from __future__ import annotations

__all__ = ["Clocks", "Resting"]

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple, Protocol

from streamproc.clock import Clock
from streamproc.eventlog.contract import Chunk, EventLog, GroupReader, TopicPartition
from streamproc.runtime.ending import Leg, at_end, ends_now
from streamproc.runtime.partition_task import PartitionTask, Phase
from streamproc.runtime.passing import Passing
from streamproc.runtime.rows import TaskInput


class Resting(Protocol):
    """A stage, as far as its clocks are concerned."""

    @property
    def topics(self) -> list[str]: ...
    @property
    def idle_ms(self) -> int:
        """How long its input rests before its clock goes on; 0: it never does."""
        ...

    @property
    def tasks(self) -> Mapping[TopicPartition, PartitionTask]: ...
    @property
    def inputs(self) -> Mapping[TopicPartition, PartitionTask]: ...
    @property
    def partitions(self) -> int: ...
    @property
    def way(self) -> Sequence[Leg]:
        """How a row comes through it; the stage itself is the last leg."""
        ...

    def waits(self, task: int) -> tuple[int, int] | None:
        """(stream time, the stream time at which something may be due) of a task, ms; None: nothing waits."""
        ...


class _Mark(NamedTuple):
    """Since when (monotonic seconds) a task at `positions` rests, and when its stream time last moved."""

    positions: tuple[int, ...]
    rests: float
    moved: float


class Clocks:
    """The clocks of a worker's tasks. `due`: the ticks to make in the next transaction."""

    def __init__(self, log: EventLog, reader: GroupReader, clock: Clock, stages: Sequence[Resting]) -> None:
        self._log, self._reader, self._clock, self._stages = log, reader, clock, stages
        self._marks: dict[TopicPartition, _Mark] = {}
        self._passing: dict[int, Passing] = {}
        self._on = any(stage.idle_ms for stage in stages)
        self.due: list[TaskInput] = []

    def take(self) -> list[TaskInput]:
        """What is due, which is not due any more."""
        taken, self.due = self.due, []
        return taken

    async def look(self, buffered: Collection[TopicPartition]) -> bool:
        """Whether ticks are due; to be asked when nothing is in flight. `buffered`: whose records wait.

        Raises:
            EventLogError: the log cannot be asked.
        """
        self.due = await self._looked(buffered) if self._on else []
        return bool(self.due)

    async def _looked(self, buffered: Collection[TopicPartition]) -> list[TaskInput]:
        ticks: list[TaskInput] = []
        ours = [tp for stage in self._stages for tp in stage.inputs if tp not in buffered]
        read = dict(zip(ours, self._read(ours), strict=True))  # now: a poll may bring records while the log is asked
        for number, stage in enumerate(self._stages):
            found = self._resting(stage, buffered) if stage.idle_ms else {}
            inputs = [tp for source in found for tp in stage.tasks[source].inputs]
            if not found or await self._nothing_comes(number, inputs, buffered):
                self._passing.pop(number, None)
                ticks += self._ticks(stage, found, self._clock.monotonic())
            else:
                ticks += await self._nothing_older_comes(number, inputs, read)
        return ticks

    def _ticks(self, stage: Resting, found: Mapping[TopicPartition, int], moved: float) -> list[TaskInput]:
        ticks: list[TaskInput] = []
        for source, time in sorted(found.items()):
            at = stage.tasks[source].position
            ticks.append(TaskInput(source.partition, source, [Chunk(source, [], [], [], [], at)], time))
            self._marks[source] = self._marks[source]._replace(moved=moved)
        return ticks

    def _resting(self, stage: Resting, buffered: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """Tasks that rest and have something due: the stream time to which each has come."""
        found, now = dict[TopicPartition, int](), self._clock.monotonic()
        for source, task in stage.tasks.items():
            mark = self._marks.get(source)
            rests = task.phase is Phase.RUNNING and not any(tp in buffered for tp in task.inputs)
            if not rests or mark is None or mark.positions != task.positions:
                self._marks[source] = _Mark(task.positions, now, now)
            elif (time := self._come(stage, source, now)) is not None:
                found[source] = time
        return found

    def _come(self, stage: Resting, source: TopicPartition, until: float) -> int | None:
        """The stream time to which a task has come that rested `until` then, if something is due by it."""
        mark, waits = self._marks[source], stage.waits(stage.tasks[source].task)
        if waits is None or 1000 * (until - mark.rests) < stage.idle_ms:
            return None
        stream, due = waits
        time = stream + int(1000 * (until - mark.moved))
        return time if time >= due else None

    async def _nothing_older_comes(
        self, number: int, inputs: Sequence[TopicPartition], read: Mapping[TopicPartition, int]
    ) -> list[TaskInput]:
        """Ticks of tasks that rested until some moment, now that nothing which was in the log by then can come."""
        stage, reader = self._stages[number], self._reader
        if number not in self._passing:
            self._passing[number] = Passing(self._log, self._clock, self._stages[0].partitions)
        passing = self._passing[number]
        legs = [leg for one in self._stages[: number + 1] for leg in one.way][:-1]
        tasks = {tp: task for one in self._stages for tp, task in one.inputs.items()}
        if not await passing.through(legs, tasks, read):
            return []
        reached = await self._log.admin().end_offsets(inputs)
        behind = {
            tp for tp in inputs
            if not reader.caught_up(tp) or not read.get(tp) == reader.position(tp) >= reached.get(tp, 0)
        }  # fmt: skip
        at = {tp: stage.inputs[tp].source for tp in inputs}
        resting = sorted(set(at.values()) - {at[tp] for tp in behind})
        come = {source: time for source in resting if (time := self._come(stage, source, passing.since)) is not None}
        if come or not behind:  # what is behind gets rows, or comes to its end
            del self._passing[number]
        return self._ticks(stage, come, passing.since)

    async def _nothing_comes(
        self, number: int, inputs: Sequence[TopicPartition], buffered: Collection[TopicPartition]
    ) -> bool:
        """Whether all that is in the log now has come to these inputs of a stage, and through them: nothing of it waits
        to be decided by the stages before, to be answered by services, or to be merged.

        The way is looked at from its beginning: what moves on meanwhile is met again.
        """
        legs = [leg for stage in self._stages[: number + 1] for leg in stage.way]
        ours = [tp for leg in legs for tp in leg.own]
        if any(tp in buffered for tp in ours):
            return False
        read = self._read(ours)
        for leg in legs[:-1]:
            ends = await ends_now(self._log, leg.topics, self._stages[0].partitions)
            if not await at_end(self._log, self._reader, self._clock, leg, ends):
                return False
        reached = await self._log.admin().end_offsets(inputs)
        reader = self._reader
        if not all(reader.caught_up(tp) and reader.position(tp) >= reached.get(tp, 0) for tp in inputs):
            return False
        return self._read(ours) == read  # else a poll has brought records meanwhile

    def _read(self, inputs: Sequence[TopicPartition]) -> list[int]:
        """How far they were polled."""
        return [self._reader.position(tp) for tp in inputs]
