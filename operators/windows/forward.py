"""Rows in order: every row's clock is at least that of its key's rows before it. The fast path.

All rows of a batch are appended first; then every row finds its own window below its own position. There is no
loop over keys and none over rows of one key.

    rows sorted by (key, row order)
      position of each row      p = stop + rank
      exclusive prefixes        cumsum over the batch, shifted per key to continue the stored totals
      entries[p] = clock, prefixes, ...
      edges                     advance from the key's stored edges (edges.py)
      differences               stack[upper] - stack[lower], see `Layout`

A replay appends the same entries; edges and counters it moves only once a key, for the key's last row.
"""

from __future__ import annotations

__all__ = ["forward", "replay_forward"]

import numpy as np
import numpy.typing as npt

from operators.windows import extremes, previous
from operators.windows.buckets import new_buckets, new_extremes
from operators.windows.distinct import Links
from operators.windows.edges import View, advance
from operators.windows.frame import NOTHING, Frame
from operators.windows.hashes import Rings
from operators.windows.layout import I64
from operators.windows.room import NEVER, dropped, make_room, set_dropped
from operators.windows.totals import running
from state.table import KeyedTable


def forward(table: KeyedTable, frame: Frame, result: I64) -> None:
    """Process rows in order.

    Args:
        table: its slots are touched.
        frame: the rows.
        result: (result rows, rows), filled.
    """
    _Forward(table, frame).process(result)


def replay_forward(table: KeyedTable, frame: Frame) -> None:
    """`forward` without results: the same state."""
    _Forward(table, frame).replay()


class _Forward:
    """Keys: `row`, `heads`, `stop`, `tails` (edges, keys), `counters` (distinct, keys).

    Rows: `view`, `own` (position), `edges`, `through`.
    """

    def __init__(self, table: KeyedTable, frame: Frame) -> None:
        layout, ring, group = frame.layout, table.ring, frame.group
        assert ring is not None
        self.table, self.frame, self.layout, self.ring = table, frame, layout, ring
        self.row = table.rows[frame.unique]
        self.links: Links | None = None
        if layout.hashes:
            self.links = Links(table, frame, Rings.of(layout, ring.heads[frame.unique], self.row))
        self.kept = self._kept() if layout.precision else None
        self.added = frame.count if self.kept is None else np.bincount(group[self.kept], minlength=len(frame.count))
        clock = frame.clock[frame.first]
        self.heads = make_room(ring, layout, frame.unique, self.row, counts=self.added, clock=clock)
        off, mask, self.start, self.stop = self.heads.T
        self.view = View(ring.entries.reshape(-1), layout.width, (off * layout.width)[group], mask[group])
        self.own = self._positions()
        self.tails = self.row[:, layout.EDGES : layout.EDGES + len(layout.offsets)].T
        self.counters = self.row[:, layout.distinct_field : layout.distinct_field + len(layout.distinct)].T

    def _kept(self) -> npt.NDArray[np.intp] | None:
        """Rows that get an entry, by buckets.py; None: all."""
        frame, ring = self.frame, self.ring
        known = ring.heads[frame.unique, ring.STOP] > 0
        keep = fresh = new_buckets(frame, self.row, known)
        keep = keep | new_extremes(frame, self.row, fresh)
        if self.links:
            keep |= self.links.new()
        return None if keep.all() else np.flatnonzero(keep)

    def _positions(self) -> I64:
        """Position of each row's entry; of a row without one: of the last entry before it."""
        frame = self.frame
        if self.kept is None:
            all_: I64 = np.arange(frame.size) + (self.stop - frame.first)[frame.group]
            return all_
        entry = np.zeros(frame.size, np.int64)
        entry[self.kept] = 1
        count = np.cumsum(entry)
        own: I64 = count - 1 + (self.stop - (count - entry)[frame.first])[frame.group]
        return own

    def process(self, result: I64) -> None:
        """Append, find the windows, fill the results, bring the table up to date."""
        layout, frame = self.layout, self.frame
        self._append(result)
        tails = self.tails.take(frame.group, axis=1)
        self.edges = advance(self.view, tails, frame.limits, self.own)
        self._flag_missing(result)
        self._differences(result)
        for i, lookup in enumerate(layout.extreme_lookups, layout.extreme_at):
            low, high = extremes.window(lookup, self.edges, self.own + 1)
            result[i] = extremes.query(self.view, layout.extreme_column + 3 * lookup.column, low, high)
        self._values(result)
        self._keep(self.edges[:, frame.last])

    def replay(self) -> None:
        """Append, and bring the table up to date."""
        layout, frame = self.layout, self.frame
        self._append(None)
        if self.links:
            self.links.join(self.ring)
        if not layout.offsets:
            self._keep(self.tails)
            return
        view, own = self.view.of(frame.last), self.own[frame.last]
        edges = advance(view, self.tails.copy(), layout.limits(frame.time[frame.last]), own)
        if (self.stop + frame.count - self.start).max() > layout.spec.max_entries:
            floor, clock = self._cap(view, own, self.start)
            np.maximum(edges, floor, out=edges)
            set_dropped(layout, self.row, clock)
        if self.links and layout.distinct:
            self.counters[:] = self.links.counters(view, edges, self.tails, self.counters)
        self._keep(edges)

    def _keep(self, edges: I64) -> None:
        """Bring the table up to date; `edges` (edges, keys) are those of each key's last row."""
        layout, frame, ring, row = self.layout, self.frame, self.ring, self.row
        row[:, layout.NEWEST] = frame.time[frame.last]
        self.tails[:] = edges
        row[:, layout.total_field : layout.distinct_field] = self.through[:, frame.last].T
        self.table.rows[frame.unique] = row
        ring.heads[frame.unique, ring.STOP] = self.stop + self.added

    def _append(self, result: I64 | None) -> None:
        """Write the entries, and earlier values into `result`, if there is one."""
        layout, frame, ring = self.layout, self.frame, self.ring
        entries = np.empty((frame.size, layout.width), np.int64)
        entries[:, 0] = frame.clock
        totals = self.row[:, layout.total_field : layout.distinct_field].T
        exclusive, self.through = running(layout, frame.values, totals, frame.first, frame.group)
        entries[:, layout.prefix_at : layout.extreme_column] = exclusive.T
        before = self.row
        if layout.carried or layout.extremes:
            known = self.stop > 0
            before = ring.entries[self.heads[:, ring.OFF] + ((self.stop - 1) & self.heads[:, ring.MASK])]
            before *= known[:, None]  # an undone batch may have left anything there
            previous.follow(frame, before, known, entries=entries, result=result)
            gone = self.stop == self.start  # then also the newest entry is not there any more, perhaps
            before[gone, layout.extreme_column : layout.hash_column] = NOTHING
            if self.kept is None:
                extremes.append(frame, before, self.stop, self.own, entries)
        if self.links:
            self.links.place(self.heads, self.view, self.own, self.added)
            self.links.fill(entries)
        index = self.view.base // layout.width + (self.own & self.view.mask)
        if self.kept is not None:
            index, entries = index[self.kept], entries[self.kept]
            if layout.extremes and len(index):
                part, keys = frame.take(self.kept), np.flatnonzero(self.added)
                extremes.append(part, before[keys], self.stop[keys], self.own[self.kept], entries)
        ring.entries[index] = entries

    def _flag_missing(self, result: I64) -> None:
        """Windows that reach below what was dropped are incomplete; beyond `max_entries` they are cut."""
        layout, frame, group = self.layout, self.frame, self.frame.group
        missing = result[layout.incomplete_at]
        missing[:] = 0
        if not layout.offsets:
            return
        lost = dropped(layout, self.row)
        cap = layout.spec.max_entries
        if (self.stop + frame.count - self.start).max() <= cap:
            if (lost > NEVER).any():
                missing[:] = lost[group] > frame.limits[-1]
            return
        floor, clock = self._cap(self.view, self.own, self.start[group])
        missing[:] = np.maximum(clock, lost[group]) > frame.limits[-1]
        np.maximum(self.edges, floor, out=self.edges)
        set_dropped(layout, self.row, clock[frame.last])

    def _cap(self, view: View, own: I64, start: I64) -> tuple[I64, I64]:
        """The first entry that rows (or keys) at `own` see for `max_entries`; the newest clock below it, or NEVER."""
        floor: I64 = own + 1 - self.layout.spec.max_entries
        clock = np.where(floor > start, view.read(np.maximum(floor - 1, start)), NEVER)
        return floor, clock

    def _differences(self, result: I64) -> None:
        """Of positions, and of prefixes read at the edges: see `Layout`."""
        layout = self.layout
        edges, prefixes = len(layout.offsets), len(layout.prefixes)
        parts = np.empty((1 + edges + prefixes + len(layout.reads), self.frame.size), np.int64)
        parts[0] = self.own + 1
        parts[1 : 1 + edges] = self.edges
        parts[1 + edges : 1 + edges + prefixes] = self.through
        if layout.reads:
            edge, column = layout.read_edges, layout.read_columns
            at = self.view.base + (self.edges & self.view.mask) * layout.width
            parts[1 + edges + prefixes :] = self.view.flat.take(at[edge] + column[:, None])
        np.subtract(parts[layout.upper], parts[layout.lower], out=result[: len(layout.differences)])

    def _values(self, result: I64) -> None:
        """Distinct and first-seen results, and the counters of the rows."""
        layout, links = self.layout, self.links
        if not links:
            return
        links.join(self.ring)
        if layout.distinct:
            found = links.distinct(self.edges, self.tails, self.counters)
            result[layout.distinct_at : layout.first_seen_at] = found
            self.counters[:] = found[:, self.frame.last]
        for i, lookup in enumerate(layout.first_seen, layout.first_seen_at):
            result[i] = links.first_seen(lookup, self.edges)
