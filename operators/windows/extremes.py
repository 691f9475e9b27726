"""Least value of a window, at a cost that hardly depends on its length; greatest: least of the complements.

An entry keeps its value and two running minima: over the positions from the start of its block of 32, and of its
block of 1024, up to itself. At a block's last position that is the block's minimum. A window low..high is

    low ... | 32 | 32 | ... | 1024 | 1024 | ... 1024 up to high - 1
    values    block minima    block minima       the running minimum of the last entry

so at most 31 + 31 + (length / 1024) + 1 reads. Running minima are position-aligned, so they survive a ring's
growth, move and reload, and an undo; what left the ring may still be part of one, but then of no block that lies
inside a window.
"""

from __future__ import annotations

__all__ = ["append", "least", "pairs_least", "query", "refresh", "window"]

import numpy as np
import numpy.typing as npt

from operators.windows.edges import View
from operators.windows.frame import NOTHING, Frame
from operators.windows.layout import I64, NOT_DELAYED, Layout, Lookup
from operators.windows.room import spread

BLOCKS = (32, 1024)


def append(frame: Frame, before: I64, stop: I64, own: I64, entries: I64) -> None:
    """The columns of rows in order: `before` (keys, width) is each key's newest entry, `stop` its ring's end."""
    rank = own - stop[frame.group]
    for i, values in enumerate(frame.extremes):
        column = frame.layout.extreme_column + 3 * i
        entries[:, column] = values
        for level, block in enumerate(BLOCKS, 1):
            seed = np.where(stop & (block - 1), before[:, column + level], NOTHING)
            entries[:, column + level] = _running(values, rank, own, first=frame.first, seed=seed, block=block)


def refresh(layout: Layout, entries: I64, position: I64, first: I64, seeds: I64) -> None:
    """Running minima anew of merged `entries` of some keys.

    `position`: of each; `first`: where each key's begin; `seeds` (keys, width): the entry before, NOTHING if none.
    """
    length = np.diff(first, append=len(entries))
    rank = np.arange(len(entries)) - np.repeat(first, length)
    for i in range(len(layout.extremes)):
        column = layout.extreme_column + 3 * i
        for level, block in enumerate(BLOCKS, 1):
            seed = np.where(position[first] & (block - 1), seeds[:, column + level], NOTHING)
            entries[:, column + level] = _running(
                entries[:, column], rank, position, first=first, seed=seed, block=block
            )


def _running(values: I64, rank: I64, position: I64, *, first: I64, seed: I64, block: int) -> I64:
    """Minimum since the block's start; `seed` is what stood before each key's first value (doubling steps)."""
    out = values.copy()
    out[first] = np.minimum(out[first], seed)
    reach = np.minimum(rank, position & (block - 1))
    longest = int(reach.max()) if len(reach) else 0
    step = 1
    while step <= longest:
        out[step:] = np.where(reach[step:] >= step, np.minimum(out[step:], out[:-step]), out[step:])
        step *= 2
    return out


def query(view: View, column: int, low: I64, high: I64) -> I64:
    """Least value of positions low..high (rows), NOTHING where there is none."""

    def read(begin: I64, count: I64, step: int, level: int) -> I64:
        if not count.any():
            return np.full(len(count), NOTHING)
        row = np.repeat(np.arange(len(count)), count)
        number = spread(np.zeros(len(count), np.int64), count)
        position = begin[row] + number * step
        return least(view.of(row).read(position, column + level), count)

    final = high - 1
    small, large = BLOCKS
    block = (low + small - 1) & -small  # first whole block
    tail = final & -small
    whole = (block <= tail) & (low < high)
    out = read(low, np.where(whole, block - low, np.maximum(high - low, 0)), 1, 0)
    if not whole.any():
        return out
    begin, tail2 = (block + large - 1) & -large, final & -large
    wide = whole & (tail2 >= block)
    middle = np.where(wide, np.minimum(begin, tail2), tail)
    out = np.minimum(out, read(block + small - 1, np.where(whole, (middle - block) // small, 0), small, 1))
    out = np.minimum(out, read(begin + large - 1, np.where(wide, (tail2 - begin) // large, 0), large, 2))
    last = view.read(final, column + np.where(wide, 2, 1))
    return np.where(whole, np.minimum(out, last), out)


def least(values: I64, count: I64) -> I64:
    """Minimum of count[0] values, of the next count[1], ...; NOTHING of none."""
    out = np.full(len(count), NOTHING)
    some = np.flatnonzero(count)
    if some.size:
        out[some] = np.minimum.reduceat(values, (np.cumsum(count) - count)[some])
    return out


def window(lookup: Lookup, edges: I64, after: I64) -> tuple[I64, I64]:
    """Positions low and high of a lookup's window; `after` is one past the row."""
    low, high = lookup.window
    return edges[low], after if high == NOT_DELAYED else edges[high]


def pairs_least(frame: Frame, lookup: Lookup, below: npt.NDArray[np.bool_], first: I64, rank: I64) -> I64:
    """Least value among earlier rows of a chunk, and the row itself if its window has no delay.

    `below` (edges + floor + own, pairs): whether the first of the pair lies below that edge of the second.
    """
    values = frame.extremes[lookup.column]
    low, high = lookup.window
    within = below[high] & ~below[low]  # high: NOT_DELAYED is the last, `own`
    out = least(np.where(within, values[first], NOTHING), rank)
    return np.minimum(out, values) if high == NOT_DELAYED else out
