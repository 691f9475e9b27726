"""Window edges: the position of the first entry whose clock lies above a limit.

`advance` serves rows in order: an edge starts at the key's stored position and only moves forward. Most stay or
move by one, so that is tried first; what is left is searched by bisection below the row's own position. `search`
is the plain bisection, for late rows. Both work on all edges of all rows at once.

`View` says where the entries of each row's key lie.
"""

from __future__ import annotations

__all__ = ["View", "advance", "search"]

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from operators.windows.layout import I64


class View(NamedTuple):
    """Rings of some rows (or keys): the entry at position q lies at `base + (q & mask) * width` of the flat arena."""

    flat: I64
    width: int
    base: I64
    mask: I64

    def read(self, position: I64, column: int | I64 = 0) -> I64:
        """A column (0: the clock) of the entries at positions (.., rows)."""
        return self.flat.take(np.add(self.base + (position & self.mask) * self.width, column))

    def of(self, rows: npt.NDArray[np.intp]) -> View:
        """The rings of those rows."""
        return View(self.flat, self.width, self.base[rows], self.mask[rows])


def advance(view: View, tails: I64, limits: I64, own: I64) -> I64:
    """Move `tails` up to the first clock > `limits`, both (edges, rows); never beyond `own` (rows).

    `tails` (C order) is changed in place, and returned.
    """
    assert tails.flags.c_contiguous
    moving = ((view.read(tails) <= limits).ravel()).nonzero()[0]
    if not moving.size:
        return tails
    row = moving % len(own)
    low = tails.ravel()[moving] + 1
    tails.ravel()[moving] = low
    live = (view.of(row).read(low) <= limits.ravel()[moving]).nonzero()[0]
    if live.size:
        moving, row = moving[live], row[live]
        hunt = _Hunt(view.of(row), low[live] + 1, own[row], limits.ravel()[moving])
        tails.ravel()[moving] = hunt.gallop()
    return tails


def search(view: View, low: I64, high: I64, limits: I64) -> I64:
    """First position in low..high (rows) with clock > `limits` (edges, rows), `high` if there is none."""
    edges = len(limits)
    base, mask, low, high = (np.tile(each, edges) for each in (view.base, view.mask, low, high))
    wide = View(view.flat, view.width, base, mask)
    return _Hunt(wide, low, high, limits.ravel()).bisect().reshape(limits.shape)


class _Hunt:
    """First positions in low..high whose clock is above the limit; `high` itself need not exist."""

    def __init__(self, view: View, low: I64, high: I64, limit: I64) -> None:
        self.view, self.low, self.high, self.limit = view, low, high, limit

    def gallop(self) -> I64:
        """Look ahead in growing steps, then bisect: cheap when edges move little."""
        live = (self.low < self.high).nonzero()[0]
        step = 1
        while live.size:
            low, high = self.low[live], self.high[live]
            probe = np.minimum(low + step, high - 1)
            below = self.view.of(live).read(probe) <= self.limit[live]
            self.low[live] = np.where(below, probe + 1, low)
            self.high[live] = np.where(below, high, probe)
            live = live[below & (probe + 1 < high)]
            step *= 4
        return self.bisect()

    def bisect(self) -> I64:
        """Halve all ranges together, as often as the longest one needs."""
        low, length = self.low, self.high - self.low
        for _ in range(int(length.max(initial=0)).bit_length()):
            half = length >> 1
            below = (self.view.read(low + half) <= self.limit) & (length > 0)
            low = np.where(below, low + half + 1, low)
            length = np.where(below, length - half - 1, half)
        return low
