"""MATCH_RECOGNIZE of a statement: its pattern runs over the statement's rows only, in columns of their own."""

from __future__ import annotations

__all__ = ["MatchOperator"]

from collections.abc import Sequence

import numpy as np

from operators.batch import Batch, Column, narrowed
from operators.operator import BOOL, INT64, STRING, Operator, OperatorContext, OutputField
from operators.patterns.operator import PatternOperator, dropped_column, matched_column, measure_column
from operators.patterns.spec import PatternSpec
from operators.statements.inputs import Reader, columns_of, key_texts, spread
from operators.statements.spec import Input, Step
from state.errors import RecordError
from state.table import TableSpec


class MatchOperator(Operator):
    """Adds `name.matched`, `name.dropped` and the pattern's measures, as the operator of a pattern does.

    Args:
        source, steps: which rows it sees, and their columns.
        columns: (column's name in the pattern, its key behind the steps).
        keys: of what PARTITION BY says; none if it is one of the `columns`, a text that is never NULL.
        key: the column that the pattern goes by: of the `columns`, or their text.
        before: steps that make columns the pattern reads.
        pattern: the pattern.
    """

    def __init__(
        self, source: Input, steps: Sequence[Step], *, columns: Sequence[tuple[str, str]], keys: Sequence[str],
        key: str, before: Sequence[Operator], pattern: PatternOperator,
    ) -> None:  # fmt: skip
        self._source, self._reader = source, Reader(source, steps)
        self._columns, self._keys, self._key = tuple(columns), tuple(keys), key
        self._run = (*before, pattern)
        self._pattern = pattern

    @property
    def spec(self) -> PatternSpec:
        """The pattern that it runs."""
        (spec,) = self._pattern.specs
        return spec

    @property
    def name(self) -> str:
        """The pattern's."""
        return self.spec.name

    @property
    def inputs(self) -> tuple[str, ...]:
        return columns_of(self._source)

    @property
    def outputs(self) -> tuple[OutputField, ...]:
        return self._pattern.outputs

    @property
    def tables(self) -> tuple[TableSpec, ...]:
        return tuple(table for step in self._run for table in step.tables)

    def process(self, batch: Batch, context: OperatorContext) -> None:
        found = self._reader.run(batch)
        part = narrowed(batch, found.places)
        part.columns = {name: found.columns[key] for name, key in self._columns}
        if self._keys:
            texts = key_texts([found.columns[key] for key in self._keys], part.size)
            part.columns[self._key] = Column(STRING, np.fromiter(texts, np.object_, part.size))
        try:
            for step in self._run:
                step.process(part, context)
        except RecordError as error:
            rows = tuple(found.places[list(error.rows)].tolist())
            raise RecordError(error.reason, error.detail, rows) from error
        self._tell(batch, part, found.places)

    def _tell(self, batch: Batch, part: Batch, places: np.ndarray) -> None:
        spec = self.spec
        name = spec.name
        for column, kind in ((matched_column(name), BOOL), (dropped_column(name), INT64)):
            values = np.zeros(batch.size, kind.dtype)
            values[places] = part.columns[column].values
            batch.columns[column] = Column(kind, values)
        for measure, _ in spec.measures:
            column = measure_column(name, measure)
            batch.columns[column] = spread(part.columns[column], places, batch.size)
