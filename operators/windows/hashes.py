"""Where a value last occurred in its key's ring.

Short rings are compared entry by entry, all at once. For a long ring a dict hash -> newest position is kept beside
the table: derived data, never stored. It is valid only for the ring's very state it was last brought to (`stop` and
newest event time, for this key) until a batch is undone, whose rows may come again in another order; so after an undo,
a reload or a reuse of the slot it is built anew.
"""

from __future__ import annotations

__all__ = ["Finder", "Rings", "counted_sum", "keep_index", "take_index"]

from collections.abc import Iterator
from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from operators.windows.edges import View
from operators.windows.frame import NOTHING
from operators.windows.layout import I64, Layout
from operators.windows.room import spread
from state.table import KeyedTable

SHORT = 128
NONE = -1  # no such position
_SLICE = 1 << 18
_INDICES_MIN = 64


class _Index(NamedTuple):
    state: tuple[str, int, int, int, int]
    newest: dict[int, int]


class _Indices:
    """Of a table, by column and slot. Those of keys that left memory go when as many were kept again as there are."""

    def __init__(self) -> None:
        self.kept: dict[tuple[int, int], _Index] = {}
        self._left = _INDICES_MIN

    def keep(self, table: KeyedTable, column: int, slot: int, index: _Index) -> None:
        self.kept[column, slot] = index
        self._left -= 1
        if not self._left:
            self.kept = {at: one for at, one in self.kept.items() if one.state[0] == table.keys[at[1]]}
            self._left = max(_INDICES_MIN, len(self.kept))


_INDICES: WeakKeyDictionary[KeyedTable, _Indices] = WeakKeyDictionary()


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
    """Newest positions by hash in the rings of some keys; `columns`: the arena columns of the hashes."""

    def __init__(self, table: KeyedTable, slots: I64, rings: Rings, columns: I64) -> None:
        assert table.ring is not None
        self.table, self.columns = table, columns
        self.slots, self.ring = slots, table.ring
        self.off, self.mask, self.start, self.stop, self.newest, self.long = rings
        self.indices = [
            {key: self._index(key, column) for key in self.long} for column in columns.tolist() if self.long
        ]

    def find(self, key: I64, value: I64, ask: npt.NDArray[np.bool_]) -> I64:
        """Positions (columns, rows) of the newest counted entry with each hash; NONE where there is none, or not `ask`.

        `key`: the key's number of each row; `value` and `ask`: (columns, rows).
        """
        out = np.full(value.shape, NONE)
        rows = np.flatnonzero(ask.any(axis=0))
        length = self.stop[key[rows]] - self.start[key[rows]]
        if self.long:
            is_long = length > SHORT
            self._look_up(rows[is_long], key, value, out)
            rows, length = rows[~is_long], length[~is_long]
        for part in slices(length * len(value)):
            self._compare(rows[part], length[part], key, value, out)
        out[~ask] = NONE
        return out

    def _compare(self, rows: I64, length: I64, key: I64, value: I64, out: I64) -> None:
        """Entry by entry, of short rings."""
        each = key[rows].repeat(length)
        position = spread(self.start[key[rows]], length)
        flat, width = self.ring.entries.reshape(-1), self.ring.entries.shape[1]
        at = (self.off[each] + (position & self.mask[each])) * width + self.columns[:, None]
        column, hit = (flat.take(at) == value[:, rows].repeat(length, axis=1)).nonzero()
        counted = flat.take(at[column, hit] + 1) != NOTHING
        column, hit = column[counted], hit[counted]
        out[column, rows.repeat(length)[hit]] = position[hit]  # they rise: of several the last one stays

    def _look_up(self, rows: I64, key: I64, value: I64, out: I64) -> None:
        """In the indices, of long rings."""
        for column, indices in enumerate(self.indices):
            for row, group, wanted in zip(rows.tolist(), key[rows].tolist(), value[column, rows].tolist(), strict=True):
                position = indices[group].get(wanted, NONE)
                out[column, row] = position if position >= self.start[group] else NONE

    def moved(
        self, number: int, begin: I64, count: I64, value: I64, position: I64, *, stop: I64, newest: I64
    ) -> None:  # fmt: skip
        """Each key has counted entries value[begin : begin + count] of hash column `number` at `position`, which is new
        or changed.
        """
        if not self.long:
            return
        column = int(self.columns[number])
        for key, index in self.indices[number].items():
            rows = slice(int(begin[key]), int(begin[key] + count[key]))
            index.update(zip(value[rows].tolist(), position[rows].tolist(), strict=True))
            length = int(stop[key] - self.start[key])
            keep_index(
                self.table, int(self.slots[key]), column, index, length=length, stop=int(stop[key]),
                newest=int(newest[key]),
            )  # fmt: skip

    def _index(self, key: int, column: int) -> dict[int, int]:
        return take_index(
            self.table, int(self.slots[key]), column, off=int(self.off[key]), mask=int(self.mask[key]),
            start=int(self.start[key]), stop=int(self.stop[key]), newest=int(self.newest[key]),
        )  # fmt: skip


def take_index(
    table: KeyedTable, slot: int, column: int, *, off: int, mask: int, start: int, stop: int, newest: int
) -> dict[int, int]:
    """Hash -> newest counted position in a long ring; the caller has it for itself, see `keep_index`."""
    known = _indices(table).kept.pop((column, slot), None)
    if known and known.state == _state(table, slot, stop, newest):
        return known.newest
    assert table.ring is not None
    position = np.arange(start, stop)
    at = off + (position & mask)
    counted = table.ring.entries[at, column + 1] != NOTHING
    values = table.ring.entries[at, column]
    return dict(zip(values[counted].tolist(), position[counted].tolist(), strict=True))


def keep_index(
    table: KeyedTable, slot: int, column: int, index: dict[int, int], *, length: int, stop: int, newest: int
) -> None:
    """Keep the index of a ring of `length` entries for the batch that finds it at `stop` with this `newest` time."""
    if len(index) <= 2 * length + SHORT:
        _indices(table).keep(table, column, slot, _Index(_state(table, slot, stop, newest), index))


def _indices(table: KeyedTable) -> _Indices:
    found = _INDICES.get(table)
    if found is None:
        found = _INDICES[table] = _Indices()
    return found


def _state(table: KeyedTable, slot: int, stop: int, newest: int) -> tuple[str, int, int, int, int]:
    return table.keys[slot], int(table.task_of[slot]), stop, newest, table.undone


def counted_sum(view: View, low: I64, high: I64, *, column: int | I64, bound: I64, above: bool) -> I64:
    """How many positions low..high have `column` >= bound (`above`) or < bound.

    Of each row (rows), or of each row for several questions (questions, rows), each with a column of its own.
    """
    count = np.maximum(high - low, 0).ravel()
    out = np.zeros(len(count), np.int64)
    some = count.nonzero()[0]
    if some.size:
        size = low.shape[-1]
        low, bound, count = low.ravel()[some], bound.ravel()[some], count[some]
        columns = np.broadcast_to(column, len(out) // size)
        for part in slices(count):
            begin, length = low[part], count[part]
            each = some[part].repeat(length)
            values = view.of(each % size).read(spread(begin, length), columns[each // size])
            wanted = bound[part].repeat(length)
            hits = values >= wanted if above else values < wanted
            out[some[part]] = np.add.reduceat(hits, length.cumsum() - length, dtype=np.int64)
    return out.reshape(high.shape)


def slices(count: I64) -> Iterator[slice]:
    """Parts of rows that have so many elements, each of about `_SLICE` elements at most, or of one row."""
    ends = count.cumsum()
    begin = 0
    while begin < len(ends):
        before = int(ends[begin - 1]) if begin else 0
        end = len(ends) if int(ends[-1]) - before <= _SLICE else int(np.searchsorted(ends, before + _SLICE, "right"))
        yield slice(begin, max(end, begin + 1))
        begin = max(end, begin + 1)
