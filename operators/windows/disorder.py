"""Distinct values and first_seen for keys with late rows, and the links' repair when a chunk is merged.

A row's window is a static part low..high of the ring and earlier rows of the chunk. Distinct values: the static
entries whose previous lies below `low` (counted entry by entry: this costs the window's length, unlike in order),
and those hashes of the chunk's rows in the window that do not occur in the static part: their newest position is
followed down until it is below `high`, and then must be at or above `low`.
"""

from __future__ import annotations

__all__ = ["Disorder"]

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from operators.windows.distinct import walk
from operators.windows.edges import View
from operators.windows.frame import COUNTED, KNOWN, NOTHING
from operators.windows.hashes import NONE, Finder, Rings, counted_sum
from operators.windows.layout import I64, NOT_DELAYED, Lookup

if TYPE_CHECKING:
    from operators.windows.late import Chunk
    from operators.windows.merge import Weave


class Disorder:
    """One hash column of a chunk."""

    def __init__(self, chunk: Chunk, number: int) -> None:
        frame = chunk.frame
        self.chunk, self.frame = chunk, frame
        self.column = chunk.layout.hash_column + 3 * number
        self.value = frame.hashes[number]
        self.counted = (frame.states[number] & COUNTED) > 0
        self.known = (frame.states[number] & KNOWN) > 0
        rings = Rings.of(chunk.layout, chunk.heads, chunk.row)
        self.finder = Finder(chunk.table, frame.unique, rings, np.array([self.column]))
        self.newest = self.finder.find(frame.group, self.value[None], self.known[None])[0]

    def new(self) -> npt.NDArray[np.bool_]:
        """Rows in order whose hash is new to their bucket. Of such rows only a new one counts from now on, as in
        `Links.new`.
        """
        chunk, frame = self.chunk, self.frame
        again = (self.newest >= 0) & (chunk.view.read(np.maximum(self.newest, 0)) == frame.clock)
        rows = np.flatnonzero(self.counted)
        ordered = rows[np.lexsort((rows, frame.clock[rows], self.value[rows], frame.group[rows]))]
        key = np.stack((frame.group, self.value, frame.clock))[:, ordered]
        again[ordered[1:]] |= (key[:, 1:] == key[:, :-1]).all(axis=0)
        self.counted = self.counted & (chunk.behind | ~again)
        fresh: npt.NDArray[np.bool_] = self.counted & ~chunk.behind
        return fresh

    def _window(self, lookup: Lookup) -> tuple[I64, I64, npt.NDArray[np.bool_]]:
        """Static low and high of each row; which pairs lie in the window and count."""
        chunk = self.chunk
        low, high = lookup.window
        within = chunk.below[high] & ~chunk.below[low] & self.counted[chunk.first]
        return chunk.edges[low], chunk.own if high == NOT_DELAYED else chunk.edges[high], within

    def distinct(self, lookup: Lookup) -> I64:
        """Distinct values of each row's window."""
        chunk, frame = self.chunk, self.frame
        low, high, within = self._window(lookup)
        static = counted_sum(chunk.view, low, high, column=self.column + 1, bound=low, above=False)
        second, first = chunk.second[within], chunk.first[within]
        if lookup.window.hi == NOT_DELAYED:
            own = np.flatnonzero(self.counted)
            second, first = np.concatenate((second, own)), np.concatenate((first, own))
        position = walk(chunk.view.of(second), self.newest[first], high[second], self.column)
        fresh = position < low[second]
        second, value = second[fresh], self.value[first[fresh]]
        order = np.lexsort((value, second))
        second, value = second[order], value[order]
        new = np.ones(len(second), np.bool_)
        new[1:] = (second[1:] != second[:-1]) | (value[1:] != value[:-1])
        return static + np.bincount(second[new], minlength=frame.size)

    def first_seen(self, lookup: Lookup) -> I64:
        """1 where the row's value is known and not among its window's earlier rows."""
        chunk = self.chunk
        low, high, within = self._window(lookup)
        within &= self.value[chunk.first] == self.value[chunk.second]
        position = walk(chunk.view, self.newest, high, self.column)
        seen = (position >= low) | (chunk.per_row(within[None])[0] > 0)
        fresh: I64 = (self.known & ~seen).astype(np.int64)
        return fresh

    # ---- merging

    def repair(self, weave: Weave, entries: I64) -> None:
        """Links of the merged entries anew, and of the last entries before them. Before they are written."""
        chunk, frame, column = self.chunk, self.frame, self.column
        rows = weave.rows
        begin = weave.at[weave.key]  # first merged position of each entry's key
        counted = entries[:, column + 1] != NOTHING
        counted[weave.new] = self.counted[rows]
        outside = entries[:, column + 1].copy()
        outside[weave.new] = self.newest[rows]
        outside[outside >= begin] = NONE
        entries[weave.new, column] = self.value[rows]
        entries[:, column + 1] = np.where(counted, NONE, NOTHING)
        entries[:, column + 2] = np.where(counted, NOTHING, NONE)
        at = np.flatnonzero(counted)
        at = at[np.lexsort((at, entries[at, column], weave.key[at]))]
        if not at.size:
            self._index(weave, entries, at)
            return
        key, value = weave.key[at], entries[at, column]
        new = np.ones(len(at), np.bool_)
        new[1:] = (key[1:] != key[:-1]) | (value[1:] != value[:-1])
        starts = np.flatnonzero(new)
        entries[at[1:], column + 1] = weave.position[at[:-1]]
        entries[at[:-1], column + 2] = weave.position[at[1:]]
        last = np.append(starts[1:], len(at)) - 1
        entries[at[last], column + 2] = NOTHING
        before = np.maximum.reduceat(outside[at], starts)
        entries[at[starts], column + 1] = before
        found = np.flatnonzero(before >= chunk.heads[key[starts], 2])
        off, mask, _, _ = chunk.heads[key[starts[found]]].T
        index = off + (before[found] & mask)
        lowest = weave.at.copy()
        np.minimum.at(lowest, key[starts[found]], before[found])
        chunk.ring.changed_from(frame.unique, lowest)
        chunk.ring.save(index)
        chunk.ring.entries[index, column + 2] = weave.position[at[starts[found]]]
        self._index(weave, entries, np.sort(at))

    def _index(self, weave: Weave, entries: I64, at: I64) -> None:
        """The index of long rings: positions from the first merged one on have changed."""
        chunk, frame = self.chunk, self.frame
        count = np.bincount(weave.key[at], minlength=len(frame.unique))
        stop = chunk.heads[:, 3] + weave.added
        newest = chunk.newest[frame.last]
        begin = np.cumsum(count) - count
        self.finder.moved(0, begin, count, entries[at, self.column], weave.position[at], stop=stop, newest=newest)

    def counters(self, weave: Weave) -> None:
        """The stored number of distinct values in the windows of each key's newest row. After all is written."""
        chunk, layout = self.chunk, self.chunk.layout
        off, mask, _, stop = chunk.heads.T
        view = View(chunk.view.flat, layout.width, off * layout.width, mask)
        for i, lookup in enumerate(layout.distinct):
            if layout.hash_column + 3 * lookup.column != self.column:
                continue
            low = chunk.row[:, layout.EDGES + lookup.window.lo]
            high = stop + weave.added
            if lookup.window.hi != NOT_DELAYED:
                high = chunk.row[:, layout.EDGES + lookup.window.hi]
            found = counted_sum(view, low, high, column=self.column + 1, bound=low, above=False)
            chunk.row[:, layout.distinct_field + i] = found
