"""The operator of the patterns of one key: rows go through their matchers, what these say becomes columns.

    all rows --> conditions that read the row alone are columns already
             --> rows that may begin a match, or whose key has runs (keys.py) --> a bit a column (sight.py)
             --> rows that mean something to a key's runs, or may begin one
             --> matcher --> NAME.matched, NAME.measure

A row of a key without runs costs the look-up of its key, once for all patterns, and nothing more. Runs lie in a keyed
table, MessagePack in its blob, with what they wait for beside it; between two rows of a key nothing else is kept.
"""

from __future__ import annotations

__all__ = ["PatternOperator", "dropped_column", "dropped_runs", "matched_column", "measure_column"]

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from operators.batch import Batch, Column
from operators.expressions.program import Program as Expressions
from operators.operator import BOOL, INT64, Operator, OperatorContext, OutputField
from operators.patterns.keys import WANTS, Found, PatternRun, Patterns
from operators.patterns.rows import values_batch
from operators.patterns.sight import COLUMNS_MAX
from operators.patterns.spec import PatternSpec, check
from operators.schema import DataType, Kind
from operators.tables import LookupTable
from state.errors import ConfigError
from state.table import TableSpec


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
    """Computes `specs`, patterns of one key; all of them have a ttl, or none.

    `table`: the name of its state, unique in the plan. `lookups`: tables that they read, by name.

    Raises:
        ConfigError: a pattern cannot be said row by row, or there are too many for one operator.
    """

    def __init__(
        self, specs: Sequence[PatternSpec], table: str, lookups: Mapping[str, LookupTable] | None = None
    ) -> None:
        for spec in specs:
            check(spec)
        self.specs = tuple(specs)
        self._patterns = Patterns(self.specs, lookups or {})
        if len(self._patterns.columns) > COLUMNS_MAX:
            raise ConfigError(f"patterns of one operator read at most {COLUMNS_MAX} conditions")
        self._measures = [
            Expressions([(measure_column(spec.name, name), one) for name, one in spec.measures], lookups or {})
            for spec in specs
        ]
        self._named = [
            (
                (matched_column(spec.name), dropped_column(spec.name)),
                [(measure_column(spec.name, name), one.type) for name, one in spec.measures],
            )
            for spec in specs
        ]
        fields = ("last_seen", WANTS) if self._patterns.ttl else (WANTS,)
        ttl = max(spec.ttl for spec in specs)
        self._table = TableSpec(table, self._patterns.key, fields, blob=True, ttl_ms=ttl)

    @property
    def inputs(self) -> tuple[str, ...]:
        found = [self._patterns.key, *self._patterns.columns, *(name for spec in self.specs for name in spec.columns)]
        return tuple(dict.fromkeys(found))

    @property
    def outputs(self) -> tuple[OutputField, ...]:
        return tuple(field for spec in self.specs for field in _outputs(spec))

    @property
    def tables(self) -> tuple[TableSpec, ...]:
        return (self._table,)

    def process(self, batch: Batch, context: OperatorContext) -> None:
        batch.columns.update(self._nothing(batch.size))
        for spec, measures, one in zip(self.specs, self._measures, self.found(batch, context), strict=True):
            if one.matches or one.dropped:
                _write(spec, measures, one, batch)

    def _nothing(self, size: int) -> dict[str, Column]:
        """The columns where nothing is found, to be read only: patterns share them."""
        matched, dropped = Column(BOOL, np.zeros(size, np.bool_)), Column(INT64, np.zeros(size, np.int64))
        found: dict[str, Column] = {}
        for names, measured in self._named:
            found[names[0]], found[names[1]] = matched, dropped
            for name, kind in measured:
                found[name] = _nulls(kind, size)
        return found

    def found(self, batch: Batch, context: OperatorContext) -> list[Found]:
        """What each of the patterns finds in a batch."""
        return PatternRun(self._patterns, batch, context.table(self._table.name)).rows()


def _outputs(spec: PatternSpec) -> list[OutputField]:
    return [
        OutputField(matched_column(spec.name), BOOL, False),
        *(OutputField(measure_column(spec.name, name), kind.type) for name, kind in spec.measures),
        OutputField(dropped_column(spec.name), INT64, False),
    ]


def _write(spec: PatternSpec, measures: Expressions, found: Found, batch: Batch) -> None:
    """What one pattern found, as columns."""
    matched, dropped = np.zeros(batch.size, np.bool_), np.zeros(batch.size, np.int64)
    for row, count in found.dropped.items():
        dropped[row] = count
    batch.columns[matched_column(spec.name)] = Column(BOOL, matched)
    batch.columns[dropped_column(spec.name)] = Column(INT64, dropped)
    if not found.matches:
        return
    ends = np.fromiter(found.matches, np.intp, len(found.matches))
    matched[ends] = True
    if spec.measures:
        said = measures.run(values_batch(spec.slots, list(found.matches.values()), batch.event_time[ends]))
        for name, column in said.items():
            batch.columns[name] = _spread(column, ends, batch.size)


def _nulls(kind: DataType, size: int) -> Column:
    values = np.full(size, "", np.object_) if kind.kind is Kind.STRING else np.zeros(size, kind.dtype)
    return Column(kind, values, np.zeros(size, np.bool_))


def _spread(column: Column, rows: npt.NDArray[np.intp], size: int) -> Column:
    """The column of a whole batch that has values at `rows` only."""
    found = _nulls(column.type, size)
    assert found.valid is not None
    found.values[rows] = column.values
    found.valid[rows] = True if column.valid is None else column.valid
    return found
