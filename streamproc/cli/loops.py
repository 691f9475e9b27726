"""Event loops and signals of commands that run until they are told to stop."""

from __future__ import annotations

__all__ = ["TERMINATED", "leaving_quietly", "run_async", "run_until_terminated", "terminable", "until_signal"]

import os
import signal
import sys
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, TypeVar

R = TypeVar("R")

TERMINATED = 143
"""Exit code of work that SIGTERM broke off, as of a process that it killed."""


def run_async(main: Coroutine[Any, Any, R]) -> R:
    """`asyncio.run`, on uvloop where it exists."""
    import asyncio

    if sys.platform == "win32":
        return asyncio.run(main)
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)


def run_until_terminated(main: Coroutine[Any, Any, R]) -> R:
    """`run_async` of work that SIGTERM cancels, as Ctrl-C does.

    Raises:
        SystemExit: it was; with the exit code 143.
    """
    import asyncio

    terminated = False

    async def watched() -> R:
        task = asyncio.current_task()
        assert task is not None

        def stop() -> None:
            nonlocal terminated
            terminated = True
            task.cancel()

        if sys.platform != "win32":
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop)
        return await main

    try:
        return run_async(watched())
    except asyncio.CancelledError:
        if not terminated:
            raise
        raise SystemExit(TERMINATED) from None


async def until_signal(work: Coroutine[Any, Any, None]) -> None:
    """Work that SIGTERM and Ctrl-C end in order, as if it had come to its end."""
    import asyncio

    task = asyncio.ensure_future(work)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    with suppress(asyncio.CancelledError):
        await task


@contextmanager
def terminable() -> Iterator[None]:
    """SIGTERM ends the block as Ctrl-C does, through every `finally`, with the exit code 143."""

    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(TERMINATED)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def leaving_quietly(saying: str = "") -> Iterator[None]:
    """SIGTERM and Ctrl-C end the command with exit code 0, where the block does not handle them itself.

    `saying`: a line for stderr then.
    """

    def leave(number: int, frame: FrameType | None) -> None:
        if saying:
            os.write(2, f"{saying}\n".encode())  # whatever it interrupts may be writing to sys.stderr
        raise SystemExit(0)

    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
