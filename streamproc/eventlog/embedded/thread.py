"""The one thread that makes all SQLite calls of a log, and waits there for other processes' commits.

The event loop hands over jobs and gets futures. A *standing* job runs again after each change of the file until it
has a result: that is how a reader waits. Other processes' commits are found by `PRAGMA data_version` (3 us), every
0.5 ms while things happen and at last every 5 ms: the pause is 1 % of the time since the last change.
"""

from __future__ import annotations

__all__ = ["StoreThread"]

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from enum import Enum
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

import msgspec

from state.errors import EventLogError
from streamproc.eventlog.embedded.file import translate
from streamproc.eventlog.embedded.store import Store

R = TypeVar("R")

_TICK_MIN_S = 0.0005
_TICK_MAX_S = 0.005
_TICK_SHARE = 0.01


class _Job(msgspec.Struct, eq=False):
    """`work` returns None: a standing job has no result yet. `changes`: standing jobs run again after it."""

    work: Callable[[Store], Any]
    future: asyncio.Future[Any]
    standing: bool = False
    changes: bool = False


class _Signal(Enum):
    POKE = "run the standing jobs again"
    CLOSE = "end"


class StoreThread:
    """Runs jobs one after the other; starts with the first one, opens the file in its own thread."""

    def __init__(self, path: Path, busy_timeout_s: float) -> None:
        self._path = path
        self._busy_timeout_s = busy_timeout_s
        self._jobs: SimpleQueue[_Job | _Signal] = SimpleQueue()
        self._standing: list[_Job] = []
        self._store: Store | None = None
        self._thread: threading.Thread | None = None
        self._closing: asyncio.Future[None] | None = None
        self._version = 0
        self._changed_at = 0.0

    # -- on the event loop

    async def run(self, work: Callable[[Store], R], *, changes: bool = False) -> R:
        """`work` in the thread. Cancelled before its turn comes, it never runs; later, it runs to its end.

        Raises:
            EventLogError, FencedError, ConfigError: as `work` does; SQLite's errors are translated.
        """
        job = self._put(_Job(work, asyncio.get_running_loop().create_future(), changes=changes))
        result: R = await job.future
        return result

    async def wait(self, work: Callable[[Store], R | None], timeout_s: float) -> R | None:
        """`work` now and after each change until it has a result; None when `timeout_s` is over."""
        if timeout_s <= 0:
            return await self.run(work)
        job = self._put(_Job(work, asyncio.get_running_loop().create_future(), standing=True))
        try:
            await asyncio.wait([job.future], timeout=timeout_s)
            result: R | None = job.future.result() if job.future.done() else None
        finally:
            job.future.cancel()
        return result

    def poke(self) -> None:
        """Run the standing jobs again: what they look for has changed."""
        if self._thread is not None and self._closing is None:
            self._jobs.put(_Signal.POKE)

    async def close(self) -> None:
        """Finish what is queued, close the file, end the thread. Closing twice is fine."""
        if self._closing is None:
            self._closing = asyncio.get_running_loop().create_future()
            if self._thread is None:
                self._closing.set_result(None)
            self._jobs.put(_Signal.CLOSE)
        await asyncio.shield(self._closing)

    def _put(self, job: _Job) -> _Job:
        if self._closing is not None:
            raise EventLogError(f"{self._path}: the event log is closed")
        if self._thread is None:
            self._thread = threading.Thread(target=self._main, name=f"eventlog {self._path}", daemon=True)
            self._thread.start()
        self._jobs.put(job)
        return job

    # -- in the thread

    def _main(self) -> None:
        while (job := self._next()) is not _Signal.CLOSE:
            if isinstance(job, _Job):
                self._serve(job)
            if job is _Signal.POKE or (isinstance(job, _Job) and job.changes):
                self._changed()
            elif self._standing:
                self._look()
        if self._store is not None:
            self._store.close()
        self._refuse_standing(EventLogError(f"{self._path}: the event log is closed"))
        assert self._closing is not None
        _deliver(self._closing, None, None)

    def _next(self) -> _Job | _Signal | None:
        """What to do; None: nothing came, look for other processes' commits."""
        try:
            return self._jobs.get(timeout=self._tick() if self._standing else None)
        except Empty:
            return None

    def _tick(self) -> float:
        return min(max((time.monotonic() - self._changed_at) * _TICK_SHARE, _TICK_MIN_S), _TICK_MAX_S)

    def _look(self) -> None:
        """Whether another process has committed."""
        self._standing = [job for job in self._standing if not job.future.done()]
        assert self._store is not None
        try:
            version = self._store.data_version()
        except sqlite3.Error as error:
            self._refuse_standing(translate(error, self._path))
            return
        if version != self._version:
            self._version = version
            self._changed()

    def _changed(self) -> None:
        self._changed_at = time.monotonic()
        standing, self._standing = self._standing, []
        for job in standing:
            self._serve(job)

    def _serve(self, job: _Job) -> None:
        if job.future.done():
            return
        try:
            result = job.work(self._opened())
        except sqlite3.Error as error:
            _deliver(job.future, None, translate(error, self._path))
        except UnicodeDecodeError:  # sqlite3's own, where a damaged file has text in its schema or cells
            _deliver(job.future, None, EventLogError(f"{self._path} is damaged: restore the directory from a backup"))
        except Exception as error:
            _deliver(job.future, None, error)
        else:
            if job.standing and result is None:
                self._standing.append(job)
            else:
                _deliver(job.future, result, None)

    def _refuse_standing(self, error: Exception) -> None:
        for job in self._standing:
            _deliver(job.future, None, error)
        self._standing = []

    def _opened(self) -> Store:
        if self._store is None:
            self._store = Store(self._path, self._busy_timeout_s)
            self._version = self._store.data_version()
        return self._store


def _deliver(future: asyncio.Future[Any], result: object, error: Exception | None) -> None:
    with suppress(RuntimeError):  # the loop is closed: nobody waits
        future.get_loop().call_soon_threadsafe(_settle, future, result, error)


def _settle(future: asyncio.Future[Any], result: object, error: Exception | None) -> None:
    if future.done():  # cancelled
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
