"""A call step at work: rows that a stage has handed on are answered, and go on to the next one with their answers.

Each row is asked about as it arrives, many at a time. Of each partition the rows leave in the order they came: those
before the first one without an answer go into one transaction with the offsets they were read at, by the protocol of
transaction.py. So a row goes on exactly once, whatever dies; but a service may be asked about it again. There is no
state to restore.
"""

from __future__ import annotations

__all__ = ["Answering", "Caller"]

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import structlog

from operators.call import CallSpec
from operators.forks import ForkWriter
from operators.plan import Plan
from state.errors import EventLogError, FencedError, TaskMigratedError
from state.hashing import partition_of
from streamproc.clock import Clock
from streamproc.eventlog.contract import CommittedOffset, EventLog, Membership, OutputRecords, TopicPartition
from streamproc.runtime.assignment import Assignment
from streamproc.runtime.collector import Collector, InArrivalOrder
from streamproc.runtime.line import Line, Row
from streamproc.runtime.patience import Patience
from streamproc.runtime.settings import WorkerSettings
from streamproc.runtime.topics import prepare_topics
from streamproc.runtime.transaction import Probe, TransactionProtocol

_WAIT_SECONDS = 0.1


class Answering(Protocol):
    """Who is asked."""

    def answer(self, record: bytes | None) -> bytes | asyncio.Future[bytes]:
        """What is added to the record, or what will be it; it never fails."""
        ...

    def waiting(self, rows: int) -> None:
        """So many rows are read and not handed on."""
        ...


class Caller:
    """Carries out one call step of a pipeline, whose stages are `plans`, on a share of an event log."""

    def __init__(
        self, spec: CallSpec, plans: Sequence[Plan], log: EventLog, service: Answering, *, clock: Clock,
        settings: WorkerSettings, probe: Probe | None = None,
    ) -> None:  # fmt: skip
        self._spec, self._plans, self._log, self._service = spec, plans, log, service
        self._clock, self._settings = clock, settings
        self._logger = structlog.get_logger("caller").bind(worker=settings.index, call=spec.name)
        self._busy = asyncio.Lock()
        self._assignment = Assignment(self._busy)
        name = f"{spec.pipeline}-{settings.instance}-{settings.index}-{spec.name}"
        self._reader = log.reader(
            spec.group, [spec.source], self._assignment, instance=name, index=settings.index, count=settings.count
        )
        self._rows_max = max(settings.batch_rows_max, 2 * spec.in_flight)
        self._collector = Collector(self._reader, settings.batch_rows_max, InArrivalOrder())
        self._protocol = TransactionProtocol(lambda: log.writer(name), clock, probe)
        self._patience = Patience(clock)
        self._fork = None if spec.fork is None else ForkWriter(spec.fork)
        self._partitions = 0
        self._lines: dict[TopicPartition, Line] = {}
        self._moment: asyncio.Future[None] | None = None
        self._stopping = False

    @property
    def tasks(self) -> Iterable[Line]:
        """Of the partitions that it has now; their positions: up to where rows have gone on."""
        return self._lines.values()

    def waiting(self, ends: Mapping[TopicPartition, int]) -> set[TopicPartition]:
        """Whose source, which ends there, holds what has not gone on; what only marks transactions does not count."""
        read = self._reader.position
        return {tp for tp, line in self._lines.items() if len(line) or max(read(tp), line.position) < ends.get(tp, 0)}

    def stop(self) -> None:
        """Finish the transaction at hand, and return from `run`."""
        self._stopping = True
        self._wake()

    async def run(self) -> None:
        """Answer until `stop`.

        Raises:
            FencedError: another process has our identity.
            EventLogError: the log stayed unreachable.
        """
        try:
            while not self._stopping and not await self._patience.with_(self._start):
                pass
            while not self._stopping:
                if self._assignment.changed.is_set() and not await self._patience.with_(self._adopt):
                    continue
                ready = self._ready()
                if not ready:
                    await self._patience.with_(self._wait)
                    continue
                async with self._busy:
                    membership = self._assignment.membership
                    if membership is None or self._assignment.changed.is_set():
                        await self._forget()  # then polls go on, and the next assignment is told
                    else:
                        await self._transact(ready, membership)
        finally:
            await self._close()

    async def _start(self) -> bool:
        self._partitions = await prepare_topics(self._log, *self._plans)
        await self._protocol.open()
        await self._reader.start()
        return True

    async def _adopt(self) -> bool:
        """Follow the last assignment: read on from where the group has committed."""
        self._assignment.changed.clear()
        await self._forget()
        if self._assignment.membership is None:
            return True
        try:
            mine = sorted(self._assignment.partitions)
            committed = await self._reader.committed(mine)
            begins = await self._log.admin().begin_offsets([tp for tp in mine if tp not in committed])
        except BaseException:
            self._assignment.changed.set()
            raise
        for tp in mine:
            self._lines[tp] = Line(tp, committed[tp].offset if tp in committed else begins[tp])
            self._reader.resume(tp, self._lines[tp].position)
        self._logger.info("calls are made", tasks=[tp.partition for tp in mine])
        return True

    async def _forget(self) -> None:
        """What is read and not handed on; it will be read again, by us or by another."""
        self._lines.clear()
        await self._collector.reset()

    async def _wait(self) -> bool:
        """Until a row comes or is answered, or for a moment."""
        self._moment = asyncio.get_running_loop().create_future()
        if self._room > 0:
            await self._collector.wait(_WAIT_SECONDS, self._moment)
            self._ask()
        else:
            await asyncio.wait([self._moment], timeout=_WAIT_SECONDS)
        return True

    def _wake(self) -> None:
        if self._moment is not None and not self._moment.done():
            self._moment.set_result(None)

    @property
    def _room(self) -> int:
        """How many rows may be asked about besides those that wait."""
        return self._rows_max - sum(map(len, self._lines.values()))

    def _ask(self) -> None:
        """About what was collected, as far as there is room."""
        if self._room > 0:
            for chunk in self._collector.queue.take(self._room):
                line = self._lines.get(chunk.tp)
                if line is None:
                    continue
                for place, value in enumerate(chunk.values):
                    answer = self._service.answer(value)
                    if isinstance(answer, asyncio.Future):
                        answer.add_done_callback(lambda _: self._wake())
                    line.add(chunk, place, answer)
        self._service.waiting(self._rows_max - self._room)

    def _ready(self) -> dict[TopicPartition, Sequence[Row]]:
        """Of each partition the rows before the first without an answer."""
        found = {tp: line.ready(self._settings.batch_rows_max) for tp, line in self._lines.items()}
        return {tp: rows for tp, rows in found.items() if rows}

    async def _transact(self, ready: dict[TopicPartition, Sequence[Row]], membership: Membership) -> None:
        """Write rows that are ready, and meanwhile ask about others."""
        now = self._clock.now_ms()
        offsets = {tp: CommittedOffset(rows[-1].after, "") for tp, rows in ready.items()}
        run = asyncio.ensure_future(self._protocol.run(self._outputs(ready, now), offsets, membership))
        try:
            while not await self._collector.during(run, 1 if self._room > 0 else None):
                self._ask()
            run.result()
        except FencedError:
            raise
        except EventLogError as error:
            self._logger.warning("transaction failed, finding out its outcome", error=str(error))
            if isinstance(error, TaskMigratedError) and self._assignment.membership is membership:
                self._assignment.membership = None  # nothing is written until the next assignment is told
            if not await self._protocol.settle(offsets, self._reader):
                return  # the rows still stand in their lines
        finally:
            run.cancel()
            await asyncio.wait([run])
        for tp, rows in ready.items():
            self._lines[tp].drop(len(rows))

    def _outputs(self, ready: Mapping[TopicPartition, Sequence[Row]], now_ms: int) -> list[OutputRecords]:
        """Rows with their answers, where they go."""
        if self._fork is None:
            return [
                OutputRecords(
                    TopicPartition(self._spec.target, tp.partition), [row.key for row in rows],
                    [row.answered() for row in rows], now_ms,
                )
                for tp, rows in ready.items()
            ]  # fmt: skip
        keys: defaultdict[TopicPartition, list[bytes | None]] = defaultdict(list)
        values: defaultdict[TopicPartition, list[bytes | None]] = defaultdict(list)
        for tp, rows in ready.items():
            for row in rows:
                for topic, route, record in self._fork.write(row.answered()):
                    partition = tp.partition if route is None else partition_of(route, self._partitions)
                    at = TopicPartition(topic, partition)
                    keys[at].append(row.key if route is None else route)
                    values[at].append(record)
        return [OutputRecords(at, keys[at], values[at], now_ms) for at in sorted(keys)]

    async def _close(self) -> None:
        await self._collector.reset()
        await self._protocol.close()
        await self._reader.close(leave=self._settings.leave and self._stopping)
