"""The worker: one process, one consumer, one transactional producer, the tasks it was assigned.

The hot loop is `run`: collect -> compute -> transaction -> publish. While a transaction is in flight the worker
collects; only when enough waits (pace.py) it computes that ahead (`_ahead`), undoable by itself. Everything around it
is rare: assignments (`_adopt`), failures of a transaction (`_recover`), flushes (flush.py) and the end.
"""

from __future__ import annotations

__all__ = ["Worker"]

import asyncio
from collections import ChainMap
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import structlog

from state.errors import EventLogError, FencedError, StateCorruptedError, TaskMigratedError
from streamproc.clock import Clock
from streamproc.eventlog.contract import CommittedOffset, EventLog, Membership, OutputRecords, TopicPartition
from streamproc.runtime.assignment import Assignment
from streamproc.runtime.care import Care
from streamproc.runtime.collector import Collector, Queue
from streamproc.runtime.ending import at_end, ends_now
from streamproc.runtime.executor import BlockingExecutor
from streamproc.runtime.in_step import InStep
from streamproc.runtime.journal_reading import locate_all
from streamproc.runtime.metrics import WorkerMetrics
from streamproc.runtime.notes import Notes, Orders
from streamproc.runtime.pace import Pace
from streamproc.runtime.partition_task import PartitionTask, Phase
from streamproc.runtime.patience import Patience
from streamproc.runtime.progress import Progress
from streamproc.runtime.results import BatchTooBadError, BatchTooLargeError
from streamproc.runtime.rows import TaskInput, task_inputs
from streamproc.runtime.settings import WorkerSettings
from streamproc.runtime.shortcut import Shortcut, SkippingReader
from streamproc.runtime.stage import Part, Stage, StageParts, by_fate, finish, merging, publish
from streamproc.runtime.ticks import Clocks
from streamproc.runtime.topics import prepare_topics
from streamproc.runtime.transaction import Probe, TransactionProtocol

_PROMPT_SECONDS = 0.001  # who waits longer for a commit sees when it ends
_NO_ORDERS = Orders({}, frozenset())


class Worker:
    """Runs a pipeline's stages on a share of an event log. Everything foreign is handed in."""

    def __init__(
        self, pipeline: str, log: EventLog, stages: Sequence[StageParts], *, clock: Clock, executor: BlockingExecutor,
        metrics: WorkerMetrics, settings: WorkerSettings, probe: Probe | None = None, notes: Notes | None = None,
        orders: Orders = _NO_ORDERS,
    ) -> None:  # fmt: skip
        self._pipeline, self._log = pipeline, log
        self._clock, self._metrics, self._settings = clock, metrics, settings
        self._logger = structlog.get_logger("worker").bind(worker=settings.index)
        self._busy = asyncio.Lock()
        self._stages = [
            Stage(
                parts, log, self._busy, clock=clock, executor=executor, settings=settings,
                restored=partial(self._go_live, parts.plan.stage),
                failed=lambda _: metrics.failed_tasks.inc(), others=self._has_others,
            )
            for parts in stages
        ]  # fmt: skip
        self._tasks: Mapping[TopicPartition, PartitionTask] = ChainMap(*(stage.tasks for stage in self._stages))
        self._inputs: Mapping[TopicPartition, PartitionTask] = ChainMap(*(stage.inputs for stage in self._stages))
        self._assignment = Assignment(self._busy)
        name = f"{pipeline}-{settings.instance}-{settings.index}"
        topics = [topic for stage in self._stages for topic in stage.topics]
        reader = SkippingReader(
            log.reader(pipeline, topics, self._assignment, instance=name, index=settings.index, count=settings.count)
        )
        self._reader = merging(reader, self._stages, clock, self._is_busy, metrics.gave_up_waiting.inc)
        self._progress = Progress(log, pipeline, clock)
        self._queue = self._made_queue()
        self._collector = Collector(self._reader, 2 * settings.batch_rows_max, self._queue)
        self._clocks = Clocks(log, self._reader, clock, self._stages)
        self._protocol, self._patience = TransactionProtocol(lambda: log.writer(name), clock, probe), Patience(clock)
        self._probe, self._notes, self._care = probe, notes, Care(orders)
        self._pace = Pace(settings.batch_ms, settings.batch_rows_max, len(self._stages))
        self._shortcut = Shortcut(
            self._stages, self._reader, self._collector, self._progress, self._care, place=self._protocol.place,
            skip=reader.skip,
        )  # fmt: skip
        self._ahead: list[Part] | None = None
        self._again, self._stopping, self._orderly, self._due = False, False, True, 0.0
        self._ends: dict[int, dict[TopicPartition, int]] = {}

    @property
    def tasks(self) -> Iterable[PartitionTask]:
        """The tasks it owns now."""
        return self._tasks.values()

    def waiting(self, ends: Mapping[TopicPartition, int]) -> set[TopicPartition]:
        """Whose input, which ends there, holds what is not decided; what only marks transactions does not count."""
        held, read, tasks = self._queue.partitions, self._reader.position, self._inputs.items()
        behind = {tp for tp, task in tasks if max(read(tp), task.position_of(tp)) < ends.get(tp, 0)}
        return held | behind | {tp for tp, task in tasks if task.in_flight}

    @property
    def ready(self) -> bool:
        """Whether it has its partitions and decides."""
        running = {tp for tp, task in self._inputs.items() if task.phase is Phase.RUNNING}
        settled = self._assignment.settled and running == self._assignment.partitions
        return settled and not self._stopping and self._metrics.log_answers

    def _is_busy(self, stages: Iterable[Stage]) -> bool:
        """Whether anything is to be decided, or in flight, by these."""
        held, caught_up = self._queue.partitions, self._reader.caught_up
        inputs = [(tp, task) for stage in stages for tp, task in stage.inputs.items()]
        return any(task.in_flight or task.source in held or not caught_up(tp) for tp, task in inputs)

    def stop(self) -> None:
        """Finish the transaction at hand, flush, and return from `run`."""
        self._stopping = True

    def _made_queue(self) -> Queue:
        """Of several stages, partitions are kept in step."""
        settings, ours = self._settings, lambda: self._assignment.partitions
        if len(self._stages) == 1:
            return self._stages[0].alone(self._reader, self._clock, ours, rows_max=2 * settings.batch_rows_max)
        return InStep(
            [stage.lane for stage in self._stages], self._reader, self._progress, self._clock, ours=ours,
            rows_max=settings.batch_rows_max, patience_s=settings.in_step_seconds, held=self._metrics.out_of_step.inc,
        )  # fmt: skip

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
                self._check_restores()
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
                        expected = self._shortcut.expected(self._queue.partitions, self._clocks.due)
                        await self._protocol.announce(expected, membership)
                        self._ahead = self._next()
                    parts, self._ahead = self._ahead, None
                    if parts is not None:
                        await self._transact(parts, membership)
                    else:
                        await self._protocol.withdraw()
                    if self._again or self._is_damaged:
                        await self._try_again()
        except BaseException:
            self._orderly = False
            raise
        finally:
            await self._close()

    def _check_restores(self) -> None:
        for stage in self._stages:
            stage.restorer.check()

    async def _collect(self) -> bool:
        """Whether anything waits to be decided; the commit interval holds back what is no full batch."""
        waits = await self._collector.wait()
        if waits and (left := self._due - self._clock.monotonic()) > 0:
            pause = asyncio.ensure_future(self._clock.sleep(left))
            await self._collector.during(pause, self._full)
            pause.cancel()
        if not (await self._clocks.look(self._queue.partitions) or waits):
            await self._rest()
            return False
        self._due = self._clock.monotonic() + self._settings.commit_interval_ms / 1000
        return True

    async def _rest(self) -> None:
        """Nothing waits, and nothing is in flight."""
        for stage in self._stages:
            stage.flusher.rest(stage.tasks.values())
        if self._is_damaged:
            async with self._busy:
                await self._try_again()

    @property
    def _is_damaged(self) -> bool:
        return any(stage.is_damaged for stage in self._stages)

    def _next(self) -> list[Part] | None:
        """The next batch, computed; None if nothing is to be decided, or not so (`_again`)."""
        if self._probe is not None:
            self._probe(1)
        rows = self._pace.largest(through_all=self._shortcut.is_open, is_far_behind=self._queue.is_far_behind)
        taken = task_inputs(self._queue.take(self._care.rows(self._queue, rows, self._inputs)), self._inputs)
        inputs = sorted([*taken, *self._clocks.take()], key=lambda one: one.source)
        return self._compute(inputs) if inputs else None  # 2-4

    @property
    def _full(self) -> int:
        """Rows of a full batch; by the shortcut each comes through all stages in it."""
        return self._pace.full(through_all=self._shortcut.is_open)

    def _compute(self, inputs: list[TaskInput]) -> list[Part] | None:
        """Steps 2-4; None, and `_again`, if too many rows failed: the batch is read again in smaller ones."""
        started = self._clock.work()
        if self._notes is not None:
            self._notes.begin([portion for given in inputs if given.rows for portion in given.portions()])
        try:
            now_ms = self._clock.now_ms()
            parts = self._shortcut.compute(inputs, now_ms)
        except (BatchTooBadError, BatchTooLargeError, StateCorruptedError) as error:
            self._again = True
            self._pace.failed(error)
            return None
        if self._notes is not None:
            self._notes.end()  # an error leaves the note: it is a crash at this position
        rows = sum(part.computed.judged.all_rows.size for part in parts)
        self._metrics.computed(rows)
        self._pace.computed(rows, self._clock.work() - started)
        return parts

    async def _transact(self, parts: list[Part], membership: Membership) -> None:
        """Steps 5-8, and meanwhile steps 1-4 of the next batch if it is full."""
        started, busy = self._clock.monotonic(), 0.0
        offsets = {tp: offset for part in parts for tp, offset in part.offsets(self._queue.reached).items()}
        outputs = [output for part in parts for output in part.computed.outputs]
        run = self._protocol.start(outputs, offsets, membership)  # 5-7
        alone = self._care or any(stage.restorer.active for stage in self._stages)
        try:
            is_ahead = not (alone or await self._committing(run, outputs))
            if is_ahead:
                await self._collector.during(self._protocol.sent)
                for stage in self._stages:
                    stage.seal()
                begun = self._clock.monotonic()
                self._ahead = self._next()
                busy = self._clock.monotonic() - begun
                self._metrics.batches_ahead.inc(self._ahead is not None)
            looked = self._clock.monotonic()
            await self._collector.during(run)
            now = self._clock.monotonic()
            ends: dict[TopicPartition, int] | None = run.result()
            self._pace.committed(now - started, busy=busy, at_most=is_ahead and now - looked < _PROMPT_SECONDS)
        except FencedError:
            raise
        except EventLogError as error:
            ends = await self._recover(parts, offsets, membership, error)
        finally:
            run.cancel()  # does nothing, unless computing ahead failed
            await asyncio.wait([run])
        if ends is None:
            return
        self._publish(parts, ends)  # 8
        own = {tp: end for tp, end in ends.items() if tp in self._inputs and self._inputs[tp].position_of(tp) <= end}
        self._collector.expect(own)
        self._metrics.shortcut_records.inc(self._shortcut.committed(outputs, own))
        self._metrics.committed(*by_fate(parts), self._clock.monotonic() - started, self._clock.now_ms())

    async def _committing(self, run: asyncio.Future[Any], outputs: Sequence[OutputRecords]) -> bool:
        """Whether `run` comes to its end before so much waits that it should be computed ahead."""
        if not await self._collector.during(self._protocol.ending, self._full):
            return False
        may = self._shortcut.took(outputs) and not self._settings.commit_interval_ms
        rows = self._pace.ahead(through_all=self._shortcut.is_open) if may else self._full
        return await self._collector.during(run, rows)

    def _publish(self, parts: list[Part], ends: dict[TopicPartition, int]) -> None:
        publish(self._stages, parts, ends, newest=self._ahead is None and not self._again)

    # ---- what is rare

    async def _recover(
        self, parts: list[Part], offsets: dict[TopicPartition, CommittedOffset], membership: Membership,
        error: EventLogError,
    ) -> dict[TopicPartition, int] | None:  # fmt: skip
        """A failure in 5-7: the journal offsets if the transaction is there after all, else None (undone)."""
        self._logger.warning("transaction failed, finding out its outcome", error=str(error))
        if isinstance(error, TaskMigratedError) and self._assignment.membership is membership:
            self._assignment.membership = None  # nothing is decided until the next assignment is told
        self._metrics.failed_transactions.inc()
        if await self._protocol.settle(offsets, self._reader):
            wanted = {journal: place for part in parts for journal, place in part.journaled().items()}
            return await self._protocol.retried(partial(locate_all, self._log, wanted))
        self._undo()
        await self._read_from_positions()
        return None

    def _undo(self) -> None:
        """Whatever is computed and not published did not happen; the rows must be read again."""
        self._ahead, self._again = None, False
        for stage in self._stages:
            stage.undo()

    async def _try_again(self) -> None:
        """After a batch that could not be computed: with fewer rows, or on restored state."""
        self._undo()
        for stage in self._stages:
            if stage.is_damaged:
                for source in await stage.lose_damaged():
                    self._reader.pause(source)
                self._assignment.changed.set()
        await self._read_from_positions()

    async def _read_from_positions(self) -> None:
        """Forget what was collected, a poll under way too, and read each task again from its position."""
        await self._collector.reset()
        for tp, task in self._inputs.items():
            if task.phase is Phase.RUNNING:
                self._reader.resume(tp, task.position_of(tp))
            else:
                self._reader.pause(tp)  # its records must not be taken the moment it goes live, from far ahead

    async def _start(self) -> bool:
        plans, horizon = [stage.plan for stage in self._stages], self._settings.replay_horizon_ms
        partitions = await prepare_topics(self._log, *plans, replay_horizon_ms=horizon, warns=self._settings.index == 0)
        for stage in self._stages:
            stage.share(partitions)
        sources = [stage.source for stage in self._stages[:-1]]
        self._progress.partitions = [TopicPartition(source, p) for source in sources for p in range(partitions)]
        if self._settings.until_end:
            self._ends[0] = await ends_now(self._log, self._stages[0].topics, partitions)
        await self._protocol.open()
        await self._reader.start()
        return True

    async def _adopt(self) -> bool:
        """Follow the last assignment: close lost tasks, restore new ones beside the kept ones, which go on."""
        self._assignment.changed.clear()
        self._undo()
        partitions = self._assignment.partitions
        try:
            for stage in self._stages:
                await stage.restorer.stop()
            if self._assignment.membership is None:
                return True
            committed = await self._reader.committed(sorted(partitions))
            self._shortcut.distrust()
            for stage in self._stages:
                await stage.adopt(partitions, committed)
            if not self._tasks:
                self._logger.warning("no partition is ours: other workers have them all")
            await self._read_from_positions()
        except BaseException:
            self._assignment.changed.set()
            raise
        return True

    def _go_live(self, stage: str, task: PartitionTask) -> None:
        self._metrics.restored_tasks.labels(stage).inc()
        for tp in task.inputs:
            self._reader.resume(tp, task.position_of(tp))
        self._logger.info("task restored", **task.named, position=task.position, sequence=task.sequence)
        if self.ready:
            self._logger.info("ready", tasks=sorted({task.task for task in self._tasks.values()}))

    def _has_others(self) -> bool:
        """Whether the worker goes on without tasks that cannot be restored; these stay paused."""
        return not self._settings.until_end and any(task.phase is Phase.RUNNING for task in self._tasks.values())

    async def _at_end(self) -> bool:
        """With `until_end`: whether the group has decided and committed all that was there at the start. Stage after
        stage: one that has come to its end hands on no more.
        """
        if not self._settings.until_end or not self.ready or not self._collector.idle:
            return False
        for number, leg in enumerate(leg for stage in self._stages for leg in stage.way):
            if number not in self._ends:
                self._ends[number] = await ends_now(self._log, leg.topics, self._stages[0].partitions)
            done = at_end(self._log, self._reader, self._clock, leg, self._ends[number])
            if not await done or not self._collector.idle:  # a poll meanwhile moves the position, and brings records
                return False
        return True

    async def _close(self) -> None:
        """Leave nothing to replay: what is published is flushed; what is not is undone."""
        self._undo()  # before anybody else has a turn: a restore's slice publishes the whole state
        await self._collector.reset()
        await self._progress.close()
        try:
            await finish(self._stages, orderly=self._orderly)
        finally:
            await self._protocol.close()
            for stage in self._stages:
                await stage.close()
            await self._reader.close(leave=self._settings.leave and self._stopping)
            self._logger.info("stopped", **self._metrics.totals())
