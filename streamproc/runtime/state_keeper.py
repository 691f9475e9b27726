"""Where tasks' state lies on disk: opening, discarding, cutting, closing."""

from __future__ import annotations

__all__ = ["StateKeeper", "reason_of"]

import os
from collections.abc import Awaitable
from pathlib import Path

import structlog

from state.errors import StateCorruptedError
from state.rowformat import META_KEY
from state.rowstore import RowStore, RowStores
from state.worker_state import FlushCut, LoadedTask, WorkerState
from streamproc.runtime.executor import BlockingExecutor, to_its_end
from streamproc.runtime.partition_task import PartitionTask
from streamproc.runtime.stored_state import LocalMeta

_RELIEF_ROWS = 200_000
"""Dirty rows after which a restore writes them: copying them holds the loop for less than 0.1 s."""
_RELIEF_ROWS_TIGHT = 5_000
"""The same when keys take more memory than they should."""


class StateKeeper:
    """Joins the worker's state in memory with one row store a task; opening and discarding block a thread.

    `topic`: what the tasks read, for the log.
    """

    def __init__(
        self, state: WorkerState, stores: RowStores, state_fingerprint: str, executor: BlockingExecutor,
        topic: str = "",
    ) -> None:  # fmt: skip
        self._state = state
        self._stores = stores
        self._fingerprint = state_fingerprint
        self._executor = executor
        self._open: dict[int, RowStore] = {}
        self._metas: dict[int, bytes | None] = {}
        self._unwritten = 0  # rows of the last relief, if it failed: the next one is tried when twice as many wait
        self._logger = structlog.get_logger("state").bind(topic=topic)
        self.partitions = 0

    def dirty_rows(self, task: int) -> int:
        """Rows of the task that a flush would write."""
        return self._state.dirty_rows(task)

    async def open(self, task: int) -> None:
        """Take the task's stored state over; a store that fails its checks is discarded, loudly.

        Raises:
            ConfigError: another process holds it, or it was written by another plan.
        """
        try:
            await self._open_store(task)
        except StateCorruptedError as error:
            self._logger.error("local state discarded", task=task, reason=str(error))
            await self._afresh(task)
            await self._open_store(task)

    async def discard(self, task: int) -> None:
        """Throw the task's state away, on disk too, and begin empty."""
        self._forget(task)
        await self._afresh(task)
        await self._open_store(task)

    async def lose(self, task: int) -> None:
        """Forget a task whose stored state is damaged, and move it aside; `open` begins empty."""
        self._forget(task)
        await self._afresh(task)

    async def close(self, task: int) -> None:
        """Forget the task's state in memory, and close its store once whatever uses it has ended.

        A store that cannot be closed in order is logged: what was flushed is in its log, the next start reads that.
        """
        self._forget(task)
        store = self._open.pop(task, None)
        if store is not None:
            await self._executor.submit(lambda: self._closed(task, store))

    async def install(self, task: int, directory: Path) -> None:
        """Put a copy of the task's store in its place (what was there is set aside), and open that.

        Raises:
            StateCorruptedError: the copy fails its checks.
        """
        self._forget(task)
        store = self._open.pop(task)

        def blocking() -> None:
            self._closed(task, store)
            self._stores.install(task, directory)

        await self._executor.submit(blocking)
        await self._open_store(task)

    async def snapshot(self, task: int, directory: Path) -> bytes | None:
        """Copy the store as it lies into `directory`, which must not exist, between two flushes; its meta row.

        None: nothing was flushed yet, or the task is gone, and nothing is copied.
        """
        store = self._open.get(task)
        if store is None:
            return None
        found: list[bytes | None] = []

        def blocking() -> None:
            found.append(store.get_many([META_KEY])[0])
            if found[0] is not None:
                store.snapshot(directory)

        await to_its_end(self._executor.submit(blocking))
        return found[0]

    def local_meta(self, task: int) -> bytes | None:
        """The meta row found when the store was opened."""
        return self._metas[task]

    def store(self, task: int) -> RowStore:
        """The task's open store."""
        return self._open[task]

    def cut(self, task: PartitionTask) -> FlushCut:
        """Copy the task's dirty rows, as of the last computed batch; its `meta` is due when that is published."""
        return self._state.cut(task.task)

    def meta(self, task: PartitionTask) -> bytes:
        """The meta row that goes with a cut of the batch published last."""
        meta = LocalMeta(
            task.sequence,
            task.chain,
            task.journal_offset,
            task.position,
            self._fingerprint,
            self.partitions,
            task.positions[1:],
        )
        return meta.encode()

    @property
    def lost(self) -> bool:
        """See `WorkerState`."""
        return self._state.lost

    def give_up(self) -> None:
        """What is in memory is of no transaction: nothing of it may be written, so that a restore replays it."""
        self._state.lost = True

    @property
    def far_over_budget(self) -> bool:
        """See `WorkerState`."""
        return self._state.far_over_budget

    def relief(self, task: int, meta: LocalMeta) -> Awaitable[None] | None:
        """See `LocalStates`. Rows leave memory as they are written: by `WorkerState.evict`, if there is a budget."""
        enough = max(_RELIEF_ROWS_TIGHT if self._state.over_budget else _RELIEF_ROWS, 2 * self._unwritten)
        return self._relieve(task, self._state.cut(task, meta.encode())) if self.dirty_rows(task) >= enough else None

    async def _relieve(self, task: int, cut: FlushCut) -> None:
        store = self._open[task]
        try:
            await self._executor.submit(lambda: cut.write(store))
        except OSError as error:
            cut.restore_dirty()
            self._unwritten = cut.rows
            self._logger.error("state could not be written, will try again", error=reason_of(error))
        else:
            cut.written()
            self._unwritten = 0

    async def _open_store(self, task: int) -> None:
        loaded: list[LoadedTask] = []

        def blocking() -> None:
            self._open[task] = self._stores.open(task)
            loaded.append(self._state.load(self._open[task]))

        try:
            await self._executor.submit(blocking)
            self._metas[task] = self._state.add_task(task, self._open[task], loaded[0])
        except StateCorruptedError:
            raise  # the caller throws it away
        except BaseException:
            await self.close(task)
            raise

    async def _afresh(self, task: int) -> None:
        store = self._open.pop(task, None)

        def blocking() -> None:
            if store is not None:
                self._closed(task, store)
            self._stores.discard(task)

        await self._executor.submit(blocking)

    def _closed(self, task: int, store: RowStore) -> None:
        try:
            store.close()
        except (OSError, StateCorruptedError) as error:
            self._logger.error("state was not closed in order", task=task, error=reason_of(error))

    def _forget(self, task: int) -> None:
        if task in self._metas:
            del self._metas[task]
            self._state.drop_task(task)


def reason_of(error: OSError | StateCorruptedError) -> str:
    """Why a disk failed, in the system's words; no path and no key."""
    if isinstance(error, OSError):
        return os.strerror(error.errno) if error.errno else type(error).__name__
    return str(error)
