"""Rows as JSON: numbers as numbers, exact ones by their digits, times as RFC 3339, NULL as null."""

from __future__ import annotations

__all__ = ["RowEncoder"]

import re
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any, Final

import msgspec
import numpy as np

from operators.batch import Column
from operators.encode import json_encoder
from operators.schema import Kind

_PLAIN: Final = re.compile(r'[^"\\\x00-\x1f]*').fullmatch  # names that msgspec's structs take


class RowEncoder:
    """Writes rows of columns that are called `names`, in this order.

    >>> from operators.schema import DataType
    >>> RowEncoder(["n", "at"]).encode([
    ...     Column(DataType(Kind.DECIMAL, 2), np.array([1250])), Column(DataType(Kind.TIMESTAMP), np.array([0]))])
    [b'{"n":12.50,"at":"1970-01-01T00:00:00.000Z"}']
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._made = _struct(names) if all(map(_PLAIN, names)) else _dicts(names)

    def encode(self, columns: Sequence[Column], rows: slice = slice(None)) -> list[bytes]:
        """One object a row."""
        values = [_values(column, rows) for column in columns]
        return [json_encoder.encode(self._made(*row)) for row in zip(*values, strict=True)]


def _struct(names: Sequence[str]) -> Callable[..., Any]:
    fields: list[Any] = [(f"f{n}", Any) for n in range(len(names))]
    return msgspec.defstruct("Row", fields, rename={f"f{n}": name for n, name in enumerate(names)})


def _dicts(names: Sequence[str]) -> Callable[..., Any]:
    """A struct's twin: slower, but its names may need escapes."""
    return lambda *row: dict(zip(names, row, strict=True))


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
