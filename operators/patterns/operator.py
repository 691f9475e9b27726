"""The operator of one pattern: rows of a key go through the matcher, what it says becomes columns.

    all rows --> conditions that read the row alone are columns already --> a bit a variable
             --> rows that may begin a run, and rows of keys that have one --> matcher --> NAME.matched, NAME.measure

A row that begins nothing, of a key that has no run, costs the look-up of its key and nothing more. Runs lie in a keyed
table, MessagePack in its blob; between two rows of a key nothing else is kept.
"""

from __future__ import annotations

__all__ = ["PatternOperator", "dropped_column", "dropped_runs", "matched_column", "measure_column"]

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from operators.batch import Batch, Column, TaskRows
from operators.expressions.program import Program as Expressions
from operators.operator import BOOL, INT64, Operator, OperatorContext, OutputField
from operators.patterns.matcher import KeyRuns, Match, Row
from operators.patterns.rows import fitting, matcher_of, plain_values, true_rows, values_batch
from operators.patterns.spec import PatternSpec, check
from operators.tables import LookupTable
from state.errors import RecordError, StateCorruptedError
from state.table import KeyedTable, TableSpec

LIVE = "live"
"""Field of the table: whether the key has runs (0 or 1)."""


def matched_column(name: str) -> str:
    """The column that says whether a row ends a match of the pattern `name`."""
    return f"{name}.matched"


def measure_column(name: str, measure: str) -> str:
    """The column of a measure: of the match that the row ends; NULL where it ends none."""
    return f"{name}.{measure}"


def dropped_column(name: str) -> str:
    """The column that says how many runs went at a row for want of room."""
    return f"{name}.dropped"


def dropped_runs(batch: Batch) -> dict[str, int]:
    """How many runs went in a batch for want of room, by pattern; those of which none went are left out."""
    names = [column.removesuffix(".matched") for column in batch.columns if column.endswith(".matched")]
    found = {name: batch.columns.get(dropped_column(name)) for name in names}
    return {name: total for name, column in found.items() if column and (total := int(column.values.sum()))}


class PatternOperator(Operator):
    """Computes one `PatternSpec`. `lookups`: tables that its conditions read, by name.

    Raises:
        ConfigError: the pattern cannot be said row by row.
    """

    def __init__(self, spec: PatternSpec, lookups: Mapping[str, LookupTable] | None = None) -> None:
        check(spec)
        self.spec = spec
        self.matcher = matcher_of(spec, lookups or {})
        self._measures = Expressions(
            [(measure_column(spec.name, name), compiled) for name, compiled in spec.measures], lookups or {}
        )
        fields = ("last_seen", LIVE) if spec.ttl else (LIVE,)
        self._table = TableSpec(f"pattern.{spec.name}", spec.key, fields, blob=True, ttl_ms=spec.ttl)
        self.store = msgspec.msgpack.Encoder().encode
        self.load = msgspec.msgpack.Decoder(KeyRuns).decode

    @property
    def inputs(self) -> tuple[str, ...]:
        spec = self.spec
        return tuple(dict.fromkeys(one for one in (spec.key, spec.counts, *spec.fits.values(), *spec.columns) if one))

    @property
    def outputs(self) -> tuple[OutputField, ...]:
        name = self.spec.name
        measures = [OutputField(measure_column(name, one), kind.type) for one, kind in self.spec.measures]
        return (
            OutputField(matched_column(name), BOOL, False),
            *measures,
            OutputField(dropped_column(name), INT64, False),
        )

    @property
    def tables(self) -> tuple[TableSpec, ...]:
        return (self._table,)

    def process(self, batch: Batch, context: OperatorContext) -> None:
        table = context.table(self._table.name)
        matches, dropped = _Run(self, batch, table).rows()
        ends = np.fromiter(matches, np.intp, len(matches))
        matched = np.zeros(batch.size, np.bool_)
        matched[ends] = True
        name = self.spec.name
        batch.columns[matched_column(name)] = Column(BOOL, matched)
        batch.columns[dropped_column(name)] = Column(INT64, dropped)
        if self.spec.measures:
            found = self._measures.run(values_batch(self.spec.slots, list(matches.values()), batch.event_time[ends]))
            for column, said in found.items():
                batch.columns[column] = _spread(said, ends, batch.size)


def _spread(column: Column, rows: npt.NDArray[np.intp], size: int) -> Column:
    """The column of a whole batch that has values at `rows` only."""
    values = np.full(size, "" if column.values.dtype == object else 0, column.values.dtype)
    valid = np.zeros(size, np.bool_)
    values[rows] = column.values
    valid[rows] = True if column.valid is None else column.valid
    return Column(column.type, values, valid)


class _Run:
    """One batch; states are read once and written once a key."""

    def __init__(self, operator: PatternOperator, batch: Batch, table: KeyedTable) -> None:
        self._operator, self._spec, self._batch, self._table = operator, operator.spec, batch, table
        self._stream = table.stream.advance(batch.tasks, batch.event_time).tolist() if table.stream else []
        self._states: dict[int, KeyRuns] = {}
        self._seen: dict[int, int] = {}

    def rows(self) -> tuple[dict[int, Match], npt.NDArray[np.int64]]:
        """The first match that each row ends, by row, and how many runs went at each."""
        batch, operator = self._batch, self._operator
        matches: dict[int, Match] = {}
        dropped = np.zeros(batch.size, np.int64)
        fits = fitting(self._spec, operator.matcher.program.variables, batch)
        rows, slots = self._candidates(fits)
        if not rows:
            return matches, dropped
        values = list(zip(*(plain_values(batch.columns[name], rows) for name in self._spec.columns), strict=True))
        bits, times = fits[rows].tolist(), batch.event_time[rows].tolist()
        matcher = operator.matcher
        for i, (row, slot) in enumerate(zip(rows, slots, strict=True)):
            state = self._state(slot, row)
            if not state.attempts and not bits[i] & matcher.starting:
                continue
            self._seen[slot] = max(self._seen[slot], times[i]) if state.attempts else times[i]
            try:
                said, dropped[row] = matcher.row(state, Row(times[i], bits[i], values[i] if values else ()))
            except RecordError as error:
                raise RecordError(error.reason, error.detail, (row,)) from error
            if said:
                matches[row] = said[0]
        self._keep()
        return matches, dropped

    def _candidates(self, fits: npt.NDArray[np.int64]) -> tuple[list[int], list[int]]:
        """The rows that the matcher must see, and their keys' slots."""
        batch, spec, table = self._batch, self._spec, self._table
        keys = batch.columns[spec.key]
        counts = np.ones(batch.size, np.bool_) if keys.valid is None else keys.valid.copy()
        if spec.counts is not None:
            counts &= true_rows(batch.columns[spec.counts])
        rows = np.flatnonzero(counts)
        if not rows.size:
            return [], []
        whole = rows.size == batch.size
        spans = batch.tasks if whole else _spans(batch.tasks, rows)
        slots = table.slots(spans, (keys.values if whole else keys.values[rows]).tolist())
        begins = (fits[rows] & self._operator.matcher.starting) != 0
        wanted = begins | (table.rows[slots, table.index(LIVE)] != 0)
        if wanted.any():
            wanted |= np.isin(slots, slots[begins])
        return rows[wanted].tolist(), slots[wanted].tolist()

    def _state(self, slot: int, row: int) -> KeyRuns:
        """The runs of a row's key, as new if it has expired."""
        table, ttl = self._table, self._spec.ttl
        state = self._states.get(slot)
        if state is None:
            stored = table.blobs[slot]
            try:
                state = self._operator.load(stored) if stored else KeyRuns()
            except msgspec.MsgspecError as error:
                raise StateCorruptedError(f"table {table.spec.name}: a key's state cannot be read") from error
            self._seen[slot] = int(table.rows[slot, table.last_seen]) if ttl else 0
        if ttl and self._stream[row] - self._seen[slot] >= ttl:
            state = KeyRuns()
        self._states[slot] = state
        return state

    def _keep(self) -> None:
        """Write what was looked at; undone with the batch."""
        table, operator = self._table, self._operator
        slots = np.fromiter(self._states, np.int64, len(self._states))
        table.touch(slots)
        header = []
        for slot, state in self._states.items():
            is_live = bool(state.attempts)
            kept = is_live or (self._spec.numbers_matches and state.matches > 0)
            table.set_blob(slot, operator.store(state) if kept else b"")
            seen = self._seen[slot] if kept and self._spec.ttl else 0
            header.append((seen, is_live) if self._spec.ttl else (is_live,))
        table.rows[slots] = header


def _spans(tasks: Sequence[TaskRows], rows: npt.NDArray[np.intp]) -> tuple[TaskRows, ...]:
    """The tasks' spans when only `rows` of the batch are left."""
    bounds = np.searchsorted(rows, [[span.start, span.stop] for span in tasks]).tolist()
    return tuple(TaskRows(span.task, start, stop) for span, (start, stop) in zip(tasks, bounds, strict=True))
