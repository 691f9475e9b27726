"""Where tasks' state lies on disk: opening, discarding, cutting, closing."""

from __future__ import annotations

__all__ = ["StateKeeper"]

import structlog

from state.errors import StateCorruptedError
from state.rowstore import RowStore, RowStores
from state.worker_state import FlushCut, WorkerState
from streamproc.runtime.executor import BlockingExecutor
from streamproc.runtime.partition_task import PartitionTask
from streamproc.runtime.recovery import LocalMeta


class StateKeeper:
    """Joins the worker's state in memory with one row store a task; opening and discarding block a thread."""

    def __init__(
        self, state: WorkerState, stores: RowStores, state_fingerprint: str, executor: BlockingExecutor
    ) -> None:
        self._state = state
        self._stores = stores
        self._fingerprint = state_fingerprint
        self._executor = executor
        self._open: dict[int, RowStore] = {}
        self._metas: dict[int, bytes | None] = {}
        self._logger = structlog.get_logger("state")
        self.partitions = 0

    @property
    def dirty_rows(self) -> int:
        """Rows that a flush of everything would write."""
        return sum(map(self._state.dirty_rows, self._open))

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

    async def discard(self, task: int) -> None:
        """Throw the task's state away, on disk too, and begin empty."""
        self._state.drop_task(task)
        await self._afresh(task)

    def lose(self, task: int) -> None:
        """Forget a task whose stored state is damaged, and move it aside; `open` begins empty."""
        self.close(task)
        self._stores.discard(task)

    def close(self, task: int) -> None:
        """Forget the task's state in memory and close its store."""
        self._state.drop_task(task)
        del self._metas[task]
        self._open.pop(task).close()

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
            task.sequence, task.chain, task.journal_offset, task.position, self._fingerprint, self.partitions
        )
        return meta.encode()

    async def _open_store(self, task: int) -> None:
        def blocking() -> None:
            self._open[task] = self._stores.open(task)

        await self._executor.submit(blocking)
        self._metas[task] = self._state.add_task(task, self._open[task])

    async def _afresh(self, task: int) -> None:
        def blocking() -> None:
            store = self._open.pop(task, None)
            if store is not None:
                store.close()
            self._stores.discard(task)

        await self._executor.submit(blocking)
        await self._open_store(task)
