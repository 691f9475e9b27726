"""Checkpoints of the tasks of a worker, while decisions go on.

1. in the state thread, between two flushes: the store's files as hard links, with the meta row of the same moment
2. in a thread of its own, so that no flush waits for the network: what is new is sent, then the manifest
3. the first time, and every tenth from then on: what no kept checkpoint names is removed
Nothing here touches the tables in memory: a checkpoint is of the last flush, at most a second behind.
"""

from __future__ import annotations

__all__ = ["Checkpointer"]

import asyncio
import contextlib
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

import structlog

from state.checkpoint import Checkpoints, Cut, Manifest
from state.errors import BlobStoreError, StateCorruptedError
from streamproc.clock import Clock
from streamproc.runtime.executor import BlockingExecutor
from streamproc.runtime.metrics import WorkerMetrics
from streamproc.runtime.partition_task import PartitionTask, Phase
from streamproc.runtime.state_keeper import StateKeeper
from streamproc.runtime.stored_state import LocalMeta

T = TypeVar("T")
_COLLECT_EVERY = 10
_LOOK_SECONDS = 0.5
_LAST_SECONDS = 15.0  # a pod is given 30 to end


class Checkpointer:
    """Writes checkpoints of running tasks and installs them: a `TaskCheckpoints`.

    Args:
        checkpoints: the pipeline's; used by `sender`'s thread only.
        sender: where network calls block, or hang; not the thread that flushes.
        directory: for snapshots and downloads, on the disk that holds the state (hard links).
        every_s: seconds between two checkpoints of a task.
        stage, topic: of the tasks, for metrics and the log.
    """

    def __init__(
        self, checkpoints: Checkpoints, states: StateKeeper, *, sender: BlockingExecutor, clock: Clock,
        metrics: WorkerMetrics, directory: Path, every_s: float, stage: str = "main", topic: str = "",
    ) -> None:  # fmt: skip
        self._checkpoints = checkpoints
        self._states = states
        self._sender = sender
        self._clock = clock
        self._seconds = metrics.checkpoint_seconds.labels(stage)
        self._bytes = metrics.checkpoint_bytes.labels(stage)
        self._failures = metrics.failed_checkpoints.labels(stage)
        self._directory = directory
        self._every_s = every_s
        self._written: dict[int, tuple[int, float, int]] = {}  # task: (sequence, when, how many)
        self._taking = asyncio.Lock()
        self._logger = structlog.get_logger("checkpoint").bind(topic=topic)

    # ---- writing

    async def watch(self, tasks: Callable[[], Iterable[PartitionTask]]) -> None:
        """For ever: one task after the other, each as it is due."""
        while True:
            await self._clock.sleep(min(_LOOK_SECONDS, self._every_s))
            for task in [task for task in tasks() if self._is_due(task)]:
                await self.take(task)

    async def take(self, task: PartitionTask) -> None:
        """Checkpoint what was flushed last; a failure is logged, and tried again when the next one is due."""
        async with self._taking:
            if task.phase is Phase.RUNNING:
                await self._take(task)

    async def _take(self, task: PartitionTask) -> None:
        last, _, count = self._written.get(task.task, (-1, 0.0, 0))
        begun = self._clock.monotonic()
        work = self._directory / f"task-{task.task:05d}.checkpoint"
        try:
            sequence = await self._write(task.task, work, last)
            if sequence > last and count % _COLLECT_EVERY == 0:
                await self._collect(task.task)
        except (BlobStoreError, OSError, StateCorruptedError) as error:  # who reads damaged rows restores the task
            sequence = last
            self._failures.inc()
            self._logger.error("no checkpoint was written, will try again", task=task.task, error=str(error))
        self._written[task.task] = (sequence, begun, count + (sequence > last))

    async def take_last(self, tasks: Iterable[PartitionTask]) -> None:
        """See `TaskCheckpoints`. A request that hangs is left alone: the group and the state are not to wait for it."""
        last = asyncio.ensure_future(self._take_all(list(tasks)))
        if (await asyncio.wait([last], timeout=_LAST_SECONDS))[1]:
            self._logger.warning("the last checkpoints took too long: the next start replays a little more")
            last.cancel()
            last.add_done_callback(lambda done: done.cancelled() or done.exception())
        else:
            last.result()

    async def _take_all(self, tasks: list[PartitionTask]) -> None:
        for task in tasks:
            await self.take(task)

    def _is_due(self, task: PartitionTask) -> bool:
        _, when, _ = self._written.setdefault(task.task, (-1, self._clock.monotonic(), 0))
        return task.phase is Phase.RUNNING and self._clock.monotonic() - when >= self._every_s

    async def _write(self, task: int, work: Path, last: int) -> int:
        """The sequence of the task's newest checkpoint; `last` if nothing was flushed since."""
        await self._blocking(lambda: shutil.rmtree(work, ignore_errors=True))
        await self._blocking(lambda: work.mkdir(parents=True))
        try:
            stored = await self._states.snapshot(task, work / "db")
            if stored is None:
                return last
            meta = LocalMeta.decode(stored)
            if meta.sequence == last:
                return last
            cut = Cut(
                sequence=meta.sequence, chain=meta.chain, position=meta.position,
                state_fingerprint=meta.state_fingerprint, meta=stored,
            )  # fmt: skip
            begun = self._clock.monotonic()
            written = await self._blocking(lambda: self._checkpoints.write(task, cut, work))
        finally:
            await self._cleared(work)
        self._seconds.observe(self._clock.monotonic() - begun)
        self._bytes.inc(written.bytes_sent)
        self._logger.info("checkpoint", task=task, sequence=meta.sequence, bytes_sent=written.bytes_sent)
        return meta.sequence

    async def _collect(self, task: int) -> None:
        collected = await self._blocking(lambda: self._checkpoints.collect(task))
        if collected.unreadable or collected.foreign:
            self._logger.warning(
                "not all of the checkpoints' store is ours to read", task=task, held_back=bool(collected.held_back),
                unreadable=len(collected.unreadable), foreign=len(collected.foreign),
            )  # fmt: skip

    # ---- restoring

    async def newest_first(self, task: int, go_on: Callable[[], None]) -> list[Manifest]:
        """See `TaskCheckpoints`."""
        listing = await self._asked(lambda: self._checkpoints.checkpoints(task), go_on)
        if listing.unreadable:
            self._logger.error("checkpoints cannot be read", task=task, count=len(listing.unreadable))
        return listing.found

    async def install(self, manifest: Manifest, go_on: Callable[[], None]) -> bytes | None:
        """See `TaskCheckpoints`."""
        task = manifest.task
        work = self._directory / f"task-{task:05d}.restore"
        await self._blocking(lambda: shutil.rmtree(work, ignore_errors=True))
        try:
            await self._asked(lambda: self._checkpoints.restore(manifest, work, go_on), go_on)
            if not (work / "db").is_dir():
                raise StateCorruptedError(f"checkpoint {manifest.name} of task {task} holds no database")
            try:
                await self._states.install(task, work / "db")
            except StateCorruptedError:
                await self._states.discard(task)
                raise
        finally:
            await self._cleared(work)
        self._logger.info("checkpoint installed", task=task, sequence=manifest.cut.sequence)
        return self._states.local_meta(task)

    async def discard(self, manifest: Manifest) -> None:
        """See `TaskCheckpoints`; a failure is no reason not to restore."""
        with contextlib.suppress(BlobStoreError):
            await self._blocking(lambda: self._checkpoints.discard(manifest))

    async def _asked(self, call: Callable[[], T], go_on: Callable[[], None]) -> T:
        """What `call` gives; `go_on` is called now and then, and may raise: then a request that hangs is left alone."""
        asking = asyncio.ensure_future(self._blocking(call))
        try:
            while not (await asyncio.wait([asking], timeout=_LOOK_SECONDS))[0]:
                go_on()
        finally:
            asking.cancel()  # does nothing to one that has ended
        return asking.result()

    async def _cleared(self, work: Path) -> None:
        """Remove `work` when its turn comes; nobody who stops waits for a request before it that hangs."""
        cleared = self._sender.submit(lambda: shutil.rmtree(work, ignore_errors=True))
        await asyncio.wait([cleared], timeout=_LOOK_SECONDS)

    async def _blocking(self, call: Callable[[], T]) -> T:
        results: list[T] = []
        await self._sender.submit(lambda: results.append(call()))
        return results[0]
