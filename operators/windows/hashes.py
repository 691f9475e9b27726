"""Where a value last occurred in its key's ring.

Short rings are compared entry by entry, all at once. For a long ring a dict hash -> newest position is kept beside
the table: derived data, never stored. It is valid only for the ring's very state it was last brought to (`stop` and
newest event time, for this key), so after an undo, a reload or a reuse of the slot it is built anew.
"""

from __future__ import annotations

__all__ = ["Finder", "Rings", "counted_sum"]

from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np

from operators.windows.edges import View
from operators.windows.frame import NOTHING
from operators.windows.layout import I64, Layout
from operators.windows.room import spread
from state.table import KeyedTable

SHORT = 128
NONE = -1  # no such position
_SLICE = 1 << 20


class _Index(NamedTuple):
    state: tuple[str, int, int, int]
    newest: dict[int, int]


_INDICES: WeakKeyDictionary[KeyedTable, dict[tuple[int, int], _Index]] = WeakKeyDictionary()


class Rings(NamedTuple):
    """The rings of some keys as they are before a batch; `newest`: event times; `long`: which are kept an index of."""

    off: I64
    mask: I64
    start: I64
    stop: I64
    newest: I64
    long: list[int]

    @staticmethod
    def of(layout: Layout, heads: I64, row: I64) -> Rings:
        """`heads` (keys, 4), `row` (keys, fields): the keys' state."""
        off, mask, start, stop = heads.T.copy()
        return Rings(off, mask, start, stop, row[:, layout.NEWEST].copy(), (stop - start > SHORT).nonzero()[0].tolist())


class Finder:
    """Newest positions by hash in the rings of some keys; `column`: the arena column of the hash."""

    def __init__(self, table: KeyedTable, slots: I64, rings: Rings, column: int) -> None:
        assert table.ring is not None
        self.table, self.column = table, column
        self.slots, self.ring = slots, table.ring
        self.off, self.mask, self.start, self.stop, self.newest, long = rings
        self.indices = {key: self._index(key) for key in long}

    def find(self, key: I64, value: I64) -> I64:
        """Position of the newest counted entry with hash `value` of key number `key`; NONE if there is none."""
        if len(key) == 1 and not self.indices:
            return self._find_one(int(key[0]), value[0])
        out = np.full(len(key), NONE)
        length = (self.stop - self.start)[key]
        short = (length <= SHORT).nonzero()[0]
        if short.size:
            mine, count = key[short], length[short]
            each = mine.repeat(count)
            position = spread(self.start[mine], count)
            entries = self.ring.entries[self.off[each] + (position & self.mask[each]), self.column : self.column + 2]
            hit = (entries[:, 0] == value[short].repeat(count)) & (entries[:, 1] != NOTHING)
            some = count.nonzero()[0]
            if some.size:
                begins = (count.cumsum() - count)[some]
                out[short[some]] = np.maximum.reduceat(np.where(hit, position, NONE), begins)
        for i in (length > SHORT).nonzero()[0].tolist():
            group = int(key[i])
            position_ = self.indices[group].get(int(value[i]), NONE)
            out[i] = position_ if position_ >= self.start[group] else NONE
        return out

    def _find_one(self, key: int, value: np.int64) -> I64:
        """`find` of one row."""
        start, stop = int(self.start[key]), int(self.stop[key])
        entries = self.ring.entries[int(self.off[key]) + (np.arange(start, stop) & int(self.mask[key]))]
        hits = ((entries[:, self.column] == value) & (entries[:, self.column + 1] != NOTHING)).nonzero()[0]
        return hits[-1:] + start if hits.size else np.array([NONE])

    def moved(self, begin: I64, count: I64, value: I64, position: I64, *, stop: I64, newest: I64) -> None:
        """Each key has counted entries value[begin : begin + count] at `position`, which is new or changed."""
        known = _INDICES.setdefault(self.table, {})
        for key, index in self.indices.items():
            rows = slice(int(begin[key]), int(begin[key] + count[key]))
            index.update(zip(value[rows].tolist(), position[rows].tolist(), strict=True))
            slot = int(self.slots[key])
            if len(index) > 2 * int(stop[key] - self.start[key]) + SHORT:
                known.pop((self.column, slot), None)
            else:
                known[self.column, slot] = _Index(self._state(slot, int(stop[key]), int(newest[key])), index)

    def _state(self, slot: int, stop: int, newest: int) -> tuple[str, int, int, int]:
        return self.table.keys[slot], int(self.table.task_of[slot]), stop, newest

    def _index(self, key: int) -> dict[int, int]:
        slot = int(self.slots[key])
        known = _INDICES.setdefault(self.table, {}).pop((self.column, slot), None)
        if known and known.state == self._state(slot, int(self.stop[key]), int(self.newest[key])):
            return known.newest
        position = np.arange(self.start[key], self.stop[key])
        at = self.off[key] + (position & self.mask[key])
        counted = self.ring.entries[at, self.column + 1] != NOTHING
        values = self.ring.entries[at, self.column]
        return dict(zip(values[counted].tolist(), position[counted].tolist(), strict=True))


def counted_sum(view: View, low: I64, high: I64, *, column: int, bound: I64, above: bool) -> I64:
    """For each row, how many positions low..high have `column` >= bound (`above`) or < bound."""
    count = np.maximum(high - low, 0)
    out = np.zeros(len(count), np.int64)
    ends = count.cumsum()
    rows = count.nonzero()[0]
    while rows.size:  # in slices of bounded size
        reached = ends[rows] - (ends[rows[0]] - count[rows[0]])
        some = rows[: max(1, int(np.searchsorted(reached, _SLICE)))]
        rows = rows[len(some) :]
        each = some.repeat(count[some])
        values = view.of(each).read(spread(low[some], count[some]), column)
        hits = values >= bound[each] if above else values < bound[each]
        begins = count[some].cumsum() - count[some]
        out[some] = np.add.reduceat(hits, begins, dtype=np.int64)
    return out
