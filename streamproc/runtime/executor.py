"""Where blocking work runs: a thread for the row stores, others for the network; in simulations, the virtual loop."""

from __future__ import annotations

__all__ = ["BlockingExecutor", "NetworkExecutor", "ThreadExecutor", "to_its_end"]

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import Protocol


class BlockingExecutor(Protocol):
    """Runs blocking calls away from the loop, one after the other, in the order they were submitted."""

    def submit(self, work: Callable[[], None]) -> asyncio.Future[None]:
        """Run `work`; the future tells its end, or its exception."""
        ...

    def close(self) -> None:
        """Wait for what was submitted, if it is sure to end."""
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


class NetworkExecutor:
    """A thread for requests, of which any may hang: no end of a process waits for it.

    `close_s`: seconds that `close` waits at most.
    """

    def __init__(self, close_s: float = 2.0) -> None:
        self._close_s = close_s
        self._queue = SimpleQueue[tuple[Future[None], Callable[[], None]] | None]()
        self._thread = threading.Thread(target=self._run, name="network", daemon=True)  # a pool's are joined at exit
        self._thread.start()

    def submit(self, work: Callable[[], None]) -> asyncio.Future[None]:
        """Run `work` in the thread."""
        future = Future[None]()
        self._queue.put((future, work))
        return asyncio.wrap_future(future)

    def close(self) -> None:
        """Wait for what was submitted, for a bounded time."""
        self._queue.put(None)
        self._thread.join(self._close_s)

    def _run(self) -> None:
        while (job := self._queue.get()) is not None:
            future, work = job
            if not future.set_running_or_notify_cancel():
                continue
            try:
                work()
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(None)


async def to_its_end(work: asyncio.Future[None]) -> None:
    """Wait for submitted work, even when cancelled: a thread goes on, and what comes next must not overtake it."""
    try:
        await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait([work])
        raise
