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
from operators.windows.frame import COUNTED, I64, KNOWN, NOTHING, BySlot, by_slot
from operators.windows.hashes import NONE, keep_index, take_index
from operators.windows.layout import Layout
from operators.windows.program import Packed, packed, program
from state.compiling import compiled, compiled_within
from state.errors import RecordError
from state.table import KeyedTable

Arrays = tuple[I64, ...]


class Loops(NamedTuple):
    """The steps of loop.py: the functions themselves, or what they were compiled to."""

    look: Callable[[Arrays, Arrays, int, I64], int] = loop.look
    ready: Callable[[Packed, Arrays, Arrays, I64], I64] = loop.ready
    decide: Callable[[Packed, Arrays, Arrays, I64], bool] = loop.decide


@cache
def compiled_loops() -> Loops:
    """The loops as machine code.

    Raises:
        ImportError: numba is not installed.
    """
    compiled_within(*loop.HELPERS)
    return Loops(compiled(loop.look), compiled(loop.ready), compiled(loop.decide))


class RowByRow:
    """Rows in order of one layout, which has no precision."""

    def __init__(self, layout: Layout, loops: Loops) -> None:
        self._layout, self._loops = layout, loops
        self._program = program(layout)
        self._packed = packed(self._program)

    def warm_up(self) -> None:
        """Make the machine code, or fetch what is kept of it, before rows come."""
        inputs = self._program.passing_input + len(self._layout.filters)
        self.process(
            KeyedTable(self._layout.table), by_slot(np.empty(0, np.int64)), np.empty((inputs, 0), np.int64),
            np.empty((self._layout.result_rows, 0), np.int64),
        )  # fmt: skip

    def process(self, table: KeyedTable, rows: BySlot, data: I64, result: I64) -> bool:
        """Bring the state of touched keys up to date with `rows`, and fill their columns of `result`.

        Args:
            table: of the layout.
            rows: some of the batch's, by slot.
            data: the batch's inputs (inputs, rows), `load`.
            result: (result rows, rows of the batch).

        Returns:
            False if a row comes late: then nothing was done.

        Raises:
            RecordError: a running total is beyond 2**62.
        """
        p, ring, steps = self._program, table.ring, self._loops
        assert ring is not None
        inputs, found = data.T.take(rows.order, axis=0), np.empty((len(rows.order), p.hashes), np.int64)
        batch, is_long = (rows.unique, rows.first, rows.order, inputs, found), np.zeros(len(rows.unique), np.int64)
        many = steps.look(_state(table), batch, hashes.SHORT if p.hashes else NOTHING, is_long)
        if many < 0:
            return False
        if many:
            self._look_up(table, rows, inputs, found, is_long.nonzero()[0].tolist())
        changing = steps.ready(self._packed, _state(table), batch, is_long)
        if changing.size:
            ring.save(changing)
        ring.append_room(rows.unique, rows.counts)
        if not steps.decide(self._packed, _state(table), batch, result):
            raise RecordError("overflow", "a running total exceeds 2**62")
        return True

    def _look_up(self, table: KeyedTable, rows: BySlot, inputs: I64, found: I64, keys: list[int]) -> None:
        """Fill `found` (rows, hashes) of keys whose rings are long, by their indices."""
        assert table.ring is not None
        p = self._program
        for key in keys:
            mine, slot = slice(int(rows.first[key]), int(rows.first[key + 1])), int(rows.unique[key])
            off, mask, start, stop = table.ring.heads[slot].tolist()
            newest = int(table.rows[slot, Layout.NEWEST])
            end, newest_then = stop + mine.stop - mine.start, int(inputs[mine.stop - 1, 0])
            for number, column in enumerate(self._layout.hash_columns.tolist()):
                index = take_index(
                    table, slot, column, off=off, mask=mask, start=start, stop=stop, newest=newest
                )  # fmt: skip
                values, states = inputs[mine, p.hash_input + number], inputs[mine, p.state_input + number]
                found[mine, number] = _through(index, zip(values.tolist(), states.tolist(), strict=True), start, stop)
                keep_index(table, slot, column, index, length=end - start, stop=end, newest=newest_then)


def _state(table: KeyedTable) -> Arrays:
    """`loop.State` as it is now: making room may replace arrays."""
    assert table.ring is not None
    return table.ring.entries, table.ring.heads, table.rows, table.ring.flushed


def _through(index: dict[int, int], values: Iterable[tuple[int, int]], start: int, stop: int) -> list[int]:
    """Where each of the values (and their states) last stood, the first of them at `stop`; the index learns of them."""
    found = []
    for own, (value, state) in enumerate(values, stop):
        position = index.get(value, NONE)
        found.append(position if state & KNOWN and position >= start else NONE)
        if state & COUNTED:
            index[value] = own
    return found
