"""Event loops and signals of commands that run until they are told to stop."""

from __future__ import annotations

__all__ = ["leaving_quietly", "run_async"]

import signal
import sys
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeVar

R = TypeVar("R")


def run_async(main: Coroutine[Any, Any, R]) -> R:
    """`asyncio.run`, on uvloop where it exists."""
    import asyncio

    if sys.platform == "win32":
        return asyncio.run(main)
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)


@contextmanager
def leaving_quietly() -> Iterator[None]:
    """SIGTERM and Ctrl-C end the command with exit code 0, where the block does not handle them itself."""

    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(0)

    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
