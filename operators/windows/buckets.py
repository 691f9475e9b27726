"""Which rows need an entry of their own when a window has a `precision`.

Edges fall between buckets, so rows of one bucket enter and leave windows together. A row needs an entry only if it
is the first of its bucket, or brings the bucket a new least value or a new hash; the totals of the others lie
between two prefixes all the same. Late rows always get an entry (late.py); so do rows in order behind one that are a
new least of their bucket since. All this depends on row order, and not on where batches are cut.

The least values of the newest bucket stand in the key's row (`bucket_field`); NOTHING means: not known.
"""

from __future__ import annotations

__all__ = ["new_buckets", "new_extremes"]

import numpy as np
import numpy.typing as npt

from operators.windows.frame import NOTHING, Frame
from operators.windows.layout import I64, Layout

Mask = npt.NDArray[np.bool_]


def new_buckets(frame: Frame, row: I64, known: Mask) -> Mask:
    """Rows that are the first of their bucket; `row` (keys, fields), `known`: whether the key has entries."""
    newest = frame.layout.clock(row[:, Layout.NEWEST])
    out = np.empty(frame.size, np.bool_)
    out[1:] = frame.clock[1:] != frame.clock[:-1]
    out[frame.first] = ~known | (frame.clock[frame.first] != newest)
    return out


def new_extremes(frame: Frame, row: I64, fresh: Mask, behind: Mask | None = None) -> Mask:
    """Rows below all earlier ones of their bucket; the bucket's least values in `row` are brought up to date.

    `behind`: late rows, after which the least values are not known any more; None: there are none.
    """
    layout = frame.layout
    out = np.zeros(frame.size, np.bool_)
    late = np.zeros(frame.size, np.bool_) if behind is None else behind
    begins = fresh | late
    begins[1:] |= late[:-1]
    begins[frame.first] = True
    unknown = (fresh | late)[frame.first]
    at = np.arange(frame.size)
    rank = at - np.maximum.accumulate(np.where(begins, at, 0))
    for i, values in enumerate(frame.extremes):
        field = layout.bucket_field + i
        seed = np.where(unknown, NOTHING, row[:, field])
        mine = np.where(late, NOTHING, values)
        least = mine.copy()
        least[frame.first] = np.minimum(least[frame.first], seed)
        step = 1
        while step <= int(rank.max()):
            least[step:] = np.where(rank[step:] >= step, np.minimum(least[step:], least[:-step]), least[step:])
            step *= 2
        before = np.empty_like(least)
        before[1:] = least[:-1]
        before[begins] = NOTHING
        before[frame.first] = seed
        out |= mine < before
        row[:, field] = least[frame.last]
    return out
