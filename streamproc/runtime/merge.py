"""The order in which a task takes records of several streams: head against head, by (event time, stream). Pure.

One stream's records are never reordered: a late one stays behind those before it, and comes as soon as it is a head.
So the order is that of the running maxima of event time, one a stream; equal ones go by stream, then by offset.

    payments   10:00  10:05          logins   10:01  10:03  10:02
    merged     payment 10:00, login 10:01, login 10:03, login 10:02, payment 10:05

Where a stream is open (it has run out here, but the log may hold more of it), nothing may pass what is unknown: the
order ends behind its last record. That makes it independent of how the log's answers were cut.
"""

from __future__ import annotations

__all__ = ["Lane", "Run", "blocked_by", "merge_heads"]

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

I64 = npt.NDArray[np.int64]


class Lane(NamedTuple):
    """What is buffered of one stream: the event times (ms) of its records, in offset order; one that cannot be read has
    a time before all others. `open`: more of it may come that is to be waited for.
    """

    times: I64
    open: bool


class Run(NamedTuple):
    """The next so many records of a lane, by its number."""

    lane: int
    rows: int


def merge_heads(lanes: Sequence[Lane]) -> list[Run]:
    """As much of the merge as is certain, in as few runs as there are; a lane's records in their order.

    >>> lane = lambda *times, open=False: Lane(np.array(times, np.int64), open)
    >>> merge_heads([lane(0, 5), lane(1, 3, 2)])
    [Run(lane=0, rows=1), Run(lane=1, rows=3), Run(lane=0, rows=1)]
    >>> merge_heads([lane(0, 5), lane(1, open=True)])
    [Run(lane=0, rows=1), Run(lane=1, rows=1)]
    """
    if blocked_by(lanes):
        return []
    numbers = np.repeat(np.arange(len(lanes)), [len(lane.times) for lane in lanes])
    if not numbers.size:
        return []
    clocks = np.concatenate([np.maximum.accumulate(lane.times) for lane in lanes])
    merged = numbers[np.lexsort((numbers, clocks))]  # stable: a lane's own order stays
    ends = [int(np.flatnonzero(merged == number)[-1]) + 1 for number, lane in enumerate(lanes) if lane.open]
    merged = merged[: min(ends, default=len(merged))]
    edges = np.flatnonzero(np.diff(merged, prepend=-1))
    lengths = np.diff(edges, append=len(merged))
    return [Run(*run) for run in zip(merged[edges].tolist(), lengths.tolist(), strict=True)]


def blocked_by(lanes: Sequence[Lane]) -> list[int]:
    """The open lanes that have nothing: nothing can be taken before something comes, or they are waited for no more."""
    return [number for number, lane in enumerate(lanes) if lane.open and not len(lane.times)]
