"""Rows that a stage hands on to one of the same worker, by their columns: what the next stage would read from their
records is known, so nobody has to parse them.

What JSON keeps of a value is what `decode.py` reads, but for numbers without an end and those that are read by their
digits; where a column has some, the records are decoded like any others.
"""

from __future__ import annotations

__all__ = ["HandedDecoder"]

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from operators.batch import Column
from operators.decode import VALUE_BYTES_MAX, Decoded, RecordDecoder
from operators.encode import FLOAT_DIGITS_LIMIT
from operators.schema import FieldSpec, Kind, StreamSchema
from operators.values import TIME_MAX, TIME_MIN, texts_of

_ANY = (-(1 << 63), (1 << 63) - 1)
_LIMITS = {
    Kind.INT64: _ANY,
    Kind.FLOAT64: _ANY,  # but infinite
    Kind.DECIMAL: (1 - FLOAT_DIGITS_LIMIT, FLOAT_DIGITS_LIMIT - 1),
    Kind.TIMESTAMP: (TIME_MIN, TIME_MAX),
}
"""Of kinds of numbers the least and the largest that are read as they are."""


class HandedDecoder:
    """Decodes the records of rows that are at hand; any others as `decoder` does.

    Such rows bring all their columns, also those that only a stage behind this one reads.

    Args:
        decoder: the next stage's, `schema`: its stream.
        columns: of the rows, by name.
        order: which row each record is of, int64 (records,).
    """

    def __init__(
        self, decoder: RecordDecoder, schema: StreamSchema, columns: Mapping[str, Column], order: npt.NDArray[np.int64]
    ) -> None:
        self._decoder, self._schema = decoder, schema
        self._columns, self._order = columns, order

    def decode(self, values: Sequence[bytes | None], timestamps: Sequence[int]) -> Decoded:
        """See `RecordDecoder.decode`, which gives the same columns of `schema`."""
        found = self._found(values, timestamps) if len(values) == len(self._order) else None
        return self._decoder.decode(values, timestamps) if found is None else found

    def _found(self, values: Sequence[bytes | None], timestamps: Sequence[int]) -> Decoded | None:
        """None: not all of it can be said without the records."""
        schema = self._schema
        if max(len(value or b"") for value in values) > VALUE_BYTES_MAX:
            return None
        columns = self._read()
        if any(spec.name not in columns or _lacks(schema, spec, columns[spec.name]) for spec in schema.fields):
            return None
        times = columns[schema.event_time].values
        if times.min() < 0 or times.max() > min(TIME_MAX, min(timestamps) + schema.max_ahead_ms):
            return None
        ids, keys = (texts_of(columns[name]) for name in (schema.id, schema.key))
        return Decoded(columns, np.arange(len(values)), ids, keys, times, [], 0)

    def _read(self) -> dict[str, Column]:
        """The columns that are known, row by record."""
        numbers = {name: column for name, column in self._columns.items() if column.type.kind in _LIMITS}
        found = _numbers(numbers, self._order) if numbers else {}
        found |= {
            name: _as_read(column.take(self._order)) for name, column in self._columns.items() if name not in numbers
        }
        return found


def _numbers(columns: Mapping[str, Column], order: npt.NDArray[np.int64]) -> dict[str, Column]:
    """What is read of columns of numbers in that order, all at once; those are left out that have to be looked at."""
    types = [column.type for column in columns.values()]
    words = np.array([column.values.view(np.int64) for column in columns.values()]).take(order, axis=1)
    some = [number for number, column in enumerate(columns.values()) if column.valid is not None]
    valid = dict[int, npt.NDArray[np.bool_]]()
    if some:
        known = np.array([column.valid for column in columns.values() if column.valid is not None]).take(order, axis=1)
        words[some] *= known  # NULL has the bits of 0, of any kind
        valid = {number: known[i] for i, number in enumerate(some) if np.count_nonzero(known[i]) < len(order)}
    low, high = np.array([_LIMITS[type_.kind] for type_ in types]).T
    is_known = (words.min(axis=1) >= low) & (words.max(axis=1) <= high)
    reals = [number for number, type_ in enumerate(types) if type_.kind is Kind.FLOAT64]
    if reals:
        is_known[reals] = np.isfinite(words[reals].view(np.float64)).all(axis=1)
    return {
        name: Column(types[i], words[i].view(types[i].dtype), valid.get(i))
        for i, name in enumerate(columns)
        if is_known[i]
    }


def _lacks(schema: StreamSchema, spec: FieldSpec, column: Column) -> bool:
    """Whether it is no column of the field, or something is missing that must be there."""
    if column.type != spec.type:
        return True
    if spec.name not in {schema.id, schema.key, schema.event_time}:
        return spec.required and column.valid is not None
    return column.valid is not None or (spec.type.kind is Kind.STRING and not all(column.values.tolist()))


def _as_read(column: Column) -> Column:
    """What is read of the text of a column of any other kind."""
    type_, values, valid = column
    if valid is None or np.count_nonzero(valid) == len(valid):
        return Column(type_, values)
    return Column(type_, np.where(valid, values, np.array(type_.blank, values.dtype)), valid)
