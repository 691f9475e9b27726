"""Lookup tables: lists, profiles and thresholds that expressions read (`in table(...)`, `table(name, key).column`).

A `LookupTable` is an immutable snapshot. A changed table is a new snapshot under the same name, put in place between
two transactions, never inside a batch.
"""

from __future__ import annotations

__all__ = ["LookupTable", "TableSchema"]

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from operators.batch import Column
from operators.schema import DataType, Kind

_EMPTY: dict[Kind, Any] = {Kind.STRING: "", Kind.BOOL: False, Kind.FLOAT64: 0.0}


class TableSchema(msgspec.Struct, frozen=True):
    """A table's columns and their types; `key` names one of them, its values are unique and never NULL."""

    name: str
    key: str
    columns: Mapping[str, DataType]

    @property
    def key_type(self) -> DataType:
        """Type of the key column."""
        return self.columns[self.key]


class LookupTable:
    """An immutable snapshot of a table, indexed by its key.

    Args:
        name: the table's name in expressions.
        key: the key column's name.
        columns: the type of every column, the key's too.
        rows: one mapping a row, of physical values (a decimal(2) of 12.34 is 1234, a timestamp ms); an absent
            column or None is NULL.

    Raises:
        ValueError: `key` is not a column, or a row's key is NULL or not unique; names the row (from 1), not its value.
    """

    def __init__(self, name: str, key: str, columns: Mapping[str, DataType], rows: Iterable[Mapping[str, Any]]) -> None:
        if key not in columns:
            raise ValueError(f"table {name}: the key {key} is not one of its columns")
        self.schema = TableSchema(name, key, dict(columns))
        stored = list(rows)
        self._index: dict[Any, int] = {}
        for number, row in enumerate(stored):
            value = row.get(key)
            if value is None or value in self._index:
                what = "has no key" if value is None else "repeats an earlier row's key"
                raise ValueError(f"table {name}: row {number + 1} {what}")
            self._index[value] = number
        self._columns = {column: _column(kind, [row.get(column) for row in stored]) for column, kind in columns.items()}

    @property
    def name(self) -> str:
        """The name that expressions use."""
        return self.schema.name

    def __len__(self) -> int:
        return len(self._index)

    def contains(self, values: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        """Bool (rows,): whether each of `values` (of the key's dtype) is a key."""
        index = self._index
        return np.fromiter([value in index for value in values.tolist()], np.bool_, len(values))

    def lookup(self, values: npt.NDArray[Any], column: str) -> Column:
        """The column `column` at the keys `values`; NULL where there is no such key. KeyError: no such column."""
        found = self._columns[column]
        get = self._index.get
        rows = np.fromiter([get(value, -1) for value in values.tolist()], np.intp, len(values))
        return found.take(rows)


def _column(kind: DataType, values: list[Any]) -> Column:
    """Stored values with a NULL appended: index -1 is "no such key"."""
    empty = _EMPTY.get(kind.kind, 0)
    array = np.array([*(empty if value is None else value for value in values), empty], dtype=kind.dtype)
    valid = np.array([*(value is not None for value in values), False], dtype=np.bool_)
    array.flags.writeable = valid.flags.writeable = False
    return Column(kind, array, valid)
