"""What windows and patterns of a statement read: its first steps run over a batch, their results as columns of it."""

from __future__ import annotations

__all__ = ["InputOperator", "key_texts", "key_values", "relation_of", "spread"]

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from operators.batch import Batch, Column
from operators.event_values import column_of
from operators.operator import BOOL, INT64, STRING, Operator, OperatorContext, OutputField
from operators.plan import STREAM
from operators.schema import DataType
from operators.statements.chain import Chain, Relation
from operators.statements.spec import Rows, Step

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(list[Any]).decode


def relation_of(source: Rows, batch: Batch) -> Relation:
    """The rows of a batch that a statement reads."""
    places = np.arange(batch.size)
    if source.stream:
        places = np.flatnonzero(batch.columns[STREAM].values == source.stream)
    columns = {key: batch.columns[name] for key, name in source.columns}
    if len(places) == batch.size:
        return Relation(places, columns)
    return Relation(places, {key: column.take(places) for key, column in columns.items()})


def key_texts(columns: Sequence[Column], size: int) -> list[str]:
    """One text for each row's combination of values: JSON, equal for equal ones."""
    if not columns:
        return ["[]"] * size
    lists = [_values(column) for column in columns]
    return [_encode(row).decode() for row in zip(*lists, strict=True)]


def key_values(texts: Sequence[str], types: Sequence[DataType]) -> list[Column]:
    """The columns that `key_texts` was given."""
    rows = [_decode(text) for text in texts]
    return [column_of(kind, [row[n] for row in rows]) for n, kind in enumerate(types)]


def _values(column: Column) -> list[Any]:
    values: list[Any] = column.values.tolist()
    if column.valid is None:
        return values
    return [value if valid else None for value, valid in zip(values, column.valid.tolist(), strict=True)]


def spread(column: Column, places: npt.NDArray[np.intp], size: int) -> Column:
    """The column of a whole batch that has values at `places` only."""
    if len(places) == size:
        return column
    values = np.full(size, "" if column.values.dtype == object else 0, column.values.dtype)
    valid = np.zeros(size, np.bool_)
    values[places] = column.values
    valid[places] = True if column.valid is None else column.valid
    return Column(column.type, values, valid)


class InputOperator(Operator):
    """Adds to a batch: `prefix.key`, the text of `keys`; `prefix.counts`, whether a row is of the statement; each of
    `columns` (key, name, type), NULL in rows that are not; and for `known` (key, name) a 1 where there
    is a value.
    """

    def __init__(
        self, prefix: str, source: Rows, steps: Sequence[Step], *, keys: Sequence[str],
        columns: Sequence[tuple[str, str, DataType]], known: Sequence[tuple[str, str]] = (),
    ) -> None:  # fmt: skip
        self.name, self._source, self._keys = prefix, source, tuple(keys)
        self._chain, self._columns, self._known = Chain(steps), tuple(columns), tuple(known)

    @property
    def inputs(self) -> tuple[str, ...]:
        own = (STREAM,) if self._source.stream else ()
        return tuple(dict.fromkeys([*own, *(column for _, column in self._source.columns)]))

    @property
    def outputs(self) -> tuple[OutputField, ...]:
        made = [OutputField(name, kind) for _, name, kind in self._columns]
        made += [OutputField(name, INT64) for _, name in self._known]
        prefix = self.name
        return (OutputField(f"{prefix}.key", STRING), OutputField(f"{prefix}.counts", BOOL, False), *made)

    def process(self, batch: Batch, context: OperatorContext) -> None:
        found = self._chain.run(relation_of(self._source, batch))
        texts = np.empty(len(found.places), np.object_)
        texts[:] = key_texts([found.columns[key] for key in self._keys], len(found.places))
        counts = np.zeros(batch.size, np.bool_)
        counts[found.places] = True
        batch.columns[f"{self.name}.key"] = spread(Column(STRING, texts), found.places, batch.size)
        batch.columns[f"{self.name}.counts"] = Column(BOOL, counts)
        for key, name, _ in self._columns:
            batch.columns[name] = spread(found.columns[key], found.places, batch.size)
        for key, name in self._known:
            ones = Column(INT64, np.ones(len(found.places), np.int64), found.columns[key].valid)
            batch.columns[name] = spread(ones, found.places, batch.size)
