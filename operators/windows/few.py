"""A few rows in order, one by one: what forward.py does by columns, in Python's ints.

A batch of a few rows costs columns as many numpy calls as one of thousands, about 1 us each; a row costs here what it
has to read. Results and state are the same, bit by bit. Layouts with a precision, rows that come late, keys that have
expired or are at `max_entries` are left to the columns.
"""

from __future__ import annotations

__all__ = ["FEW", "few"]

import numpy as np

from operators.windows import extremes
from operators.windows.few_links import Link, found_in, link, links_of
from operators.windows.few_links import distinct as distinct_values
from operators.windows.frame import I64, NOTHING
from operators.windows.layout import NOT_DELAYED, Layout, Lookup, Window
from operators.windows.one_ring import OneRing
from operators.windows.room import NEVER, make_room
from operators.windows.totals import TOTAL_MAX
from state.errors import RecordError
from state.ring import Ring
from state.table import KeyedTable

FEW = 15  # up to so many rows one by one is faster than columns
_LOW = 0xFFFF_FFFF


def few(table: KeyedTable, layout: Layout, slots: I64, data: I64, *, result: I64, stream: I64 | None) -> bool:
    """Fill the result matrix (result rows, rows) of a few rows, and bring the state up to date.

    Arguments as of `operator._compute`. False: nothing was done, these rows are for the columns.

    Raises:
        RecordError: a running total is beyond 2**62.
    """
    if layout.precision:
        return False
    keys, rows = slots.tolist(), data.T.tolist()
    rings = _opened(table, layout, keys, rows, stream)
    if rings is None:
        return False
    assert table.ring is not None
    unique = np.array(list(rings))
    table.touch(unique)
    table.ring.touch(unique)
    dropped = _with_room(table, layout, rings, keys, rows)
    flat, kept = table.ring.entries.reshape(-1).data, list[tuple[int, bytes]]()
    for ring in rings.values():
        ring.flat, ring.kept = flat, kept
    try:
        found = [
            _Row(layout, rings[key], row).process(dropped.get(i))
            for i, (key, row) in enumerate(zip(keys, rows, strict=True))
        ]
    finally:
        _save(table.ring, kept)
    result[:] = np.array(found).T
    table.rows[unique] = [ring.row for ring in rings.values()]
    table.ring.heads[unique, table.ring.STOP] = [ring.stop for ring in rings.values()]
    if layout.hashes:
        table.ring.changed_from(unique, np.array([ring.changed for ring in rings.values()]))
    return True


def _save(ring: Ring, kept: list[tuple[int, bytes]]) -> None:
    """Give the ring what an undo needs; of an entry that was kept twice the older one counts."""
    if kept:
        images = dict(reversed(kept))
        image = np.frombuffer(b"".join(images.values()), np.int64).reshape(len(images), -1)
        ring.save_as(np.array(list(images)), image)


def _opened(
    table: KeyedTable, layout: Layout, keys: list[int], rows: list[list[int]], stream: I64 | None
) -> dict[int, OneRing] | None:
    """The rings by slot; None if the rows are not for this module."""
    assert table.ring is not None
    some = list(dict.fromkeys(keys))
    unique = np.array(some)
    each = zip(some, table.rows[unique].tolist(), table.ring.heads[unique].tolist(), strict=True)
    flat = table.ring.entries.reshape(-1).data
    rings = {slot: OneRing(table, layout, slot, row, head) for slot, row, head in each}
    newest = {slot: ring.row[Layout.NEWEST] for slot, ring in rings.items() if ring.stop}
    oldest = min([*newest.values(), *(row[0] for row in rows)])
    if stream is not None and int(stream.max()) - oldest >= table.spec.ttl_ms:
        return None  # some key may have expired
    for slot, row in zip(keys, rows, strict=True):
        if row[0] < newest.get(slot, NEVER):
            return None
        newest[slot] = row[0]
        rings[slot].coming += 1
    for ring in rings.values():
        if ring.length > layout.spec.max_entries:
            return None
        ring.flat = flat
    return rings


def _with_room(
    table: KeyedTable, layout: Layout, rings: dict[int, OneRing], keys: list[int], rows: list[list[int]]
) -> dict[int, list[int]]:
    """Make room where it lacks; for the rows of such keys, what `found_in` says before that."""
    full = [ring for ring in rings.values() if ring.length > ring.mask + 1]
    if not full:
        return {}
    assert table.ring is not None
    slots = {ring.slot for ring in full}
    first: dict[int, int] = {}
    found: dict[int, list[int]] = {}
    for i, (slot, row) in enumerate(zip(keys, rows, strict=True)):
        if slot in slots:
            first.setdefault(slot, row[0])
            if layout.hashes:
                found[i] = found_in(layout, rings[slot], row)
    state = np.array([ring.row for ring in full])
    heads = make_room(
        table.ring, layout, np.array([ring.slot for ring in full]), state,
        counts=np.array([ring.coming for ring in full]), clock=np.array([first[ring.slot] for ring in full]),
    )  # fmt: skip
    for ring, row, head in zip(full, state.tolist(), heads.tolist(), strict=True):
        ring.move(row, head)
    return found


class _Row:
    """One row, the next of its key."""

    def __init__(self, layout: Layout, ring: OneRing, inputs: list[int]) -> None:
        self.layout, self.ring, self.inputs = layout, ring, inputs
        self.time = inputs[0]
        self.own = ring.stop
        self.through: list[int] = []

    def process(self, dropped: list[int] | None) -> list[int]:
        """Append, find the windows; what stands in the row's column of the result matrix. `dropped`: see `links_of`."""
        layout, ring, own = self.layout, self.ring, self.own
        row, flat, base, mask, width = ring.row, ring.flat, ring.base, ring.mask, ring.width
        at = 1 + len(layout.prefixes)
        entry = [self.time, *self._totals(self.inputs[1:at])]
        if layout.extremes:
            self._extremes(entry, at)
        links = links_of(layout, ring, self.inputs, entry, dropped) if layout.hashes else []
        earlier, valid = self._previous(entry) if layout.carried else ([], [])
        ring.append(entry)
        if links:
            link(ring, links)
        time, before = self.time, row[layout.EDGES : layout.total_field]
        edges = [
            tail if flat[base + (tail & mask) * width] > time - offset else ring.after(tail + 1, time - offset)
            for tail, offset in zip(before, layout.offsets, strict=True)
        ]
        parts = [own + 1, *edges, *self.through]
        if layout.reads:
            starts = [base + (edge & mask) * width + layout.prefix_at for edge in edges]
            parts += [flat[starts[edge] + column] for edge, column in layout.reads]
        out = [parts[upper] - parts[lower] for upper, lower in layout.pairs]
        for column, window in layout.extreme_lookups:
            low, high = edges[window.lo], own + 1 if window.hi == NOT_DELAYED else edges[window.hi]
            out.append(ring.least(layout.extreme_column + 3 * column, low, high))
        counters = self._distinct(links, before, edges) if layout.distinct else []
        out += counters
        out += [self._first_seen(links[lookup.column], lookup, edges) for lookup in layout.first_seen]
        out += earlier
        out += valid
        lost = row[layout.DROPPED] ^ NEVER
        out.append(int(bool(layout.offsets) and lost > time - layout.offsets[-1]))
        row[layout.NEWEST] = time
        row[layout.EDGES : layout.bucket_field] = [*edges, *self.through, *counters]
        return out

    def _totals(self, values: list[int]) -> list[int]:
        """The prefixes before this row; those behind it are in `through` then."""
        layout = self.layout
        totals = self.ring.row[layout.total_field : layout.distinct_field]
        through = [total + value for total, value in zip(totals, values, strict=True)]
        if through and (max(map(abs, through)) > TOTAL_MAX or max(map(abs, values)) > TOTAL_MAX):
            raise RecordError("overflow", "a running total exceeds 2**62")
        for i in layout.low_limbs:
            through[i - 1] += through[i] >> 32
            through[i] &= _LOW
        self.through = through
        return totals

    def _extremes(self, entry: list[int], at: int) -> None:
        """Values and their running minima since the blocks' starts."""
        ring, column = self.ring, self.layout.extreme_column
        short, long = extremes.BLOCKS if ring.start < self.own else (1, 1)
        for value in self.inputs[at : at + len(self.layout.extremes)]:
            small = ring.last(column + 1) if self.own & (short - 1) else NOTHING
            large = ring.last(column + 2) if self.own & (long - 1) else NOTHING
            entry += (value, min(value, small), min(value, large))
            column += 3

    def _previous(self, entry: list[int]) -> tuple[list[int], list[int]]:
        """Earlier values and whether they are known; what the entry carries of them is put into it."""
        layout, ring, count = self.layout, self.ring, len(self.layout.carried)
        at = 1 + len(layout.prefixes) + len(layout.extremes) + 2 * len(layout.hashes)
        values, known = self.inputs[at : at + count], self.inputs[at + count : at + 2 * count]
        passing = self.inputs[at + 2 * count :]
        flags = 0 if not self.own else ring.last(layout.flags_column) if layout.flagged else -1
        earlier, valid, bits, bit = list[int](), list[int](), 0, 0
        for value, is_known, carried in zip(values, known, layout.carried, strict=True):
            stop = bit + carried.depth
            before = [ring.last(layout.carried_column + i) if self.own else 0 for i in range(bit, stop)]
            earlier += before
            valid += [flags >> i & 1 for i in range(bit, stop)]
            carries = flags >> bit
            if carried.filter < 0 or passing[carried.filter]:
                before = [value, *before[:-1]]
                carries = carries << 1 | is_known
            entry += before
            bits |= (carries & (1 << carried.depth) - 1) << bit
            bit = stop
        if layout.flagged:
            entry.append(bits)
        return earlier, valid

    def _distinct(self, links: list[Link], before: list[int], edges: list[int]) -> list[int]:
        layout = self.layout
        stored = self.ring.row[layout.distinct_field : layout.bucket_field]
        return [
            count + distinct_values(self.ring, links[column], window, self.own, before=before, edges=edges)
            for count, (column, window) in zip(stored, layout.distinct, strict=True)
        ]

    def _first_seen(self, found: Link, lookup: Lookup, edges: list[int]) -> int:
        """1 where the value is known and not among its window's earlier rows."""
        window: Window = lookup.window
        position = found.previous
        if window.hi != NOT_DELAYED:
            while position >= edges[window.hi]:
                position = self.ring.read(position, found.column + 1)
        return int(found.known and position < edges[window.lo])
