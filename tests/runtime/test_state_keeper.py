"""Stores that cannot be closed in order: they can be given up and thrown away all the same."""

from __future__ import annotations

import asyncio
import errno
import random
from typing import Any

import pytest
from structlog.testing import capture_logs

from state.errors import StateCorruptedError
from state.memory import MemoryDisk, MemoryRowStore, MemoryRowStores
from state.worker_state import WorkerState
from streamproc.runtime.executor import ThreadExecutor
from streamproc.runtime.state_keeper import StateKeeper
from tests.state.driver import SPEC


@pytest.mark.parametrize("error", [StateCorruptedError("a block's checksum"), OSError(errno.ENOSPC, "a path")])
@pytest.mark.parametrize("call", ["close", "discard", "lose"])
async def test_a_store_that_does_not_close(monkeypatch: pytest.MonkeyPatch, call: str, error: Exception) -> None:
    """Damage shows while it is closed, as RocksDB writes what is left; the reason is logged, without a path."""
    real = MemoryRowStore.close

    def close(store: MemoryRowStore) -> None:
        real(store)
        raise error

    monkeypatch.setattr(MemoryRowStore, "close", close)
    executor = ThreadExecutor()
    keeper = StateKeeper(WorkerState([SPEC]), MemoryRowStores(MemoryDisk(random.Random(0))), "f", executor)
    await keeper.open(0)
    with capture_logs() as logs:
        await getattr(keeper, call)(0)
    (entry,) = [entry for entry in logs if entry["event"] == "state was not closed in order"]
    assert entry["error"] in ("a block's checksum", "No space left on device")
    if call != "discard":
        await keeper.open(0)
    await asyncio.to_thread(executor.close)


async def test_what_cannot_be_taken_over_is_closed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error while a task is added leaves no store open behind: the next attempt opens it."""
    stores: Any = MemoryRowStores(MemoryDisk(random.Random(0)))
    executor = ThreadExecutor()
    state = WorkerState([SPEC])
    keeper = StateKeeper(state, stores, "f", executor)
    real = state.add_task
    failures = [OSError(errno.EIO, "x")]

    def add_task(*arguments: Any) -> bytes | None:
        if failures:
            raise failures.pop()
        return real(*arguments)

    monkeypatch.setattr(state, "add_task", add_task)
    with pytest.raises(OSError, match="x"):
        await keeper.open(0)
    await keeper.open(0)
    await asyncio.to_thread(executor.close)
