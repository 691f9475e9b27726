"""New tasks are restored one after the other, beside the live ones, which go on deciding between two slices."""

from __future__ import annotations

__all__ = ["Restorer"]

import asyncio
from collections.abc import Callable, Mapping, Sequence

import structlog

from state.errors import BlobStoreError, EventLogError, FencedError, StateLockedError
from streamproc.clock import Clock
from streamproc.eventlog.contract import CommittedOffset, TopicPartition
from streamproc.runtime.partition_task import PartitionTask
from streamproc.runtime.recovery import Recovery
from streamproc.runtime.state_keeper import StateKeeper

_RETRY_SECONDS = 0.2
_SAY_SECONDS = 15.0
_UNREACHABLE_SECONDS_MAX = 60.0


class Restorer:
    """One background task at a time; its failure is told by `check`. Stopping is asked for, never forced: whatever
    has begun to open or close a store comes to its end.
    """

    def __init__(
        self, recovery: Recovery, states: StateKeeper, clock: Clock, restored: Callable[[PartitionTask], None]
    ) -> None:
        self._recovery = recovery
        self._states = states
        self._clock = clock
        self._restored = restored
        self._running: asyncio.Task[None] | None = None
        self._stopping = False
        self._logger = structlog.get_logger("restore")
        recovery.stopping = lambda: self._stopping

    @property
    def active(self) -> bool:
        """Whether a task is being restored."""
        return self._running is not None

    def begin(self, tasks: Sequence[PartitionTask], committed: Mapping[TopicPartition, CommittedOffset]) -> None:
        """Restore `tasks` to what is committed; each is told of as it is ready."""
        assert self._running is None
        self._stopping = False
        if tasks:
            self._running = asyncio.get_running_loop().create_task(self._run(tasks, committed), name="restore")

    def check(self) -> None:
        """Raise what made a restore fail for good."""
        if self._running is not None and self._running.done():
            done, self._running = self._running, None
            done.result()

    async def stop(self) -> None:
        """Give up what is not restored yet; its stores are closed."""
        self._stopping = True
        if self._running is not None:
            running, self._running = self._running, None
            await running

    async def _run(self, tasks: Sequence[PartitionTask], committed: Mapping[TopicPartition, CommittedOffset]) -> None:
        for task in tasks:
            if not await self._restore(task, committed.get(task.source)):
                return

    async def _restore(self, task: PartitionTask, committed: CommittedOffset | None) -> bool:
        """Whether it is restored, and not stopped. A log that cannot be reached is borne for a minute."""
        deadline = self._clock.monotonic() + _UNREACHABLE_SECONDS_MAX
        while await self._open(task):
            try:
                if await self._recovery.restore(task, committed):
                    self._restored(task)
                    return True
            except FencedError:
                raise
            except (EventLogError, BlobStoreError) as error:
                if not error.retriable or self._clock.monotonic() > deadline:
                    raise
                self._logger.warning("no answer, trying again", task=task.task, error=str(error))
            await self._states.close(task.task)
            if not self._stopping:
                await self._clock.sleep(_RETRY_SECONDS)
        return False

    async def _open(self, task: PartitionTask) -> bool:
        """Take the task's store over. Its last owner may be flushing, or standing still: the others go on meanwhile."""
        said = self._clock.monotonic()
        while not self._stopping:
            try:
                await self._states.open(task.task)
            except StateLockedError as error:
                if self._clock.monotonic() - said > _SAY_SECONDS:
                    said = self._clock.monotonic()
                    self._logger.error("waiting for a task's state", task=task.task, reason=str(error))
                await self._clock.sleep(_RETRY_SECONDS)
            else:
                return True
        return False
