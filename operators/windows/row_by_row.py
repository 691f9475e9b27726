"""Rows in order by the loops of loop.py, compiled: what forward.py does by columns, in a fraction of the time.

Results and state are the same, bit by bit. Layouts with a precision are left to the columns.
"""

from __future__ import annotations

__all__ = ["Loops", "RowByRow", "compiled_loops"]

from collections.abc import Callable, Iterable
from functools import cache
from typing import NamedTuple

import numpy as np

from operators.windows import hashes, loop
from operators.windows.frame import COUNTED, I64, KNOWN, Frame
from operators.windows.hashes import NONE, keep_index, take_index
from operators.windows.layout import Layout
from operators.windows.loop import Batch, State
from operators.windows.program import Program, program
from state.compiling import compiled, compiled_within
from state.errors import RecordError
from state.table import KeyedTable


class Loops(NamedTuple):
    """The steps of loop.py: the functions themselves, or what they were compiled to."""

    find: Callable[[Program, State, Batch, I64], None] = loop.find
    expire: Callable[[Program, State, Batch], I64] = loop.expire
    relinked: Callable[[Program, State, Batch], I64] = loop.relinked
    decide: Callable[[Program, State, Batch, I64], bool] = loop.decide


@cache
def compiled_loops() -> Loops:
    """The loops as machine code.

    Raises:
        ImportError: numba is not installed.
    """
    compiled_within(*loop.HELPERS)
    return Loops(compiled(loop.find), compiled(loop.expire), compiled(loop.relinked), compiled(loop.decide))


class RowByRow:
    """Rows in order of one layout, which has no precision."""

    def __init__(self, layout: Layout, loops: Loops) -> None:
        self._layout, self._loops = layout, loops
        self._program = program(layout)

    def warm_up(self) -> None:
        """Make the machine code, or fetch what is kept of it, before rows come."""
        inputs = self._program.passing_input + len(self._layout.filters)
        frame = Frame(self._layout, np.empty(0, np.int64), np.empty((inputs, 0), np.int64))
        self.replay(KeyedTable(self._layout.table), frame)

    def process(self, table: KeyedTable, frame: Frame, result: I64) -> None:
        """As `forward`.

        Raises:
            RecordError: a running total is beyond 2**62.
        """
        p, ring, steps = self._program, table.ring, self._loops
        assert ring is not None
        first, inputs = np.append(frame.first, frame.size), np.ascontiguousarray(frame.data.T)
        batch = Batch(frame.unique, first, inputs, np.empty((frame.size, p.hashes), np.int64))
        if p.hashes:
            steps.find(p, _state(table), batch, self._look_up(table, frame, batch.found))
        gone = steps.expire(p, _state(table), batch)
        if gone.size:
            ring.save(gone)
        ring.append_room(frame.unique, frame.count)
        if p.hashes and (old := steps.relinked(p, _state(table), batch)).size:
            ring.save(old)
        if not steps.decide(p, _state(table), batch, result):
            raise RecordError("overflow", "a running total exceeds 2**62")

    def replay(self, table: KeyedTable, frame: Frame) -> None:
        """As `replay_forward`."""
        self.process(table, frame, np.empty((self._layout.result_rows, frame.size), np.int64))

    def _look_up(self, table: KeyedTable, frame: Frame, found: I64) -> I64:
        """Fill `found` (rows, hashes) of keys whose rings are long, by their indices; which keys (0 or 1) these are."""
        assert table.ring is not None
        heads = table.ring.heads[frame.unique]
        done = heads[:, table.ring.STOP] - heads[:, table.ring.START] + frame.count > hashes.SHORT
        for key in done.nonzero()[0].tolist():
            rows = slice(int(frame.first[key]), int(frame.last[key]) + 1)
            slot, (off, mask, start, stop) = int(frame.unique[key]), heads[key].tolist()
            newest = int(table.rows[slot, Layout.NEWEST])
            for number, column in enumerate(self._layout.hash_columns.tolist()):
                index = take_index(
                    table, slot, column, off=off, mask=mask, start=start, stop=stop, newest=newest
                )  # fmt: skip
                values = zip(frame.hashes[number, rows].tolist(), frame.states[number, rows].tolist(), strict=True)
                found[rows, number] = _through(index, values, start, stop)
                end, newest_then = stop + rows.stop - rows.start, int(frame.time[rows.stop - 1])
                keep_index(table, slot, column, index, length=end - start, stop=end, newest=newest_then)
        return done.astype(np.int64)


def _state(table: KeyedTable) -> State:
    """The arrays as they are now: making room may replace them."""
    assert table.ring is not None
    return State(table.ring.entries, table.ring.heads, table.rows, table.ring.flushed)


def _through(index: dict[int, int], values: Iterable[tuple[int, int]], start: int, stop: int) -> list[int]:
    """Where each of the values (and their states) last stood, the first of them at `stop`; the index learns of them."""
    found = []
    for own, (value, state) in enumerate(values, stop):
        position = index.get(value, NONE)
        found.append(position if state & KNOWN and position >= start else NONE)
        if state & COUNTED:
            index[value] = own
    return found
