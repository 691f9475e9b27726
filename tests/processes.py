"""Commands in processes of their own, without the second that their imports take: forks of a process that has imported
everything (`tests.fork_server`).

A fork is a process as any other: its own pid, memory, descriptors, environment, folder and session, a child of the
test's process; it runs the module from its first line, is killed, stopped and waited for, and ends as an interpreter.
What differs from `python -m`:
- modules are imported already, but for the one that is run;
- the hash seed is its server's; there are two, in turn, so that a command has another one than when it last ran;
- libraries have read their variables of the environment when they were imported, and OpenBLAS has one thread;
- its command line is the server's, in `ps` too.

Tests of imports, machine code, or what a start does first have real processes, and so have commands that are seldom
started: the others are started by `python -m` for a page of documentation (tests/docs/test_tutorial.py).
"""

from __future__ import annotations

__all__ = ["Process", "run"]

import atexit
import ctypes
import itertools
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from tests.fork_server import Order

ROOT = Path(__file__).parents[1]
_PR_SET_CHILD_SUBREAPER = 36
_REPLY_BYTES_MAX = 32
_SINGLE_THREADED = {"OPENBLAS_NUM_THREADS": "1", "JE_ARROW_MALLOC_CONF": "background_thread:false"}
"""A process that forks must have no threads."""
_ONE_AT_A_TIME = threading.Lock()
"""Of threads: else they got each other's pids, and adopted no orphans where another one had just done so."""


class _Server:
    """A process to fork from; it lives as long as this one."""

    def __init__(self) -> None:
        self._orders, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("NUMBA_", "PYTHONHASHSEED"))}
        with theirs:
            number = theirs.fileno()
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.fork_server", str(number)], cwd=ROOT, env=kept | _SINGLE_THREADED,
                pass_fds=[number], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            )  # fmt: skip
        atexit.register(self._end)

    def fork(self, order: Order, descriptors: Sequence[int]) -> int:
        """The pid of a child of this process, which has begun."""
        _adopt_orphans(True)
        try:
            socket.send_fds(self._orders, [msgspec.json.encode(order)], descriptors)
            pid = self._orders.recv(_REPLY_BYTES_MAX)
        finally:
            _adopt_orphans(False)
        assert pid, "the fork server has died: see stderr"
        return int(pid)

    def _end(self) -> None:
        self._orders.close()
        self._process.wait()


def _adopt_orphans(wanted: bool) -> None:
    """Whether this process becomes the parent of its grandchildren when their parent dies."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, int(wanted))


@cache
def _servers() -> tuple[_Server, _Server]:
    return _Server(), _Server()


@cache
def _turns(module: str, command: str | None) -> Iterator[_Server]:
    return itertools.cycle(_servers())


class _Forked(subprocess.Popen[str]):
    """A Popen of `[sys.executable, "-m", MODULE, ...]` in all but how its process comes to be."""

    def _execute_child(
        self, args: Sequence[str], executable: object, preexec_fn: object, close_fds: bool, pass_fds: Sequence[int],
        cwd: str | os.PathLike[str] | None, env: dict[str, str] | None, startupinfo: object, creationflags: int,
        shell: bool, *more: Any,
    ) -> None:  # fmt: skip
        assert not any((executable, preexec_fn, pass_fds, shell)), "a fork has none of these"
        python, flag, module, *arguments = args
        assert (python, flag) == (sys.executable, "-m")
        stdin, _, _, stdout, _, stderr, *_, new_session, _ = more
        environment = dict(os.environ if env is None else env)
        order = Order(module, arguments, os.path.abspath(cwd or "."), environment, new_session)
        given = [own if own != -1 else inherited for inherited, own in enumerate((stdin, stdout, stderr))]
        try:
            with _ONE_AT_A_TIME:
                self.pid = next(_turns(module, next(iter(arguments), None))).fork(order, given)
            self._child_created = True
        finally:
            self._close_pipe_fds(*more[:6])  # type: ignore[attr-defined]


Process = _Forked if sys.platform == "linux" else subprocess.Popen


def run(command: Sequence[str], *, timeout: float | None = None, **options: Any) -> subprocess.CompletedProcess[str]:
    """What `subprocess.run` does with `capture_output=True, text=True`."""
    with Process(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options) as process:
        try:
            out, err = process.communicate(timeout=timeout)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(command, process.returncode, out, err)
