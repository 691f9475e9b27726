"""An event loop whose order is drawn from a seed: virtual time, simulated processes, and a trace of every step.

asyncio promises no order among callbacks that are ready, only that the callbacks of one future run as they were added.
This loop draws the next one among all that are ready, so a seed is one of the many legal orders. Time jumps to the next
timer when nothing is ready; a deadlock raises, and so does a thread.

A `Process` is what a callback belongs to, by its context: a paused one's callbacks are kept until it goes on, a dead
one's never run.
"""

from __future__ import annotations

__all__ = ["NO_END", "PROCESS", "STEPS_MAX", "Process", "SeededLoop", "SimulationError", "run_in"]

import asyncio
import contextvars
import gc
import hashlib
import heapq
import random
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any, NoReturn, TypeVar

from streamproc.eventlog.simulated import Crash

R = TypeVar("R")
STEPS_MAX = 40_000
NO_END = "no end"
_THROWS_MAX = 1_000
_TASKS_KEPT = 2_000


class SimulationError(RuntimeError):
    """The simulated world stands still, or turns without end."""


class Process:
    """What lives and dies together. Only a `SeededLoop` looks at it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.paused = False
        self.dead = False
        self.killed = False  # dead, and nobody is left to ask how its tasks ended
        self.parked: list[asyncio.Handle] = []


PROCESS: contextvars.ContextVar[Process | None] = contextvars.ContextVar("process", default=None)


class SeededLoop(asyncio.BaseEventLoop):
    """Runs one ready callback after the other, as `rng` draws them.

    Args:
        rng: draws the order, and nothing else.
        told: told of each step: virtual seconds, process, callback.
        steps_max: more are an endless turn.
    """

    def __init__(
        self, rng: random.Random, told: Callable[[float, str, str], None] | None = None, *, steps_max: int = STEPS_MAX
    ) -> None:
        super().__init__()
        self._ready: deque[Any] = deque()  # handles, of which much is private
        self._scheduled: list[Any] = []
        self._rng = rng
        self._now = 0.0
        self._told, self._steps_max = told, steps_max
        self._hash = hashlib.blake2b(digest_size=16)
        self._made = 0
        self._tasks: list[tuple[asyncio.Task[Any], Process | None]] = []
        """All, and whose they are: else a dead process's would be collected, and run on as they end."""
        self._disposing = False
        self.steps = 0
        self.stray: list[str] = []
        """Errors that nobody asked for."""
        self.set_exception_handler(self._note_stray)

    @property
    def trace(self) -> str:
        """A digest of all steps so far: equal traces are equal runs."""
        return self._hash.hexdigest()

    def time(self) -> float:
        return self._now

    # ---- processes

    def start(self, process: Process, main: Coroutine[Any, Any, R]) -> asyncio.Task[R]:
        """Run `main`, and all that it starts, as `process`."""
        context = contextvars.copy_context()
        context.run(PROCESS.set, process)
        return self.create_task(main, context=context)

    def resume(self, process: Process) -> None:
        """Let a paused process go on."""
        process.paused = False
        self._ready.extend(process.parked)
        process.parked.clear()

    # ---- asyncio's side

    def create_task(self, coro: Any, *, name: object = None, context: Any = None) -> asyncio.Task[Any]:
        self._made += 1
        label = f"{name or getattr(coro, '__qualname__', 'awaitable')}#{self._made}"
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=self, name=label, context=context)
        if len(self._tasks) > _TASKS_KEPT:
            self._tasks = [kept for kept in self._tasks if not kept[0].done() or kept[0]._log_traceback]
        self._tasks.append((task, (context or contextvars.copy_context()).get(PROCESS)))
        return task

    def call_soon_threadsafe(self, *_: Any, **__: Any) -> NoReturn:  # type: ignore[override]
        raise SimulationError("a thread in a simulation")

    def run_in_executor(self, *_: Any, **__: Any) -> NoReturn:  # type: ignore[override]
        raise SimulationError("a thread in a simulation")

    def _asyncgen_finalizer_hook(self, agen: AsyncGenerator[Any, Any]) -> None:
        self._asyncgens.discard(agen)  # type: ignore[attr-defined]
        if self._disposing:
            _exhaust(agen.aclose())
        else:
            self.create_task(agen.aclose(), name="aclose")

    def _note_stray(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if not isinstance(error, Crash | None):
            self.stray.append(f"{context.get('message')}: {type(error).__name__}: {error}")

    def _note_lost(self) -> None:
        """Errors of tasks that nobody has waited for."""
        for task, owner in self._tasks:
            if task.done() and task._log_traceback and not (owner and owner.killed):
                self._note_stray(self, {"message": f"nobody awaited {task.get_name()}", "exception": task.exception()})

    # ---- steps

    def _run_once(self) -> None:
        handle = self._next()
        self.steps += 1
        if self.steps > self._steps_max:
            raise SimulationError(f"{NO_END} after {self.steps} steps and {self._now:.1f} virtual seconds")
        process = handle._context.get(PROCESS)
        label, name = _label(handle), process.name if process else "-"
        self._hash.update(f"{self._now!r} {name} {label}\n".encode())
        if self._told is not None:
            self._told(self._now, name, label)
        handle._run()

    def _next(self) -> Any:
        ready = self._ready
        while True:
            self._take_due()
            while not ready:
                self._jump()
            place = int(self._rng.random() * len(ready)) if len(ready) > 1 else 0
            handle = ready[place]
            if place and handle._args and isinstance(future := handle._args[0], asyncio.Future):
                place = next(i for i, other in enumerate(ready) if other._args and other._args[0] is future)
                handle = ready[place]
            del ready[place]
            if handle._cancelled:
                continue
            process = handle._context.get(PROCESS)
            if process is None or not (process.paused or process.dead):
                return handle
            if not process.dead:
                process.parked.append(handle)

    def _take_due(self) -> None:
        scheduled = self._scheduled
        while scheduled and (scheduled[0]._cancelled or scheduled[0]._when <= self._now):
            handle = heapq.heappop(scheduled)
            handle._scheduled = False
            if not handle._cancelled:
                self._ready.append(handle)

    def _jump(self) -> None:
        """Nothing is ready: to the next timer."""
        if not self._scheduled:
            raise SimulationError(f"deadlock after {self._now:.3f} virtual seconds: nothing is ready, no timer is set")
        self._now = max(self._now, self._scheduled[0]._when)
        self._take_due()

    def dispose(self) -> None:
        """End what is left without letting it run on: killed processes' tasks above all."""
        self._note_lost()
        self._disposing = True
        self.set_exception_handler(lambda *_: None)
        ended: set[asyncio.Task[Any]] = set()
        asyncio._set_running_loop(self)  # what a task begins while it ends is a task of this loop, and ends, too
        while left := asyncio.all_tasks(self) - ended:
            for task in left:
                task._log_destroy_pending = False  # type: ignore[attr-defined]
                _exhaust(task.get_coro())
            ended |= left
        asyncio._set_running_loop(None)
        self._ready.clear()
        self._scheduled.clear()
        self.close()


def run_in(loop: SeededLoop, main: Coroutine[Any, Any, R]) -> R:
    """The result of `main`; the garbage collector, whose moments no seed knows, waits meanwhile."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        return loop.run_until_complete(main)
    finally:
        loop.dispose()
        if enabled:
            gc.enable()


def _exhaust(coroutine: Any) -> None:
    """Throw until it has ended."""
    for _ in range(_THROWS_MAX):
        try:
            coroutine.throw(Crash())
        except BaseException:
            return


def _label(handle: Any) -> str:
    callback = handle._callback
    owner = getattr(callback, "__self__", None)
    if isinstance(owner, asyncio.Task):
        return owner.get_name()
    return getattr(callback, "__qualname__", None) or type(callback).__name__
