"""The composition root: the only place that knows every implementation and puts the world together."""

from __future__ import annotations

__all__ = [
    "RunOptions",
    "build_engine",
    "deduplicators_of",
    "gatherer_of",
    "held_of",
    "open_log",
    "replay_horizon_ms",
    "run_worker",
]

import asyncio
import contextlib
import gc
import os
import shutil
import signal
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import structlog

from operators.deduplicate import Deduplicator
from operators.forms import open_decoder
from operators.plan import Plan, lean
from state.errors import BlobStoreError, ConfigError
from state.held import HeldRows
from state.worker_state import WorkerState
from streamproc.cli.calls import beside, make_callers
from streamproc.cli.formats import prepared_log, schema_caches
from streamproc.cli.listening import listen
from streamproc.cli.preparing import prepare_beside
from streamproc.cli.secrets import derived, digest_key, pan_secret
from streamproc.clock import SystemClock
from streamproc.runtime.engine import Engine
from streamproc.runtime.gathering import Gatherer

if TYPE_CHECKING:
    from contextlib import AsyncExitStack

    from operators.forms import Schemas
    from streamproc.clock import Clock
    from streamproc.eventlog.contract import EventLog
    from streamproc.runtime.checkpointer import Checkpointer
    from streamproc.runtime.executor import NetworkExecutor, ThreadExecutor
    from streamproc.runtime.metrics import WorkerMetrics
    from streamproc.runtime.notes import Notes, Orders
    from streamproc.runtime.partition_task import PartitionTask
    from streamproc.runtime.settings import WorkerSettings
    from streamproc.runtime.stage import StageParts
    from streamproc.runtime.state_keeper import StateKeeper
    from streamproc.runtime.topic_tables import TopicTables
    from streamproc.runtime.transaction import Probe
    from streamproc.runtime.worker import Worker

_GC_THRESHOLDS = (50_000, 20, 100)


class RunOptions(msgspec.Struct, frozen=True):
    """Where a worker runs: its log, its state directory, its port for metrics (None: none).

    `notes`: the descriptor of what it shares with the parent that supervises it (runtime/notes.py), if one does.
    `checkpoints`: address of a blob store for copies of the state, every `checkpoint_seconds` and at a clean stop;
    the first of each day stays for `checkpoint_days`.
    """

    log_url: str
    state: Path
    metrics_host: str = "127.0.0.1"
    metrics_port: int | None = None
    notes: int | None = None
    checkpoints: str | None = None
    checkpoint_seconds: float = 30.0
    checkpoint_days: int = 0


def replay_horizon_ms(options: RunOptions) -> int:
    """How old the oldest kept checkpoint may be; 0 without checkpoints."""
    from state.checkpoint import KEEP

    return 0 if options.checkpoints is None else round(KEEP * options.checkpoint_seconds * 1000)


def open_log(url: str) -> EventLog:
    """The event log that `url` names: `kafka://host:port[,host:port]` or `file:DIR`.

    Raises:
        ConfigError: neither.
    """
    scheme, _, rest = url.partition(":")
    if scheme == "kafka" and rest.startswith("//") and rest.strip("/"):
        from streamproc.eventlog.kafka import KafkaLog

        return KafkaLog(rest.strip("/"))
    if scheme == "file" and rest:
        from streamproc.eventlog.embedded import EmbeddedEventLog

        return EmbeddedEventLog(Path(rest))
    from streamproc.eventlog.contract import masked

    raise ConfigError(f"{masked(url)!r} names no event log", hint="use kafka://host:port[,host:port] or file:DIR")


def build_engine(
    plan: Plan, key: bytes, partitions: int = 0, probe: Probe | None = None, *, memory_bytes: int = 0,
    schemas: Mapping[str, Schemas] | None = None,
) -> tuple[Engine, WorkerState]:  # fmt: skip
    """The plan ready to execute, on empty state that keeps `memory_bytes` of keys in memory (0: all).

    `schemas`: by topic, those of records whose format has some.

    Raises:
        ConfigError: the plan has card numbers and there is no secret to hash them with, or its format cannot be read.
    """
    deduplicator, *others = deduplicators = deduplicators_of(plan)
    held = held_of(plan)
    parts = tuple(part for part in (*deduplicators, held) if part is not None)
    state = WorkerState(plan.tables, parts, memory_bytes=memory_bytes)
    master = pan_secret(plan)
    pan_key = None if master is None else derived(b"card numbers", master)
    engine = Engine(
        plan, state, deduplicator, digest_key=key, pan_key=pan_key, partitions=partitions, probe=probe,
        other_deduplicators=others, gatherer=gatherer_of(plan, held),
    )  # fmt: skip
    known = schemas or {}
    decoders = [
        open_decoder(stream, pan_key, known.get(stream.topic)) if stream.format != "json" else decoder
        for decoder, stream in engine.decoders
    ]
    engine.decoder, *engine.other_decoders = decoders
    return engine, state


def deduplicators_of(plan: Plan) -> list[Deduplicator | None]:
    """One for each of the plan's streams that is deduplicated, the one that is decided first."""
    names = ["deduplicate", *(f"deduplicate:{stream.name}" for stream in plan.others)]
    return [
        Deduplicator(stream.deduplicate_ms, name, plan.decision.actions) if stream.deduplicate_ms else None
        for name, stream in zip(names, plan.streams, strict=True)
    ]


def held_of(plan: Plan) -> HeldRows | None:
    """What waits for its other parts; None: whole rows come."""
    return None if plan.gather is None else HeldRows(len(plan.gather.parts), plan.gather.wait_ms)


def gatherer_of(plan: Plan, held: HeldRows | None) -> Gatherer | None:
    """What puts rows of parts together; None: whole rows come."""
    return None if plan.gather is None or held is None else Gatherer(plan.stream.topic, plan.gather, held)


async def run_worker(
    plans: Sequence[Plan],
    options: RunOptions,
    settings: WorkerSettings,
    *,
    probe: Probe | None = None,
    started: Callable[[Callable[[], None]], None] | None = None,
) -> None:
    """Run one worker until SIGTERM or SIGINT, or to the end with `settings.until_end`.

    Args:
        plans: the stages to run, in order.
        options: where.
        settings: how.
        probe: fault points, for tests.
        started: told of a function that stops the worker.
    """
    from streamproc.runtime.health import HealthServer, watch_loop
    from streamproc.runtime.metrics import WorkerMetrics
    from streamproc.runtime.observe import StepTimer, watch_tasks
    from streamproc.runtime.retention import watch_retention
    from streamproc.runtime.watchdog import Watchdog
    from streamproc.runtime.worker import Worker

    clock, watchdog = SystemClock(), Watchdog()
    metrics = WorkerMetrics(await asyncio.to_thread(digest_key, options.state))
    timer = StepTimer(metrics, clock, probe)
    home = options.state / plans[0].pipeline
    streams = {stream.topic: stream for plan in reversed(plans) for stream in plan.streams}
    schemas = await asyncio.to_thread(schema_caches, list(streams.values()), clock)
    async with contextlib.AsyncExitStack() as stack:
        await asyncio.to_thread(_hold, stack, home, settings, os.getpid() if options.notes is None else os.getppid())
        log = prepared_log(open_log(options.log_url), list(streams.values()), schemas)
        stack.push_async_callback(log.close)
        executor = _executor(stack)
        builder = _StageBuilder(options, settings, stack, clock=clock, metrics=metrics, probe=timer, schemas=schemas)
        stages = await builder.build_all(plans, log, executor)
        notes, orders = _orders_of_parent(options.notes, [stage.engine for stage in stages])
        worker = Worker(
            plans[0].pipeline, log, stages, clock=clock, executor=executor, metrics=metrics, settings=settings,
            probe=timer, notes=notes, orders=orders,
        )  # fmt: skip
        callers = make_callers(plans, log, settings, stack, clock=clock, registry=metrics.registry)
        _stop_on_signals(worker.stop)
        if started is not None:
            started(worker.stop)
        health = HealthServer(metrics.registry, lambda: worker.ready and not watchdog.stalled)
        stack.push_async_callback(health.close)
        await listen(health, options.metrics_host, options.metrics_port)
        admin, horizon_ms = log.admin(), settings.replay_horizon_ms
        watches = [watch_loop(clock, metrics.loop_lag_seconds)]
        watches += [
            watch_tasks(admin, worker, builder.states, metrics=metrics, clock=clock, watchdog=watchdog, callers=callers)
        ]
        watches += [watch_retention(admin, plans, horizon_ms, metrics=metrics, clock=clock, warns=settings.index == 0)]
        watches += builder.watches(worker, plans)
        stack.push_async_exit(_in_background(worker.stop, *watches))
        _calm_garbage_collector()
        await beside(worker, callers)


class _StageBuilder:
    """Makes what stages are made of, until `stack` ends; a budget is shared by the `count` stages of a pipeline."""

    def __init__(
        self, options: RunOptions, settings: WorkerSettings, stack: AsyncExitStack, *, clock: Clock,
        metrics: WorkerMetrics, probe: Probe, schemas: Mapping[str, Schemas],
    ) -> None:  # fmt: skip
        self._options, self._settings, self._stack, self._schemas = options, settings, stack, schemas
        self._clock, self._metrics, self._probe = clock, metrics, probe
        self.states: dict[str, WorkerState] = {}
        self._engines: list[Engine] = []
        self._checkpointers: list[tuple[str, Checkpointer]] = []
        self._tables: TopicTables | None = None

    async def build_all(self, plans: Sequence[Plan], log: EventLog, executor: ThreadExecutor) -> list[StageParts]:
        """Raises ConfigError as `build`."""
        from streamproc.runtime.topic_tables import TopicTables

        if live := [plan.live for plan in plans if plan.live is not None]:
            self._tables = TopicTables(log, live, _executor(self._stack), clock=self._clock, metrics=self._metrics)
            self._stack.push_async_callback(self._tables.close)
        return [await self.build(plan, executor, len(plans)) for plan in plans]

    async def build(self, plan: Plan, executor: ThreadExecutor, count: int) -> StageParts:
        """Raises ConfigError if a plan cannot be executed here, or its checkpoints' store cannot be used."""
        from state.budget import shares
        from state.rocksdb import RocksRowStores
        from streamproc.runtime.stage import StageParts
        from streamproc.runtime.state_keeper import StateKeeper

        memory = shares(self._settings.state_memory_mb, count)
        key = await asyncio.to_thread(digest_key, self._options.state)
        made = lean(plan)
        engine, state = build_engine(made, key, probe=self._probe, memory_bytes=memory.keys, schemas=self._schemas)
        self._engines.append(engine)
        stores = await asyncio.to_thread(RocksRowStores.within, self._options.state / plan.home, memory)
        self._stack.push_async_callback(asyncio.to_thread, stores.close)
        states = StateKeeper(state, stores, plan.state_fingerprint, executor, plan.stream.topic)
        checkpointer = await _checkpointer(
            plan, self._options, self._settings, states, self._stack, clock=self._clock, metrics=self._metrics
        )
        self.states[plan.stage] = state
        if checkpointer is not None:
            self._checkpointers.append((plan.stream.topic, checkpointer))
        return StageParts(plan, engine, states, checkpointer, self._tables if plan.live else None)

    async def _get_ready(self, worker: Worker) -> None:
        await prepare_beside(self._engines, lambda: worker.ready, self._clock)
        gc.freeze()  # what was loaded stays

    def watches(self, worker: Worker, plans: Sequence[Plan]) -> list[Coroutine[Any, Any, None]]:
        """What makes steps ready, takes checkpoints as they are due, follows tables, and tells of shadows."""
        from streamproc.runtime.shadows import watch_shadows

        def tasks_of(topic: str) -> Callable[[], list[PartitionTask]]:
            return lambda: [task for task in worker.tasks if task.source.topic == topic]

        checkpoints = [checkpointer.watch(tasks_of(topic)) for topic, checkpointer in self._checkpointers]
        tables = [] if self._tables is None else [self._tables.watch()]
        return [self._get_ready(worker), *checkpoints, *tables, watch_shadows(plans, self._metrics, self._clock)]


def _executor(stack: AsyncExitStack) -> ThreadExecutor:
    """A thread for what blocks, until `stack` ends."""
    from streamproc.runtime.executor import ThreadExecutor

    made = ThreadExecutor()
    stack.push_async_callback(asyncio.to_thread, made.close)
    return made


def _sender(stack: AsyncExitStack) -> NetworkExecutor:
    """A thread for requests, until `stack` ends."""
    from streamproc.runtime.executor import NetworkExecutor

    made = NetworkExecutor()
    stack.push_async_callback(asyncio.to_thread, made.close)
    return made


def _hold(stack: contextlib.AsyncExitStack, home: Path, settings: WorkerSettings, run: int) -> None:
    """Lock what nobody else may have at the same time, until `stack` ends; `run`: the run's process. Blocks."""
    from streamproc.runtime.identity import hold_identity, hold_run

    if settings.count == 1:  # a parent of several has locked the run itself
        stack.callback(os.close, hold_run(home, settings.instance, run))
    stack.callback(os.close, hold_identity(home, settings.instance, settings.index))


async def _checkpointer(
    plan: Plan, options: RunOptions, settings: WorkerSettings, states: StateKeeper, stack: AsyncExitStack, *,
    clock: Clock, metrics: WorkerMetrics,
) -> Checkpointer | None:  # fmt: skip
    """Raises ConfigError if the store cannot be used."""
    if options.checkpoints is None:
        return None
    from state.blobs import check_blobs
    from state.checkpoint import Checkpoints
    from state.objectstore import open_blobs
    from streamproc.runtime.checkpointer import Checkpointer

    blobs = await asyncio.to_thread(open_blobs, options.checkpoints)
    try:
        await asyncio.to_thread(check_blobs, blobs)
    except BlobStoreError as error:  # decisions go on without it, as they do when it fails later
        structlog.get_logger("checkpoint").error("the checkpoints' store does not answer yet", reason=str(error))
    # Each worker's own: one may still be sending a task's files when another one of the pod copies them.
    directory = options.state / plan.home / "checkpoints" / f"{settings.instance}-{settings.index}"
    await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)  # of a worker that was killed
    kept = Checkpoints(blobs, plan.home, days=options.checkpoint_days)
    return Checkpointer(
        kept, states, sender=_sender(stack), clock=clock, metrics=metrics,
        directory=directory, every_s=options.checkpoint_seconds, stage=plan.stage, topic=plan.stream.topic,
    )  # fmt: skip


def _orders_of_parent(fd: int | None, engines: Sequence[Engine]) -> tuple[Notes | None, Orders]:
    """What is shared with a supervising parent (None: there is none), and what it ordered."""
    from streamproc.eventlog.contract import TopicPartition
    from streamproc.runtime.notes import Notes, Orders

    if fd is None:
        return None, Orders({}, frozenset())
    notes = Notes(fd)
    orders = notes.orders()
    for engine in engines:
        engine.condemned = {(TopicPartition(*source), offset) for source, offset in orders.refused}
    return notes, orders


def _calm_garbage_collector() -> None:
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)


def _stop_on_signals(stop: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        with contextlib.suppress(ValueError, RuntimeError):  # not in the main thread
            loop.add_signal_handler(name, stop)


def _in_background(
    stop: Callable[[], None], *watches: Coroutine[Any, Any, None]
) -> Callable[[object, BaseException | None, object], Awaitable[None]]:
    """Start endless watchers; the function returned ends them, and raises what one of them died of.

    That is a mistake, and calls `stop`: nobody would notice else that nothing is watched any more.
    """
    tasks = [asyncio.ensure_future(watch) for watch in watches]

    def ended(task: asyncio.Future[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            stop()

    for task in tasks:
        task.add_done_callback(ended)

    async def end(_: object, error: BaseException | None, __: object) -> None:
        for task in tasks:
            task.cancel()
        for found in await asyncio.gather(*tasks, return_exceptions=True):
            if error is None and isinstance(found, Exception):
                raise found

    return end
