"""Distinct values of a window, and whether a value is new to it: rows in order.

An entry keeps the hash of its value, and the positions of the previous and the next entry with the same hash in
its key's ring. Entries that do not count have previous = NOTHING and next = NONE. The distinct values of low..high
are the entries in it whose previous lies below `low`; from one row to the next that count changes by

    + entries that enter at `high` and whose previous lies below the old `low`
    - entries that leave at `low` and whose next is not below the new `high`

so each entry costs twice, whatever the window's length. Links into old entries are saved for undo first.
"""

from __future__ import annotations

__all__ = ["Links"]

import numpy as np
import numpy.typing as npt

from operators.windows.edges import View
from operators.windows.frame import COUNTED, KNOWN, NOTHING, Frame
from operators.windows.hashes import NONE, Finder, Rings, counted_sum
from operators.windows.layout import I64, NOT_DELAYED, Lookup
from state.ring import Ring
from state.table import KeyedTable

Mask = npt.NDArray[np.bool_]


class Links:
    """Links the rows to each other and to the ring, for rows in order; all hash columns together.

    (columns, rows): `value`, `counted`, `known`; `previous`: the position before with the same hash; `earlier` and
    `later`: numbers of such rows.
    """

    def __init__(self, table: KeyedTable, frame: Frame, rings: Rings) -> None:
        layout = frame.layout
        self.frame, self.table, self.layout = frame, table, layout
        self.alone = len(frame.unique) == frame.size  # no two rows have a key
        self.value = frame.hashes
        self.counted = (frame.states & COUNTED) > 0
        self.known = (frame.states & KNOWN) > 0
        self.finder = Finder(table, frame.unique, rings, layout.hash_columns)
        self.earlier, self.later = self._link()
        ask = self.known if self.alone or layout.precision else self.known & (self.earlier < 0)
        self.previous = self.finder.find(frame.group, self.value, ask)

    def new(self) -> Mask:
        """Rows of which some hash is new to their bucket. Only such a hash counts from now on: see buckets.py."""
        frame, ring = self.frame, self.finder.ring
        clock = frame.clock
        counted = self.counted & ~((self.earlier >= 0) & (clock[self.earlier] == clock))
        column, old = (self.previous >= 0).nonzero()
        group = frame.group[old]
        at = self.finder.off[group] + (self.previous[column, old] & self.finder.mask[group])
        same = ring.entries[at, 0] == clock[old]
        counted[column[same], old[same]] = False
        self.counted = counted
        self.earlier, self.later = self._link()
        fresh: Mask = counted.any(axis=0)
        return fresh

    def place(self, heads: I64, view: View, own: I64, added: I64) -> None:
        """Where the rows lie: the heads (keys, 4), `own` position (rows); how many entries a key gets."""
        self.heads, self.view, self.own, self.added = heads, view, own, added
        if not self.alone:
            inside = self.earlier >= 0
            self.previous[inside] = own[self.earlier[inside]]

    def _link(self) -> tuple[I64, I64]:
        """Row numbers of the last counted row before and the next one after, same key and hash; NONE."""
        earlier, later = np.full((2, *self.value.shape), NONE)
        if not self.alone:
            frame = self.frame
            rows = (frame.count[frame.group] > 1).nonzero()[0]
            for column, value in enumerate(self.value[:, rows]):
                before, after = _chain(frame.group[rows], value, self.counted[column, rows])
                mine, next_ = (before >= 0).nonzero()[0], (after >= 0).nonzero()[0]
                earlier[column, rows[mine]] = rows[before[mine]]
                later[column, rows[next_]] = rows[after[next_]]
        return earlier, later

    def fill(self, entries: I64) -> None:
        """The hash columns of the new entries (rows, width)."""
        layout = self.layout
        part = entries[:, layout.hash_column : layout.carried_column].reshape(self.frame.size, len(self.value), 3)
        part[..., 0] = self.value.T
        part[..., 1] = np.where(self.counted, self.previous, NOTHING).T
        following = NOTHING if self.alone else np.where(self.later >= 0, self.own[self.later], NOTHING)
        part[..., 2] = np.where(self.counted, following, NONE).T

    def join(self, ring: Ring) -> None:
        """Old entries learn of their next one; the index of long rings too. After `fill` was written."""
        frame, group = self.frame, self.frame.group
        off, mask, start, stop = self.heads.T
        old = self.counted & (self.previous >= start[group]) & (self.previous >= 0)
        column, first = (old if self.alone else old & (self.earlier < 0)).nonzero()
        if first.size:
            key, position = group[first], self.previous[column, first]
            at = off[key] + (position & mask[key])
            lowest = stop.copy()
            np.minimum.at(lowest, key, position)
            ring.changed_from(frame.unique, lowest)
            ring.save(at)
            ring.entries[at, self.layout.hash_columns[column] + 2] = self.own[first]
        if not self.finder.long:
            return
        newest, stop = frame.time[frame.last], stop + self.added
        for number, counted in enumerate(self.counted):
            rows = counted.nonzero()[0]
            count = np.bincount(group[rows], minlength=len(frame.unique))
            begin = count.cumsum() - count
            self.finder.moved(
                number, begin, count, self.value[number, rows], self.own[rows], stop=stop, newest=newest
            )  # fmt: skip

    def distinct(self, edges: I64, tails: I64, stored: I64) -> I64:
        """Distinct values of each row's windows, (lookups, rows); `tails` (edges, keys), `stored` (lookups, keys): the
        newest row's before.
        """
        frame, (number, low, high) = self.frame, self.layout.distinct_parts
        stop = self.heads[:, 3]
        new_low, old_low = edges[low], _before(frame, edges[low], tails[low])
        new_high = _high(edges, self.own + 1, high)
        entering = (self.counted[number] & (self.previous[number] < old_low)).astype(np.int64)
        delayed = (high != NOT_DELAYED).nonzero()[0]
        if delayed.size:
            old_high = _before(frame, new_high, _high(tails, stop, high))
            entering[delayed] = counted_sum(
                self.view, old_high[delayed], new_high[delayed], column=self._columns(delayed) + 1,
                bound=old_low[delayed], above=False,
            )  # fmt: skip
        leaving = counted_sum(self.view, old_low, new_low, column=self._columns() + 2, bound=new_high, above=True)
        change = (entering - leaving).cumsum(axis=1)
        before = np.zeros_like(change)
        before[:, 1:] = change[:, :-1]
        found: I64 = change + (stored - before[:, frame.first])[:, frame.group]
        return found

    def counters(self, view: View, edges: I64, tails: I64, stored: I64) -> I64:
        """`distinct` of each key's last row alone: `view`, `edges` and `tails` by key; one step over all its rows."""
        _, low, high = self.layout.distinct_parts
        stop = self.heads[:, 3]
        old_high, new_high = _high(tails, stop, high), _high(edges, stop + self.added, high)
        column = self._columns()
        entering = counted_sum(view, old_high, new_high, column=column + 1, bound=tails[low], above=False)
        leaving = counted_sum(view, tails[low], edges[low], column=column + 2, bound=new_high, above=True)
        counters: I64 = stored + entering - leaving
        return counters

    def _columns(self, some: I64 | None = None) -> I64:
        """Arena columns of what is looked up, all or `some`."""
        number = self.layout.distinct_parts[0]
        columns: I64 = self.layout.hash_columns[number if some is None else number[some]]
        return columns

    def first_seen(self, lookup: Lookup, edges: I64) -> I64:
        """1 where the row's value is known and not among its window's earlier rows."""
        (low, high), column = lookup.window, self.layout.hash_columns[lookup.column]
        position = self.previous[lookup.column]
        if high != NOT_DELAYED:
            position = walk(self.view, position, edges[high], int(column))
        fresh: I64 = (self.known[lookup.column] & (position < edges[low])).astype(np.int64)
        return fresh


def _chain(group: I64, value: I64, counted: Mask) -> tuple[I64, I64]:
    """Of each row the last counted one before it with its group and value, and the next if both count; NONE."""
    size = len(group)
    order = np.lexsort((value, group))
    group, value = group[order], value[order]
    new = np.ones(size, np.bool_)
    new[1:] = (group[1:] != group[:-1]) | (value[1:] != value[:-1])
    at = np.arange(size)
    begin = np.maximum.accumulate(np.where(new, at, 0))
    last = np.maximum.accumulate(np.where(counted[order], at, NONE))
    before = np.concatenate(([NONE], last[:-1]))
    fits = before >= begin
    earlier, later = np.full((2, size), NONE)
    earlier[order[fits]] = order[before[fits]]
    linked = (counted & (earlier >= 0)).nonzero()[0]
    later[earlier[linked]] = linked
    return earlier, later


def _high(edges: I64, own: I64, high: I64) -> I64:
    """Upper ends of windows: edges, or `own` where they are not delayed (NOT_DELAYED is the last row)."""
    ends: I64 = np.concatenate((edges, own[None]))[high]
    return ends


def walk(view: View, position: I64, high: I64, column: int) -> I64:
    """Follow `previous` from `position` until it lies below `high`."""
    position = position.copy()
    while (live := (position >= high).nonzero()[0]).size:
        position[live] = view.of(live).read(position[live], column + 1)
    return position


def _before(frame: Frame, values: I64, stored: I64) -> I64:
    """Each row's predecessor's values (.., rows); `stored` (.., keys) before the first."""
    out = np.empty_like(values)
    out[:, 1:] = values[:, :-1]
    out[:, frame.first] = stored
    return out
