"""Deduplication entries: their columns, and the log that numbers them.

The log lies in chunks, which are taken as it grows and given back as its beginning expires. An entry never moves, so
growing costs nothing but the new chunk.
"""

from __future__ import annotations

__all__ = ["Entries", "EntryLog"]

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from state.pages import Pages

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]
_BITS = 10
_CHUNK = 1 << _BITS
_ENTRY_BYTES = 33


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


class EntryLog:
    """Entries by number; `first <= number < stop` are there. Entry n lies at `at(n)` of `columns`."""

    def __init__(self, first: int = 0) -> None:
        self.first = self.stop = first
        self._u64 = [Pages(np.uint64, _CHUNK) for _ in range(2)]
        self._i64 = [Pages(np.int64, _CHUNK) for _ in range(2)]
        self._u8 = Pages(np.uint8, _CHUNK)
        self._made = 0  # chunks there are
        self._free: list[int] = []
        self._origin = first >> _BITS  # number // _CHUNK of the first chunk in use
        self._begins = np.empty(16, np.int64)  # where chunks in use begin
        self._used = 0
        self.columns = self._columns()
        self.arrays = self._arrays()

    def __len__(self) -> int:
        return self.stop - self.first

    @property
    def bytes(self) -> int:
        """Memory in use."""
        return self._made * _CHUNK * _ENTRY_BYTES

    def at(self, numbers: I64) -> I64:
        """Where in `columns` entries lie; of numbers from `first` up to what was reserved."""
        places: I64 = self._begins[(numbers >> _BITS) - self._origin] + (numbers & (_CHUNK - 1))
        return places

    def place(self, number: int) -> int:
        """`at` of one entry."""
        begin: int = self._begins.item((number >> _BITS) - self._origin)
        return begin + (number & (_CHUNK - 1))

    @property
    def origin(self) -> int:
        """Number // 1024 of the first entry's chunk."""
        return self._origin

    def reserve(self, count: int) -> None:
        """Room for `count` more entries; hold no `arrays` over it."""
        chunks = (self.stop + count - 1 >> _BITS) - self._origin + 1
        if chunks > self._used:
            self._take(chunks - self._used)

    def put(self, entries: Entries) -> None:
        """Append entries there is room for."""
        done, count = 0, len(entries.lo)
        while done < count:
            size = min(count - done, _CHUNK - (self.stop & (_CHUNK - 1)))
            begin = self.place(self.stop)
            self.columns.put(slice(begin, begin + size), entries.part(done, done + size))
            self.stop += size
            done += size

    def put_one(self, lo: int, hi: int, digest: int, time: int) -> None:
        """Append an entry without an action yet."""
        at, columns = self.place(self.stop), self.columns
        columns.lo[at], columns.hi[at], columns.digest[at] = lo, hi, digest
        columns.time[at], columns.action[at] = time, 0
        self.stop += 1

    def truncate(self, stop: int) -> None:
        """Entries from `stop` on were never there."""
        self.stop = stop

    def drop(self, first: int) -> None:
        """Entries below `first` are no longer there; their chunks are used again."""
        self.first = first
        gone = (first >> _BITS) - self._origin
        if gone > 0:
            self._free += self._begins[: min(gone, self._used)].tolist()
            self._used = max(0, self._used - gone)
            self._begins = self._begins[gone : gone + self._used].copy()
            self._origin += gone
            self.arrays = self._arrays()

    def _take(self, count: int) -> None:
        made = max(0, count - len(self._free))
        if made:
            self.columns, self.arrays = self.columns.take(np.empty(0, np.int64)), ()
            size = (self._made + made) * _CHUNK
            for words in self._u64:
                words.reserve(size)
            for numbers in self._i64:
                numbers.reserve(size)
            self._u8.reserve(size)
            self.columns = self._columns()
            self._free += [number * _CHUNK for number in range(self._made, self._made + made)]
            self._made += made
        if self._used + count > len(self._begins):
            begins = np.empty(2 * (self._used + count), np.int64)
            begins[: self._used] = self._begins[: self._used]
            self._begins = begins
        self._begins[self._used : self._used + count] = self._free[:count]
        del self._free[:count]
        self._used += count
        self.arrays = self._arrays()

    def _arrays(self) -> tuple[npt.NDArray[Any], ...]:
        """For loops: where chunks in use begin, and the columns, hashes by their bits."""
        lo, hi, digest, time, action = self.columns
        return self._begins, lo.view(np.int64), hi.view(np.int64), digest, time, action

    def _columns(self) -> Entries:
        lo, hi = (pages.array for pages in self._u64)
        digest, time = (pages.array for pages in self._i64)
        return Entries(lo, hi, digest, time, self._u8.array)
