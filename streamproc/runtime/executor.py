"""Where blocking work on the row stores runs: one thread; in simulations, the virtual loop itself."""

from __future__ import annotations

__all__ = ["BlockingExecutor", "ThreadExecutor", "to_its_end"]

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol


class BlockingExecutor(Protocol):
    """Runs blocking calls away from the loop, one after the other, in the order they were submitted."""

    def submit(self, work: Callable[[], None]) -> asyncio.Future[None]:
        """Run `work`; the future tells its end, or its exception."""
        ...

    def close(self) -> None:
        """Wait for what was submitted."""
        ...


class ThreadExecutor:
    """The real one: a thread."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="state")

    def submit(self, work: Callable[[], None]) -> asyncio.Future[None]:
        """Run `work` in the thread."""
        return asyncio.get_running_loop().run_in_executor(self._pool, work)

    def close(self) -> None:
        """Wait for what was submitted."""
        self._pool.shutdown()


async def to_its_end(work: asyncio.Future[None]) -> None:
    """Wait for submitted work, even when cancelled: a thread goes on, and what comes next must not overtake it."""
    try:
        await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait([work])
        raise
