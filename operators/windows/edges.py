"""Window edges: the position of the first entry whose clock lies above a limit.

`advance` serves rows in order: an edge starts at the key's stored position and only moves forward. Most stay or
move by one, so that is tried first; what is left is searched by bisection below the row's own position. `search`
is the plain bisection, for late rows. Both work on all edges of all rows at once.

An entry at position q of a key lies at flat index `base + (q & mask) * width`.
"""

from __future__ import annotations

__all__ = ["advance", "search"]

import numpy as np
import numpy.typing as npt

from operators.windows.frame import I64


def advance(flat: I64, width: int, base: I64, mask: I64, tails: I64, limits: I64, own: I64) -> I64:
    """Move `tails` (edges, rows; C order, changed in place) up to the first clock > `limits`; never beyond `own` (rows)."""
    at = np.bitwise_and(tails, mask)
    at *= width
    at += base
    assert tails.flags.c_contiguous
    moving = np.flatnonzero((flat.take(at) <= limits).ravel())
    if not moving.size:
        return tails
    row = moving % len(own)
    low = tails.ravel()[moving] + 1
    tails.ravel()[moving] = low
    live = np.flatnonzero(flat.take(base[row] + (low & mask[row]) * width) <= limits.ravel()[moving])
    if live.size:
        moving, row = moving[live], row[live]
        hunt = _Hunt(flat, width, base[row], mask[row], low[live] + 1, own[row], limits.ravel()[moving])
        tails.ravel()[moving] = hunt.gallop()
    return tails


def search(flat: I64, width: int, base: I64, mask: I64, low: I64, high: I64, limits: I64) -> I64:
    """First position in low..high (rows) with clock > `limits` (edges, rows), `high` if there is none."""
    edges = len(limits)
    wide = [np.tile(each, edges) for each in (base, mask, low, high)]
    return _Hunt(flat, width, *wide, limits.ravel()).bisect().reshape(limits.shape)


class _Hunt:
    """First positions in low..high whose clock is above the limit; `high` itself is never read."""

    def __init__(self, flat: I64, width: int, base: I64, mask: I64, low: I64, high: I64, limit: I64) -> None:
        self.flat, self.width, self.base, self.mask = flat, width, base, mask
        self.low, self.high, self.limit = low, high, limit

    def _below(self, position: I64, base: I64, mask: I64, limit: I64) -> npt.NDArray[np.bool_]:
        return self.flat.take(base + (position & mask) * self.width) <= limit

    def gallop(self) -> I64:
        """Look ahead in doubling steps, then bisect: cheap when edges move little."""
        live = np.flatnonzero(self.low < self.high)
        step = 1
        while live.size:
            low, high = self.low[live], self.high[live]
            probe = np.minimum(low + step, high - 1)
            below = self._below(probe, self.base[live], self.mask[live], self.limit[live])
            self.low[live] = np.where(below, probe + 1, low)
            self.high[live] = np.where(below, high, probe)
            live = live[below & (probe + 1 < high)]
            step *= 4
        return self.bisect()

    def bisect(self) -> I64:
        """Halve all that is open, together."""
        live = np.flatnonzero(self.low < self.high)
        low, high, base, mask, limit = (
            each[live] for each in (self.low, self.high, self.base, self.mask, self.limit)
        )
        while live.size:
            middle = (low + high) >> 1
            below = self._below(middle, base, mask, limit)
            low = np.where(below, middle + 1, low)
            high = np.where(below, high, middle)
            open_ = low < high
            if not open_.all():
                self.low[live] = low
                live, low, high, base, mask, limit = (each[open_] for each in (live, low, high, base, mask, limit))
        return self.low
