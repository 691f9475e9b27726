"""Merging a chunk of rows into the rings, and repairing what depends on the order of entries.

Only entries from the first place of a new row on are touched: they are read, interleaved with the new rows (an
entry stays before a new row of the same clock), derived columns are computed anew, and they are written back.

    prefixes     an entry's own value is the difference to the next prefix; then summed up again
    carried      an entry carries the last rows in row order at or below its clock: new rows go in front
    edges        searched anew for the key's newest row
"""

from __future__ import annotations

__all__ = ["merge"]

from typing import TYPE_CHECKING

import numpy as np

from operators.windows import extremes
from operators.windows.edges import View, search
from operators.windows.frame import NOTHING
from operators.windows.layout import I64
from operators.windows.room import set_dropped
from operators.windows.totals import running
from state.table import KeyedTable

if TYPE_CHECKING:
    from operators.windows.late import Chunk


def merge(table: KeyedTable, chunk: Chunk) -> None:
    """Put the rows of the (decided) chunk into the rings and bring the rows of the table up to date."""
    frame, layout, ring = chunk.frame, chunk.layout, chunk.ring
    row, group = chunk.row, frame.group
    newest = chunk.newest[frame.last]
    if (lost := np.flatnonzero(chunk.lost)).size:
        highest = np.full(len(frame.unique), np.iinfo(np.int64).min)
        np.maximum.at(highest, group[lost], frame.clock[lost])
        set_dropped(layout, row, highest)
    weave = Weave(chunk, np.flatnonzero(chunk.kept & ~chunk.lost))
    entries = weave.entries()
    weave.totals(entries)
    if layout.carried:
        weave.carry(entries)
    if layout.extremes:
        weave.extremes(entries)
    for disorder in chunk.disorders:
        disorder.repair(weave, entries)
    ring.save(weave.old_index)
    ring.changed_from(frame.unique, weave.at)
    ring.entries[weave.new_index] = entries
    row[:, layout.NEWEST] = newest
    _edges(chunk, weave, newest)
    for disorder in chunk.disorders:
        disorder.counters(weave)
    table.rows[frame.unique] = row
    ring.heads[frame.unique, ring.STOP] = chunk.heads[:, ring.STOP] + weave.added


class Weave:
    """Old entries and new rows of all keys, interleaved: `total` merged entries, by key and position.

    `old` (old entries): number of each in the merged list; `new`: that of row `rows[i]`. `key` (merged): key number.
    `thin`: rows without an entry of their own; what they add up to goes to entry `hosts[i]` of the merged ones.
    """

    def __init__(self, chunk: Chunk, rows: I64) -> None:
        frame, ring = chunk.frame, chunk.ring
        self.chunk, self.frame, self.layout, self.ring = chunk, frame, chunk.layout, ring
        keys = len(frame.unique)
        off, mask, _, stop = chunk.heads.T
        rows = rows[np.lexsort((rows, frame.clock[rows], frame.group[rows]))]
        self.rows = rows
        group = frame.group[rows]
        self.added = np.bincount(group, minlength=keys)
        first = stop.copy()
        touched = np.arange(frame.size) if self.layout.carried else rows
        np.minimum.at(first, frame.group[touched], chunk.place[touched])
        self.thin, host = _thin(chunk)
        np.minimum.at(first, frame.group[self.thin[host < 0]], stop[frame.group[self.thin[host < 0]]] - 1)
        kept = stop - first
        self.begin = np.cumsum(kept) - kept  # of each key among the old entries
        self.old_key = np.repeat(np.arange(keys), kept)
        position = np.arange(len(self.old_key)) + (first - self.begin)[self.old_key]
        self.old_index = off[self.old_key] + (position & mask[self.old_key])
        at = self.begin[group] + chunk.place[rows] - first[group]  # before which old entry
        shift = np.cumsum(np.bincount(at, minlength=len(position) + 1))
        # a row that goes to its key's end counts from the next key on: as it should
        self.old = np.arange(len(position)) + shift[:-1]
        self.new = at + np.arange(len(rows))
        self.total = len(position) + len(rows)
        length = kept + self.added
        self.key = np.repeat(np.arange(keys), length)
        self.first = np.cumsum(length) - length
        self.position = np.arange(self.total) + (first - self.first)[self.key]
        self.new_index = off[self.key] + (self.position & mask[self.key])
        self.at, self.length = first, length
        number = np.zeros(frame.size, np.int64)
        number[rows] = self.new
        self.hosts = number[host]
        outside = host < 0
        self.hosts[outside] = self.old[(self.begin + kept - 1)[frame.group[self.thin[outside]]]]

    def entries(self) -> I64:
        """The merged entries; what is derived of the new ones is not filled yet."""
        merged = np.zeros((self.total, self.layout.width), np.int64)
        merged[self.old] = self.ring.entries[self.old_index]
        merged[self.new, 0] = self.frame.clock[self.rows]
        return merged

    def totals(self, entries: I64) -> None:
        """Prefixes anew, and the totals of the keys."""
        layout, row = self.layout, self.chunk.row
        columns = slice(layout.prefix_at, layout.prefix_at + len(layout.prefixes))
        fields = slice(layout.total_field, layout.total_field + len(layout.prefixes))
        old = entries[self.old, columns].T
        after = np.empty_like(old)
        after[:, :-1] = old[:, 1:]
        ends = np.flatnonzero(np.diff(self.old_key, append=-1))
        after[:, ends] = row[self.old_key[ends], fields].T
        before = row[:, fields].T.copy()
        begins = self.begin[self.old_key[ends]]
        before[:, self.old_key[ends]] = old[:, begins]
        values = np.empty((len(layout.prefixes), self.total), np.int64)
        values[:, self.old] = after - old
        values[:, self.new] = self.frame.values[:, self.rows]
        np.add.at(values.T, self.hosts, self.frame.values[:, self.thin].T)
        some = np.flatnonzero(self.length)
        number = np.cumsum(self.length > 0) - 1
        exclusive, through = running(layout, values, before[:, some], self.first[some], number[self.key])
        entries[:, columns] = exclusive.T
        row[some, fields] = through[:, (self.first + self.length - 1)[some]].T

    def extremes(self, entries: I64) -> None:
        """Values of the new entries, running minima anew."""
        layout = self.layout
        for i, values in enumerate(self.frame.extremes):
            entries[self.new, layout.extreme_column + 3 * i] = values[self.rows]
        some = np.flatnonzero(self.length)
        off, mask, start, _ = self.chunk.heads[some].T
        seeds = self.ring.entries[off + ((self.at[some] - 1) & mask)]
        seeds[self.at[some] <= start] = NOTHING
        extremes.refresh(layout, entries, self.position, self.first[some], seeds)

    def carry(self, entries: I64) -> None:
        """What each entry carries: the chunk's last rows at or below its clock, then what it carried before."""
        frame = self.frame
        order = np.lexsort((np.arange(frame.size), frame.time, frame.group))  # all rows, dropped ones too
        self._new_carry(entries)
        rows = {passing: self._rows_at(order, passing) for passing in {c.filter for c in self.layout.carried}}
        self._shift(entries, rows)

    def _rows_at(self, order: I64, passing: int) -> tuple[I64, I64]:
        """The chunk's last rows at or below each merged entry that pass a filter, (depth, entries), and their count."""
        frame = self.frame
        depth = max(carried.depth for carried in self.layout.carried)
        passes = np.ones(frame.size, np.int64) if passing < 0 else frame.passing[passing]
        number = np.empty(frame.size, np.int64)
        number[order] = np.cumsum(passes[order]) - 1
        some = order[passes[order] > 0]
        if not some.size:
            return np.zeros((depth, self.total), np.int64), np.zeros(self.total, np.int64)
        group = frame.group[some]
        counts = np.bincount(group, minlength=len(frame.unique))
        first = np.cumsum(counts) - counts
        last, count = _last_rows(group, first, some, depth)
        # the sorted row at or before each merged entry: new entries by their own row, old ones by their place
        by_place = np.bincount(self.begin[group] + self.chunk.place[some] - self.at[group], minlength=len(self.old) + 1)
        upto = np.empty(self.total, np.int64)
        upto[self.old] = np.cumsum(by_place)[:-1] - 1
        upto[self.new] = number[self.rows]
        behind = upto >= first[self.key]  # some row of the chunk lies at or below
        return last[:, upto], np.where(behind, count[upto], 0)

    def _new_carry(self, entries: I64) -> None:
        """New entries as if only the rings were before them: see `_shift`."""
        layout, rows = self.layout, self.rows
        chunk = self.chunk
        before = self.ring.entries[chunk.off[rows] + ((chunk.place[rows] - 1) & chunk.view.mask[rows])]
        columns = slice(layout.carried_column, layout.width)
        entries[self.new, columns] = before[:, columns] * chunk.known[rows][:, None]  # others may hold anything

    def _shift(self, entries: I64, rows: dict[int, tuple[I64, I64]]) -> None:
        """Put rows, by filter (their numbers (depth, entries), and how many), before what the entries carry."""
        layout, frame = self.layout, self.frame
        old = entries.copy()
        number = np.arange(self.total)
        flags = np.zeros(self.total, np.int64)
        bit = 0
        for k, (_, _, deep, _, passing) in enumerate(layout.carried):
            last, count = rows[passing]
            for n in range(deep):
                from_row = n < count
                source = bit - np.minimum(count, n)
                value = old[number, layout.carried_column + source]
                entries[:, layout.carried_column + bit] = np.where(from_row, frame.carried[k][last[n]], value)
                if layout.flagged:
                    valid = old[:, layout.flags_column] >> source & 1
                    flags |= np.where(from_row, frame.valid[k][last[n]], valid) << bit
                bit += 1
        if layout.flagged:
            entries[:, layout.flags_column] = flags


def _thin(chunk: Chunk) -> tuple[I64, I64]:
    """Rows without an entry of their own, and of each the row before it that has the newest entry of their bucket; -1:
    that is the last one in the ring.
    """
    frame, at = chunk.frame, np.arange(chunk.frame.size)
    thin = np.flatnonzero(~chunk.kept & ~chunk.lost)
    newest = chunk.kept & (frame.clock == chunk.layout.clock(chunk.newest))
    host = np.maximum.accumulate(np.where(newest, at, -1))[thin]
    return thin, np.where(host >= frame.first[frame.group[thin]], host, -1)


def _last_rows(group: I64, first: I64, order: I64, depth: int) -> tuple[I64, I64]:
    """For rows sorted by (key, clock): the `depth` highest row numbers up to each, highest first, and their count."""
    size, most = len(group), int(order.max()) + 1
    count = np.arange(size) - first[group] + 1
    ends = np.cumsum(count)
    second = np.repeat(np.arange(size), count)
    other = np.arange(int(ends[-1])) - np.repeat(ends - count, count) + np.repeat(first[group], count)
    ranked = np.sort(second * (most + 1) + (most - order[other]))
    last = np.zeros((depth, size), np.int64)
    for n in range(depth):
        have = np.flatnonzero(count > n)
        last[n, have] = most - ranked[(ends - count)[have] + n] % (most + 1)
    return last, count


def _edges(chunk: Chunk, weave: Weave, newest: I64) -> None:
    """The stored edges: those of a row at the key's newest event time."""
    layout = chunk.layout
    if not layout.offsets:
        return
    off, mask, start, stop = chunk.heads.T
    stop = stop + weave.added
    view = View(chunk.view.flat, layout.width, off * layout.width, mask)
    found = search(view, start, stop, layout.limits(newest))
    cap = np.maximum(start, stop - layout.spec.max_entries)
    chunk.row[:, layout.EDGES : layout.EDGES + len(layout.offsets)] = np.maximum(found, cap).T
