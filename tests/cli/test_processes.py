"""Workers live in their parent's process group and die with it; test_supervision.py has what follows from deaths."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from streamproc.cli import restarts
from streamproc.cli.processes import supervise

SUPERVISOR = """
import sys
from streamproc.cli.processes import supervise
worker = '''
import os, signal, sys, time
from streamproc.cli.processes import die_with_parent
die_with_parent(int(sys.argv[1]))
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
os.write(1, (b'%d %d' + bytes([10])) % (os.getpid(), os.getpgrp()))
time.sleep(30)
'''
import os
sys.exit(supervise([[sys.executable, "-c", worker, str(os.getpid())] for _ in range(2)]))
"""


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


@pytest.fixture
def supervisor() -> subprocess.Popen[str]:
    return subprocess.Popen(python(SUPERVISOR), stdout=subprocess.PIPE, text=True, start_new_session=True)


def workers(supervisor: subprocess.Popen[str]) -> list[int]:
    assert supervisor.stdout is not None
    found = [list(map(int, supervisor.stdout.readline().split())) for _ in range(2)]
    assert {group for _, group in found} == {os.getpgid(supervisor.pid)}
    return [pid for pid, _ in found]


def gone(pid: int) -> bool:
    """No process, or one that only waits for its parent's wait."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        time.sleep(0.01)
    return False


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_workers_die_with_a_killed_parent(supervisor: subprocess.Popen[str]) -> None:
    found = workers(supervisor)
    supervisor.kill()
    supervisor.communicate()
    assert all(gone(pid) for pid in found)


def test_sigterm_is_passed_on(supervisor: subprocess.Popen[str]) -> None:
    workers(supervisor)
    supervisor.terminate()
    supervisor.communicate(timeout=20)
    assert supervisor.returncode == 0


def test_all_are_awaited() -> None:
    assert supervise([python("pass"), python("import time; time.sleep(0.2)")]) == 0


def test_the_first_to_fail_ends_all_and_names_the_exit_code() -> None:
    started = time.monotonic()
    assert supervise([python("import time; time.sleep(30)"), python("raise SystemExit(2)")]) == 2
    assert time.monotonic() - started < 20


def test_a_worker_that_is_always_killed_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restarts, "_PAUSE_MAX_SECONDS", 0.01)
    assert supervise([python("import os; os.kill(os.getpid(), 9)")]) == 128 + signal.SIGKILL
