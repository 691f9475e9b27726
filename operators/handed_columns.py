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
        some = next(iter(self._columns.values()))
        in_order = np.array_equal(self._order, np.arange(len(some.values)))
        found = {}
        for name, column in self._columns.items():
            read = _as_read(column if in_order else column.take(self._order))
            if read is not None:
                found[name] = read
        return found


def _lacks(schema: StreamSchema, spec: FieldSpec, column: Column) -> bool:
    """Whether it is no column of the field, or something is missing that must be there."""
    if column.type != spec.type:
        return True
    if spec.name not in {schema.id, schema.key, schema.event_time}:
        return spec.required and column.valid is not None
    return column.valid is not None or (spec.type.kind is Kind.STRING and not all(column.values.tolist()))


def _as_read(column: Column) -> Column | None:
    """What is read of a column's text; None: that has to be looked at."""
    type_, values, valid = column
    if valid is not None:
        if np.count_nonzero(valid) == len(valid):
            valid = None
        else:
            values = np.where(valid, values, np.array(type_.blank, values.dtype))
    match type_.kind:
        case Kind.FLOAT64:
            is_known = np.count_nonzero(np.isfinite(values)) == len(values)
        case Kind.DECIMAL:
            is_known = _within(values, 1 - FLOAT_DIGITS_LIMIT, FLOAT_DIGITS_LIMIT - 1)
        case Kind.TIMESTAMP:
            is_known = _within(values, TIME_MIN, TIME_MAX)
        case _:
            is_known = True
    return Column(type_, values, valid) if is_known else None


def _within(values: npt.NDArray[np.int64], low: int, high: int) -> bool:
    return bool(values.min() >= low and values.max() <= high)
