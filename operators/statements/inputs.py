"""What windows and patterns of a statement read: its first steps run over a batch, their results as columns of it."""

from __future__ import annotations

__all__ = [
    "InputOperator",
    "Reader",
    "columns_of",
    "key_texts",
    "key_value",
    "key_values",
    "shorter",
    "spread",
    "values_of",
]

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from operators.batch import Batch, Column
from operators.event_values import column_of
from operators.operator import BOOL, INT64, STRING, Operator, OperatorContext, OutputField
from operators.plan import STREAM
from operators.schema import DataType, Kind
from operators.statements.chain import Chain, Relation
from operators.statements.spec import Input, Rows, Step, Union

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(list[Any]).decode


class Reader:
    """The rows of a batch that a statement reads, through its first steps."""

    def __init__(self, source: Input, steps: Sequence[Step]) -> None:
        self._chain = Chain(steps)
        branches = source.branches if isinstance(source, Union) else ((source, ()),)
        self._branches = [(rows, Chain(first)) for rows, first in branches]

    def run(self, batch: Batch) -> Relation:
        """Of several branches, which have the same columns, in the order of the batch.

        Raises:
            RecordError: an expression fails; with the rows of the batch.
        """
        parts = [chain.run(_relation(rows, batch)) for rows, chain in self._branches]
        return self._chain.run(parts[0] if len(parts) == 1 else _merged(parts))


def _merged(parts: Sequence[Relation]) -> Relation:
    places = np.concatenate([part.places for part in parts])
    order = np.argsort(places, kind="stable")
    columns = {key: _joined([part.columns[key] for part in parts]).take(order) for key in parts[0].columns}
    return Relation(places[order], columns)


def _joined(columns: Sequence[Column]) -> Column:
    values = np.concatenate([column.values for column in columns])
    if all(column.valid is None for column in columns):
        return Column(columns[0].type, values)
    known = [np.ones(len(one.values), np.bool_) if one.valid is None else one.valid for one in columns]
    return Column(columns[0].type, values, np.concatenate(known))


def _relation(source: Rows, batch: Batch) -> Relation:
    places = np.arange(batch.size)
    if source.stream:
        places = np.flatnonzero(batch.columns[STREAM].values == source.stream)
    columns = {key: batch.columns[name] for key, name in source.columns}
    if len(places) == batch.size:
        return Relation(places, columns)
    return Relation(places, {key: column.take(places) for key, column in columns.items()})


def columns_of(*inputs: Input) -> tuple[str, ...]:
    """The columns of a batch that are read of it."""
    sources = [
        rows for one in inputs for rows in ([rows for rows, _ in one.branches] if isinstance(one, Union) else [one])
    ]
    own = (STREAM,) if any(source.stream for source in sources) else ()
    return tuple(dict.fromkeys([*own, *(name for source in sources for _, name in source.columns)]))


def key_texts(columns: Sequence[Column], size: int) -> list[str]:
    """One text for each row's combination of values: JSON, equal for equal ones."""
    if not columns:
        return ["[]"] * size
    lists = [values_of(column) for column in columns]
    if len(lists) == 1 and (texts := _quoted(columns[0], lists[0])) is not None:
        return texts
    return [_encode(row).decode() for row in zip(*lists, strict=True)]


def _quoted(column: Column, values: list[Any]) -> list[str] | None:
    """What `key_texts` says of one column of texts that JSON writes as they are, all at once; None: some are not so, or
    have blanks.
    """
    if column.type.kind is not Kind.STRING or column.valid is not None:
        return None
    joined = " ".join(values)
    if not joined.isprintable() or '"' in joined or "\\" in joined or joined.count(" ") != len(values) - 1:
        return None
    return ('["' + joined.replace(" ", '"] ["') + '"]').split(" ")


def shorter(text: str) -> str:
    """A text of `key_texts` without its last column."""
    return _encode(_decode(text)[:-1]).decode()


def key_values(texts: Sequence[str], types: Sequence[DataType]) -> list[Column]:
    """The columns that `key_texts` was given."""
    rows = [_decode(text) for text in texts]
    return [column_of(kind, [row[n] for row in rows]) for n, kind in enumerate(types)]


def key_value(text: str, place: int) -> Any:
    """One value of a text of `key_texts`."""
    return _decode(text)[place]


def values_of(column: Column) -> list[Any]:
    """The values of a column, None for NULL; 0 has one sign."""
    is_float = column.type.kind is Kind.FLOAT64
    values: list[Any] = (column.values + 0.0 if is_float else column.values).tolist()
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
    `columns` (key, name, type), NULL in rows that are not; for `known` (key, name) a 1 where there is a value; for
    `distinct` (key, name) the text of `keys` and the value, and for `values` (key, name) its own, where there is one.
    """

    def __init__(
        self, prefix: str, source: Input, steps: Sequence[Step], *, keys: Sequence[str],
        columns: Sequence[tuple[str, str, DataType]], known: Sequence[tuple[str, str]] = (),
        distinct: Sequence[tuple[str, str]] = (), values: Sequence[tuple[str, str]] = (),
    ) -> None:  # fmt: skip
        self.name, self._source, self._keys = prefix, source, tuple(keys)
        self._reader, self._columns, self._known = Reader(source, steps), tuple(columns), tuple(known)
        self._texts = (
            *((name, (*self._keys, key)) for key, name in distinct),
            *((name, (key,)) for key, name in values),
        )

    @property
    def inputs(self) -> tuple[str, ...]:
        return columns_of(self._source)

    @property
    def outputs(self) -> tuple[OutputField, ...]:
        made = [OutputField(name, kind) for _, name, kind in self._columns]
        made += [OutputField(name, INT64) for _, name in self._known]
        made += [OutputField(name, STRING) for name, _ in self._texts]
        prefix = self.name
        return (OutputField(f"{prefix}.key", STRING), OutputField(f"{prefix}.counts", BOOL, False), *made)

    def process(self, batch: Batch, context: OperatorContext) -> None:
        found = self._reader.run(batch)
        counts = np.zeros(batch.size, np.bool_)
        counts[found.places] = True
        batch.columns[f"{self.name}.key"] = spread(_texts(found, self._keys), found.places, batch.size)
        batch.columns[f"{self.name}.counts"] = Column(BOOL, counts)
        for key, name, _ in self._columns:
            batch.columns[name] = spread(found.columns[key], found.places, batch.size)
        for key, name in self._known:
            ones = Column(INT64, np.ones(len(found.places), np.int64), found.columns[key].valid)
            batch.columns[name] = spread(ones, found.places, batch.size)
        for name, keys in self._texts:
            texts = _texts(found, keys)._replace(valid=found.columns[keys[-1]].valid)
            batch.columns[name] = spread(texts, found.places, batch.size)


def _texts(found: Relation, keys: Sequence[str]) -> Column:
    texts = np.empty(len(found.places), np.object_)
    texts[:] = key_texts([found.columns[key] for key in keys], len(found.places))
    return Column(STRING, texts)
