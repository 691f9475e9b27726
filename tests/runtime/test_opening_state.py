"""Opening a task's state: what takes long runs in the executor's thread, not on the loop."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import pytest

from operators.deduplicate import Deduplicator
from state.memory import MemoryDisk, MemoryRowStores
from state.rowstore import RowStore
from state.segment_store import SegmentStore
from state.worker_state import WorkerState
from streamproc.runtime.state_keeper import StateKeeper


class Executor:
    """Runs the work at once, and knows that it does."""

    def __init__(self) -> None:
        self.working = False

    def submit(self, work: Callable[[], None]) -> asyncio.Future[None]:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.working = True
        work()
        self.working = False
        done.set_result(None)
        return done

    def close(self) -> None: ...


async def test_the_index_of_a_task_is_built_by_the_executor(monkeypatch: pytest.MonkeyPatch) -> None:
    executor, loads, load = Executor(), list[bool](), SegmentStore.load

    def noted(self: SegmentStore, store: RowStore) -> None:
        loads.append(executor.working)
        load(self, store)

    monkeypatch.setattr(SegmentStore, "load", noted)
    stores = MemoryRowStores(MemoryDisk(random.Random(1)))
    for _ in range(2):
        state = WorkerState([], [Deduplicator(1000)])
        keeper = StateKeeper(state, stores, "plan", executor)
        await keeper.open(3)
        state.cut(3, b"meta").write(keeper.store(3))
        await keeper.close(3)
    assert loads == [True]
