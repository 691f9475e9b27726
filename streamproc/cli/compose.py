"""The composition root: the only place that knows every implementation and puts the world together."""

from __future__ import annotations

__all__ = ["RunOptions", "build_engine", "digest_key", "open_log", "replay_horizon_ms", "run_worker", "secret"]

import asyncio
import contextlib
import gc
import hashlib
import os
import shutil
import signal
import socket
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import structlog

from operators.deduplicate import Deduplicator
from operators.plan import Plan
from state.errors import BlobStoreError, ConfigError
from state.worker_state import WorkerState
from streamproc.clock import SystemClock
from streamproc.runtime.engine import Engine

if TYPE_CHECKING:
    from contextlib import AsyncExitStack

    from state.budget import Shares
    from state.rocksdb import RocksRowStores
    from streamproc.clock import Clock
    from streamproc.eventlog.contract import EventLog
    from streamproc.runtime.checkpointer import Checkpointer
    from streamproc.runtime.executor import ThreadExecutor
    from streamproc.runtime.health import HealthServer
    from streamproc.runtime.metrics import WorkerMetrics
    from streamproc.runtime.notes import Notes, Orders
    from streamproc.runtime.settings import WorkerSettings
    from streamproc.runtime.state_keeper import StateKeeper
    from streamproc.runtime.transaction import Probe

SECRET_VARIABLE = "STREAMPROC_SECRET"  # noqa: S105 - the variable's name
_SECRET_BYTES_MIN = 16
_KEY_BYTES = 32
_GC_THRESHOLDS = (50_000, 20, 100)


class RunOptions(msgspec.Struct, frozen=True):
    """Where a worker runs: its log, its state directory, its port for metrics (None: none).

    `notes`: the descriptor of what it shares with the parent that supervises it (runtime/notes.py), if one does.
    `checkpoints`: address of a blob store for copies of the state, every `checkpoint_seconds` and at a clean stop.
    """

    log_url: str
    state: Path
    metrics_host: str = "127.0.0.1"
    metrics_port: int | None = None
    notes: int | None = None
    checkpoints: str | None = None
    checkpoint_seconds: float = 30.0


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
    raise ConfigError(f"{url!r} names no event log", hint="use kafka://host:port[,host:port] or file:DIR")


def secret() -> bytes | None:
    """The deployment's secret, from the environment.

    Raises:
        ConfigError: it is too short to be one.
    """
    text = os.environ.get(SECRET_VARIABLE)
    if text is None:
        return None
    if len(text) < _SECRET_BYTES_MIN:
        raise ConfigError(f"{SECRET_VARIABLE} is shorter than {_SECRET_BYTES_MIN} characters")
    return text.encode()


def _derived(purpose: bytes, master: bytes) -> bytes:
    return hashlib.blake2b(purpose, digest_size=32, key=master[:64]).digest()


def digest_key(state: Path | None) -> bytes:
    """The key of dead letters' payload digests: from the secret, else from a file made once in `state`.

    Raises:
        ConfigError: the secret, or the file, cannot be used.
    """
    master = secret()
    if master is not None:
        return _derived(b"dead letters", master)
    if state is None:
        return os.urandom(32)
    path = state / "digest.key"
    try:
        key = _kept_key(path)
    except OSError as error:
        raise ConfigError(
            f"--state: {path} cannot be used: {error.strerror}",
            hint=f"let this user write there, name another --state, or set {SECRET_VARIABLE}",
        ) from None
    if len(key) != _KEY_BYTES:
        raise ConfigError(f"{path} is no key of {_KEY_BYTES} bytes", hint="remove it, a new one is made")
    return key


def _kept_key(path: Path) -> bytes:
    """The content of `path`, made once by whichever worker is first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        fresh = path.with_name(f"{path.name}.{os.getpid()}")
        with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(os.urandom(_KEY_BYTES))
        with contextlib.suppress(FileExistsError):  # another worker was first: its key counts
            os.link(fresh, path)
        fresh.unlink()
    return path.read_bytes()


def build_engine(
    plan: Plan, key: bytes, partitions: int = 0, probe: Probe | None = None, *, memory_bytes: int = 0
) -> tuple[Engine, WorkerState]:
    """The plan ready to execute, on empty state that keeps `memory_bytes` of keys in memory (0: all).

    Raises:
        ConfigError: the plan has card numbers and there is no secret to hash them with.
    """
    deduplicator = Deduplicator(plan.stream.deduplicate_ms) if plan.stream.deduplicate_ms else None
    state = WorkerState(plan.tables, (deduplicator,) if deduplicator else (), memory_bytes=memory_bytes)
    master = secret()
    has_pan = any(field.pan for field in plan.stream.fields)
    if has_pan and master is None:
        raise ConfigError("the stream has card numbers (pan)", hint=f"set {SECRET_VARIABLE} to hash them with")
    pan_key = _derived(b"card numbers", master) if has_pan and master else None
    return Engine(plan, state, deduplicator, digest_key=key, pan_key=pan_key, partitions=partitions, probe=probe), state


async def run_worker(
    plan: Plan,
    options: RunOptions,
    settings: WorkerSettings,
    *,
    probe: Probe | None = None,
    started: Callable[[Callable[[], None]], None] | None = None,
) -> None:
    """Run one worker until SIGTERM or SIGINT, or to the end with `settings.until_end`.

    Args:
        plan: what to run.
        options: where.
        settings: how.
        probe: fault points, for tests.
        started: told of a function that stops the worker.
    """
    from state.budget import shares
    from streamproc.runtime.health import HealthServer, watch_loop
    from streamproc.runtime.metrics import WorkerMetrics
    from streamproc.runtime.observe import StageTimer, watch_tasks
    from streamproc.runtime.retention import watch_retention
    from streamproc.runtime.stage import StageParts
    from streamproc.runtime.state_keeper import StateKeeper
    from streamproc.runtime.watchdog import Watchdog
    from streamproc.runtime.worker import Worker

    clock, metrics, watchdog = SystemClock(), WorkerMetrics(), Watchdog()
    timer = StageTimer(metrics, clock, probe)
    memory = shares(settings.state_memory_mb)
    key = await asyncio.to_thread(digest_key, options.state)
    engine, state = build_engine(plan, key, probe=timer, memory_bytes=memory.keys)
    notes, orders = _orders_of_parent(options.notes, engine)
    home = options.state / plan.pipeline
    async with contextlib.AsyncExitStack() as stack:
        await asyncio.to_thread(_hold, stack, home, settings, os.getpid() if options.notes is None else os.getppid())
        log = open_log(options.log_url)
        stack.push_async_callback(log.close)
        stores = await _stores(home, memory, stack)
        executor = _executor(stack)
        states = StateKeeper(state, stores, plan.state_fingerprint, executor)
        checkpointer = await _checkpointer(plan, options, settings, states, stack, clock=clock, metrics=metrics)
        worker = Worker(
            plan.pipeline, log, [StageParts(plan, engine, states, checkpointer)], clock=clock, executor=executor,
            metrics=metrics, settings=settings, probe=timer, notes=notes, orders=orders,
        )  # fmt: skip
        _stop_on_signals(worker.stop)
        if started is not None:
            started(worker.stop)
        health = HealthServer(metrics.registry, lambda: worker.ready and not watchdog.stalled)
        stack.push_async_callback(health.close)
        await _listen(health, options.metrics_host, options.metrics_port)
        watches = [watch_loop(clock, metrics.loop_lag_seconds)]
        watches += [watch_tasks(log.admin(), worker, state, metrics=metrics, clock=clock, watchdog=watchdog)]
        watches += [watch_retention(log.admin(), plan, settings.replay_horizon_ms, metrics=metrics, clock=clock)]
        watches += [checkpointer.watch(lambda: worker.tasks)] if checkpointer else []
        stack.push_async_exit(_in_background(worker.stop, *watches))
        _calm_garbage_collector()
        await worker.run()


async def _stores(home: Path, memory: Shares, stack: AsyncExitStack) -> RocksRowStores:
    """The tasks' databases, until `stack` ends."""
    from state.rocksdb import RocksRowStores

    made = await asyncio.to_thread(RocksRowStores.within, home, memory)
    stack.push_async_callback(asyncio.to_thread, made.close)
    return made


def _executor(stack: AsyncExitStack) -> ThreadExecutor:
    """A thread for what blocks, until `stack` ends."""
    from streamproc.runtime.executor import ThreadExecutor

    made = ThreadExecutor()
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
    directory = options.state / plan.pipeline / "checkpoints" / f"{settings.instance}-{settings.index}"
    await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)  # of a worker that was killed
    return Checkpointer(
        Checkpoints(blobs, plan.pipeline), states, sender=_executor(stack), clock=clock, metrics=metrics,
        directory=directory, every_s=options.checkpoint_seconds,
    )  # fmt: skip


def _orders_of_parent(fd: int | None, engine: Engine) -> tuple[Notes | None, Orders]:
    """What is shared with a supervising parent (None: there is none), and what it ordered."""
    from streamproc.eventlog.contract import TopicPartition
    from streamproc.runtime.notes import Notes, Orders

    if fd is None:
        return None, Orders({}, frozenset())
    notes = Notes(fd)
    orders = notes.orders()
    engine.condemned = {(TopicPartition(*source), offset) for source, offset in orders.refused}
    return notes, orders


async def _listen(health: HealthServer, host: str, port: int | None) -> None:
    if port is None:
        return
    try:
        await health.start(host, port)
    except OSError as error:
        raise ConfigError(
            f"nothing can listen on {host}:{port}: {_system_reason(error)}",
            hint="give another --metrics-port or --metrics-host",
        ) from error


def _system_reason(error: OSError) -> str:
    """The system's words: asyncio puts its own before them. Those of the name service have numbers of their own."""
    if isinstance(error, socket.gaierror) or error.errno is None:
        return str(error.strerror or error)
    return os.strerror(error.errno)


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
