"""Rows that are handed on, over the partitions of the next stage: by event time, those of a task as they stand."""

from __future__ import annotations

__all__ = ["Spreader"]

from collections.abc import Iterator, Sequence
from itertools import accumulate

import numpy as np
import numpy.typing as npt

from state.compiling import can_compile, made_or_told
from state.hashing import partitions_of
from state.spread_loop import Loop, compiled_loop

I64 = npt.NDArray[np.int64]


class Spreader:
    """Says which rows go to which partition, and in which order."""

    def __init__(self) -> None:
        self._loop: Loop | None = None

    def prepare(self) -> None:
        """Keys are hashed by a compiled loop from now on, where it can be made."""
        self._loop = made_or_told(self._made, "rows are handed on by columns") if can_compile() else None

    def _made(self) -> Loop:
        """The loop, tried once."""
        loop, none = compiled_loop(), np.empty(0, np.int64)
        loop(none, np.empty((0, 2), np.int64), (np.frombuffer(b"", np.uint8), none), none, none)
        return loop

    def spread(self, keys: Sequence[bytes], times: I64, edges: I64, partitions: int) -> Iterator[tuple[int, I64]]:
        """Partitions that get rows, ascending, and these rows in order.

        Args:
            keys: one a row.
            times: of the rows, ms.
            edges: (tasks, 2) of rows, first and one past the last; they cover all rows, in order.
            partitions: how many there are.
        """
        if self._loop is None:
            order = _in_step(times, edges)
            places = partitions_of(keys, partitions)[order]
            return ((partition, order[places == partition]) for partition in sorted(set(places.tolist())))
        ends = np.fromiter(accumulate(map(len, keys)), np.int64, len(keys))
        stops, rows = np.empty(partitions, np.int64), np.empty(len(keys), np.int64)
        self._loop(times, edges, (np.frombuffer(b"".join(keys), np.uint8), ends), stops, rows)
        bounds = [0, *stops.tolist()]
        return ((at, rows[bounds[at] : stop]) for at, stop in enumerate(bounds[1:]) if stop > bounds[at])


def _in_step(times: I64, edges: I64) -> I64:
    """The order in which rows of several tasks are handed on."""
    times = times.copy()
    for start, stop in edges.tolist():
        mine = times[start:stop]
        np.maximum.accumulate(mine, out=mine)
    return np.argsort(times, kind="stable")
