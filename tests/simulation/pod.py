"""A pod: a stable name, a machine with a disk, and one worker process after the other."""

from __future__ import annotations

__all__ = ["DIGEST_KEY", "ChainedExecutor", "JumpingClock", "Place", "Pod", "Run", "Shared", "StageStores", "place"]

import asyncio
import random
import traceback
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from operators.deduplicate import Deduplicator
from operators.plan import Plan
from state.checkpoint import Checkpoints
from state.errors import StreamprocError
from state.held import HeldRows
from state.memory import MemoryBlobs, MemoryDisk, MemoryRowStore, MemoryRowStores
from state.worker_state import WorkerState
from streamproc.cli.compose import gatherer_of, held_of
from streamproc.eventlog.simulated import Crash, Fault, SimulatedCluster, VirtualClock
from streamproc.runtime.checkpointer import Checkpointer
from streamproc.runtime.engine import Engine
from streamproc.runtime.metrics import WorkerMetrics
from streamproc.runtime.partition_task import PartitionTask
from streamproc.runtime.settings import WorkerSettings
from streamproc.runtime.stage import StageParts
from streamproc.runtime.state_keeper import StateKeeper
from streamproc.runtime.topic_tables import TopicTables
from streamproc.runtime.worker import Worker
from tests.simulation.calls import Calls
from tests.simulation.limits import Limits
from tests.simulation.loop import PROCESS, Process, SeededLoop
from tests.simulation.scenario import Scenario

DIGEST_KEY = b"k" * 32
VOLUMES_A_STAGE = 100


class JumpingClock(VirtualClock):
    """A machine's clock: its wall time may be set. A batch takes as much work as many a commit lasts."""

    jumped_ms = 0
    worked_s = 0.0

    def work(self) -> float:
        self.worked_s += 0.01
        return self.worked_s

    def now_ms(self) -> int:
        return super().now_ms() + self.jumped_ms


class ChainedExecutor:
    """A thread's twin: works come one after the other, each a little later; those of a dead process never."""

    def __init__(self, delay_s: Callable[[], float]) -> None:
        self._delay_s = delay_s
        self._last: asyncio.Task[None] | None = None

    def submit(self, work: Callable[[], None]) -> asyncio.Future[None]:
        """Run `work` after those before it."""

        async def later(before: asyncio.Task[None] | None) -> None:
            if before is not None and not before.done():
                await asyncio.wait([before])
            await asyncio.sleep(self._delay_s())
            work()

        self._last = asyncio.get_running_loop().create_task(later(self._last), name="thread")
        return self._last

    async def finish(self) -> None:
        """Wait for what was submitted."""
        if self._last is not None and not self._last.done():
            await asyncio.wait([self._last])

    def close(self) -> None:
        """Use `finish`."""


class StageStores:
    """What a stage has of a process's stores: volumes of its own."""

    def __init__(self, stores: MemoryRowStores, stage: int) -> None:
        self._stores, self._first = stores, VOLUMES_A_STAGE * stage

    def open(self, task: int) -> MemoryRowStore:
        """See `RowStores`."""
        return self._stores.open(self._first + task)

    def discard(self, task: int) -> None:
        """See `RowStores`."""
        self._stores.discard(self._first + task)

    def install(self, task: int, directory: Path) -> None:
        """See `RowStores`."""
        self._stores.install(self._first + task, directory)

    def close(self) -> None:
        """See `RowStores`."""
        self._stores.close()


class Shared:
    """What all pods of one simulated deployment share. `plans`: its stages, in order."""

    def __init__(
        self, plans: Sequence[Plan], scenario: Scenario, loop: SeededLoop, cluster: SimulatedCluster,
        blobs: MemoryBlobs, directory: Path, fresh: Callable[[], Sequence[Plan]] | None = None,
    ) -> None:  # fmt: skip
        self.fresh = fresh or (lambda: plans)
        """The plans of one more process: it shares no tables with the others."""
        self.plans, self.scenario, self.loop = plans, scenario, loop
        self.pipeline = plans[0].pipeline
        self.cluster, self.blobs, self.directory = cluster, blobs, directory
        self.rng = random.Random(f"pods {scenario.seed}")
        self.fired: Counter[str] = Counter()
        self.reached: Counter[str] = Counter()
        """What the workers did that not every seed brings about."""
        self.wrong: list[str] = []
        self.blob_slow_s = 0.0
        self.runs: list[Run] = []
        self.limits = Limits(cluster)

    def running(self) -> Run | None:
        """The process whose callback runs now."""
        process = PROCESS.get()
        return next((run for run in reversed(self.runs) if run.process is process), None)

    def name(self, plan: Plan) -> str:
        """What judges call a stage's tasks."""
        return "task" if len(self.plans) == 1 else plan.stage

    def home(self, stage: int) -> str:
        """Under which name a stage's checkpoints are kept."""
        return self.pipeline if len(self.plans) == 1 else f"{self.pipeline}/{self.plans[stage].stage}"

    def volumes(self) -> list[int]:
        """What disks may hold."""
        stages, tasks = range(len(self.plans)), range(self.scenario.partitions)
        return [VOLUMES_A_STAGE * stage + task for stage in stages for task in tasks]

    def state(self, stage: int, memory_bytes: int = 0) -> tuple[WorkerState, Deduplicator, HeldRows | None]:
        """Empty state."""
        plan = self.plans[stage]
        deduplicator = Deduplicator(plan.stream.deduplicate_ms, actions=plan.decision.actions)
        held = held_of(plan)
        parts = (deduplicator,) if held is None else (deduplicator, held)
        return WorkerState(plan.tables, parts, memory_bytes=memory_bytes), deduplicator, held


class Place(Protocol):
    """Where a worker process runs."""

    name: str
    shared: Shared
    disk: MemoryDisk
    sync: bool
    clock: JumpingClock


class Run:
    """One worker process of a pod, from its start to its end."""

    def __init__(self, pod: Place, number: int, crash_at: tuple[int, int] | None) -> None:
        self.pod = pod
        self.at_step: tuple[int, int, Callable[[], None]] | None = None
        """(step, n, what happens when it comes there for the n-th time)"""
        shared = self.shared = pod.shared
        self.process = Process(f"{pod.name}.{number}")
        self.log = shared.cluster.client(self.process.name)
        self.log.died = self._died
        self.stores = MemoryRowStores(pod.disk, sync=pod.sync)
        self.metrics = WorkerMetrics()
        self.ended: asyncio.Future[str] = shared.loop.create_future()
        self._seen: Counter[int] = Counter()
        if crash_at is not None:
            self.crash_at(*crash_at)
        self._executors: list[ChainedExecutor] = []
        self._checkpointers: list[Checkpointer] = []
        self.states: list[WorkerState] = []
        self.plans = shared.fresh()
        self.tables = self._tables()
        self.worker = self._worker()
        self._calls = Calls(self.plans, self.log, self._settings(), clock=pod.clock, rng=shared.rng, probe=self._probe)
        shared.runs.append(self)
        shared.loop.start(self.process, self._main())

    def _worker(self) -> Worker:
        shared, scenario = self.shared, self.shared.scenario
        executor = self._executor(lambda: shared.rng.uniform(0, scenario.flush_s))
        nonces = random.Random(f"nonces {self.process.name} {scenario.seed}")
        stages = [self._stage(number, executor, nonces) for number in range(len(shared.plans))]
        return Worker(
            shared.pipeline, self.log, stages, clock=self.pod.clock, executor=executor, metrics=self.metrics,
            settings=self._settings(), probe=self._probe,
        )  # fmt: skip

    def _settings(self) -> WorkerSettings:
        return WorkerSettings(instance=self.pod.name, **self.shared.scenario.settings)

    def _tables(self) -> TopicTables | None:
        live = [plan.live for plan in self.plans if plan.live is not None]
        if not live:
            return None
        slow_s = self.shared.rng.choice((0.03, 0.5, 1.5))  # a large table takes its time
        executor = self._executor(lambda: self.shared.rng.uniform(0, slow_s))
        return TopicTables(self.log, live, executor, clock=self.pod.clock, metrics=self.metrics)

    def _stage(self, number: int, executor: ChainedExecutor, nonces: random.Random) -> StageParts:
        shared, plan = self.shared, self.plans[number]
        tables = self.tables if plan.live is not None else None
        state, deduplicator, held = shared.state(number, shared.scenario.memory_bytes)
        self.states.append(state)
        gatherer = gatherer_of(plan, held)
        engine = Engine(plan, state, deduplicator, digest_key=DIGEST_KEY, probe=self._probe, gatherer=gatherer)
        if len(shared.runs) % 2:  # every other process has machine code
            engine.prepare()
        states = StateKeeper(state, StageStores(self.stores, number), plan.state_fingerprint, executor)
        if not shared.scenario.checkpoint_s:
            return StageParts(plan, engine, states, tables=tables)
        checkpoints = Checkpoints(
            shared.blobs, shared.home(number), grace_ms=3, nonce=lambda: f"{nonces.getrandbits(64):016x}"
        )
        checkpointer = Checkpointer(
            checkpoints, states, sender=self._executor(lambda: shared.rng.uniform(0, 0.03 + shared.blob_slow_s)),
            clock=self.pod.clock, metrics=self.metrics, directory=shared.directory / self.process.name / plan.stage,
            every_s=shared.scenario.checkpoint_s,
        )  # fmt: skip
        self._checkpointers.append(checkpointer)
        return StageParts(plan, engine, states, checkpointer, tables)

    def _watches(self) -> list[Coroutine[Any, Any, None]]:
        """What takes checkpoints as they are due, and what follows tables."""
        topics = [plan.stream.topic for plan in self.shared.plans]
        found = [
            one.watch(partial(self._tasks_of, topic)) for topic, one in zip(topics, self._checkpointers, strict=False)
        ]
        return found if self.tables is None else [*found, self.tables.watch()]

    def _tasks_of(self, topic: str) -> list[PartitionTask]:
        return [task for task in self.worker.tasks if task.source.topic == topic]

    def _executor(self, delay_s: Callable[[], float]) -> ChainedExecutor:
        self._executors.append(ChainedExecutor(delay_s))
        return self._executors[-1]

    async def _main(self) -> None:
        loop = self.shared.loop
        watches = [loop.create_task(watch) for watch in self._watches()]
        outcome = "stopped"
        try:
            await self._calls.beside(self.worker)
        except StreamprocError as error:
            outcome = f"{type(error).__name__}: {error} at {place(error)}"
        except Crash:
            outcome = "killed"
        except BaseException as error:  # the process ends, the world goes on
            outcome = f"BUG {type(error).__name__}: {error} at {place(error)}"
        for watch in watches:
            if watch.done():  # `cancel` would forget its error
                outcome = f"BUG what runs beside the worker died: {watch.exception()!r}"
            watch.cancel()
        await self._calls.close()
        for executor in self._executors:
            await executor.finish()
        self.stores.close()
        await self.log.close()
        self.process.dead = True
        self._end(outcome)

    def seen(self, step: int) -> int:
        """How often it came to a step."""
        return self._seen[step]

    def _probe(self, step: int) -> None:
        self._seen[step] += 1
        if self.at_step is not None and self.at_step[:2] == (step, self._seen[step]):
            self.at_step[2]()

    def crash_at(self, step: int, count: int) -> None:
        """Die when it comes to a step for the `count`-th time."""
        self.at_step = (step, count, partial(self._crash_here, step))

    def _crash_here(self, step: int) -> None:
        self.shared.fired[f"crash_at_step_{step}"] += 1
        self.kill()
        raise Crash

    def kill(self) -> None:
        """Now, in the middle of whatever it does."""
        self.log.crash()

    def _died(self) -> None:
        self.process.dead = self.process.killed = True
        self.stores.kill()
        self._end("killed")

    def _end(self, outcome: str) -> None:
        if self.ended.done():
            return
        reached, metrics = self.shared.reached, self.metrics
        reached["rows by the shortcut"] += int(metrics.shortcut_records._value.get())
        reached["batches ahead"] += int(metrics.batches_ahead._value.get())
        reached["failed transactions"] += int(metrics.failed_transactions._value.get())
        reached["evicted keys"] += sum(state.evicted for state in self.states)
        reached["out of step"] += int(metrics.out_of_step._value.get())
        reached["late answers"] += int(metrics.late_answers._value.get())
        reached += self._calls.results()
        reached["answers"] += int(metrics.records._value.get())
        self.ended.set_result(outcome)

    def pause(self) -> None:
        """SIGSTOP."""
        self.process.paused = True
        self.log.pause()

    def resume(self) -> None:
        """SIGCONT."""
        if self.process.paused and not self.process.dead:
            self.log.resume()
            self.shared.loop.resume(self.process)


class Pod:
    """Starts a new worker when one has ended, for ever, until `stop`."""

    def __init__(self, name: str, shared: Shared, disk: MemoryDisk, *, sync: bool) -> None:
        self.name, self.shared, self.disk, self.sync = name, shared, disk, sync
        self.clock = JumpingClock()
        self.crash_at: tuple[int, int] | None = None
        self.runs: list[Run] = []
        self.outcomes: Counter[str] = Counter()
        self._stopping = False
        self._supervising = shared.loop.create_task(self._supervise(), name=f"supervise {name}")

    @property
    def run(self) -> Run | None:
        """The process that lives now."""
        return self.runs[-1] if self.runs and not self.runs[-1].ended.done() else None

    async def _supervise(self) -> None:
        while not self._stopping:
            run = Run(self, len(self.runs), self.crash_at)
            self.crash_at = None
            self.runs.append(run)
            outcome = await run.ended
            self.outcomes[outcome.split(":")[0]] += 1
            self._judge(outcome, run)
            await asyncio.sleep(self.shared.rng.uniform(0.02, 0.6))

    def _judge(self, outcome: str, run: Run) -> None:
        """A worker may be stopped, killed, or fenced by another that is there; nothing else may end it."""
        faults = self.shared.cluster.faults.fired
        fenced = outcome.startswith("FencedError:") and any(fault is Fault.FENCED for _, fault in faults)
        if outcome not in {"stopped", "killed"} and not fenced:
            self.shared.wrong.append(f"{run.process.name} ended: {outcome}")
        if run.metrics.registry.get_sample_value("streamproc_failed_tasks_total"):
            self.shared.wrong.append(f"{run.process.name} has left a task paused")

    async def stop(self, timeout_s: float) -> Run | None:
        """SIGTERM; the last run, None if it does not end in time."""
        self._stopping = True
        run = self.runs[-1]
        run.worker.stop()
        done, _ = await asyncio.wait([self._supervising], timeout=timeout_s)
        return run if done else None


def place(error: BaseException) -> str:
    """Where it came from, the last few of our own functions."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "asyncio" not in frame.filename]
    return " < ".join(f"{frame.name}:{frame.lineno}" for frame in reversed(frames[-9:]))
