"""Where a worker stands, in a file mapped into memory: it outlives the worker, so a killer can read it afterwards."""

from __future__ import annotations

__all__ = ["Mark", "Marks"]

import mmap
import os
import struct
import time
from pathlib import Path
from typing import NamedTuple

WORKERS_MAX = 8
_SLOT = struct.Struct("<B3xIQQdQ")


class Mark(NamedTuple):
    """`step` it is at, its process (0: none so far), `rows` of the batch at hand (0: none), `commits` so far, when the
    first was (monotonic, s), `replayed` transactions in its restores.
    """

    step: int
    pid: int
    rows: int
    commits: int
    first_commit: float
    replayed: int

    @property
    def busy(self) -> bool:
        """Past collecting, with rows that are not published yet."""
        return self.step > 1 and self.rows > 0


class Marks:
    """One mark a worker."""

    def __init__(self, path: Path) -> None:
        """Map the file, made if missing."""
        with path.open("ab") as file:
            file.truncate(WORKERS_MAX * _SLOT.size)
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), WORKERS_MAX * _SLOT.size)

    def read(self, worker: int) -> Mark:
        """The worker's mark."""
        return Mark(*_SLOT.unpack_from(self._map, worker * _SLOT.size))

    def started(self, worker: int) -> None:
        """This process is the worker."""
        struct.pack_into("<I", self._map, worker * _SLOT.size + 4, os.getpid())

    def child(self, worker: int, parent: int) -> int | None:
        """The process id of a worker that lives; its parent is given."""
        pid = self.read(worker).pid
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        return pid if str(pid) in children else None

    def step(self, worker: int, step: int) -> None:
        """The step begins."""
        self._map[worker * _SLOT.size] = step

    def rows(self, worker: int, rows: int) -> None:
        """So many rows are at hand."""
        struct.pack_into("<Q", self._map, worker * _SLOT.size + 8, rows)

    def committed(self, worker: int) -> None:
        """The batch is published, nothing is at hand."""
        mark = self.read(worker)
        first = mark.first_commit or time.monotonic()
        _SLOT.pack_into(self._map, worker * _SLOT.size, 1, mark.pid, 0, mark.commits + 1, first, mark.replayed)

    def replayed(self, worker: int, transactions: int) -> None:
        """A restore decided so many transactions again."""
        struct.pack_into("<Q", self._map, worker * _SLOT.size + 32, self.read(worker).replayed + transactions)

    def close(self) -> None:
        """Unmap."""
        self._map.close()
