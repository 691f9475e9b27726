"""Rows of tasks spread over the partitions of their keys: a plain loop, as machine code where it can be made."""

from __future__ import annotations

__all__ = ["HELPERS", "Keys", "Loop", "compiled_loop", "spread"]

from collections.abc import Callable
from functools import cache

import numpy as np
import numpy.typing as npt

from state.compiling import compiled

I64 = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]
Keys = tuple[Bytes, I64]
"""Keys one behind the other, and where each ends."""
Loop = Callable[[I64, I64, Keys, I64, I64], None]

_M = 0x5BD1E995
_SEED = 0x9747B28C
_MASK = 0xFFFFFFFF


def spread(times: I64, edges: I64, keys: Keys, stops: I64, rows: I64) -> None:
    """Rows by partition, in each of them by time; those of one task stay as they are.

    Args:
        times: of each row, ms.
        edges: (tasks, 2) of rows, first and one past the last; they cover all rows, in order.
        keys: of the rows.
        stops: (partitions,) is filled: where each partition's end among the rows.
        rows: (rows,) is filled with the rows.
    """
    data, ends = keys
    places, begin = np.empty(len(times), np.int64), 0
    stops[:] = 0
    for row in range(len(times)):
        places[row] = (murmur2(data[begin : ends[row]]) & 0x7FFFFFFF) % len(stops)
        begin = ends[row]
        stops[places[row]] += 1
    following = edges[:, 0].copy()
    begin = 0
    for partition in range(len(stops)):
        begin, stops[partition] = begin + stops[partition], begin
    for _ in range(len(times)):
        row = next_row(edges, following, times)
        rows[stops[places[row]]] = row
        stops[places[row]] += 1


def next_row(edges: I64, following: I64, times: I64) -> int:
    """Of the tasks' next rows (`following`) the one of least time, of equal ones the first.

    One that is earlier than the row before it in its task so comes right behind that: none of the others was earlier.
    """
    first = -1
    for task in range(len(edges)):
        if following[task] < edges[task, 1] and (first < 0 or times[following[task]] < times[following[first]]):
            first = task
    following[first] += 1
    return int(following[first]) - 1


def murmur2(data: Bytes) -> int:
    """Kafka's, 32 bits without a sign; see `state.hashing`."""
    length = len(data)
    h = (_SEED ^ length) & _MASK
    for at in range(0, length - 3, 4):
        k = word(data, at, 4) * _M & _MASK
        h = (h * _M ^ (k ^ k >> 24) * _M) & _MASK
    if length & 3:
        h = (h ^ word(data, length - (length & 3), length & 3)) * _M & _MASK
    h = (h ^ h >> 13) * _M & _MASK
    return h ^ h >> 15


def word(data: Bytes, at: int, count: int) -> int:
    """A number of so many bytes, the lowest first."""
    found = 0
    for i in range(count):
        found |= int(data[at + i]) << 8 * i
    return found


HELPERS = (next_row, murmur2, word)


@cache
def compiled_loop() -> Loop:
    """The loop as machine code.

    Raises:
        ImportError: numba is not installed.
    """
    return compiled(spread, HELPERS)
