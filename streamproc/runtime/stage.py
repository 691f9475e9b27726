"""A stage in a worker: a plan at work on its share of the tasks, with their state and their way back to it.

A stage has a source topic, a journal and state of its own; all stages of a worker share its consumer, its producer and
every transaction.
"""

from __future__ import annotations

__all__ = ["Part", "Stage", "StageParts", "by_fate", "by_stage", "finish", "merging", "publish"]

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from functools import partial
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import structlog

from operators.plan import Plan
from state.errors import PartitionsChangedError, StateCorruptedError
from streamproc.clock import Clock
from streamproc.eventlog.contract import Chunk, CommittedOffset, EventLog, GroupReader, TopicPartition
from streamproc.runtime.collector import InArrivalOrder, Queue
from streamproc.runtime.ending import Leg
from streamproc.runtime.engine import Engine
from streamproc.runtime.event_times import EventTimes, PartTimes
from streamproc.runtime.executor import BlockingExecutor
from streamproc.runtime.flush import Flusher
from streamproc.runtime.fresh_first import FreshFirst
from streamproc.runtime.in_step import Lane
from streamproc.runtime.journal_end import is_as_committed
from streamproc.runtime.merging_reader import MergedStage, MergingReader
from streamproc.runtime.partition_task import PartitionTask, Phase
from streamproc.runtime.recovery import Recovery
from streamproc.runtime.replay import SilentReplayer
from streamproc.runtime.restorer import Restorer
from streamproc.runtime.results import AtHand, Computed, OfStage
from streamproc.runtime.rows import TaskInput
from streamproc.runtime.settings import WorkerSettings
from streamproc.runtime.state_keeper import StateKeeper
from streamproc.runtime.stored_state import NoCheckpoints, TaskCheckpoints
from streamproc.runtime.topic_tables import TopicTables

_BATCHES_ALIKE = 4
"""So many batches before one tell what it will write to."""


class StageParts(msgspec.Struct, frozen=True):
    """What the composition root hands in: a plan, its engine, and where the state of its tasks lies."""

    plan: Plan
    engine: Engine
    states: StateKeeper
    checkpoints: TaskCheckpoints | None = None
    tables: TopicTables | None = None


class Part(NamedTuple):
    """What one stage adds to a transaction."""

    stage: Stage
    computed: Computed

    def offsets(self, reached: Mapping[TopicPartition, int]) -> dict[TopicPartition, CommittedOffset]:
        """What the group commits. `reached`: up to which event time all was taken, where that is known."""
        tasks, heads = self.stage.tasks, self.computed.heads.items()
        times = reached if self.stage.plan.handoff is not None else {}
        number = self.stage.partitions
        commits = [tasks[source].commits_of(head, times.get(source, -1), number) for source, head in heads]
        return {tp: offset for commit in commits for tp, offset in commit.items()}

    def journaled(self) -> dict[TopicPartition, tuple[int, int]]:
        """Of each journal's partition: the record before its own, and its own sequence; see `locate_all`."""
        tasks, journal = self.stage.tasks, self.stage.journal
        heads = self.computed.heads.items()
        return {journal(source): (tasks[source].journal_offset, head.sequence) for source, head in heads}

    def advance(self, ends: Mapping[TopicPartition, int]) -> None:
        """It is committed; `ends`: the last offset of each partition that was written."""
        for source, head in self.computed.heads.items():
            self.stage.tasks[source].advance(head, ends[self.stage.journal(source)])


class Stage:
    """One stage of a worker. `tasks`: those it owns now, by their source, `inputs`: by each of their inputs; only the
    stage changes them.

    Args:
        busy: held while anything is computed: keeps slices of a restore apart from transactions.
        restored, failed, others: see `Restorer`.
    """

    def __init__(
        self, parts: StageParts, log: EventLog, busy: asyncio.Lock, *, clock: Clock, executor: BlockingExecutor,
        settings: WorkerSettings, restored: Callable[[PartitionTask], None], failed: Callable[[PartitionTask], None],
        others: Callable[[], bool],
    ) -> None:  # fmt: skip
        self.plan, self.engine = parts.plan, parts.engine
        self._tables = parts.tables
        self.tasks: dict[TopicPartition, PartitionTask] = {}
        self.inputs = self.tasks if not parts.plan.others else dict[TopicPartition, PartitionTask]()
        self.flusher = Flusher(parts.states, executor, clock, settings.flush_rows, settings.flush_seconds)
        self._states, self._checkpoints = parts.states, parts.checkpoints or NoCheckpoints()
        self._recovery = Recovery(
            log, SilentReplayer(parts.engine), parts.states, busy, group=parts.plan.pipeline,
            journal_topic=parts.plan.topics.journal, state_fingerprint=parts.plan.state_fingerprint,
            checkpoints=self._checkpoints,
        )  # fmt: skip
        self.restorer = Restorer(self._recovery, parts.states, clock, restored=restored, failed=failed, others=others)
        self._event_times = {stream.topic: EventTimes(decoder, stream) for decoder, stream in parts.engine.decoders}
        sent = parts.plan.handoff.topics if parts.plan.handoff else ()
        self._sometimes_written = {*sent, *(statement.topic for statement in parts.plan.statements)}
        self._written: deque[list[TopicPartition]] = deque(maxlen=_BATCHES_ALIKE)
        self._damage: StateCorruptedError | None = None
        self._logger = structlog.get_logger("worker").bind(worker=settings.index)

    @property
    def source(self) -> str:
        """The topic its tasks decide."""
        return self.plan.stream.topic

    @property
    def topics(self) -> list[str]:
        """All topics its tasks read, the one they decide first."""
        return [stream.topic for stream in self.plan.streams]

    @property
    def way(self) -> list[Leg]:
        """How a row comes through it: the calls before it, in order, and itself."""
        calls = [Leg(call.group, [call.source]) for call in self.plan.calls]
        return [*calls, Leg(self.plan.pipeline, self.topics, self.inputs)]

    def merged(self, busy: Callable[[], bool] | None) -> MergedStage:
        """How its streams are merged; `busy`: whether stages before it have work; None: it is the first."""
        times = {topic: reader.of for topic, reader in self._event_times.items()}
        if self.plan.gather is not None:
            times[self.source] = PartTimes(times[self.source], len(self.plan.gather.parts)).of
        return MergedStage(times, {stream.topic: stream.wait_ms / 1000 for stream in self.plan.streams}, busy)

    @property
    def partitions(self) -> int:
        """How many its source has."""
        return self.engine.partitions

    @property
    def idle_ms(self) -> int:
        """See `Plan`."""
        return self.plan.idle_ms

    def waits(self, task: int) -> tuple[int, int] | None:
        """See `Engine.waits`."""
        return self.engine.waits(task)

    def share(self, partitions: int) -> None:
        """So many partitions has its source, and so many tasks are shared out."""
        self.engine.partitions = self._states.partitions = self._recovery.partitions = partitions

    def journal(self, source: TopicPartition) -> TopicPartition:
        """Where a task's transactions are journaled."""
        return TopicPartition(self.plan.topics.journal, source.partition)

    def alone(
        self, reader: GroupReader, clock: Clock, ours: Callable[[], Set[TopicPartition]], *, rows_max: int
    ) -> Queue:
        """How its partitions come where there is no other stage; as they were merged, if it reads several streams."""
        if len(self.topics) > 1:
            return InArrivalOrder()
        return FreshFirst(reader, clock.now_ms, ours, within_ms=self.plan.decision.deadline_ms, rows_max=rows_max)

    @property
    def lane(self) -> Lane:
        """How its partitions are kept in step."""
        sent, (source, *others) = self.plan.handoff, self.topics
        return Lane(source, None if sent is None else sent.in_step_ms, self._times_of, tuple(others))

    def _times_of(self, chunk: Chunk) -> npt.NDArray[np.int64]:
        return self._event_times[chunk.tp.topic].of(chunk)

    def compute(self, inputs: Sequence[TaskInput], now_ms: int, at_hand: AtHand | None = None) -> Part:
        """Steps 2-4 on its tasks' share of a batch; see `Engine.compute`.

        Raises:
            StateCorruptedError: stored state is damaged: `is_damaged` from now on.
        """
        if self._states.lost:
            raise RuntimeError("a step of the state came to no end before")
        if self.plan.live is not None:
            self.plan.live.apply()
        try:
            computed = self.engine.compute(inputs, self.tasks, now_ms, at_hand)
        except StateCorruptedError as error:
            self._damage = error
            raise
        for source, head in computed.heads.items():
            self.tasks[source].computed = head
        if self._sometimes_written:
            self._written.append([out.tp for out in computed.outputs if out.tp.topic in self._sometimes_written])
        return Part(self, computed)

    def expected(self, sources: Sequence[TopicPartition]) -> list[TopicPartition]:
        """What a transaction over records of these will write to, as far as that is known in advance.

        Rows that are handed on, and those of statements, go to the partitions that those before went to, more or less.
        """
        decides = not (self.plan.handoff or self.plan.is_silent)
        topics = [*([self.plan.topics.decisions] if decides else []), self.plan.topics.journal]
        own = [TopicPartition(topic, source.partition) for topic in topics for source in sources]
        return own + sorted({tp for tps in self._written for tp in tps}) if own else own

    @property
    def handed_to(self) -> frozenset[TopicPartition]:
        """The partitions of the next stage that the last batches were handed on to."""
        topics = self.plan.handoff.topics if self.plan.handoff else ()
        return frozenset(tp for tps in self._written for tp in tps if tp.topic in topics)

    def seal(self) -> None:
        """What was computed is in flight: the next batch may be computed on top of it."""
        self.flusher.prepare(self.tasks.values())
        self.engine.seal()

    def publish(self) -> None:
        """What was sealed, or computed last, is committed."""
        self.engine.publish()

    def give_up(self) -> None:
        """Nothing of the state in memory is to be written any more; the worker ends."""
        self._logger.error("a commit could not be taken over: state in memory is given up, the next start replays it")
        self._states.give_up()

    def flush(self, *, newest: bool) -> None:
        """Make room, and write what the last publish lets it write; `newest`: nothing is computed on top of that.

        Raises:
            StateDiskError: a flush before it has failed for good.
        """
        self.engine.make_room(is_writing=self.flusher.is_writing)
        self.flusher.publish(self.tasks.values(), newest=newest)

    @property
    def is_damaged(self) -> bool:
        """Whether stored state turned out damaged while it was read or written: see `lose_damaged`."""
        return (self._damage or self.flusher.damage) is not None

    def undo(self) -> None:
        """Whatever is computed and not published did not happen."""
        self.flusher.undo()
        self.engine.undo()
        for task in self.tasks.values():
            task.fall_back()

    async def lose_damaged(self) -> list[TopicPartition]:
        """Set damaged state aside; the sources of the tasks that must be restored from what else there is."""
        error, self._damage, self.flusher.damage = self._damage or self.flusher.damage, None, None
        if error is None:
            return []
        await self.flusher.finish([])
        lost = [task for task in self.tasks.values() if error.task in {None, task.task} and task.phase is Phase.RUNNING]
        for task in lost:
            self._logger.error("local state discarded", **task.named, reason=str(error))
            await self._states.lose(task.task)
            self._remove(task)
            task.enter(Phase.CLOSED)
        return [tp for task in lost for tp in task.inputs]

    async def adopt(self, partitions: Set[TopicPartition], committed: Mapping[TopicPartition, CommittedOffset]) -> None:
        """Close tasks that are not ours any more; restore new ones beside those that are kept.

        Raises:
            PartitionsChangedError: the source has got more since the start.
        """
        mine = {tp for tp in partitions if tp.topic == self.source}
        if any(tp.partition >= self.engine.partitions for tp in mine):
            raise PartitionsChangedError(f"topic {self.source} has more than {self.engine.partitions} partitions now")
        for tp, task in list(self.tasks.items()):
            kept = partitions >= set(task.inputs) and task.phase is Phase.RUNNING
            if not kept or not is_as_committed(task, committed):
                await self._give_up(tp)
        if self._tables is not None:
            await self._tables.catch_up()  # to where it stands now: whoever had the tasks before saw no more
        new = [PartitionTask(tp.partition, tp, self._others_of(tp)) for tp in sorted(mine - self.tasks.keys())]
        self.tasks |= {task.source: task for task in new}
        self.inputs |= {tp: task for task in new for tp in task.inputs}
        self.restorer.begin(new, committed)

    def _others_of(self, source: TopicPartition) -> tuple[TopicPartition, ...]:
        return tuple(TopicPartition(topic, source.partition) for topic in self.topics[1:])

    def _remove(self, task: PartitionTask) -> None:
        del self.tasks[task.source]
        for tp in task.inputs:
            self.inputs.pop(tp, None)

    async def _give_up(self, tp: TopicPartition) -> None:
        """A task that is RESTORING has no open store any more."""
        task = self.tasks[tp]
        self._remove(task)
        if task.phase is Phase.RUNNING:
            await self.flusher.finish([task])
            await self._states.close(task.task)
        task.enter(Phase.CLOSED)

    async def finish(self) -> None:
        """Flush what is published."""
        await self.restorer.stop()
        await self.flusher.finish(list(self.tasks.values()))

    async def take_last(self) -> None:
        """See `TaskCheckpoints`."""
        await self._checkpoints.take_last(self.tasks.values())

    async def close(self) -> None:
        """Give the tasks' stores up."""
        for task in self.tasks.values():
            if task.phase is Phase.RUNNING:
                await self._states.close(task.task)


def merging(
    reader: GroupReader, stages: Sequence[Stage], clock: Clock, busy: Callable[[Sequence[Stage]], bool],
    gave_up: Callable[[], None],
) -> GroupReader:  # fmt: skip
    """`reader`, with the streams of each stage that has several merged; `busy`: whether some stages have work.

    `gave_up`: see `MergingReader`.
    """
    merged = [
        stage.merged(partial(busy, stages[:number]) if number else None)
        for number, stage in enumerate(stages)
        if len(stage.topics) > 1
    ]
    return MergingReader(reader, merged, clock, gave_up) if merged else reader


def publish(
    stages: Sequence[Stage], parts: Sequence[Part], ends: Mapping[TopicPartition, int], *, newest: bool
) -> None:
    """A transaction of `parts` is committed (`ends`: see `Part.advance`): all publish; only when all stand where their
    tasks say, flushes go on, one of which may end the worker. If something fails before, the worker ends, and its state
    is given up: tasks say one thing, tables another.

    `newest`: nothing is computed on top of it.
    """
    try:
        for part in parts:
            part.advance(ends)
        for stage in stages:
            stage.publish()
    except BaseException:
        for stage in stages:
            stage.give_up()
        raise
    for stage in stages:
        stage.flush(newest=newest)


async def finish(stages: Sequence[Stage], *, orderly: bool) -> None:
    """Each stage finishes, also if one before it fails to; at a clean stop, checkpoints of all of them, at once: many
    stages take no longer to stop than one does.
    """
    async with contextlib.AsyncExitStack() as stack:
        if orderly:
            stack.push_async_callback(_take_last, stages)
        for stage in reversed(stages):
            stack.push_async_callback(stage.finish)


async def _take_last(stages: Sequence[Stage]) -> None:
    await asyncio.gather(*(stage.take_last() for stage in stages))


def by_stage(stages: Iterable[Stage], inputs: Sequence[TaskInput]) -> list[tuple[Stage, list[TaskInput]]]:
    """A batch's inputs for each stage that has any."""
    found = [(stage, [given for given in inputs if given.source.topic == stage.source]) for stage in stages]
    return [(stage, mine) for stage, mine in found if mine]


def by_fate(parts: Iterable[Part]) -> tuple[list[OfStage], list[OfStage], list[OfStage]]:
    """A transaction's rows: those that were decided, those that were handed on, and those of the last stage that get no
    decision; each with its stage's name.
    """
    decided, handed_on, undecided = list[OfStage](), list[OfStage](), list[OfStage]()
    for stage, computed in parts:
        fate = handed_on if stage.plan.handoff else undecided if stage.plan.is_silent else decided
        fate.append((stage.plan.stage, computed.judged))
    return decided, handed_on, undecided
