"""Keys with a late row: a row behind the newest event time of its key. The exact, slower path.

A chunk is the next rows (at most CHUNK) of every such key. What a row sees is what its key's ring held before
the chunk (static part: bisection in the ring, which is sorted by clock) and the earlier rows of the chunk itself
(pairs (i, j), j before i in row order: a few masks over all pairs). Both parts add up, row by row of the stack
that `Layout` describes. Then the chunk is merged into the rings (merge.py), and the next chunk begins.

    visible to row i          clock > newest clock up to i - horizon ("floor"), and the newest `max_entries`
    window of row i           limits raised to the floor; what lay below and was dropped makes it incomplete
    base of row i             the newest entry at or below the floor: `previous` may read it, no window sees it

A row between base and floor is the key's base from then on. One behind the base is dropped: its own `previous` is
not known, but those of later rows know it, for it is shifted into what the entries carry.

With a precision, rows in order among them may have no entry of their own (buckets.py): they count for later rows of
the chunk like all others, and are merged into the newest entry that their bucket had.

In rare cases a key takes one row at a time (`careful`): where `max_entries` cuts into the chunk, and where a late
row has no visible row before it to read `previous` from although there are rows below the floor.
"""

from __future__ import annotations

__all__ = ["late", "replay_late", "running_max"]

from collections.abc import Iterator
from functools import cached_property

import numpy as np
import numpy.typing as npt

from operators.windows import extremes
from operators.windows.buckets import new_extremes
from operators.windows.disorder import Disorder
from operators.windows.edges import View, search
from operators.windows.frame import I64, Frame
from operators.windows.merge import merge
from operators.windows.room import NEVER, dropped, make_room, spread
from state.table import KeyedTable

CHUNK = 192
Mask = npt.NDArray[np.bool_]


def late(table: KeyedTable, frame: Frame, result: I64) -> None:
    """Process keys with late rows; arguments as in `forward`."""
    for rows, chunk in _chunks(table, frame):
        out = np.zeros((len(result), len(rows)), np.int64)
        chunk.decide(out)
        merge(table, chunk)
        result[:, rows] = out


def replay_late(table: KeyedTable, frame: Frame) -> None:
    """`late` without results: the same state."""
    for _, chunk in _chunks(table, frame):
        chunk.prepare()
        merge(table, chunk)


def _chunks(table: KeyedTable, frame: Frame) -> Iterator[tuple[I64, Chunk]]:
    """The rows of the next chunk and the chunk, made when the one before is merged."""
    begin, end = frame.first.copy(), frame.first + frame.count
    while (open_ := np.flatnonzero(begin < end)).size:
        take = np.minimum(end[open_] - begin[open_], CHUNK)
        rows = spread(begin[open_], take)
        chunk = Chunk(table, frame.take(rows))
        careful = chunk.careful()
        if careful.any():
            take[careful] = 1
            rows = spread(begin[open_], take)
            chunk = Chunk(table, frame.take(rows))
        yield rows, chunk
        begin[open_] += take


class Chunk:
    """Some next rows of some keys, and where they fall in the rings as these are.

    Rows: `floor`; `edges` (edges, rows), `own` (one past the last visible entry at or below the row), `place`
    (where the row belongs in the ring), `visible` (first visible entry), `base` (first one that `previous` may read),
    `gone` (no window sees the row), `lost` (it gets no entry). Keys: `row`, `heads`, `newest` event time.
    """

    def __init__(self, table: KeyedTable, frame: Frame) -> None:
        layout, ring, group = frame.layout, table.ring, frame.group
        assert ring is not None
        self.table, self.frame, self.ring, self.layout = table, frame, ring, layout
        self.row = table.rows[frame.unique]
        known = ring.heads[frame.unique, ring.STOP] > 0
        stored = np.where(known, self.row[:, layout.NEWEST], frame.time[frame.first])
        self.heads = make_room(ring, layout, frame.unique, self.row, counts=frame.count, clock=layout.clock(stored))
        table.rows[frame.unique] = self.row
        self.off, mask, self.start, self.stop = self.heads[group].T
        self.view = View(ring.entries.reshape(-1), layout.width, self.off * layout.width, mask)
        self.rank = frame.rank()
        self.newest = np.maximum(running_max(frame.time, group), stored[group])  # of each row, itself included
        self.behind = frame.time < self.newest
        self.floor = layout.clock(self.newest) - layout.horizon
        limits = np.vstack((frame.limits, self.floor, frame.clock))
        self.limits = np.maximum(limits, self.floor)
        self.limits[-1] = np.maximum(frame.clock, self.floor)
        found = search(self.view, self.start, self.stop, np.vstack((self.limits, frame.clock)))
        self.place = found[-1]
        self.cap = self.stop + self.rank + 1 - layout.spec.max_entries
        edges = len(layout.offsets)
        kept = found[edges]  # first entry above the floor
        found = np.maximum(found, self.cap)
        self.edges, self.visible, self.own = found[:edges], found[edges], found[edges + 1]
        self.base = np.maximum(np.maximum(kept - 1, self.start), self.cap)
        cut = self.place < self.cap
        self.gone = (frame.clock <= self.floor) | cut
        if layout.previous:  # what falls below the floor may be the base: it goes only behind one
            self.lost = cut | (self.gone & (kept > self.start) & (self.place < kept))
        else:
            self.lost = cut | (frame.clock <= self.floor[frame.last][group])

    @cached_property
    def second(self) -> I64:
        """Row numbers of the pairs: second after first in row order."""
        return np.repeat(np.arange(self.frame.size), self.rank)

    @cached_property
    def first(self) -> I64:
        """See `second`."""
        return spread(self.frame.first[self.frame.group], self.rank)

    def per_row(self, pairs: I64 | Mask) -> I64:
        """Sum over the pairs of each second row: (.., pairs) -> (.., rows)."""
        ends = np.cumsum(self.rank)
        sums = np.zeros((*pairs.shape[:-1], pairs.shape[-1] + 1), np.int64)
        np.cumsum(pairs, axis=-1, out=sums[..., 1:])
        found: I64 = sums[..., ends] - sums[..., ends - self.rank]
        return found

    def careful(self) -> Mask:
        """Keys that must take one row at a time."""
        frame, layout = self.frame, self.layout
        out = np.zeros(len(frame.unique), np.bool_)
        last = frame.last[frame.group]
        beyond = self.cap[last]  # the cap at the chunk's end
        if (beyond > self.start).any():
            out[frame.group[(self.place < beyond) & (beyond > self.start)]] = True
        if layout.previous:
            clean = (self.row[:, layout.DROPPED] == 0)[frame.group] & (self.visible[last] == 0)
            clean &= (np.minimum.reduceat(frame.clock, frame.first) > self.floor[frame.last])[frame.group]
            out[frame.group[self.behind & ~clean & (self.place <= self.visible[last])]] = True
        careful: Mask = out & (frame.count > 1)
        return careful

    def _expired(self) -> I64:
        """Clock (rows) at and below which a key's rows count as never seen."""
        clock: I64 = self.layout.clock(self.newest) - self.layout.ttl
        return clock if self.layout.ttl else np.full(self.frame.size, NEVER)

    def _kept(self) -> Mask:
        """Rows that get an entry, by buckets.py; those of the others' buckets have one that says as much."""
        frame, first = self.frame, self.frame.first
        known = self.heads[:, self.ring.STOP] > 0
        before = np.empty_like(self.newest)
        before[1:] = self.newest[:-1]
        before[first] = self.row[:, self.layout.NEWEST]
        fresh = ~self.behind & (frame.clock != self.layout.clock(before))
        fresh[first] |= ~known
        kept: Mask = self.behind | fresh | new_extremes(frame, self.row, fresh, self.behind)
        for disorder in self.disorders:
            kept |= disorder.new()
        return kept

    # ---- what the rows get

    def prepare(self) -> None:
        """What a merge needs; `decide` does it too."""
        self.disorders = [Disorder(self, i) for i in range(len(self.layout.hashes))]
        self.kept = self._kept() if self.layout.precision else np.ones(self.frame.size, np.bool_)
        if self.layout.previous:
            single = (self.frame.count == 1)[self.frame.group]
            anchor = np.where(single & self.behind, self.base, self.start)
            self.known = self.place > anchor
            if self.layout.ttl:  # what lies so long before the newest row may be another life of the key
                before = self.view.read(np.maximum(self.place - 1, self.start))
                self.known &= ~(single & self.behind) | (before > self._expired())

    def decide(self, out: I64) -> None:
        """Fill `out` (result rows, rows), before the chunk is merged."""
        self.prepare()
        frame, layout = self.frame, self.layout
        edges = len(layout.offsets)
        self.below = frame.clock[self.first] <= self.limits[:, self.second]  # edges, floor, own: over all pairs
        edge, column = layout.read_edges, layout.read_columns - layout.prefix_at
        values = frame.values[:, self.first]
        own = self.below[-1]
        pairs = np.vstack((own[None], self.below[:edges], values * own, values[column] * self.below[edge]))
        stack = self.per_row(pairs)
        stack[0] += self.own + 1
        stack[1 : 1 + edges] += self.edges
        prefixes = len(layout.prefixes)
        stack[1 + edges : 1 + edges + prefixes] += self._prefix(self.own, np.arange(prefixes)) + frame.values
        stack[1 + edges + prefixes :] += self._prefix(self.edges[edge], column)
        np.subtract(stack[layout.upper], stack[layout.lower], out=out[: len(layout.differences)])
        self._incomplete(out)
        for i, lookup in enumerate(layout.extreme_lookups, layout.extreme_at):
            low, high = extremes.window(lookup, self.edges, self.own)
            at = layout.extreme_column + 3 * lookup.column
            static = extremes.query(self.view, at, low, high)
            out[i] = np.minimum(static, extremes.pairs_least(frame, lookup, self.below, self.first, self.rank))
        for i, lookup in enumerate(layout.distinct, layout.distinct_at):
            out[i] = self.disorders[lookup.column].distinct(lookup)
        for i, lookup in enumerate(layout.first_seen, layout.first_seen_at):
            out[i] = self.disorders[lookup.column].first_seen(lookup)
        if layout.previous:
            self._previous(out)

    def _prefix(self, position: I64, column: I64) -> I64:
        """Prefixes `column` (k) at positions (k, rows) or (rows), totals at the end of the ring."""
        layout = self.layout
        position = np.broadcast_to(position, (len(column), self.frame.size))
        totals = self.row[:, layout.total_field + column][self.frame.group].T
        return np.where(position == self.stop, totals, self.view.read(position, column[:, None] + layout.prefix_at))

    def _incomplete(self, out: I64) -> None:
        frame, layout = self.frame, self.layout
        if not layout.offsets:
            return
        low = frame.limits[-1]
        within = self.below[-2] & (frame.clock[self.first] > low[self.second])
        hidden = self._newest_below(self.visible)
        out[layout.incomplete_at] = (hidden > low) | self.gone | (self.per_row(within[None])[0] > 0)

    def _newest_below(self, position: I64) -> I64:
        """Newest clock of what lay below `position` (rows), in the ring or dropped; NEVER if nothing did."""
        clock = self.view.read(np.maximum(position - 1, self.start))
        newest: I64 = np.maximum(
            dropped(self.layout, self.row)[self.frame.group], np.where(position > self.start, clock, NEVER)
        )
        return newest

    def _previous(self, out: I64) -> None:
        frame, layout, group = self.frame, self.layout, self.frame.group
        single = (frame.count == 1)[group]
        known = self.known
        missing = single & self.behind & ~known
        out[layout.incomplete_at] |= missing & (self._newest_below(self.base) > self._expired())
        before = self.ring.entries[self.off + ((self.place - 1) & self.view.mask)]
        latests = {passing: self._latest(passing) for passing in {carried.filter for carried in layout.carried}}
        rows = np.arange(frame.size)
        bit = 0
        for k, (_, _, deep, _, passing) in enumerate(layout.carried):
            latest, count = latests[passing]
            for n in range(deep):
                mine = latest[n]
                old = bit - np.minimum(count, n)  # level n - count of this column
                value = before[rows, layout.carried_column + old]
                valid = known & ((before[rows, layout.flags_column] >> old) & 1 if layout.flagged else True)
                out[layout.previous_at + bit] = np.where(mine >= 0, frame.carried[k][mine], value)
                out[layout.valid_at + bit] = np.where(mine >= 0, frame.valid[k][mine], valid)
                bit += 1

    def _latest(self, passing: int) -> tuple[I64, I64]:
        """The last rows of the chunk before each row, in row order, with event time <= its own, that pass a filter.

        (depth, rows): row numbers, -1 where none; and how many there are.
        """
        frame = self.frame
        depth = max(carried.depth for carried in self.layout.carried)
        counts = frame.time[self.first] <= frame.time[self.second]
        if passing >= 0:
            counts &= frame.passing[passing][self.first].astype(np.bool_)
        total = self.per_row(counts[None])[0]
        ends = np.cumsum(self.rank)
        running = np.concatenate(([0], np.cumsum(counts)))
        nth = total[self.second] - (running[1:] - running[(ends - self.rank)[self.second]]) + 1
        latest = np.full((depth, frame.size), -1)
        for n in range(depth):
            chosen = np.flatnonzero(counts & (nth == n + 1))
            latest[n, self.second[chosen]] = self.first[chosen]
        return latest, total


def running_max(values: I64, group: I64) -> I64:
    """Running maximum within each group (ascending numbers)."""
    ordered = np.sort(values)
    size = len(values)
    rank = np.searchsorted(ordered, values) + group * size
    return ordered[np.maximum.accumulate(rank) - group * size]
