"""One run that dies at a place: for campaigns whose feed comes in pieces, one before each kill."""

from __future__ import annotations

__all__ = ["killed"]

import os
import signal
import sys
from pathlib import Path

from tests.exactly_once.victim import MODULE
from tests.exactly_once.worlds import ROOT
from tests.processes import Process


def killed(folder: Path, number: int, place: str, *options: object) -> bool:
    """A run that dies at a place, with all its processes; False: it came to the end before."""
    marks = folder / f"marks-{number}"
    command = [MODULE, "--marks", marks, "--place", place, "--", *options]
    with (folder / "processes.log").open("ab") as log:
        words = [sys.executable, "-m", *map(str, command)]
        process = Process(words, cwd=ROOT, stderr=log, start_new_session=True)
        try:
            code = process.wait(240)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    assert code in (0, -signal.SIGKILL), (folder / "processes.log").read_text()[-3000:]
    return code != 0
