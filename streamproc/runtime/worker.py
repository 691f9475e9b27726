"""The worker: one process, one consumer, one transactional producer, the tasks it was assigned.

The hot loop is `run`: collect -> compute -> transaction -> publish. While a transaction is in flight the worker
collects; only when a full batch waits it computes that one ahead (`_ahead`), undoable by itself. Everything around it
is rare: assignments (`_adopt`), failures of a transaction (`_recover`), flushes (flush.py) and the end.
"""

from __future__ import annotations

__all__ = ["Worker"]

import asyncio
from collections.abc import Iterable, Mapping
from functools import partial

import structlog

from operators.plan import Plan
from state.errors import EventLogError, FencedError, StateCorruptedError, TaskMigratedError
from streamproc.clock import Clock
from streamproc.eventlog.contract import CommittedOffset, EventLog, GroupReader, Membership, TopicPartition
from streamproc.runtime.assignment import Assignment
from streamproc.runtime.care import Care
from streamproc.runtime.collector import Collector
from streamproc.runtime.ending import at_end
from streamproc.runtime.engine import BatchTooBadError, BatchTooLargeError, Engine
from streamproc.runtime.executor import BlockingExecutor
from streamproc.runtime.flush import Flusher
from streamproc.runtime.journal_reading import locate_all
from streamproc.runtime.metrics import WorkerMetrics
from streamproc.runtime.notes import Notes, Orders, Portion
from streamproc.runtime.partition_task import PartitionTask, Phase
from streamproc.runtime.patience import Patience
from streamproc.runtime.recovery import Recovery
from streamproc.runtime.replay import SilentReplayer
from streamproc.runtime.restorer import Restorer
from streamproc.runtime.results import Computed
from streamproc.runtime.rows import TaskInput, task_inputs
from streamproc.runtime.settings import WorkerSettings
from streamproc.runtime.state_keeper import StateKeeper
from streamproc.runtime.stored_state import NoCheckpoints, TaskCheckpoints
from streamproc.runtime.topics import prepare_topics
from streamproc.runtime.transaction import Probe, TransactionProtocol

_ROWS_WHEN_BAD = 16
_NO_ORDERS = Orders({}, frozenset())
_NO_CHECKPOINTS = NoCheckpoints()


class Worker:
    """Runs a plan on a share of an event log. Everything foreign is handed in."""

    def __init__(
        self,
        plan: Plan,
        log: EventLog,
        *,
        engine: Engine,
        states: StateKeeper,
        clock: Clock,
        executor: BlockingExecutor,
        metrics: WorkerMetrics,
        settings: WorkerSettings,
        probe: Probe | None = None,
        notes: Notes | None = None,
        orders: Orders = _NO_ORDERS,
        checkpoints: TaskCheckpoints = _NO_CHECKPOINTS,
    ) -> None:
        self._plan, self._log = plan, log
        self._engine, self._states = engine, states
        self._clock, self._metrics = clock, metrics
        self._settings, self._checkpoints = settings, checkpoints
        self._logger = structlog.get_logger("worker").bind(worker=settings.index)
        self._busy = asyncio.Lock()
        self._assignment = Assignment(self._busy)
        name = f"{plan.pipeline}-{settings.instance}-{settings.index}"
        self._reader: GroupReader = log.reader(
            plan.pipeline, [plan.stream.topic], self._assignment,
            instance=name, index=settings.index, count=settings.count,
        )  # fmt: skip
        self._collector = Collector(self._reader, 2 * settings.batch_rows_max)
        self._protocol = TransactionProtocol(lambda: log.writer(name), clock, probe)
        self._flusher = Flusher(states, executor, clock, settings.flush_rows, settings.flush_seconds)
        self._recovery = Recovery(
            log, SilentReplayer(engine), states, self._busy, group=plan.pipeline,
            journal_topic=plan.topics.journal, state_fingerprint=plan.state_fingerprint, checkpoints=checkpoints,
        )  # fmt: skip
        self._restorer = Restorer(
            self._recovery, states, clock, restored=self._go_live, others=self._has_others,
            failed=lambda _: metrics.failed_tasks.inc(),
        )  # fmt: skip
        self._probe, self._notes = probe, notes
        self._care, self._patience = Care(orders), Patience(clock)
        self._tasks: dict[TopicPartition, PartitionTask] = {}
        self._rows_max = self._rows_cap = settings.batch_rows_max
        self._ahead: Computed | None = None
        self._again, self._stopping, self._orderly = False, False, True
        self._due = 0.0
        self._damage: StateCorruptedError | None = None
        self._ends: dict[TopicPartition, int] = {}

    @property
    def tasks(self) -> Iterable[PartitionTask]:
        """The tasks it owns now."""
        return self._tasks.values()

    def waiting(self, ends: Mapping[TopicPartition, int]) -> set[TopicPartition]:
        """Whose input, which ends there, holds what is not decided; what only marks transactions does not count."""
        held, read, tasks = self._collector.partitions, self._reader.position, self._tasks.items()
        return held | {tp for tp, task in tasks if task.in_flight or max(read(tp), task.position) < ends.get(tp, 0)}

    @property
    def ready(self) -> bool:
        """Whether it has its partitions and decides."""
        running = {tp for tp, task in self._tasks.items() if task.phase is Phase.RUNNING}
        settled = self._assignment.settled and running == self._assignment.partitions
        return settled and not self._stopping and self._metrics.log_answers

    def stop(self) -> None:
        """Finish the transaction at hand, flush, and return from `run`."""
        self._stopping = True

    # ---- the hot loop

    async def run(self) -> None:
        """Decide until `stop`, or until the end with `until_end`.

        Raises:
            FencedError: another process has our identity.
            StreamprocError: what cannot be survived, with a reason.
        """
        try:
            while not self._stopping and not await self._patience.with_(self._start):
                pass
            while not self._stopping:
                if self._assignment.changed.is_set() and not await self._patience.with_(self._adopt):
                    continue
                self._restorer.check()
                if self._ahead is None and not await self._patience.with_(self._collect):  # 1
                    if await self._patience.with_(self._at_end):
                        self.stop()
                    continue
                async with self._busy:
                    membership = self._assignment.membership
                    if membership is None or self._assignment.changed.is_set():
                        self._undo()
                        await self._collector.reset()  # else nothing polls, and nobody tells the next assignment
                        continue
                    if self._ahead is None:
                        await self._protocol.announce(self._expected(), membership)
                        self._ahead = self._next()
                    computed, self._ahead = self._ahead, None
                    if computed is not None:
                        await self._transact(computed, membership)
                    else:
                        await self._protocol.withdraw()
                    if self._again or self._flusher.damage is not None:
                        await self._try_again()
        except BaseException:
            self._orderly = False
            raise
        finally:
            await self._close()

    async def _collect(self) -> bool:
        """Whether anything waits to be decided; the commit interval holds back what is no full batch."""
        if not await self._collector.wait():
            await self._rest()
            return False
        if (left := self._due - self._clock.monotonic()) > 0:
            pause = asyncio.ensure_future(self._clock.sleep(left))
            await self._collector.during(pause, self._full)
            pause.cancel()
        self._due = self._clock.monotonic() + self._settings.commit_interval_ms / 1000
        return True

    async def _rest(self) -> None:
        """Nothing waits, and nothing is in flight."""
        self._flusher.rest(self._tasks.values())
        if self._flusher.damage is not None:
            async with self._busy:
                await self._try_again()

    def _expected(self) -> list[TopicPartition]:
        """What the next transaction will write to, as far as that is known before it is computed."""
        topics = (self._plan.topics.decisions, self._plan.topics.journal)
        tasks = {tp.partition for tp in self._collector.partitions if tp in self._tasks}
        return [TopicPartition(topic, task) for topic in topics for task in sorted(tasks)]

    def _next(self) -> Computed | None:
        """The next batch, computed; None if nothing is to be decided, or not so (`_again`)."""
        if self._probe is not None:
            self._probe(1)
        rows = self._care.rows(self._collector.head, self._full, self._tasks)
        inputs = task_inputs(self._collector.take(rows), self._tasks)
        return self._compute(inputs) if inputs else None  # 2-4

    @property
    def _full(self) -> int:
        """Rows of a full batch."""
        return min(self._rows_cap, self._metrics.rows_for(self._settings.batch_ms))

    def _compute(self, inputs: list[TaskInput]) -> Computed | None:
        """Steps 2-4; None, and `_again`, if too many rows failed: the batch is read again in smaller ones."""
        started = self._clock.work()
        if self._notes is not None:
            self._notes.begin([Portion(*given.source, given.start, given.stop, given.rows) for given in inputs])
        try:
            computed = self._engine.compute(inputs, self._tasks, self._clock.now_ms())
        except (BatchTooBadError, BatchTooLargeError, StateCorruptedError) as error:
            self._again = True
            if isinstance(error, BatchTooBadError):
                self._rows_cap = _ROWS_WHEN_BAD if self._rows_cap > _ROWS_WHEN_BAD else 1
            elif isinstance(error, BatchTooLargeError):
                self._rows_max = self._rows_cap = error.rows
            else:
                self._damage = error
            return None
        for source, head in computed.heads.items():
            self._tasks[source].computed = head
        self._rows_cap = min(2 * self._rows_cap, self._rows_max)
        if self._notes is not None:
            self._notes.end()  # an error leaves the note: it is a crash at this position
        self._metrics.computed(computed, self._clock.work() - started)
        return computed

    async def _transact(self, computed: Computed, membership: Membership) -> None:
        """Steps 5-8, and meanwhile steps 1-4 of the next batch if it is full."""
        started = self._clock.monotonic()
        offsets = {source: self._tasks[source].commit_of(head) for source, head in computed.heads.items()}
        run = asyncio.ensure_future(self._protocol.run(computed.outputs, offsets, membership))  # 5-7
        full = None if self._care or self._restorer.active else self._full
        try:
            if not await self._collector.during(run, full):
                self._flusher.prepare(self._tasks.values())
                self._engine.seal()
                self._ahead = self._next()
                self._metrics.batches_ahead.inc(self._ahead is not None)
                await self._collector.during(run)
            ends: dict[TopicPartition, int] | None = run.result()
        except FencedError:
            raise
        except EventLogError as error:
            ends = await self._recover(computed, offsets, membership, error)
        finally:
            run.cancel()  # does nothing, unless computing ahead failed
            await asyncio.wait([run])
        if ends is None:
            return
        self._publish(computed, ends)  # 8
        self._metrics.committed(computed, self._clock.monotonic() - started, self._clock.now_ms())

    def _publish(self, computed: Computed, ends: dict[TopicPartition, int]) -> None:
        self._engine.publish()
        for source, head in computed.heads.items():
            self._tasks[source].advance(head, ends[TopicPartition(self._plan.topics.journal, source.partition)])
        self._flusher.publish(self._tasks.values(), newest=self._ahead is None and not self._again)

    # ---- what is rare

    async def _recover(
        self,
        computed: Computed,
        offsets: dict[TopicPartition, CommittedOffset],
        membership: Membership,
        error: EventLogError,
    ) -> dict[TopicPartition, int] | None:
        """A failure in 5-7: the journal offsets if the transaction is there after all, else None (undone)."""
        self._logger.warning("transaction failed, finding out its outcome", error=str(error))
        if isinstance(error, TaskMigratedError) and self._assignment.membership is membership:
            self._assignment.membership = None  # nothing is decided until the next assignment is told
        self._metrics.failed_transactions.inc()
        landed = await self._protocol.settle(offsets, self._reader)
        if landed:
            journal, tasks = self._plan.topics.journal, self._tasks
            wanted = {
                TopicPartition(journal, source.partition): (tasks[source].journal_offset, head.sequence)
                for source, head in computed.heads.items()
            }
            return await self._protocol.retried(partial(locate_all, self._log, wanted))
        self._undo()
        await self._read_from_positions()
        return None

    def _undo(self) -> None:
        """Whatever is computed and not published did not happen; the rows must be read again."""
        self._ahead, self._again, self._damage = None, False, None
        self._flusher.undo()
        self._engine.undo()
        for task in self._tasks.values():
            task.fall_back()

    async def _try_again(self) -> None:
        """After a batch that could not be computed: with fewer rows, or on restored state."""
        damage, self._flusher.damage = self._damage or self._flusher.damage, None
        self._undo()
        if damage is not None:
            await self._lose_state(damage)
        await self._read_from_positions()

    async def _lose_state(self, error: StateCorruptedError) -> None:
        """Stored state turned out damaged while it was read: the task is restored from what else there is."""
        await self._flusher.finish([])
        for tp, task in list(self._tasks.items()):
            if error.task in {None, task.task} and task.phase is Phase.RUNNING:
                self._logger.error("local state discarded", task=task.task, reason=str(error))
                self._reader.pause(tp)
                await self._states.lose(task.task)
                del self._tasks[tp]
                task.enter(Phase.CLOSED)
        self._assignment.changed.set()

    async def _read_from_positions(self) -> None:
        """Forget what was collected, a poll under way too, and read each task again from its position."""
        await self._collector.reset()
        for tp, task in self._tasks.items():
            if task.phase is Phase.RUNNING:
                self._reader.resume(tp, task.position)
            else:
                self._reader.pause(tp)  # its records must not be taken the moment it goes live, from far ahead

    async def _start(self) -> bool:
        partitions = await prepare_topics(self._log, self._plan, self._settings.replay_horizon_ms)
        self._engine.partitions = self._states.partitions = self._recovery.partitions = partitions
        sources = [TopicPartition(self._plan.stream.topic, p) for p in range(partitions)]
        if self._settings.until_end:
            begins = await self._log.admin().begin_offsets(sources)
            ends = await self._log.admin().end_offsets(sources)
            self._ends = {tp: end for tp, end in ends.items() if end > begins[tp]}
        await self._protocol.open()
        await self._reader.start()
        return True

    async def _adopt(self) -> bool:
        """Follow the last assignment: close lost tasks, restore new ones beside the kept ones, which go on."""
        self._assignment.changed.clear()
        self._undo()
        partitions = self._assignment.partitions
        try:
            await self._restorer.stop()
            if self._assignment.membership is None:
                return True
            committed = await self._reader.committed(sorted(partitions))
            for tp, task in list(self._tasks.items()):
                kept = tp in partitions and task.phase is Phase.RUNNING
                if not kept or (tp in committed and committed[tp].offset != task.position):
                    await self._give_up(tp)
            new = [PartitionTask(tp.partition, tp) for tp in sorted(partitions - self._tasks.keys())]
            self._tasks |= {task.source: task for task in new}
            if not self._tasks:
                self._logger.warning("no partition is ours: other workers have them all")
            self._restorer.begin(new, committed)
            await self._read_from_positions()
        except BaseException:
            self._assignment.changed.set()
            raise
        return True

    def _go_live(self, task: PartitionTask) -> None:
        self._reader.resume(task.source, task.position)
        self._logger.info("task restored", task=task.task, position=task.position, sequence=task.sequence)
        if self.ready:
            self._logger.info("ready", tasks=sorted(task.task for task in self._tasks.values()))

    def _has_others(self) -> bool:
        """Whether the worker goes on without tasks that cannot be restored; these stay paused."""
        return not self._settings.until_end and any(task.phase is Phase.RUNNING for task in self._tasks.values())

    async def _give_up(self, tp: TopicPartition) -> None:
        """A task that is RESTORING has no open store any more."""
        task = self._tasks.pop(tp)
        if task.phase is Phase.RUNNING:
            await self._flusher.finish([task])
            await self._states.close(task.task)
        task.enter(Phase.CLOSED)

    async def _at_end(self) -> bool:
        """With `until_end`: whether the group has decided and committed all that was there at the start."""
        if not self._settings.until_end or not self.ready or not self._collector.idle:
            return False
        return await at_end(self._log, self._reader, self._clock, self._plan.pipeline, ends=self._ends, own=self._tasks)

    async def _close(self) -> None:
        """Leave nothing to replay: what is published is flushed; what is not is undone."""
        await self._collector.reset()
        self._undo()
        try:
            await self._restorer.stop()
            await self._flusher.finish(list(self._tasks.values()))
            if self._orderly:
                await self._checkpoints.take_last(self._tasks.values())
        finally:
            await self._protocol.close()
            for task in self._tasks.values():
                if task.phase is Phase.RUNNING:
                    await self._states.close(task.task)
            await self._reader.close(leave=self._settings.leave and self._stopping)
            self._logger.info("stopped", **self._metrics.totals())
