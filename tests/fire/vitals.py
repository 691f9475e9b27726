"""What a process takes of the machine, from outside, and what it says of itself."""

from __future__ import annotations

__all__ = ["Vitals", "readiness"]

import os
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Self

_TICK_S = 0.1
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Vitals:
    """Samples a process while the block runs: its largest memory and number of open files, its processor time."""

    def __init__(self, pid: int) -> None:
        self._proc = Path(f"/proc/{pid}")
        self.pid = pid
        self.rss_mb_max = 0.0
        self.files_max = 0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.first = self.rss_mb, self.files, self.sockets
        self._begun = time.monotonic(), self.cpu_s

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    @property
    def rss_mb(self) -> float:
        """Memory that it has now."""
        pages = int((self._proc / "statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    @property
    def files(self) -> int:
        """Open files, sockets too."""
        return len(list((self._proc / "fd").iterdir()))

    @property
    def sockets(self) -> int:
        """Those of the open files that are connections. A store's files come and go with flushes and compactions."""
        return sum(_target(file).startswith("socket:") for file in (self._proc / "fd").iterdir())

    @property
    def cpu_s(self) -> float:
        """Processor time so far."""
        fields = (self._proc / "stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S

    def cpu_share(self) -> float:
        """Of one processor, since the last call."""
        before, self._begun = self._begun, (time.monotonic(), self.cpu_s)
        return (self._begun[1] - before[1]) / (self._begun[0] - before[0])

    def _watch(self) -> None:
        while not self._end.wait(_TICK_S):
            try:
                self.rss_mb_max = max(self.rss_mb_max, self.rss_mb)
                self.files_max = max(self.files_max, self.files)
            except OSError:  # it has ended
                return


def _target(link: Path) -> str:
    try:
        return os.readlink(link)
    except FileNotFoundError:
        return ""  # closed by now


def readiness(port: int) -> int:
    """The status of /ready; 0: nobody answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0
