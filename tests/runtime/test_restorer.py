"""Restores beside live tasks: what waits, what goes on, what ends the worker."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from structlog.testing import capture_logs

from state.errors import (
    BlobStoreError,
    ConfigError,
    EventLogError,
    StateDiskError,
    StateLockedError,
    StreamprocError,
)
from streamproc.eventlog.contract import TopicPartition
from streamproc.eventlog.simulated import VirtualClock, VirtualTimeLoop
from streamproc.runtime.partition_task import PartitionTask
from streamproc.runtime.restorer import Restorer


class Scripted:
    """Recovery and states in one: a restore lasts `seconds` and then does what `script` says for its task."""

    def __init__(self, seconds: float = 1.0, **script: list[StreamprocError | OSError | None]) -> None:
        self.seconds = seconds
        self.script = script
        self.locked: set[int] = set()
        self.full = False
        self.open_now: set[int] = set()
        self.stopping: Callable[[], bool] = lambda: False

    async def restore(self, task: PartitionTask, _: object) -> bool:
        await asyncio.sleep(self.seconds)
        if self.stopping():
            return False
        outcome = (self.script.get(f"t{task.task}") or [None]).pop(0)
        if outcome is not None:
            raise outcome
        return True

    async def open(self, task: int) -> None:
        if task in self.locked:
            raise StateLockedError("held by another process")
        if self.full:
            raise OSError(errno.ENOSPC, "RocksDB: no space, and the path of a file")
        assert task not in self.open_now, "open already"
        self.open_now.add(task)

    async def close(self, task: int) -> None:
        self.open_now.remove(task)


class Bench:
    def __init__(self, scripted: Scripted, tasks: int = 3, *, others: bool = False) -> None:
        self.scripted = scripted
        self.restored: list[int] = []
        self.failed: list[int] = []
        self.others = others
        double: Any = scripted
        self.restorer = Restorer(
            double, double, VirtualClock(), restored=lambda task: self.restored.append(task.task),
            failed=lambda task: self.failed.append(task.task), others=lambda: self.others or bool(self.restored),
        )  # fmt: skip
        self.tasks = [PartitionTask(number, TopicPartition("in", number)) for number in range(tasks)]

    async def after(self, seconds: float) -> None:
        self.restorer.begin(self.tasks, {})
        await asyncio.sleep(seconds)


def run(scenario: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(scenario)


def test_a_locked_state_keeps_only_its_own_task_waiting() -> None:
    async def scenario() -> None:
        bench = Bench(Scripted())
        bench.scripted.locked.add(0)
        await bench.after(60)
        assert bench.restored == [1, 2]
        assert bench.restorer.active
        bench.scripted.locked.clear()
        await asyncio.sleep(5)
        bench.restorer.check()
        assert bench.restored == [1, 2, 0]
        assert not bench.restorer.active

    run(scenario())


@pytest.mark.parametrize("bad", [0, 1, 2])
def test_a_task_that_cannot_be_restored_is_paused_and_the_others_go_on(bad: int) -> None:
    """Also if it is the first one, when none is live yet."""

    async def scenario() -> None:
        scripted = Scripted()
        scripted.script[f"t{bad}"] = [ConfigError("its journal is gone")]
        bench = Bench(scripted)
        await bench.after(60)
        bench.restorer.check()
        good = [number for number in range(3) if number != bad]
        assert (bench.restored, bench.failed) == (good, [bad])
        assert bench.scripted.open_now == set(good)

    run(scenario())


def test_if_none_is_left_the_first_reason_ends_the_worker() -> None:
    async def scenario() -> None:
        bench = Bench(Scripted(t0=[ConfigError("first")], t1=[ConfigError("second")]), tasks=2)
        await bench.after(60)
        with pytest.raises(ConfigError, match="first"):
            bench.restorer.check()

    run(scenario())


def test_a_long_restore_survives_a_moment_without_an_answer() -> None:
    async def scenario() -> None:
        bench = Bench(Scripted(seconds=61, t0=[EventLogError("time-out", retriable=True)]), tasks=1)
        await bench.after(200)
        bench.restorer.check()
        assert bench.restored == [0]

    run(scenario())


def test_a_log_that_does_not_answer_at_all_is_borne_for_a_minute() -> None:
    async def scenario() -> None:
        bench = Bench(Scripted(t0=[EventLogError("refused", retriable=True)] * 1000), tasks=1)
        await bench.after(59)
        bench.restorer.check()
        await asyncio.sleep(10)
        with pytest.raises(EventLogError):
            bench.restorer.check()
        assert not bench.scripted.open_now

    run(scenario())


def test_a_checkpoints_store_that_does_not_answer_ends_no_live_task() -> None:
    async def scenario() -> None:
        down: list[StreamprocError | OSError | None] = [BlobStoreError("no answer")] * 2000
        bench = Bench(Scripted(t0=down, t1=down[:]), others=False)
        await bench.after(1000)
        bench.restorer.check()
        assert bench.restored == [2]
        assert bench.restorer.active
        down.clear()
        bench.scripted.script.clear()
        await asyncio.sleep(100)
        bench.restorer.check()
        assert sorted(bench.restored) == [0, 1, 2]

    run(scenario())


def test_a_checkpoints_store_that_refuses_pauses_only_the_task_that_needs_it() -> None:
    async def scenario() -> None:
        bench = Bench(Scripted(t0=[BlobStoreError("access refused", retriable=False)]))
        await bench.after(60)
        bench.restorer.check()
        assert (bench.restored, bench.failed) == ([1, 2], [0])

    run(scenario())


@pytest.mark.parametrize("tasks", [1, 2])
def test_if_no_task_can_go_on_the_store_ends_the_worker(tasks: int) -> None:
    async def scenario() -> None:
        down: list[StreamprocError | OSError | None] = [BlobStoreError("no answer")] * 1000
        bench = Bench(Scripted(t0=down, t1=down[:]), tasks=tasks)
        await bench.after(59)
        bench.restorer.check()
        await asyncio.sleep(80)
        with pytest.raises(BlobStoreError):
            bench.restorer.check()
        assert not bench.scripted.open_now

    run(scenario())


def test_stopping_closes_what_is_not_restored_and_raises_nothing() -> None:
    async def scenario() -> None:
        bench = Bench(Scripted(t1=[ConfigError("gone")]))
        await bench.after(1.5)
        await bench.restorer.stop()
        assert bench.restored == [0]
        assert bench.scripted.open_now == {0}
        bench.restorer.begin(bench.tasks[2:], {})
        await asyncio.sleep(2)
        assert bench.restored == [0, 2]

    run(scenario())


def test_a_full_disk_is_borne_for_a_minute_and_told_now_and_then() -> None:
    async def scenario() -> None:
        bench = Bench(Scripted(t1=[OSError(errno.EIO, "x")]), tasks=2)
        bench.scripted.full = True
        with capture_logs() as logs:
            await bench.after(50)
        bench.restorer.check()
        assert 8 <= len(logs) <= 12
        assert {entry["error"] for entry in logs} == {os.strerror(errno.ENOSPC)}
        bench.scripted.full = False
        await asyncio.sleep(5)
        bench.restorer.check()
        assert bench.restored == [0, 1]

    run(scenario())


def test_a_disk_that_stays_full_ends_the_worker_with_what_to_do() -> None:
    async def scenario() -> None:
        bench = Bench(Scripted(), tasks=1)
        bench.scripted.full = True
        await bench.after(70)
        with pytest.raises(StateDiskError, match=r"No space left on device \(give it space"):
            bench.restorer.check()
        assert not bench.scripted.open_now

    run(scenario())
