"""Columns of deduplication entries."""

from __future__ import annotations

__all__ = ["Entries", "new_entries"]

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]


class Entries(NamedTuple):
    """Columns of entries, in order of arrival."""

    lo: U64
    hi: U64
    digest: I64
    time: I64
    action: npt.NDArray[np.uint8]

    def take(self, at: I64) -> Entries:
        """A copy of the entries at `at`."""
        return Entries(self.lo[at], self.hi[at], self.digest[at], self.time[at], self.action[at])

    def part(self, begin: int, end: int) -> Entries:
        """The entries begin..end, not copied."""
        return Entries(
            self.lo[begin:end], self.hi[begin:end], self.digest[begin:end], self.time[begin:end], self.action[begin:end]
        )

    def put(self, at: I64 | slice, new: Entries) -> None:
        """Write `new` at `at`."""
        self.lo[at], self.hi[at], self.digest[at] = new.lo, new.hi, new.digest
        self.time[at], self.action[at] = new.time, new.action


def new_entries(size: int) -> Entries:
    """`size` entries of zeros."""
    lo, hi = np.zeros((2, size), np.uint64)
    digest, time = np.zeros((2, size), np.int64)
    return Entries(lo, hi, digest, time, np.zeros(size, np.uint8))
