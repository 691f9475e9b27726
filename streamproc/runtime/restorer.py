"""New tasks are restored one after the other, beside the live ones, which go on deciding between two slices.

A task whose state somebody else holds waits, while those behind it are restored; so does one whose checkpoints' store
does not answer. One that cannot be restored stays paused, loudly, while the others go on; if none is left to go on, its
error ends the worker. A changed number of partitions ends it in any case.
"""

from __future__ import annotations

__all__ = ["Restorer"]

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence

import structlog

from state.errors import (
    BlobStoreError,
    ConfigError,
    EventLogError,
    FencedError,
    PartitionsChangedError,
    StateCorruptedError,
    StateDiskError,
    StateLockedError,
    StreamprocError,
)
from streamproc.clock import Clock
from streamproc.eventlog.contract import CommittedOffset, TopicPartition
from streamproc.runtime.partition_task import PartitionTask
from streamproc.runtime.recovery import Recovery
from streamproc.runtime.state_keeper import StateKeeper, reason_of

_RETRY_SECONDS = 0.2
_SAY_SECONDS = 15.0
_SAY_DISK_SECONDS = 5.0
_UNREACHABLE_SECONDS_MAX = 60.0
_PROGRESS_SECONDS = 30.0
"""An attempt that fails later than this had got somewhere: a log that does not answer at all is known sooner."""


class Restorer:
    """One background task at a time; what ends the worker is told by `check`. Stopping is asked for, never forced:
    whatever has begun to open or close a store comes to its end.

    Args:
        restored: told of each task as it is ready.
        failed: told of each that cannot be restored.
        others: asked at the end, if some failed: whether there are tasks to go on with.
    """

    def __init__(
        self, recovery: Recovery, states: StateKeeper, clock: Clock, *,
        restored: Callable[[PartitionTask], None], failed: Callable[[PartitionTask], None], others: Callable[[], bool],
    ) -> None:  # fmt: skip
        self._recovery = recovery
        self._states = states
        self._clock = clock
        self._restored = restored
        self._failed = failed
        self._others = others
        self._running: asyncio.Task[None] | None = None
        self._stopping = False
        self._said_of_disk = -_SAY_DISK_SECONDS
        self._logger = structlog.get_logger("restore")
        recovery.stopping = lambda: self._stopping

    @property
    def active(self) -> bool:
        """Whether a task is being restored."""
        return self._running is not None

    def begin(self, tasks: Sequence[PartitionTask], committed: Mapping[TopicPartition, CommittedOffset]) -> None:
        """Restore `tasks` to what is committed."""
        assert self._running is None
        self._stopping = False
        if tasks:
            self._running = asyncio.get_running_loop().create_task(self._run(tasks, committed), name="restore")

    def check(self) -> None:
        """Raise what ends the worker."""
        if self._running is not None and self._running.done():
            done, self._running = self._running, None
            done.result()

    async def stop(self) -> None:
        """Give up what is not restored yet; its stores are closed. An error is logged: who restores again meets it."""
        self._stopping = True
        if self._running is not None:
            running, self._running = self._running, None
            try:
                await running
            except StreamprocError as error:
                self._logger.error("a restore failed", error=str(error))

    async def _run(self, tasks: Sequence[PartitionTask], committed: Mapping[TopicPartition, CommittedOffset]) -> None:
        waiting = deque(tasks)
        first: StreamprocError | None = None
        said = self._clock.monotonic()
        locked = unanswered = 0
        while waiting and not self._stopping:
            task = waiting.popleft()
            try:
                await self._restore(task, committed)
                locked = unanswered = 0
            except StateLockedError as error:
                waiting.append(task)
                locked += 1
                if self._clock.monotonic() - said > _SAY_SECONDS:
                    said = self._clock.monotonic()
                    self._logger.error("waiting for a task's state", **task.named, reason=str(error))
                if locked >= len(waiting):
                    await self._clock.sleep(_RETRY_SECONDS)
            except BlobStoreError as error:
                if not error.retriable:
                    first = first or error
                    self._set_aside(task, error)
                    continue
                waiting.append(task)
                unanswered += 1
                if unanswered >= len(waiting) and not self._others():
                    raise
                self._logger.error("a task waits for the checkpoints' store", **task.named, error=str(error))
            except PartitionsChangedError:
                raise  # of no task anything may be decided
            except (ConfigError, StateCorruptedError) as error:
                first = first or error
                self._set_aside(task, error)
        if first is not None and not self._others():
            raise first

    def _set_aside(self, task: PartitionTask, error: StreamprocError) -> None:
        self._failed(task)
        self._logger.error("a task cannot be restored, it is paused", **task.named, error=str(error))

    async def _restore(self, task: PartitionTask, committed: Mapping[TopicPartition, CommittedOffset]) -> None:
        """Until it is restored or we are stopped. What does not answer at all is borne for a minute."""
        failing_since = self._clock.monotonic()
        while not self._stopping:
            begun = self._clock.monotonic()
            opened = restored = False
            try:
                await self._states.open(task.task)
                opened = True
                restored = await self._recovery.restore(task, committed)
            except FencedError:
                raise
            except (EventLogError, BlobStoreError, OSError) as error:
                now = self._clock.monotonic()
                if now - begun > _PROGRESS_SECONDS:
                    failing_since = now
                self._bear(error, task, now - failing_since)
            finally:
                if opened and not restored:
                    await self._states.close(task.task)
            if restored:
                self._restored(task)
                return
            if not self._stopping:
                await self._clock.sleep(_RETRY_SECONDS)

    def _bear(self, error: EventLogError | BlobStoreError | OSError, task: PartitionTask, seconds: float) -> None:
        """Log an error of an attempt; raise it if it has lasted too long, or waiting is of no use."""
        if isinstance(error, OSError):
            if seconds > _UNREACHABLE_SECONDS_MAX:
                raise StateDiskError(reason_of(error)) from error
            if seconds >= self._said_of_disk + _SAY_DISK_SECONDS or seconds < self._said_of_disk:
                self._said_of_disk = seconds
                self._logger.error(
                    "the state's disk fails, trying again",
                    topic=task.source.topic,
                    task=task.task,
                    error=reason_of(error),
                )
            return
        if not error.retriable or seconds > _UNREACHABLE_SECONDS_MAX:
            raise error
        self._logger.warning("no answer, trying again", **task.named, error=str(error))
