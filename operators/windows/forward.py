"""Rows in order: every row's clock is at least that of its key's rows before it. The fast path.

All rows of a batch are appended first; then every row finds its own window below its own position. There is no
loop over keys and none over rows of one key.

    rows sorted by (key, row order)
      position of each row      p = stop + rank
      exclusive prefixes        cumsum over the batch, shifted per key to continue the stored totals
      entries[p] = clock, prefixes, ...
      edges                     advance from the key's stored edges (edges.py)
      differences               stack[upper] - stack[lower], see `Layout`
"""

from __future__ import annotations

__all__ = ["forward"]

import numpy as np

from operators.windows import extremes, previous
from operators.windows.distinct import Linker
from operators.windows.edges import advance
from operators.windows.frame import I64, Frame
from operators.windows.room import NEVER, dropped, make_room, set_dropped
from operators.windows.totals import running
from state.ring import Ring
from state.table import KeyedTable


def forward(table: KeyedTable, frame: Frame, result: I64) -> None:
    """Process rows in order.

    Args:
        table: its slots are touched.
        frame: the rows.
        result: (result rows, rows), filled.
    """
    layout, ring = frame.layout, table.ring
    assert ring is not None
    slots, first, group = frame.unique, frame.first, frame.group
    row = table.rows[slots]
    heads = make_room(ring, layout, slots, row, frame.count, frame.clock[first])
    stop = heads[:, ring.STOP]
    width, flat = layout.width, ring.entries.reshape(-1)
    base, mask = (heads[:, ring.OFF] * width)[group], heads[:, ring.MASK][group]
    own = np.arange(frame.size) + (stop - first)[group]
    entries = np.empty((frame.size, width), np.int64)
    entries[:, 0] = frame.clock
    fields = slice(layout.total_field, layout.total_field + len(layout.prefixes))
    exclusive, through = running(layout, frame.values, row[:, fields].T, first, group)
    entries[:, 1 : layout.extreme_column] = exclusive.T
    if layout.carried or layout.extremes:
        before = ring.entries[heads[:, ring.OFF] + ((stop - 1) & heads[:, ring.MASK])]
        previous.follow(frame, before, stop > 0, row[:, layout.NEWEST], result, entries)
        extremes.append(frame, before, stop, own, entries)
    linkers = [Linker(table, frame, i, heads, row, own) for i in range(len(layout.hashes))]
    for linker in linkers:
        linker.fill(entries)
    ring.entries[heads[:, ring.OFF][group] + (own & mask)] = entries

    edge_fields = slice(layout.EDGES, layout.EDGES + len(layout.offsets))
    tails = row[:, edge_fields].T
    edges = advance(flat, width, base, mask, tails.take(group, axis=1), frame.limits, own)
    _flag_missing(table, frame, row, heads, edges, own, result)
    stack(frame, flat, base, mask, own + 1, edges, through, result)

    for i, lookup in enumerate(layout.extreme_lookups, layout.extreme_at):
        low, high = extremes.window(lookup, edges, own + 1)
        column = layout.extreme_column + 3 * lookup.column
        result[i] = extremes.query(flat, width, base, mask, column, low, high)
    if linkers:
        _values(ring, frame, linkers, edges, row, result)
    row[:, layout.NEWEST] = frame.time[frame.last]
    row[:, edge_fields] = edges[:, frame.last].T
    row[:, fields] = through[:, frame.last].T
    table.rows[slots] = row
    ring.heads[slots, ring.STOP] = stop + frame.count


def _values(ring: Ring, frame: Frame, linkers: list[Linker], edges: I64, row: I64, result: I64) -> None:
    """Distinct and first-seen results, and the counters in `row`."""
    layout = frame.layout
    for linker in linkers:
        linker.join(ring)
    tails = row[:, layout.EDGES : layout.EDGES + len(layout.offsets)].T
    for i, lookup in enumerate(layout.distinct):
        stored = row[:, layout.distinct_field + i]
        found = linkers[lookup.column].distinct(ring, lookup, edges, tails, stored)
        result[layout.distinct_at + i] = found
        row[:, layout.distinct_field + i] = found[frame.last]
    for i, lookup in enumerate(layout.first_seen, layout.first_seen_at):
        result[i] = linkers[lookup.column].first_seen(ring, lookup, edges)


def stack(
    frame: Frame, flat: I64, base: I64, mask: I64, after: I64, edges: I64, through: I64, result: I64
) -> None:
    """All differences: of positions (`after`: one past the row), and of prefixes read at the edges."""
    layout = frame.layout
    edge_count, prefixes = len(layout.offsets), len(layout.prefixes)
    parts = np.empty((1 + edge_count + prefixes + len(layout.reads), frame.size), np.int64)
    parts[0] = after
    parts[1 : 1 + edge_count] = edges
    parts[1 + edge_count : 1 + edge_count + prefixes] = through
    if layout.reads:
        edge, column = np.array(layout.reads, np.int64).reshape(-1, 2).T
        at = base + (edges & mask) * layout.width
        parts[1 + edge_count + prefixes :] = flat.take(at[edge] + (column + layout.prefix_at)[:, None])
    np.subtract(parts[layout.upper], parts[layout.lower], out=result[: len(layout.differences)])


def _flag_missing(
    table: KeyedTable, frame: Frame, row: I64, heads: I64, edges: I64, own: I64, result: I64
) -> None:
    """Windows that reach below what was dropped are incomplete; beyond `max_entries` they are cut."""
    layout, ring = frame.layout, table.ring
    assert ring is not None
    missing = result[layout.incomplete_at]
    missing[:] = 0
    lost = dropped(layout, row)
    if not layout.offsets:
        return
    cap = layout.spec.max_entries
    if (heads[:, ring.STOP] + frame.count - heads[:, ring.START]).max() <= cap:
        if (lost > NEVER).any():
            missing[:] = lost[frame.group] > frame.limits[-1]
        return
    floor = own + 1 - cap
    last = np.maximum(floor - 1, heads[:, ring.START][frame.group])  # newest entry beyond the cap, if it is there
    at = (heads[:, ring.OFF][frame.group] + (last & heads[:, ring.MASK][frame.group])) * layout.width
    clock = np.where(floor > heads[:, ring.START][frame.group], ring.entries.reshape(-1).take(at), NEVER)
    missing[:] = np.maximum(clock, lost[frame.group]) > frame.limits[-1]
    np.maximum(edges, floor, out=edges)
    group_lost = clock[frame.last]
    set_dropped(layout, row, group_lost)
