"""A checkpoints' store that takes a request and never answers: a process that is to end ends all the same."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from state.checkpoint import Checkpoints
from state.memory import MemoryBlobs
from streamproc.clock import SystemClock
from streamproc.runtime import checkpointer as checkpointing
from streamproc.runtime.checkpointer import Checkpointer
from streamproc.runtime.executor import NetworkExecutor
from streamproc.runtime.metrics import WorkerMetrics
from streamproc.runtime.stage import Stage, finish
from streamproc.runtime.state_keeper import StateKeeper
from tests.runtime.test_checkpointing import OneFile, running_task

pytestmark = pytest.mark.blocking
HANGS = """
import asyncio, threading
from streamproc.runtime.executor import NetworkExecutor

async def run():
    sender = NetworkExecutor(close_s=0.05)
    sender.submit(threading.Event().wait)
    await asyncio.to_thread(sender.close)

asyncio.run(run())
"""


class Hanging:
    """A store whose requests of one verb wait for `answer`."""

    def __init__(self) -> None:
        self.blobs, self.answer, self.asked = MemoryBlobs(random.Random(0)), threading.Event(), threading.Event()

    def hang(self, verb: str) -> None:
        def before(asked: str, _: str) -> None:
            if asked == verb:
                self.asked.set()
                self.answer.wait(40)

        self.blobs.before = before


@pytest.fixture
def hanging() -> Iterator[Hanging]:
    made = Hanging()
    yield made
    made.answer.set()


def checkpointer_of(hanging: Hanging, directory: Path) -> tuple[Checkpointer, NetworkExecutor]:
    sender = NetworkExecutor(close_s=0.05)
    states = cast(StateKeeper, OneFile(b"rows"))
    made = Checkpointer(
        Checkpoints(hanging.blobs, "p"), states, sender=sender, clock=SystemClock(), metrics=WorkerMetrics(),
        directory=directory, every_s=0.01,
    )  # fmt: skip
    return made, sender


def test_a_process_ends_while_a_request_hangs() -> None:
    ended = subprocess.run([sys.executable, "-c", HANGS], capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_the_end_waits_for_no_upload(hanging: Hanging, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that was due hangs already; the last one comes behind it, and whoever took it is cancelled."""
    monkeypatch.setattr(checkpointing, "_LAST_SECONDS", 0.05)
    monkeypatch.setattr(checkpointing, "_LOOK_SECONDS", 0.01)
    hanging.hang("put")

    async def run() -> None:
        checkpointer, sender = checkpointer_of(hanging, tmp_path)
        task = running_task()
        watch = asyncio.ensure_future(checkpointer.watch(lambda: [task]))
        assert await asyncio.to_thread(hanging.asked.wait, 20)
        await checkpointer.take_last([task])
        watch.cancel()
        await asyncio.wait([watch])
        await asyncio.to_thread(sender.close)
        assert not hanging.answer.is_set()

    asyncio.run(run())


@pytest.mark.parametrize("verb", ["list", "get"])
def test_a_restore_that_is_stopped_waits_for_no_answer(
    hanging: Hanging, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    monkeypatch.setattr(checkpointing, "_LOOK_SECONDS", 0.01)

    class StoppedError(Exception):
        pass

    def stop() -> None:
        if hanging.asked.is_set():
            raise StoppedError

    async def run() -> None:
        checkpointer, sender = checkpointer_of(hanging, tmp_path)
        await checkpointer.take(running_task())
        (manifest,) = await checkpointer.newest_first(0, lambda: None)
        hanging.hang(verb)
        with pytest.raises(StoppedError):
            await (checkpointer.newest_first(0, stop) if verb == "list" else checkpointer.install(manifest, stop))
        hanging.answer.set()
        hanging.blobs.before = lambda verb, name: None
        assert await checkpointer.newest_first(0, lambda: None) == [manifest]
        assert not list(tmp_path.iterdir())  # what the late answer brought is cleared up
        await asyncio.to_thread(sender.close)

    asyncio.run(run())


async def test_stages_take_their_last_checkpoints_at_once() -> None:
    """Each may take as long as a store that hangs is borne."""
    both = asyncio.Barrier(2)

    class Ending:
        async def finish(self) -> None: ...

        async def take_last(self) -> None:
            await both.wait()

    await asyncio.wait_for(finish(cast(list[Stage], [Ending(), Ending()]), orderly=True), 20)
