"""Rows as lines of JSON: numbers as numbers, exact ones by their digits, times as RFC 3339, NULL as null."""

from __future__ import annotations

__all__ = ["lines"]

from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any, Final

import msgspec
import numpy as np

from operators.batch import Column
from operators.schema import Kind
from streamproc.sql.plan import Column as Shown
from streamproc.sql.run import Relation

_ROWS_MAX: Final = 8192
_encoder: Final = msgspec.json.Encoder(decimal_format="number")


def lines(relation: Relation, shown: Sequence[Shown]) -> Iterator[bytes]:
    """Each row as a line of JSON, some thousands at a time; the columns in the order of `shown`, by their names."""
    names = [one.name for one in shown]
    fields: list[Any] = [(f"f{n}", Any) for n in range(len(names))]
    made = msgspec.defstruct("Row", fields, rename={f"f{n}": name for n, name in enumerate(names)})
    for start in range(0, relation.size, _ROWS_MAX):
        rows = slice(start, start + _ROWS_MAX)
        columns = [_values(relation.columns[one.key], rows) for one in shown]
        yield b"".join(_encoder.encode(made(*row)) + b"\n" for row in zip(*columns, strict=True))


def _values(column: Column, rows: slice) -> list[Any]:
    """What JSON holds of a column's rows."""
    values: list[Any] = column.values[rows].tolist()
    kind = column.type
    if kind.kind is Kind.TIMESTAMP:
        moments = np.datetime_as_string(column.values[rows].astype("M8[ms]"), unit="ms")
        values = [f"{text}Z" for text in moments.tolist()]
    elif kind.kind is Kind.DECIMAL:
        values = [Decimal(value).scaleb(-kind.scale) for value in values]
    if column.valid is not None:
        values = [value if valid else None for value, valid in zip(values, column.valid[rows].tolist(), strict=True)]
    return values
