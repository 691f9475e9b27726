"""A stage in a worker: a plan at work on its share of the tasks, with their state and their way back to it.

A stage has a source topic, a journal and state of its own; all stages of a worker share its consumer, its producer and
every transaction. The language makes pipelines of one stage only, for now.
"""

from __future__ import annotations

__all__ = ["Part", "Stage", "StageParts", "by_stage"]

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from typing import NamedTuple

import msgspec
import structlog

from operators.plan import Plan
from state.errors import PartitionsChangedError, StateCorruptedError
from streamproc.clock import Clock
from streamproc.eventlog.contract import CommittedOffset, EventLog, TopicPartition
from streamproc.runtime.engine import Engine
from streamproc.runtime.executor import BlockingExecutor
from streamproc.runtime.flush import Flusher
from streamproc.runtime.partition_task import PartitionTask, Phase
from streamproc.runtime.recovery import Recovery
from streamproc.runtime.replay import SilentReplayer
from streamproc.runtime.restorer import Restorer
from streamproc.runtime.results import Computed
from streamproc.runtime.rows import TaskInput
from streamproc.runtime.settings import WorkerSettings
from streamproc.runtime.state_keeper import StateKeeper
from streamproc.runtime.stored_state import NoCheckpoints, TaskCheckpoints


class StageParts(msgspec.Struct, frozen=True):
    """What the composition root hands in: a plan, its engine, and where the state of its tasks lies."""

    plan: Plan
    engine: Engine
    states: StateKeeper
    checkpoints: TaskCheckpoints | None = None


class Part(NamedTuple):
    """What one stage adds to a transaction."""

    stage: Stage
    computed: Computed

    def offsets(self) -> dict[TopicPartition, CommittedOffset]:
        """What the group commits."""
        tasks = self.stage.tasks
        return {source: tasks[source].commit_of(head) for source, head in self.computed.heads.items()}

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
    """One stage of a worker. `tasks`: those it owns now, by their source; only the stage changes it.

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
        self.tasks: dict[TopicPartition, PartitionTask] = {}
        self.flusher = Flusher(parts.states, executor, clock, settings.flush_rows, settings.flush_seconds)
        self._states, self._checkpoints = parts.states, parts.checkpoints or NoCheckpoints()
        self._recovery = Recovery(
            log, SilentReplayer(parts.engine), parts.states, busy, group=parts.plan.pipeline,
            journal_topic=parts.plan.topics.journal, state_fingerprint=parts.plan.state_fingerprint,
            checkpoints=self._checkpoints,
        )  # fmt: skip
        self.restorer = Restorer(self._recovery, parts.states, clock, restored=restored, failed=failed, others=others)
        self._damage: StateCorruptedError | None = None
        self._logger = structlog.get_logger("worker").bind(worker=settings.index)

    @property
    def source(self) -> str:
        """The topic its tasks read."""
        return self.plan.stream.topic

    def share(self, partitions: int) -> None:
        """So many partitions has its source, and so many tasks are shared out."""
        self.engine.partitions = self._states.partitions = self._recovery.partitions = partitions

    def journal(self, source: TopicPartition) -> TopicPartition:
        """Where a task's transactions are journaled."""
        return TopicPartition(self.plan.topics.journal, source.partition)

    def compute(self, inputs: Sequence[TaskInput], now_ms: int) -> Part:
        """Steps 2-4 on its tasks' share of a batch; see `Engine.compute`.

        Raises:
            StateCorruptedError: stored state is damaged: `is_damaged` from now on.
        """
        try:
            computed = self.engine.compute(inputs, self.tasks, now_ms)
        except StateCorruptedError as error:
            self._damage = error
            raise
        for source, head in computed.heads.items():
            self.tasks[source].computed = head
        return Part(self, computed)

    def expected(self, sources: Iterable[TopicPartition]) -> list[TopicPartition]:
        """What a transaction over records of these will write to, as far as that is known in advance."""
        topics = (self.plan.topics.decisions, self.plan.topics.journal)
        return [TopicPartition(topic, source.partition) for topic in topics for source in sources]

    def seal(self) -> None:
        """What was computed is in flight: the next batch may be computed on top of it."""
        self.flusher.prepare(self.tasks.values())
        self.engine.seal()

    def publish(self, *, newest: bool) -> None:
        """What was sealed, or computed last, is committed; `newest`: nothing is computed on top of it."""
        self.engine.publish(is_writing=self.flusher.is_writing)
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
            self._logger.error("local state discarded", task=task.task, reason=str(error))
            await self._states.lose(task.task)
            del self.tasks[task.source]
            task.enter(Phase.CLOSED)
        return [task.source for task in lost]

    async def adopt(self, partitions: Set[TopicPartition], committed: Mapping[TopicPartition, CommittedOffset]) -> None:
        """Close tasks that are not ours any more; restore new ones beside those that are kept.

        Raises:
            PartitionsChangedError: the source has got more since the start.
        """
        mine = {tp for tp in partitions if tp.topic == self.source}
        if any(tp.partition >= self.engine.partitions for tp in mine):
            raise PartitionsChangedError(f"topic {self.source} has more than {self.engine.partitions} partitions now")
        for tp, task in list(self.tasks.items()):
            kept = tp in partitions and task.phase is Phase.RUNNING
            if not kept or (tp in committed and committed[tp].offset != task.position):
                await self._give_up(tp)
        new = [PartitionTask(tp.partition, tp) for tp in sorted(mine - self.tasks.keys())]
        self.tasks |= {task.source: task for task in new}
        self.restorer.begin(new, committed)

    async def _give_up(self, tp: TopicPartition) -> None:
        """A task that is RESTORING has no open store any more."""
        task = self.tasks.pop(tp)
        if task.phase is Phase.RUNNING:
            await self.flusher.finish([task])
            await self._states.close(task.task)
        task.enter(Phase.CLOSED)

    async def finish(self, *, orderly: bool) -> None:
        """Flush what is published; at a clean stop, a checkpoint of it too."""
        await self.restorer.stop()
        await self.flusher.finish(list(self.tasks.values()))
        if orderly:
            await self._checkpoints.take_last(self.tasks.values())

    async def close(self) -> None:
        """Give the tasks' stores up."""
        for task in self.tasks.values():
            if task.phase is Phase.RUNNING:
                await self._states.close(task.task)


def by_stage(stages: Iterable[Stage], inputs: Sequence[TaskInput]) -> list[tuple[Stage, list[TaskInput]]]:
    """A batch's inputs for each stage that has any."""
    found = [(stage, [given for given in inputs if given.source.topic == stage.source]) for stage in stages]
    return [(stage, mine) for stage, mine in found if mine]
