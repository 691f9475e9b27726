"""The operator: all look-back features of one key in one pass over the batch.

    keys -> slots
    where loops are compiled (`prepare`), but for a precision: row_by_row.py, which leaves keys with a late row
    what is left, else all: rows sorted by slot (stable), a matrix of inputs
      keys whose rows are in order  -> forward.py; few.py if they are few, and all in order
      keys with a late row          -> late.py; with a precision the late rows only, where these are few
    result matrix, back in row order -> columns (results.py)

A silent replay takes the same way without results: the state comes out the same, bit by bit.

It runs once for each precision in use (its own table), usually once.
"""

from __future__ import annotations

__all__ = ["WindowOperator"]

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from operators.batch import Batch, Column, TaskRows
from operators.operator import Operator, OperatorContext, OutputField
from operators.schema import DataType, Kind
from operators.windows.few import FEW, few
from operators.windows.forward import forward, replay_forward
from operators.windows.frame import I64, Frame, by_slot, load
from operators.windows.late import CHUNK, late, replay_late, running_max
from operators.windows.layout import Layout, layouts
from operators.windows.lives import lives
from operators.windows.results import Reader, readers
from operators.windows.room import NEVER
from operators.windows.row_by_row import RowByRow, compiled_loops
from operators.windows.spec import NEVER_NULL, WindowSpec, check, output_type
from state.compiling import can_compile, made_or_told
from state.table import KeyedTable, TableSpec

_TURNS, _TURNS_A_CHUNK = 2, 10  # what the rows of one key cost as late ones, in turns: more for each full chunk


class _Way(NamedTuple):
    """How rows of a layout in order are done: up to `few` of them by few.py, others by `loops` if these have been made;
    and how results are read.
    """

    layout: Layout
    few: int
    loops: RowByRow | None
    readers: tuple[tuple[str, Reader], ...]


class _Keyed(NamedTuple):
    """The rows with a key (None: all), their keys, and which are whose."""

    rows: npt.NDArray[np.intp] | None
    keys: list[str]
    tasks: tuple[TaskRows, ...]

    def of(self, streams: I64 | None) -> I64 | None:
        """What these rows have of all rows' stream times."""
        return streams if streams is None or self.rows is None else streams[self.rows]


class WindowOperator(Operator):
    """Look-back features of one key.

    A row without a key (NULL) has no state: counts are 0, all else is NULL, `first_seen` and incomplete false.

    Raises:
        ConfigError: the spec asks for what cannot be computed.
    """

    def __init__(self, spec: WindowSpec) -> None:
        check(spec)
        self.spec = spec
        self._layouts = layouts(spec)
        self._ways = [_Way(layout, FEW, None, readers(layout)) for layout in self._layouts]
        self._tables = tuple(layout.table for layout in self._layouts)
        names = [spec.key, *(name for layout in self._layouts for name in layout.inputs())]
        self._inputs = tuple(dict.fromkeys(names))
        self._nullable = {output.name for output in self.outputs if output.nullable}

    @property
    def inputs(self) -> tuple[str, ...]:
        return self._inputs

    @property
    def outputs(self) -> tuple[OutputField, ...]:
        fields = [OutputField(f.name, output_type(f), f.aggregate not in NEVER_NULL) for f in self.spec.features]
        fields += [OutputField(p.name, p.type) for p in self.spec.previous]
        return (*fields, OutputField(self.spec.incomplete, DataType(Kind.BOOL), False))

    @property
    def tables(self) -> tuple[TableSpec, ...]:
        return self._tables

    def prepare(self) -> None:
        """Rows in order go through compiled loops from now on, where these can be made."""
        made = made_or_told(self._by_row, "windows go by columns") if can_compile() else None
        for at, loops in (made or {}).items():
            self._ways[at] = self._ways[at]._replace(few=0, loops=loops)

    def _by_row(self) -> dict[int, RowByRow]:
        """The layouts' loops, by number, tried once; those of a precision have none."""
        loops = compiled_loops()
        found = {at: RowByRow(layout, loops) for at, layout in enumerate(self._layouts) if not layout.precision}
        for one in found.values():
            one.warm_up()
        return found

    def process(self, batch: Batch, context: OperatorContext) -> None:
        keyed = self._keyed(batch)
        missing = np.zeros(batch.size, np.bool_)
        for way, spec in zip(self._ways, self._tables, strict=True):
            table = context.table(spec.name)
            result = np.zeros((way.layout.result_rows, batch.size), np.int64)
            if way.loops is None:
                self._by_columns(way, table, batch, keyed, result)
                missing |= result[way.layout.incomplete_at].astype(np.bool_)
                continue
            slots = _by_loops(way, table, batch, keyed, result, results=True)
            found, incomplete = way.loops.columns(result, slots)
            batch.columns.update(found)
            missing |= incomplete
        batch.columns[self.spec.incomplete] = Column(DataType(Kind.BOOL), missing)

    def replay(self, batch: Batch, context: OperatorContext) -> None:
        """Change the state exactly as `process` does, and add no column."""
        keyed = self._keyed(batch)
        for way, spec in zip(self._ways, self._tables, strict=True):
            table = context.table(spec.name)
            if way.loops is not None:
                result = np.empty((way.layout.result_rows, batch.size), np.int64)
                _by_loops(way, table, batch, keyed, result, results=False)
                continue
            streams = _stream(table, batch)
            if keyed.keys:
                slots, data = table.slots(keyed.tasks, keyed.keys), load(way.layout, batch, keyed.rows)
                _decide(way, table, slots, data, result=None, streams=keyed.of(streams))

    def _keyed(self, batch: Batch) -> _Keyed:
        key = batch.columns[self.spec.key]
        if key.valid is None or (many := np.count_nonzero(key.valid)) == batch.size:
            return _Keyed(None, key.values.tolist(), batch.tasks)
        rows = key.valid.nonzero()[0]
        return _Keyed(rows, key.values[rows].tolist(), _spans(batch.tasks, key.valid) if many else ())

    def _by_columns(self, way: _Way, table: KeyedTable, batch: Batch, keyed: _Keyed, result: I64) -> None:
        """Add the features' columns; `result` (result rows, rows) is 0, and so stays what rows without a key have."""
        mine = result if keyed.rows is None else np.zeros((len(result), len(keyed.keys)), np.int64)
        streams = _stream(table, batch)
        if keyed.keys:
            slots, data = table.slots(keyed.tasks, keyed.keys), load(way.layout, batch, keyed.rows)
            _decide(way, table, slots, data, result=mine, streams=keyed.of(streams))
        found = {name: read(mine) for name, read in way.readers}
        if keyed.rows is not None:
            result[:, keyed.rows] = mine
            found = dict(self._spread(found, keyed.rows, batch.size))
        batch.columns.update(found)

    def _spread(
        self, found: Mapping[str, Column], rows: npt.NDArray[np.intp], size: int
    ) -> Iterator[tuple[str, Column]]:
        """Columns of the rows with a key to columns of the batch."""
        for name, column in found.items():
            values = np.zeros(size, column.values.dtype)
            values[rows] = column.values
            valid = np.zeros(size, np.bool_)
            valid[rows] = True if column.valid is None else column.valid
            yield name, Column(column.type, values, valid if name in self._nullable else None)


def _by_loops(
    way: _Way, table: KeyedTable, batch: Batch, keyed: _Keyed, result: I64, *, results: bool
) -> I64:  # fmt: skip
    """Bring the state up to date, and fill the result matrix (result rows, rows) of rows with a key, if `results`.

    Returns the slot of each row, -1 of one without a key.
    """
    streams = _stream(table, batch)
    if not keyed.keys:
        return np.full(batch.size, -1, np.int64)
    slots = table.slots(keyed.tasks, keyed.keys)
    if keyed.rows is not None:
        own, slots = slots, np.full(batch.size, -1, np.int64)
        slots[keyed.rows] = own
    assert way.loops is not None
    left, inputs = way.loops.process(table, batch, slots, keyed.rows, stream=streams, result=result)
    if left.size:
        part = np.empty((len(result), len(left)), np.int64) if results else None
        mine = None if streams is None else streams[left]
        _decide(way, table, slots[left], inputs[left].T, result=part, streams=mine)
        if part is not None:
            result[:, left] = part
    return slots


def _stream(table: KeyedTable, batch: Batch) -> I64 | None:
    """Stream time (ms) of all rows; None without a ttl. Rows without a key move it on, too."""
    return None if table.stream is None else table.stream.advance(batch.tasks, batch.event_time)


class _Pass(NamedTuple):
    """Rows to compute together: a table, their slots in it, which ones they are (None: all), and their stream times."""

    table: KeyedTable
    slots: I64
    rows: I64 | None
    stream: I64 | None


def _passes(table: KeyedTable, slots: I64, times: I64, stream: I64 | None, *, results: bool) -> Iterator[_Pass]:
    """All rows; in each pass only the first row of a key can find it expired (lives.py).

    Without `results`, not those that leave nothing behind.
    """
    found = None
    if stream is not None and stream.max() - times.min() >= table.spec.ttl_ms:  # few batches
        found = lives(slots, times, stream, _newest(table, slots), ttl_ms=table.spec.ttl_ms)
    if found is None or stream is None:
        yield _Pass(table, slots, None, stream)
        return
    for rows in (found.first, found.last):
        yield _Pass(table, slots[rows], rows, stream[rows])
    if results and len(rows := found.between):
        passing = KeyedTable(table.spec)
        own = passing.slots((TaskRows(0, 0, len(rows)),), list(map(str, found.number.tolist())))
        yield _Pass(passing, own, rows, stream[rows])


def _decide(way: _Way, table: KeyedTable, slots: I64, data: I64, *, result: I64 | None, streams: I64 | None) -> None:
    """Fill the result matrix (result rows, rows), in row order, of rows with a key, from the inputs in row order.

    Without one (None) only the state changes: a replay.
    """
    layout = way.layout
    if result is not None and len(slots) <= way.few and few(table, layout, slots, data, result=result, stream=streams):
        return
    for home, mine, some, stream in _passes(table, slots, data[0], streams, results=result is not None):
        if some is None:
            _compute(layout, home, mine, data, result=result, stream=stream)
            continue
        part = None if result is None else np.empty((layout.result_rows, len(some)), np.int64)
        _compute(layout, home, mine, data[:, some], result=part, stream=stream)
        if result is not None and part is not None:
            result[:, some] = part


def _compute(
    layout: Layout, table: KeyedTable, slots: I64, data: I64, *, result: I64 | None, stream: I64 | None
) -> None:  # fmt: skip
    """As `_decide`, of rows of which only a key's first one can find it expired."""
    assert table.ring is not None
    rows = by_slot(slots)
    table.touch(rows.unique)
    table.ring.touch(rows.unique)
    if stream is not None:
        table.renew(rows.unique, stream[rows.order[rows.first[:-1]]])
    frame = Frame(layout, rows, data[:, rows.order])
    for behind, mine in _turns(table, frame):
        part = frame if mine is None else frame.take(mine)
        if result is None:
            (replay_late if behind else replay_forward)(table, part)
            continue
        found = np.empty((layout.result_rows, part.size), np.int64)
        (late if behind else forward)(table, part, found)
        result[:, part.rows.order] = found


def _turns(table: KeyedTable, frame: Frame) -> Iterator[tuple[bool, I64 | None]]:
    """Which rows come next (None: all), and whether they are late ones.

    Keys with a late row take the way of late rows as a whole. With a precision only the late rows do, in turns with
    those in order between them, unless that were too many turns. Either way gives the same entries (buckets.py).
    """
    disorder = _disordered(table, frame)
    if not disorder.any():
        yield False, None
        return
    of_late_keys = disorder[frame.group].astype(np.int8)
    turn = _with_turns(table, frame) if frame.layout.precision else of_late_keys
    by_turn = np.argsort(turn, kind="stable")
    for mine in np.split(by_turn, np.diff(turn[by_turn]).nonzero()[0] + 1):
        yield bool(turn[mine[0]] & 1), mine


def _with_turns(table: KeyedTable, frame: Frame) -> I64:
    """Of each row its turn: `_turn_of`, or 1 for all rows of keys that are sooner done with as late ones (late.py)."""
    turn, ring = _turn_of(frame, _newest(table, frame.unique)), table.ring
    assert ring is not None
    kept = ring.heads[frame.unique, ring.STOP] - ring.heads[frame.unique, ring.START]
    fits = kept + frame.count <= frame.layout.spec.max_entries  # late.py counts all rows as entries
    whole = fits & (turn[frame.last] > _TURNS + _TURNS_A_CHUNK * frame.count / CHUNK)
    return np.where(whole[frame.group], 1, turn)


def _turn_of(frame: Frame, newest: I64) -> I64:
    """Of each row, how often its key's rows up to it go over from rows in order (even) to late ones (odd) and back.

    `newest`: event times of the keys before the batch, NEVER if unknown.
    """
    before = np.maximum(running_max(frame.time, frame.group), newest[frame.group])
    behind = (frame.time < before).astype(np.int64)
    changes = np.abs(np.diff(behind, prepend=0))
    changes[frame.first] = behind[frame.first]
    through = changes.cumsum()
    turn: I64 = through - (through - changes)[frame.first][frame.group]
    return turn


def _disordered(table: KeyedTable, frame: Frame) -> npt.NDArray[np.bool_]:
    """For each key of the batch: does one of its rows come behind the key's newest event time?"""
    out: npt.NDArray[np.bool_] = frame.time[frame.first] < _newest(table, frame.unique)
    back = (frame.time[1:] < frame.time[:-1]).nonzero()[0]
    out[frame.group[back + 1][frame.group[back + 1] == frame.group[back]]] = True
    return out


def _newest(table: KeyedTable, slots: I64) -> I64:
    """Newest event time (ms) of keys; NEVER of those without a row."""
    assert table.ring is not None
    known = table.ring.heads[slots, table.ring.STOP] > 0
    return np.where(known, table.rows[slots, Layout.NEWEST], NEVER)


def _spans(tasks: tuple[TaskRows, ...], valid: npt.NDArray[np.bool_]) -> tuple[TaskRows, ...]:
    """The tasks' spans when only the `valid` rows of the batch are left."""
    before = [0, *valid.cumsum().tolist()]
    return tuple(TaskRows(task, before[start], before[stop]) for task, start, stop in tasks)
