"""Room in the rings, and what leaves them.

Which entries a row may see is a function of row order alone (`floor`: clock > newest clock so far - horizon, and
the newest `max_entries`). Entries are only taken out when a ring is full, so a ring may hold more than is visible:
no kernel may look below the floor. The newest clock ever taken out is kept (`dropped`): a window that reaches below
it is incomplete. With `previous` features the newest entry stays whatever its age.
"""

from __future__ import annotations

__all__ = ["NEVER", "dropped", "make_room", "set_dropped", "spread"]

import numpy as np

from operators.windows.edges import View, search
from operators.windows.frame import I64
from operators.windows.layout import Layout
from state.ring import Ring

NEVER = np.iinfo(np.int64).min  # the clock of nothing; a field of a new key is 0, so it is stored xor NEVER


def dropped(layout: Layout, row: I64) -> I64:
    """Newest clock dropped of each row of the table, NEVER if none."""
    return row[:, layout.DROPPED] ^ NEVER


def set_dropped(layout: Layout, row: I64, clock: I64) -> None:
    """Raise the newest clock dropped."""
    row[:, layout.DROPPED] = np.maximum(dropped(layout, row), clock) ^ NEVER


def make_room(ring: Ring, layout: Layout, slots: I64, row: I64, *, counts: I64, clock: I64) -> I64:
    """Room for `counts` entries more of the (touched) `slots`; entries that a row at `clock` cannot see may go.

    `row` (the table's rows, changed in place) and the heads are kept consistent. Returns the heads, a copy.
    """
    heads = ring.heads[slots]
    stop = heads[:, ring.STOP]
    small = (stop + counts - heads[:, ring.START] > heads[:, ring.MASK] + 1).nonzero()[0]
    if not small.size:
        return heads
    mine = slots[small]
    part = row[small]
    _expire(ring, layout, mine, part, heads=heads[small], clock=clock[small])
    row[small] = part
    ring.append_room(mine, counts[small])
    heads[small] = ring.heads[mine]
    return heads


def spread(begin: I64, count: I64) -> I64:
    """begin[0], begin[0] + 1, ... (count[0] of them), begin[1], ..."""
    ends = count.cumsum()
    out: I64 = np.arange(int(ends[-1]) if len(ends) else 0) + np.repeat(begin - ends + count, count)
    return out


def _expire(ring: Ring, layout: Layout, slots: I64, row: I64, *, heads: I64, clock: I64) -> None:
    off, mask, start, stop = heads.T
    view = View(ring.entries.reshape(-1), layout.width, off * layout.width, mask)
    limit = clock - layout.horizon
    if not ((stop > start) & (view.read(start) <= limit) | (stop - start > layout.spec.max_entries)).any():
        return  # they only grow
    new = search(view, start, stop, limit[None])[0]
    if layout.previous:
        new = np.maximum(new - 1, start)
    new = np.maximum(new, stop - layout.spec.max_entries)
    if layout.distinct:  # the counters still need what leaves the windows
        new = np.minimum(new, np.maximum(row[:, layout.EDGES + len(layout.offsets) - 1], start))
    gone = (new > start).nonzero()[0]
    if not gone.size:
        return
    new, row_gone = new[gone], row[gone]
    set_dropped(layout, row_gone, view.of(gone).read(new - 1))
    # what is taken out may be overwritten by this batch, and comes back if the batch is undone
    each = np.repeat(gone, new - start[gone])
    position = spread(start[gone], new - start[gone])
    ring.save(off[each] + (position & mask[each]))
    edges = slice(layout.EDGES, layout.EDGES + len(layout.offsets))
    row_gone[:, edges] = np.maximum(row_gone[:, edges], new[:, None])
    row[gone] = row_gone
    ring.heads[slots[gone], ring.START] = new
