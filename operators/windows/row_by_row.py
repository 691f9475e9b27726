"""Rows in order by loops, compiled: what forward.py does by columns, in a fraction of the time and of the calls.

    arrange.py   inputs of all rows, and which are of one key; keys that are not for loops are left
    loop.py      state and result matrix, row by row
    finish.py    what columns hold

Results and state are those of the columns, bit by bit. Layouts with a precision are left to the columns.
"""

from __future__ import annotations

__all__ = ["Loops", "RowByRow", "compiled_loops"]

from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from operators.batch import Batch, Column
from operators.windows import arrange, finish, hashes, loop
from operators.windows.frame import COUNTED, I64, KNOWN, NOTHING
from operators.windows.hashes import NONE, keep_index, take_index
from operators.windows.layout import Layout
from operators.windows.program import Keys, StateArrays, packed, program
from state.compiling import compiled
from state.errors import RecordError
from state.table import KeyedTable

_NO_STREAM = np.empty(0, np.int64)
_LONG = 1  # mark of a key, see `Keys`
_MARKS, _LEFT = Keys._fields.index("marks"), Keys._fields.index("left")
_SPARE = 16  # entries more than usually need to be kept


class Loops(NamedTuple):
    """The loops of arrange.py, loop.py and finish.py: the functions themselves, or what they were compiled to."""

    arrange: Callable[..., bool] = arrange.arrange
    decide: Callable[..., int] = loop.decide
    finish: Callable[..., None] = finish.finish


@cache
def compiled_loops() -> Loops:
    """The loops as machine code.

    Raises:
        ImportError: numba is not installed.
    """
    return Loops(
        compiled(arrange.arrange, arrange.HELPERS), compiled(loop.decide, loop.HELPERS),
        compiled(finish.finish, finish.HELPERS),
    )  # fmt: skip


class RowByRow:
    """Rows in order of one layout, which has no precision."""

    def __init__(self, layout: Layout, loops: Loops) -> None:
        self._layout, self._loops = layout, loops
        self._program = program(layout)
        self._packed = packed(self._program)
        self._raw, self._outputs = arrange.Raw(layout), finish.Outputs(layout)
        self._inputs = 1 + len(self._raw.fills)

    def warm_up(self) -> None:
        """Make the machine code, or fetch what is kept of it, before rows come."""
        table, nothing = KeyedTable(self._layout.table), np.empty(0, np.int64)
        result = np.empty((self._layout.result_rows, 0), np.int64)
        _, inputs = self._bring(table, np.empty((1, 0), np.int64), nothing, nothing, result)
        found, work, before = np.empty((0, self._program.hashes), np.int64), _work(0), _before(table, 0)
        work[:] = 0
        self._decide(table, (inputs, found), work, before, result)
        self.columns(result, nothing)

    def process(
        self, table: KeyedTable, batch: Batch, slots: I64, keyed: npt.NDArray[np.intp] | None, *, stream: I64 | None,
        result: I64,
    ) -> tuple[I64, I64]:  # fmt: skip
        """Bring the state up to date with the rows of all keys but those that are left, and fill their results.

        Args:
            table: of the layout.
            batch: whose columns are the inputs.
            slots: of each row of the batch, -1 of one without a key.
            keyed: the rows with a key, None: all.
            stream: stream time of each row, ms; None without a ttl.
            result: (result rows, rows).

        Returns:
            The rows of keys that are left, ascending: they are for the columns. And all inputs (rows, inputs).

        Raises:
            RecordError: NULL where declared never NULL, a value or a running total is too large.
        """
        raw = self._raw.of(batch, keyed)
        return self._bring(table, raw, slots, _NO_STREAM if stream is None else stream, result)

    def columns(self, result: I64, slots: I64) -> tuple[Iterator[tuple[str, Column]], npt.NDArray[np.bool_]]:
        """The features' names and columns, and which rows are incomplete. `slots`: as of `process`."""
        outputs = self._outputs
        values, truths, missing = outputs.room(len(slots))
        out = values, values.view(np.float64), truths, missing
        self._loops.finish(outputs.asked, outputs.scales, outputs.incomplete_at, (slots, result), out)
        return outputs.columns(values, truths, missing.tolist(), result), truths[-1]

    def _bring(self, table: KeyedTable, raw: I64, slots: I64, stream: I64, result: I64) -> tuple[I64, I64]:
        p, size = self._program, len(slots)
        inputs, found = np.empty((size, self._inputs), np.int64), np.empty((size, p.hashes), np.int64)
        work, before = _work(size), _before(table, size)
        limits = table.spec.ttl_ms, hashes.SHORT if p.hashes else NOTHING
        how, out = (self._raw.fills, raw), (inputs, work, before)
        if not self._loops.arrange(how, (slots, stream), limits, _state(table), out):
            raise RecordError("overflow", "a value is too large for an exact standard deviation")
        many, touched, left, long = work[-1, :4].tolist()
        if touched:
            before = before[:touched]
            table.touched(before)
            if long:
                self._look_up(table, Keys(*work), inputs, found, (work[_MARKS, :many] == _LONG).nonzero()[0].tolist())
            self._decide(table, (inputs, found), work, before, result)
        return np.sort(work[_LEFT, :left]), inputs

    def _decide(self, table: KeyedTable, batch: tuple[I64, I64], work: I64, before: I64, result: I64) -> None:
        decide, ring, state = self._loops.decide, table.ring, _state(table)
        assert ring is not None
        kept = np.empty((batch[1].size + 2 * len(batch[1]) + _SPARE, 1 + ring.entries.shape[1]), np.int64)
        step = decide(1, self._packed, state, batch, (work, kept, result))
        if step == 1:
            kept = np.empty((work.item(-1, 4), kept.shape[1]), np.int64)
            step = decide(1, self._packed, state, batch, (work, kept, result))
        if count := work.item(-1, 4):
            ring.save_as(kept[:count, 0], kept[:count, 1:])
        if step == 2:
            keys = Keys(*work)
            moving = keys.lengths[: keys.counts[0]].nonzero()[0]
            keys.offs[moving] = ring.blocks_of(keys.lengths[moving])
            step = decide(2, self._packed, _state(table), batch, (work, kept, result))
            ring.retire_replaced(before[:, 0], before[:, 1], before[:, 2])
        if not step:
            raise RecordError("overflow", "a running total exceeds 2**62")

    def _look_up(self, table: KeyedTable, keys: Keys, inputs: I64, found: I64, some: list[int]) -> None:
        """Fill `found` (rows, hashes) of keys whose rings are long, by their indices."""
        assert table.ring is not None
        p = self._program
        for key in some:
            slot, rows = int(keys.slots[key]), keys.order[keys.first[key] : keys.first[key + 1]]
            off, mask, start, stop = table.ring.heads[slot].tolist()
            newest = int(table.rows[slot, Layout.NEWEST])
            end, newest_then = stop + len(rows), int(inputs[rows[-1], 0])
            for number, column in enumerate(self._layout.hash_columns.tolist()):
                index = take_index(
                    table, slot, column, off=off, mask=mask, start=start, stop=stop, newest=newest
                )  # fmt: skip
                values, states = inputs[rows, p.hash_input + number], inputs[rows, p.state_input + number]
                found[rows, number] = _through(index, zip(values.tolist(), states.tolist(), strict=True), start, stop)
                keep_index(table, slot, column, index, length=end - start, stop=end, newest=newest_then)


def _work(size: int) -> I64:
    """Room for `Keys` of so many rows; counts are a few more."""
    return np.empty((len(Keys._fields), size + 5), np.int64)


def _before(table: KeyedTable, size: int) -> I64:
    """Room for what so many keys were, see `arrange`."""
    return np.empty((size, 6 + table.rows.shape[1]), np.int64)


def _state(table: KeyedTable) -> StateArrays:
    """`State` as it is now: making room may replace arrays."""
    ring = table.ring
    assert ring is not None
    return ring.entries, ring.heads, ring.flushed, table.rows, table.dirty, table.task_of, table.dirty_of


def _through(index: dict[int, int], values: Iterable[tuple[int, int]], start: int, stop: int) -> list[int]:
    """Where each of the values (and their states) last stood, the first of them at `stop`; the index learns of them."""
    found = []
    for own, (value, state) in enumerate(values, stop):
        position = index.get(value, NONE)
        found.append(position if state & KNOWN and position >= start else NONE)
        if state & COUNTED:
            index[value] = own
    return found
