"""When a flush is due."""

from __future__ import annotations

import asyncio
import errno
import random
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest

from operators.batch import TaskRows
from state.errors import StateDiskError
from state.memory import MemoryDisk, MemoryRowStores
from state.table import TableSpec
from state.worker_state import FlushCut, WorkerState
from streamproc.clock import SystemClock
from streamproc.eventlog.contract import TopicPartition
from streamproc.runtime.executor import ThreadExecutor
from streamproc.runtime.flush import Flusher
from streamproc.runtime.partition_task import PartitionTask, Phase, TaskHead
from streamproc.runtime.state_keeper import StateKeeper


class Keeper:
    """Tasks with so many dirty rows, and which of them were copied."""

    lost = False

    def __init__(self, dirty: list[int]) -> None:
        self.dirty = dirty
        self.copied: list[int] = []

    def dirty_rows(self, task: int) -> int:
        return self.dirty[task]

    def cut(self, task: Any) -> None:
        self.copied.append(task.task)


class Clock:
    now = 100.0

    def monotonic(self) -> float:
        return self.now


def copied(dirty: list[int], *, after: float = 0.0, waiting: int = -1) -> list[int]:
    keeper: Any = Keeper(dirty)
    clock: Any = Clock()
    flusher = Flusher(keeper, None, clock, 100, 1.0)  # type: ignore[arg-type]  # nothing is written
    clock.now += after
    tasks: Any = [
        SimpleNamespace(
            task=task, phase=Phase.RESTORING if task == waiting else Phase.RUNNING, computed=SimpleNamespace(sequence=0)
        )
        for task in range(len(dirty))
    ]
    flusher.prepare(tasks)
    found: list[int] = keeper.copied
    return found


@pytest.mark.parametrize(
    ("dirty", "found"),
    [([99, 99, 99, 99], []), ([0, 100, 3], [0, 1, 2]), ([100], [0]), ([], [])],
)
def test_rows_of_one_partition_make_it_due_for_all(dirty: list[int], found: list[int]) -> None:
    assert copied(dirty) == found


def test_it_is_due_after_a_second_whatever_is_dirty() -> None:
    assert copied([1, 0], after=0.99) == []
    assert copied([1, 0], after=1.0) == [0, 1]


def test_rows_of_a_partition_that_is_being_restored_do_not_count() -> None:
    assert copied([5, 100], waiting=1) == []


async def test_it_writes_until_its_thread_has_ended() -> None:
    """Eviction asks for it: see `WorkerState.evict`."""
    work: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    keeper: Any = Keeper([100])
    keeper.cut = lambda task: SimpleNamespace(written=lambda: None)
    keeper.meta = keeper.store = lambda task: None
    executor: Any = SimpleNamespace(submit=lambda write: work)
    clock: Any = Clock()
    flusher = Flusher(keeper, executor, clock, 100, 1.0)
    task: Any = SimpleNamespace(
        task=0, phase=Phase.RUNNING, sequence=0, computed=SimpleNamespace(sequence=0), flushed=-1
    )
    flusher.prepare([task])
    assert not flusher.is_writing, "copied, not written yet"
    flusher.publish([task], newest=False)
    assert flusher.is_writing
    work.set_result(None)
    assert not flusher.is_writing
    flusher.prepare([task])
    assert task.flushed == 0


async def test_whatever_a_write_fails_of_its_rows_are_written_by_the_next() -> None:
    """The worker ends, and its last flush says how far it has come: with rows missing that would be a lie."""
    rng = random.Random(1)
    executor: Any = ThreadExecutor()
    state = WorkerState([TableSpec("t", "key", ("count",))])
    stores = MemoryRowStores(MemoryDisk(rng))
    keeper = StateKeeper(state, stores, "plan", executor)
    task = PartitionTask(0, TopicPartition("in", 0))
    await keeper.open(0)
    task.enter(Phase.RUNNING)
    slots = state.table("t").slots([TaskRows(0, 0, 1)], ["a"])
    state.table("t").touch(slots)
    state.table("t").rows[slots] = 7
    state.publish()
    task.advance(TaskHead(1, 0, b"chain"), 0)
    flusher = Flusher(keeper, executor, SystemClock(), 1, 1.0)
    with mock.patch.object(FlushCut, "encode", side_effect=MemoryError):
        flusher.publish([task], newest=True)
        with pytest.raises(MemoryError):
            await flusher.finish([task])
    await flusher.finish([task])
    await keeper.close(0)
    await asyncio.to_thread(executor.close)
    stored = WorkerState([TableSpec("t", "key", ("count",))])
    assert stored.add_task(0, stores.open(0)) is not None
    assert stored.table("t").rows[stored.table("t").slots([TaskRows(0, 0, 1)], ["a"])].item() == 7


@pytest.mark.parametrize("far", [False, True])
async def test_a_disk_that_takes_nothing_ends_the_worker_at_twice_the_budget(far: bool) -> None:
    """Not before: decisions go on meanwhile, and no batch is undone."""
    work: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    restored: list[bool] = []
    cut = SimpleNamespace(meta=b"", restore_dirty=lambda: restored.append(True), rows=1, written=lambda: None)
    keeper: Any = SimpleNamespace(
        dirty_rows=lambda _: 100,
        cut=lambda _: cut,
        meta=lambda _: b"",
        store=lambda _: None,
        far_over_budget=far,
        lost=False,
    )
    executor: Any = SimpleNamespace(submit=lambda _: work)
    clock: Any = Clock()
    flusher = Flusher(keeper, executor, clock, 100, 1.0)
    task: Any = SimpleNamespace(
        task=0, source=SimpleNamespace(topic="t"), phase=Phase.RUNNING, computed=SimpleNamespace(sequence=0),
        sequence=0, flushed=-1,
    )  # fmt: skip
    flusher.publish([task], newest=True)
    work.set_exception(OSError(errno.ENOSPC, "No space left on device"))
    if far:
        with pytest.raises(StateDiskError, match="give it space"):
            flusher.prepare([task])
    else:
        flusher.prepare([task])
    assert (restored, task.flushed) == ([True], -1)
