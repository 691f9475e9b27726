"""One simulated deployment: a cluster, a disk, workers that come and go, and the judge of what came out."""

from __future__ import annotations

__all__ = ["Verdict", "World"]

import asyncio
import json
import math
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from operators.deduplicate import Deduplicator
from operators.plan import Plan
from state.checkpoint import Checkpoints
from state.hashing import partition_of
from state.memory import MemoryBlobs, MemoryDisk, MemoryRowStores
from state.worker_state import WorkerState
from streamproc.eventlog.contract import OutputRecords, TopicPartition
from streamproc.eventlog.simulated import Crash, Faults, SimulatedCluster, SimulatedEventLog, VirtualClock
from streamproc.runtime.checkpointer import Checkpointer
from streamproc.runtime.engine import Engine
from streamproc.runtime.metrics import WorkerMetrics
from streamproc.runtime.settings import WorkerSettings
from streamproc.runtime.stage import StageParts
from streamproc.runtime.state_keeper import StateKeeper
from streamproc.runtime.topics import prepare_topics
from streamproc.runtime.worker import Worker
from tests.oracle.card_job import Expected, expect
from tests.simulation.traffic import Record

_KEY = b"k" * 32
_POLL_MS = 10


class Verdict(msgspec.Struct):
    """What an independent reader found: all lists empty is the only good verdict."""

    wrong: list[str] = []
    decisions: int = 0


class VirtualExecutor:
    """The flush executor's twin: a write happens a little later, and only if the process still lives."""

    def __init__(self, delay_s: Callable[[], float], alive: Callable[[], bool]) -> None:
        self._delay_s = delay_s
        self._alive = alive
        self._tasks: set[asyncio.Task[None]] = set()

    def submit(self, work: Callable[[], None]) -> asyncio.Future[None]:
        async def later() -> None:
            await asyncio.sleep(self._delay_s())
            if not self._alive():
                raise Crash
            work()

        task = asyncio.get_running_loop().create_task(later())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody waits for a dead process
        return task

    def close(self) -> None:
        """Nothing to wait for."""


class World:
    """`plan` on two partitions of a simulated cluster; faults come from `faults` and from `crash_at`."""

    def __init__(self, plan: Plan, rng: random.Random, faults: Faults) -> None:
        self.plan = msgspec.structs.replace(plan, topic_partitions=2)
        self.rng = rng
        self.clock = VirtualClock()
        self.faults = faults
        self.cluster = SimulatedCluster(self.clock, rng, faults)
        self.disk = MemoryDisk(rng)
        self.partitions = 2
        self.crashes: Counter[int] = Counter()
        self.metrics: list[WorkerMetrics] = []
        self.evicted = 0
        self.memory_bytes = 0
        self._names = 0
        self.blobs: MemoryBlobs | None = None
        self.directory = Path()  # of snapshots, if there are `blobs`
        self.checkpoint_seconds = 0.05
        self.flush_seconds = 0.2

    def client(self) -> SimulatedEventLog:
        """A new process's connection."""
        self._names += 1
        return self.cluster.client(f"process-{self._names}")

    async def feed(self, records: list[Record]) -> None:
        """Append all records; poison goes where its card would."""
        log = self.client()
        await prepare_topics(log, self.plan)
        appender = log.appender()
        for record in records:
            tp = TopicPartition(self.plan.stream.topic, partition_of(record.card.encode(), self.partitions))
            await appender.append([OutputRecords(tp, [record.card.encode()], [record.value], self.clock.now_ms())])
        await appender.close()
        await log.close()

    async def work(
        self, crash_at: tuple[int, int] | None = None, *, seconds: float | None = None, **settings: Any
    ) -> bool:
        """Run a worker to the end, or for so many `seconds`; `crash_at` (step, n) kills it when it comes there the
        n-th time.

        True if it ended by itself, False if it was killed or gave up.
        """
        log = self.client()
        stores = MemoryRowStores(self.disk, sync=False)
        dead = False
        seen: Counter[int] = Counter()

        def probe(step: int) -> None:
            nonlocal dead
            seen[step] += 1
            if crash_at == (step, seen[step]):
                dead = True
                self.crashes[step] += 1
                log.crash()
                stores.kill()
                raise Crash

        given = WorkerSettings(until_end=seconds is None, **settings)
        worker, watch = self._worker(log, stores, lambda: not dead, probe, given)
        if seconds is not None:
            asyncio.get_running_loop().call_later(seconds, worker.stop)
        try:
            await worker.run()
        except Crash:
            dead = True
        finally:
            watch.cancel()
            await asyncio.wait([watch])
            if dead:
                log.crash()
                stores.kill()
                self.disk.crash()
            else:
                await log.close()
        self.evicted += self.state.evicted
        return not dead

    def _worker(
        self, log: SimulatedEventLog, stores: MemoryRowStores, alive: Callable[[], bool],
        probe: Callable[[int], None], settings: WorkerSettings,
    ) -> tuple[Worker, asyncio.Future[None]]:  # fmt: skip
        engine = self._engine(probe)
        executor = VirtualExecutor(lambda: self.rng.uniform(0, self.flush_seconds), alive)
        states = StateKeeper(self.state, stores, self.plan.state_fingerprint, executor)
        self.metrics.append(WorkerMetrics())
        checkpointer = self._checkpointer(states, alive)
        stage = StageParts(self.plan, engine, states, checkpointer)
        worker = Worker(
            self.plan.pipeline, log, [stage], clock=self.clock, executor=executor, metrics=self.metrics[-1],
            settings=settings, probe=probe,
        )  # fmt: skip
        watching = checkpointer.watch(lambda: worker.tasks) if checkpointer else asyncio.sleep(0)
        return worker, asyncio.ensure_future(watching)

    def _engine(self, probe: Callable[[int], None]) -> Engine:
        """On new state, which is `state` from now on."""
        deduplicator = Deduplicator(self.plan.stream.deduplicate_ms, actions=self.plan.decision.actions)
        self.state = WorkerState(self.plan.tables, (deduplicator,), memory_bytes=self.memory_bytes)
        return Engine(self.plan, self.state, deduplicator, digest_key=_KEY, probe=probe)

    def _checkpointer(self, states: StateKeeper, alive: Callable[[], bool]) -> Checkpointer | None:
        if self.blobs is None:
            return None
        return Checkpointer(
            Checkpoints(self.blobs, self.plan.pipeline), states,
            sender=VirtualExecutor(lambda: self.rng.uniform(0, 0.05), alive), clock=self.clock,
            metrics=self.metrics[-1], directory=self.directory, every_s=self.checkpoint_seconds,
        )  # fmt: skip

    def count(self, metric: str) -> float:
        """The sum of a counter over all workers there were."""
        families = [family for metrics in self.metrics for family in metrics.registry.collect()]
        samples = [sample for family in families for sample in family.samples]
        return sum(sample.value for sample in samples if sample.name == f"streamproc_{metric}_total")

    # ---- the judge

    async def judge(self) -> Verdict:
        """Read everything read_committed and compare with the oracle's sequential, fault-free run."""
        verdict = Verdict()
        for partition in range(self.partitions):
            source = await self.read(self.plan.stream.topic, partition)
            expected = expect(source)
            decided = await self.read(self.plan.topics.decisions, partition)
            dead = await self.read(self.plan.topics.dead_letters, partition)
            verdict.decisions += len(decided)
            self._compare_decisions(expected, [json.loads(value) for _, value, _ in decided], verdict)
            letters = [json.loads(value)["offset"] for _, value, _ in dead]
            if sorted(letters) != sorted(expected.dead):
                verdict.wrong.append(f"dead letters {letters}, expected {sorted(expected.dead)}")
        return verdict

    def _compare_decisions(self, expected: Expected, found: list[dict[str, Any]], verdict: Verdict) -> None:
        """I1, I2, I4: one decision a valid offset, in offset order, equal in every field."""
        if len(found) != len(expected.decisions):
            verdict.wrong.append(f"{len(found)} decisions, expected {len(expected.decisions)}")
        for (offset, wanted), got in zip(sorted(expected.decisions.items()), found, strict=False):
            repeated = offset in expected.duplicates
            if got.get("duplicate", False) != repeated or not all(_same(got.get(k), v) for k, v in wanted.items()):
                verdict.wrong.append(f"offset {offset}: {got} expected {wanted}, duplicate {repeated}")

    async def read(self, topic: str, partition: int) -> list[tuple[int, bytes, int]]:
        """(offset, value, timestamp) of all committed records of a partition."""
        log = self.client()
        tp = TopicPartition(topic, partition)
        end = (await log.admin().end_offsets([tp]))[tp]
        scanner = log.scanner()
        scanner.seek(tp, 0)
        out: list[tuple[int, bytes, int]] = []
        while scanner.position(tp) < end:
            for chunk in await scanner.poll(_POLL_MS):
                values = [value or b"" for value in chunk.values]
                out += zip(chunk.offsets, values, chunk.timestamps, strict=True)
        await scanner.close()
        await log.close()
        return out


def _same(got: object, wanted: object) -> bool:
    if isinstance(wanted, float) and isinstance(got, int | float):
        return math.isclose(got, wanted, rel_tol=1e-9, abs_tol=1e-9)
    return got == wanted
