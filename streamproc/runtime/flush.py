"""Flush: dirty rows go to the row store behind the committed offsets, never ahead of them.

1. when due: copy all dirty rows of each task at one cut (on the loop, quick): at a publish; or, if the next batch is
   about to be computed on top of the one in flight, before that (`prepare`); or, if no batch comes, while the worker
   rests (`rest`): a kill after a quiet second replays nothing
2. once the cut's batch is published: encode and write the copy in one batch a task, with the journal position of that
   cut (in a thread)
3. a failed write, or a batch that was undone, marks the rows dirty again; the next flush tries anew. A store that
   turns out damaged is told by `damage`: the worker restores its task. What cannot be written cannot leave memory:
   far over the budget the worker ends, and a restart replays it
"""

from __future__ import annotations

__all__ = ["Flusher"]

import asyncio
from collections.abc import Collection, Iterable

import structlog

from state.errors import StateCorruptedError, StateDiskError
from state.worker_state import FlushCut
from streamproc.clock import Clock
from streamproc.runtime.executor import BlockingExecutor
from streamproc.runtime.partition_task import PartitionTask, Phase
from streamproc.runtime.state_keeper import StateKeeper, reason_of

_RETRY_SECONDS = 5.0


class Flusher:
    """Decides when, and keeps at most one flush under way.

    `rows_max`: dirty rows of one task. The loop stands still while a task's batch is written, so that is what counts.
    """

    def __init__(
        self, states: StateKeeper, executor: BlockingExecutor, clock: Clock, rows_max: int, seconds_max: float
    ) -> None:
        self._states = states
        self._executor = executor
        self._clock = clock
        self._rows_max = rows_max
        self._seconds_max = seconds_max
        self._last = clock.monotonic()
        self._not_before = self._last
        self._running: asyncio.Future[None] | None = None
        self._writing: list[tuple[PartitionTask, int, FlushCut]] = []  # with the sequence of the cut
        self._prepared: list[tuple[PartitionTask, FlushCut]] = []
        self.damage: StateCorruptedError | None = None
        self._logger = structlog.get_logger("flush")

    def prepare(self, tasks: Collection[PartitionTask]) -> None:
        """If a flush is due, copy now what the next publish lets it write: the batch in flight is the newest one."""
        if not self._prepared and self._due(tasks):
            self._prepared = self._cut(tasks)

    def publish(self, tasks: Collection[PartitionTask], *, newest: bool) -> None:
        """A batch is published: write what was copied with it; or, if it is the `newest`, begin a flush if due."""
        if newest and not self._prepared and self._due(tasks):
            self._prepared = self._cut(tasks)
        self._write()

    def rest(self, tasks: Iterable[PartitionTask]) -> None:
        """Nothing is to be decided: if due, write what the stores do not have yet, and only that."""
        if self._is_free() and self._due(behind := [task for task in tasks if self._is_behind(task)]):
            self._prepared = self._cut(behind)
            self._write()

    def _is_behind(self, task: PartitionTask) -> bool:
        moved = task.sequence > task.flushed
        return task.phase is Phase.RUNNING and (moved or self._states.dirty_rows(task.task) > 0)

    def undo(self) -> None:
        """What was copied did not happen; call it before the state's own undo."""
        for _, cut in self._prepared:
            cut.restore_dirty()
        self._prepared = []

    @property
    def is_writing(self) -> bool:
        """Whether a flush is at work in its thread."""
        return self._running is not None and not self._running.done()

    def _is_free(self) -> bool:
        """Whether no flush is under way; of one that has ended, note how."""
        if self._running is not None and self._running.done():
            self._end()
        return self._running is None

    def _due(self, tasks: Collection[PartitionTask]) -> bool:
        now = self._clock.monotonic()
        if not tasks or not self._is_free() or now < self._not_before:
            return False
        if now - self._last < self._seconds_max and not any(map(self._is_full, tasks)):
            return False
        self._last = now
        return True

    def _is_full(self, task: PartitionTask) -> bool:
        return task.phase is Phase.RUNNING and self._states.dirty_rows(task.task) >= self._rows_max

    async def finish(self, tasks: list[PartitionTask]) -> None:
        """Write all that is dirty now and wait for it; failures are logged, the log can replay what is missing."""
        if self._running is not None:
            await asyncio.wait([self._running])
            self._end()
        self._prepared = self._cut(tasks)
        self._write()
        if self._running is not None:
            await asyncio.wait([self._running])
            self._end()

    def _cut(self, tasks: Iterable[PartitionTask]) -> list[tuple[PartitionTask, FlushCut]]:
        """Tasks that have not decided anything have nothing to write, not even a position; lost state has neither."""
        if self._states.lost:
            return []
        running = (task for task in tasks if task.phase is Phase.RUNNING and task.computed.sequence >= 0)
        return [(task, self._states.cut(task)) for task in running]

    def _write(self) -> None:
        prepared, self._prepared = self._prepared, []
        if not prepared:
            return
        for task, cut in prepared:
            cut.meta = self._states.meta(task)
        jobs = [(self._states.store(task.task), cut) for task, cut in prepared]
        self._writing = [(task, task.sequence, cut) for task, cut in prepared]

        def write() -> None:
            for store, cut in jobs:
                try:
                    cut.write(store)
                except StateCorruptedError as error:
                    error.task = cut.task
                    raise

        self._running = self._executor.submit(write)

    def _end(self) -> None:
        assert self._running is not None
        error = self._running.exception()
        self._running = None
        if error is None:
            for task, sequence, cut in self._writing:
                cut.written()
                task.flushed = sequence
            return
        for _, _, cut in self._writing:
            cut.restore_dirty()
        if not isinstance(error, OSError | StateCorruptedError):
            raise error  # which ends the worker, with one more flush
        self._not_before = self._clock.monotonic() + _RETRY_SECONDS
        if isinstance(error, StateCorruptedError):
            self.damage = error
        elif self._states.far_over_budget:
            raise StateDiskError(reason_of(error)) from error
        else:
            topic = self._writing[0][0].source.topic
            self._logger.error("state could not be written, will try again", topic=topic, error=reason_of(error))
