"""Worker processes of one `run`: they live in its process group and die with it."""

from __future__ import annotations

__all__ = ["die_with_parent", "supervise"]

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from types import FrameType

_PR_SET_PDEATHSIG = 1
_POLL_SECONDS = 0.5
_FORWARDED = (signal.SIGTERM, signal.SIGINT)


def die_with_parent(parent: int) -> None:
    """Let the kernel kill this process (SIGKILL: a crash, nothing half done stays) once process `parent` is gone."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    else:
        threading.Thread(target=_watch, args=(parent,), daemon=True, name="parent").start()
    if os.getppid() != parent:  # it was faster
        os._exit(1)


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_POLL_SECONDS)
    os._exit(1)


def supervise(commands: Sequence[Sequence[str]]) -> int:
    """Start one process a command and wait for all; SIGTERM and SIGINT are passed on.

    If one fails, the others are asked to finish. The exit code is that of the first to fail (128 + signal number
    for one that was killed), else 0.
    """
    stopping = False

    def stop(signum: int, frame: FrameType | None) -> None:
        nonlocal stopping
        stopping = True
        _terminate(workers)

    workers: list[subprocess.Popen[bytes]] = []
    before = {number: signal.signal(number, stop) for number in _FORWARDED}
    code = 0
    try:
        for command in commands:
            workers.append(subprocess.Popen(command))  # noqa: S603 - our own command line
            if stopping:  # the signal came between two starts
                _terminate(workers)
        left = {worker.pid: worker for worker in workers}
        while left:
            pid, status = os.waitpid(-1, 0)
            worker = left.pop(pid, None)
            if worker is None:
                continue
            worker.returncode = os.waitstatus_to_exitcode(status)
            if worker.returncode and not code:
                code = worker.returncode if worker.returncode > 0 else 128 - worker.returncode
                _terminate(list(left.values()))
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _terminate([worker for worker in workers if worker.returncode is None])
    return code


def _terminate(workers: Sequence[subprocess.Popen[bytes]]) -> None:
    for worker in workers:
        if worker.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker.pid, signal.SIGTERM)
