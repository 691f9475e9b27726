"""Which windows of time a row belongs to."""

from __future__ import annotations

__all__ = ["assigned"]

import numpy as np

from streamproc.sql.codes import Ints
from streamproc.sql.plan import WindowShape


def assigned(shape: WindowShape, times: Ints, codes: Ints) -> tuple[Ints, Ints, Ints]:
    """Rows, each once for each of its windows, in order; and these windows' starts and ends (exclusive), ms.

    `codes`: rows with equal ones are of one key; a session is of one key.
    """
    rows = np.arange(len(times))
    if shape.kind == "session":
        return rows, *_sessions(shape.size, times, codes)
    first = times - (times - shape.offset) % shape.step
    if shape.kind == "tumble":
        return rows, first, first + shape.size
    if shape.kind == "hop":
        return _hops(shape, times, first)
    start = times - (times - shape.offset) % shape.size
    steps = shape.size // shape.step
    ends = first[:, None] + shape.step * np.arange(1, steps + 1)
    within = ends <= (start + shape.size)[:, None]
    row, step = np.nonzero(within)
    return row, start[row], ends[row, step]


def _hops(shape: WindowShape, times: Ints, last: Ints) -> tuple[Ints, Ints, Ints]:
    """Windows that begin every `step` and hold `size`: earlier ones first."""
    count = -(-shape.size // shape.step)
    starts = last[:, None] - shape.step * np.arange(count - 1, -1, -1)
    row, hop = np.nonzero(starts + shape.size > times[:, None])
    start = starts[row, hop]
    return row, start, start + shape.size


def _sessions(gap: int, times: Ints, codes: Ints) -> tuple[Ints, Ints]:
    """A session goes on while a row of its key comes less than the gap after the one before."""
    order = np.lexsort((times, codes))
    ordered, keys = times[order], codes[order]
    begins = np.ones(len(times), np.bool_)
    begins[1:] = (np.diff(ordered) > gap) | (np.diff(keys) != 0)
    number = np.cumsum(begins) - 1
    firsts = np.flatnonzero(begins)
    lasts = np.append(firsts[1:], len(times)) - 1
    start, end = np.empty_like(times), np.empty_like(times)
    if len(times):
        start[order] = ordered[firsts][number]
        end[order] = ordered[lasts][number] + gap
    return start, end
