"""Rows that a stage hands on to one of the same worker, by their columns: what the next stage would read from their
records is known, so nobody has to parse them.

What JSON keeps of a value is what `decode.py` reads, but for numbers without an end and those that are read by their
digits; where a column has some, the records are decoded like any others. Columns of one kind are looked at all at once.
"""

from __future__ import annotations

__all__ = ["HandedDecoder", "HandedLayout"]

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from operators.batch import Column
from operators.decode import VALUE_BYTES_MAX, Decoded, RecordDecoder
from operators.encode import FLOAT_DIGITS_LIMIT
from operators.schema import DataType, Kind, StreamSchema
from operators.values import TIME_MAX, TIME_MIN, texts_of

_BOUNDS = {
    Kind.DECIMAL: (1 - FLOAT_DIGITS_LIMIT, FLOAT_DIGITS_LIMIT - 1),
    Kind.TIMESTAMP: (TIME_MIN, TIME_MAX),
}
"""What is read as it was written."""
Order = npt.NDArray[np.int64] | None
"""Which row each record is of; None: each of its own."""


class HandedLayout:
    """How columns that are handed on become those of a stream; the same one serves all batches of an engine.

    What follows from the columns' names and types is worked out when they are seen first, or change.
    """

    def __init__(self, schema: StreamSchema) -> None:
        self._schema = schema
        self._names: list[str] = []
        self._types: list[DataType] = []
        self._fits = False
        self._floats: list[int] = []
        self._bounded: list[int] = []
        self._low = self._high = np.empty((0, 1), np.int64)
        naming = {schema.id, schema.key}
        self._must = [spec.name for spec in schema.fields if spec.required or spec.name in naming]
        self._must.append(schema.event_time)
        self._texts = [name for name in naming if schema.field(name).type.kind is Kind.STRING]

    def read(self, columns: Mapping[str, Column], order: Order) -> dict[str, Column] | None:
        """The columns as they are read from the rows' records; None: not all of it can be said without these."""
        names, given = list(columns), list(columns.values())
        types = [column.type for column in given]
        if types != self._types or names != self._names:
            self._learn(names, types)
        if not self._fits:
            return None
        if order is not None:
            given = [Column(of, values[order], None if mask is None else mask[order]) for of, values, mask in given]
        for place in [place for place, column in enumerate(given) if column.valid is not None]:
            given[place] = _blanked(given[place])
        found = dict(zip(names, given, strict=True))
        unsure = self._unsure(given)
        for name in unsure:
            del found[name]
        if unsure and any(spec.name in unsure for spec in self._schema.fields):
            return None
        for name in self._must:
            if found[name].valid is not None:
                return None
        for name in self._texts:
            if not all(found[name].values.tolist()):
                return None
        return found

    def _learn(self, names: list[str], types: list[DataType]) -> None:
        self._names, self._types = names, types
        known = dict(zip(names, types, strict=True))
        self._fits = all(known.get(spec.name) == spec.type for spec in self._schema.fields)
        self._floats = [place for place, of_type in enumerate(types) if of_type.kind is Kind.FLOAT64]
        self._bounded = [place for place, of_type in enumerate(types) if of_type.kind in _BOUNDS]
        bounds = np.array([_BOUNDS[types[place].kind] for place in self._bounded], np.int64).reshape(-1, 2)
        self._low, self._high = bounds[:, :1], bounds[:, 1:]

    def _unsure(self, given: Sequence[Column]) -> list[str]:
        """The columns of which some number may be read as another one than it is."""
        found: list[str] = []
        if self._floats:
            values = np.concatenate([given[place].values for place in self._floats])
            found += self._without(self._floats, np.isfinite(values))
        if self._bounded:
            values = np.concatenate([given[place].values for place in self._bounded]).reshape(len(self._bounded), -1)
            found += self._without(self._bounded, (values >= self._low) & (values <= self._high))
        return found

    def _without(self, places: Sequence[int], sure: npt.NDArray[np.bool_]) -> list[str]:
        """The columns at `places` not all of whose values are `sure`."""
        if np.count_nonzero(sure) == sure.size:
            return []
        each: list[bool] = np.logical_and.reduce(sure.reshape(len(places), -1), axis=1).tolist()
        return [self._names[place] for place, is_sure in zip(places, each, strict=True) if not is_sure]


def _blanked(column: Column) -> Column:
    """With nothing under its NULLs."""
    of_type, values, valid = column
    assert valid is not None
    if np.count_nonzero(valid) == len(valid):
        return Column(of_type, values)
    blanked = values.copy()
    blanked[~valid] = of_type.blank
    return Column(of_type, blanked, valid)


class HandedDecoder:
    """Decodes the records of rows that are at hand; any others as `decoder` does.

    Such rows bring all their columns, also those that only a stage behind this one reads.

    Args:
        decoder: the next stage's, `schema`: its stream.
        columns: of the rows, by name.
        order: which row each record is of, int64 (records,).
        layout: of `schema`, if there is one.
    """

    def __init__(
        self, decoder: RecordDecoder, schema: StreamSchema, columns: Mapping[str, Column],
        order: npt.NDArray[np.int64], layout: HandedLayout | None = None,
    ) -> None:  # fmt: skip
        self._decoder, self._schema = decoder, schema
        self._columns, self._order = columns, order
        self._layout = layout or HandedLayout(schema)

    def decode(self, values: Sequence[bytes | None], timestamps: Sequence[int]) -> Decoded:
        """See `RecordDecoder.decode`, which gives the same columns of `schema`."""
        found = self._found(values, timestamps) if len(values) == len(self._order) else None
        return self._decoder.decode(values, timestamps) if found is None else found

    def _found(self, values: Sequence[bytes | None], timestamps: Sequence[int]) -> Decoded | None:
        """None: not all of it can be said without the records."""
        schema = self._schema
        if max(map(len, filter(None, values)), default=0) > VALUE_BYTES_MAX:
            return None
        some = next(iter(self._columns.values()))
        is_in_order = self._order.tolist() == list(range(len(some.values)))
        columns = self._layout.read(self._columns, None if is_in_order else self._order)
        if columns is None:
            return None
        times = columns[schema.event_time].values
        if times.min() < 0 or times.max() > min(TIME_MAX, min(timestamps) + schema.max_ahead_ms):
            return None
        ids, keys = (texts_of(columns[name]) for name in (schema.id, schema.key))
        return Decoded(columns, np.arange(len(values)), ids, keys, times, [], 0)
