"""Distinct values of a window, and whether a value is new to it: rows in order.

An entry keeps the hash of its value, and the positions of the previous and the next entry with the same hash in
its key's ring. Entries that do not count have previous = NOTHING and next = NONE. The distinct values of low..high
are the entries in it whose previous lies below `low`; from one row to the next that count changes by

    + entries that enter at `high` and whose previous lies below the old `low`
    - entries that leave at `low` and whose next is not below the new `high`

so each entry costs twice, whatever the window's length. Links into old entries are saved for undo first.
"""

from __future__ import annotations

__all__ = ["Linker"]

import numpy as np
import numpy.typing as npt

from operators.windows.edges import View
from operators.windows.frame import COUNTED, KNOWN, NOTHING, Frame
from operators.windows.hashes import NONE, Finder, Rings, counted_sum
from operators.windows.layout import I64, NOT_DELAYED, Lookup
from state.ring import Ring
from state.table import KeyedTable


class Linker:
    """Links the rows of one hash column to each other and to the ring, for rows in order."""

    def __init__(self, table: KeyedTable, frame: Frame, number: int, rings: Rings) -> None:
        layout = frame.layout
        self.frame, self.table = frame, table
        self.alone = len(frame.unique) == frame.size  # no two rows have a key
        self.column = layout.hash_column + 3 * number
        self.value = frame.hashes[number]
        self.counted = (frame.states[number] & COUNTED) > 0
        self.known = (frame.states[number] & KNOWN) > 0
        self.finder = Finder(table, frame.unique, rings, self.column)
        self.earlier, self.later = self._link()
        self.previous = np.full(frame.size, NONE)
        ask = (self.known & (self.earlier < 0 if not layout.precision else True)).nonzero()[0]
        self.previous[ask] = self.finder.find(frame.group[ask], self.value[ask])

    def new(self) -> npt.NDArray[np.bool_]:
        """Rows whose hash is new to their bucket. Only they count from now on: see buckets.py."""
        frame, ring = self.frame, self.finder.ring
        clock = frame.clock
        inside = self.earlier >= 0
        old = (self.previous >= 0).nonzero()[0]
        group = frame.group[old]
        at = self.finder.off[group] + (self.previous[old] & self.finder.mask[group])
        out: npt.NDArray[np.bool_] = self.counted & ~(inside & (clock[self.earlier] == clock))
        out[old[ring.entries[at, 0] == clock[old]]] = False
        self.counted = out
        self.earlier, self.later = self._link()
        return out

    def place(self, heads: I64, view: View, own: I64, added: I64) -> None:
        """Where the rows lie: the heads (keys, 4), `own` position (rows); how many entries a key gets."""
        self.heads, self.view, self.own, self.added = heads, view, own, added
        if self.alone:
            return
        inside = self.earlier >= 0
        self.previous[inside] = own[self.earlier[inside]]

    def _link(self) -> tuple[I64, I64]:
        """Row numbers of the last counted row before and the next one after, same key and hash; NONE."""
        frame = self.frame
        if self.alone:
            return np.full(frame.size, NONE), np.full(frame.size, NONE)
        order = np.lexsort((self.value, frame.group))
        group, value = frame.group[order], self.value[order]
        new = np.ones(frame.size, np.bool_)
        new[1:] = (group[1:] != group[:-1]) | (value[1:] != value[:-1])
        at = np.arange(frame.size)
        begin = np.maximum.accumulate(np.where(new, at, 0))
        last = np.maximum.accumulate(np.where(self.counted[order], at, NONE))
        before = np.concatenate(([NONE], last[:-1]))
        fits = before >= begin
        earlier, later = np.full(frame.size, NONE), np.full(frame.size, NONE)
        earlier[order[fits]] = order[before[fits]]
        linked = (self.counted & (earlier >= 0)).nonzero()[0]
        later[earlier[linked]] = linked
        return earlier, later

    def fill(self, entries: I64) -> None:
        """The hash columns of the new entries (rows, width)."""
        column, later = self.column, self.later
        entries[:, column] = self.value
        entries[:, column + 1] = np.where(self.counted, self.previous, NOTHING)
        following = NOTHING if self.alone else np.where(later >= 0, self.own[later], NOTHING)
        entries[:, column + 2] = np.where(self.counted, following, NONE)

    def join(self, ring: Ring) -> None:
        """Old entries learn of their next one; the index of long rings too. After `fill` was written."""
        frame = self.frame
        off, mask, start, stop = self.heads.T
        first = (self.counted & (self.earlier < 0) & (self.previous >= start[frame.group])).nonzero()[0]
        first = first[self.previous[first] >= 0]
        if first.size:
            group = frame.group[first]
            at = off[group] + (self.previous[first] & mask[group])
            lowest = stop.copy()
            np.minimum.at(lowest, group, self.previous[first])
            ring.changed_from(frame.unique, lowest)
            ring.save(at)
            ring.entries[at, self.column + 2] = self.own[first]
        if not self.finder.indices:
            return
        rows = self.counted.nonzero()[0]
        count = np.bincount(frame.group[rows], minlength=len(frame.unique))
        newest = frame.time[frame.last]
        begin, stop = count.cumsum() - count, stop + self.added
        self.finder.moved(begin, count, self.value[rows], self.own[rows], stop=stop, newest=newest)

    def distinct(self, lookup: Lookup, edges: I64, tails: I64, stored: I64) -> I64:
        """Distinct values of each row's window; `tails` (edges, keys), `stored` (keys): the newest row's before."""
        frame, group = self.frame, self.frame.group
        stop = self.heads[:, 3]
        low, high = lookup.window
        new_low = edges[low]
        old_low = _before(frame, new_low, tails[low])
        new_high = self.own + 1 if high == NOT_DELAYED else edges[high]
        old_high = _before(frame, new_high, stop if high == NOT_DELAYED else tails[high])
        if high == NOT_DELAYED:
            entering = (self.counted & (self.previous < old_low)).astype(np.int64)
        else:
            entering = counted_sum(self.view, old_high, new_high, column=self.column + 1, bound=old_low, above=False)
        leaving = counted_sum(self.view, old_low, new_low, column=self.column + 2, bound=new_high, above=True)
        change = (entering - leaving).cumsum()
        found: I64 = change + (stored - np.concatenate(([0], change))[frame.first])[group]
        return found

    def counter(self, lookup: Lookup, view: View, edges: I64, tails: I64, stored: I64) -> I64:
        """`distinct` of each key's last row alone: `view`, `edges` and `tails` by key; one step over all its rows."""
        low, high = lookup.window
        stop = self.heads[:, 3]
        old_high, new_high = (stop, stop + self.added) if high == NOT_DELAYED else (tails[high], edges[high])
        entering = counted_sum(view, old_high, new_high, column=self.column + 1, bound=tails[low], above=False)
        leaving = counted_sum(view, tails[low], edges[low], column=self.column + 2, bound=new_high, above=True)
        counter: I64 = stored + entering - leaving
        return counter

    def first_seen(self, lookup: Lookup, edges: I64) -> I64:
        """1 where the row's value is known and not among its window's earlier rows."""
        low, high = lookup.window
        position = self.previous
        if high != NOT_DELAYED:
            position = walk(self.view, position, edges[high], self.column)
        fresh: I64 = (self.known & (position < edges[low])).astype(np.int64)
        return fresh


def walk(view: View, position: I64, high: I64, column: int) -> I64:
    """Follow `previous` from `position` until it lies below `high`."""
    position = position.copy()
    while (live := (position >= high).nonzero()[0]).size:
        position[live] = view.of(live).read(position[live], column + 1)
    return position


def _before(frame: Frame, values: I64, stored: I64) -> I64:
    """Each row's predecessor's value; `stored` (keys) before the first."""
    out = np.empty(frame.size, np.int64)
    out[1:] = values[:-1]
    out[frame.first] = stored
    return out
