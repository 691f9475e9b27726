"""Worker processes of one `run`: they live in its process group, die with it, and are started again when they crash."""

from __future__ import annotations

__all__ = ["die_with_parent", "supervise"]

import contextlib
import gc
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NoReturn

from streamproc.cli.restarts import Death, Ledger, Patience
from streamproc.runtime.notes import NOTES_VARIABLE, Notes

_PR_SET_PDEATHSIG = 1
_POLL_SECONDS = 0.5
_FORWARDED = (signal.SIGTERM, signal.SIGINT)
_ASKED_TO_STOP = (0, 130, *(-number for number in _FORWARDED))


def die_with_parent(parent: int) -> None:
    """Let the kernel kill this process (SIGKILL: a crash, nothing half done stays) once process `parent` is gone."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    else:
        threading.Thread(target=_watch, args=(parent,), daemon=True, name="parent").start()
    if os.getppid() != parent:  # it was faster
        os._exit(1)


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_POLL_SECONDS)
    os._exit(1)


Entry = Callable[[Sequence[str]], NoReturn]
"""Does in this process what a command does in a new one; ends by SystemExit."""


def supervise(commands: Sequence[Sequence[str]], entry: Entry | None = None) -> int:
    """Start one process a command and wait for all; SIGTERM and SIGINT are passed on.

    One that dies is started again (restarts.py says when, and what it is told then). One that failed for good
    ends the run: the others are asked to finish. The exit code is that of the first such failure (128 + signal number
    for one that was killed), else 0.

    With `entry` workers are forked, not executed: no second interpreter's start. The caller must still be small, for
    what it has loaded they have too; a process with threads is not forked.
    """
    return _Supervisor(commands, None if _has_threads() else entry).run()


def _has_threads() -> bool:
    """Also those of native libraries, such as RocksDB's: a fork has none of them, and would wait for them for ever."""
    try:
        return len(os.listdir("/proc/self/task")) > 1
    except FileNotFoundError:  # not Linux: only Python's are known
        return threading.active_count() > 1


class _Fork:
    """A forked child, with what we need of a Popen."""

    def __init__(self, entry: Entry, command: Sequence[str], notes: int) -> None:
        self.returncode = 0
        sys.stdout.flush()
        sys.stderr.flush()
        gc.freeze()  # so that the child's collector leaves the shared pages shared
        self.pid = os.fork()
        if self.pid == 0:
            _be(entry, command, notes)

    def poll(self) -> int | None:
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        if pid == 0:
            return None
        self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode


def _be(entry: Entry, command: Sequence[str], notes: int) -> NoReturn:
    """Forget what was the parent's, be the child, and never return into the parent's frames."""
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, *_FORWARDED):
            signal.signal(number, signal.SIG_DFL)
        os.environ[NOTES_VARIABLE] = str(notes)
        entry(command)
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 0
    finally:
        with contextlib.suppress(OSError):
            sys.stderr.flush()
        os._exit(code)


class _Worker:
    """One command and its process: running, or waiting to be started at `due` (None: never again)."""

    def __init__(self, index: int, command: Sequence[str], entry: Entry | None) -> None:
        self.index = index
        self.notes = Notes.create()
        self.patience = Patience()
        self.process: subprocess.Popen[bytes] | _Fork | None = None
        self.due: float | None = 0.0
        self._command = command
        self._entry = entry
        self._started = 0.0

    def start(self, ledger: Ledger) -> None:
        self.due = None
        self.notes.restart(ledger.orders)
        self._started = time.monotonic()
        if self._entry is not None:
            self.process = _Fork(self._entry, self._command, self.notes.fd)
            return
        environment = {**os.environ, NOTES_VARIABLE: str(self.notes.fd)}
        self.process = subprocess.Popen(self._command, env=environment, pass_fds=(self.notes.fd,))  # noqa: S603 - ours

    def died(self) -> Death | None:
        """Its death, told once."""
        if self.process is None or self.process.poll() is None:
            return None
        code, self.process = self.process.returncode, None
        return Death(code, time.monotonic() - self._started, *self.notes.last())

    def terminate(self) -> None:
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process.pid, signal.SIGTERM)


class _Supervisor:
    """Sleeps until a signal (a worker's end is one, too) or until a worker is due."""

    def __init__(self, commands: Sequence[Sequence[str]], entry: Entry | None) -> None:
        self._workers = [_Worker(index, command, entry) for index, command in enumerate(commands)]
        self._ledger = Ledger()
        self._stopping = False
        self._code = 0

    def run(self) -> int:
        """Until all are done or have been asked to stop."""
        with self._awake_at_signals() as wake:
            try:
                while self._step():
                    select.select([wake], [], [], self._seconds_left())
                    with contextlib.suppress(BlockingIOError):
                        os.read(wake, 4096)
            finally:
                self._stop()
                for worker in self._workers:
                    worker.notes.close()
        return self._code

    def _step(self) -> bool:
        """Start what is due, bury what is dead; whether there is anything left to wait for."""
        for worker in self._workers:
            if worker.due is not None and worker.due <= time.monotonic() and not self._stopping:
                worker.start(self._ledger)
                if self._stopping:  # the signal came while it was started
                    worker.terminate()
            if death := worker.died():
                self._bury(worker, death)
        return any(worker.process or (worker.due is not None and not self._stopping) for worker in self._workers)

    def _bury(self, worker: _Worker, death: Death) -> None:
        if self._stopping:
            self._code = self._code or (0 if death.code in _ASKED_TO_STOP else death.exit_code)
            return
        if death.code == 0:
            return
        pause = worker.patience.pause(death, self._ledger.enter(death))
        if pause is not None:
            _log(worker, death, pause)
            worker.due = time.monotonic() + pause
            return
        if worker.patience.in_vain:
            times = f"{worker.patience.in_vain} times without getting any further"
            sys.stderr.write(f"error: worker {worker.index} died {times}, of {death} at last: giving up\n")
        self._code = death.exit_code
        self._stop()

    def _stop(self) -> None:
        self._stopping = True
        for worker in self._workers:
            worker.terminate()

    def _seconds_left(self) -> float | None:
        due = [worker.due for worker in self._workers if worker.due is not None]
        return max(0.0, min(due) - time.monotonic()) if due and not self._stopping else None

    @contextlib.contextmanager
    def _awake_at_signals(self) -> Iterator[int]:
        """A descriptor that can be read after any signal."""
        wake, noticed = os.pipe()
        os.set_blocking(wake, False)
        os.set_blocking(noticed, False)
        handlers = {number: signal.signal(number, lambda *_: self._stop()) for number in _FORWARDED}
        handlers[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, lambda *_: None)
        before = signal.set_wakeup_fd(noticed, warn_on_full_buffer=False)
        try:
            yield wake
        finally:
            signal.set_wakeup_fd(before)
            for number, handler in handlers.items():
                signal.signal(number, handler)
            os.close(wake)
            os.close(noticed)


def _log(worker: _Worker, death: Death, pause: float) -> None:
    """One JSON line, as the workers log; the parent has no logger, so that it is small and quickly there."""
    import json
    from datetime import UTC, datetime

    at = [f"{p.topic}[{p.partition}] {p.first}-{p.stop}" for p in death.batch] if death.computing else []
    line = {
        "worker": worker.index,
        "of": str(death),
        "computing": at,
        "restart_in_seconds": pause,
        "event": "worker died",
        "level": "error",
        "timestamp": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
    }
    sys.stderr.write(json.dumps(line) + "\n")
    sys.stderr.flush()
