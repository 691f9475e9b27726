"""A forked process is, to who started it and to itself, as one that was executed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.processes import Process, run

TELLS = """
import atexit, json, os, sys, threading
threading.Thread(target=lambda: print("a thread", file=sys.stderr)).start()
atexit.register(lambda: print("the end", file=sys.stderr))
told = {
    "name": __name__, "arguments": sys.argv[1:], "folder": os.getcwd(), "first": sys.path[0], "stdin": sys.stdin.read(),
    "environment": dict(os.environ), "parent": os.getppid(), "leads": os.getsid(0) == os.getpid(),
    "descriptors": sorted(map(int, os.listdir("/proc/self/fd")))[:-1], "hash": hash("a"),
}
print(json.dumps(told))
sys.exit(int(sys.argv[1]))
"""
COMMAND = [sys.executable, "-m", "tells"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tells.py").write_text(TELLS)
    return tmp_path


@pytest.mark.parametrize("start", [Process, subprocess.Popen])
def test_it_is_what_was_asked_for(start: Callable[..., subprocess.Popen[str]], folder: Path) -> None:
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    environment = {"COLOUR": "blue", "PYTHONPATH": "/nowhere"}
    with start(
        [*COMMAND, "3", "é"], cwd=folder, env=environment, start_new_session=True, text=True, **pipes
    ) as process:  # fmt: skip
        out, err = process.communicate("given", timeout=60)
    told = json.loads(out)
    assert told.pop("environment").items() >= environment.items()
    assert isinstance(told.pop("hash"), int)
    assert told == {
        "name": "__main__", "arguments": ["3", "é"], "folder": str(folder), "first": str(folder), "stdin": "given",
        "parent": os.getpid(), "leads": True, "descriptors": [0, 1, 2],
    }  # fmt: skip
    assert sorted(err.splitlines()) == ["a thread", "the end"]
    assert process.returncode == 3


def test_its_environment_is_the_given_one_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLOUR", "red")
    inherits = json.loads(run([*COMMAND, "0"], cwd=folder, stdin=subprocess.DEVNULL).stdout)
    has_none = json.loads(run([*COMMAND, "0"], cwd=folder, stdin=subprocess.DEVNULL, env={}).stdout)
    assert inherits["environment"] == dict(os.environ)
    assert has_none["environment"] == {}
    assert inherits["hash"] != has_none["hash"]
    assert not inherits["leads"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it(folder: Path, number: signal.Signals) -> None:
    with Process([*COMMAND, "0"], cwd=folder, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.poll() is None
        process.send_signal(number)
        assert process.wait(60) == -number


def test_who_cannot_be_as_asked_ends_with_an_error(folder: Path) -> None:
    done = run([*COMMAND, "0"], cwd=folder / "nowhere")
    assert done.returncode == 1
    assert "FileNotFoundError" in done.stderr


def test_threads_may_start_them_at_once(folder: Path) -> None:
    def ended(code: int) -> int:
        return run([*COMMAND, str(code)], cwd=folder, stdin=subprocess.DEVNULL).returncode

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(ended, range(8))) == [*range(8)]


def test_who_takes_too_long_is_killed(folder: Path) -> None:
    read, write = os.pipe()
    with os.fdopen(read) as stdin, os.fdopen(write), pytest.raises(subprocess.TimeoutExpired):
        run([*COMMAND, "0"], cwd=folder, stdin=stdin, timeout=0.1)
