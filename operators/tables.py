"""Lookup tables: lists, profiles and thresholds that expressions read (`in table(...)`, `table(name, key).column`).

A `LookupTable` is an immutable snapshot. A changed table is a new snapshot under the same name, put in place between
two transactions, never inside a batch.
"""

from __future__ import annotations

__all__ = ["LookupTable", "Match", "TableSchema", "normal_key"]

from collections.abc import Iterable, Mapping
from enum import StrEnum
from itertools import repeat
from typing import Any, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from operators.batch import Column
from operators.periods import EXPIRES, VALID_FROM, Periods, Times, bounds, overlap
from operators.prefixes import NONE, Networks, Numbers, Prefixes, parse_network, parse_prefix
from operators.schema import DataType, Kind


class Match(StrEnum):
    """How a value finds its key."""

    EXACT = "exact"
    CIDR = "cidr"  # the smallest network around an address
    PREFIX = "prefix"  # the longest beginning of a text


class TableSchema(msgspec.Struct, frozen=True):
    """A table's columns and their types; `key` names one of them, its values are never NULL.

    They are unique, but for rows that hold at different times (`timed`).
    """

    name: str
    key: str
    columns: Mapping[str, DataType]
    match: Match = Match.EXACT

    @property
    def key_type(self) -> DataType:
        """Type of the key column, and of what is looked up."""
        return self.columns[self.key]

    @property
    def timed(self) -> bool:
        """Whether rows hold from a time on (`valid_from`) or until one (`expires`): look-ups want the row's time."""
        return any(name in self.columns and self.columns[name].kind is Kind.TIMESTAMP for name in (VALID_FROM, EXPIRES))


class _Finder(Protocol):
    """Values -> numbers of keys, and from a key to the next one that would do (None: there is none, ever)."""

    @property
    def parents(self) -> Numbers | None: ...

    def find(self, values: npt.NDArray[Any]) -> Numbers: ...


class _Exact:
    parents = None

    def __init__(self, numbers: dict[Any, int]) -> None:
        self._numbers = numbers

    def find(self, values: npt.NDArray[Any]) -> Numbers:
        return np.fromiter(map(self._numbers.get, values.tolist(), repeat(NONE)), np.intp, len(values))


def normal_key(match: Match, value: Any) -> Any:
    """What makes two keys the same one, as they are found; None: it is no key of that sort."""
    if match is Match.CIDR:
        return parse_network(value)
    return parse_prefix(value) if match is Match.PREFIX else value


class LookupTable:
    """An immutable snapshot of a table, indexed by its key.

    Columns `valid_from` and `expires` of type timestamp say when a row holds, by the event time of the row that looks
    it up: valid_from <= time < expires; NULL is no bound.

    Args:
        name: the table's name in expressions.
        key: the key column's name.
        columns: the type of every column, the key's too.
        rows: one mapping a row, of physical values (a decimal(2) of 12.34 is 1234, a timestamp ms); an absent
            column or None is NULL.
        match: how a value finds its key; all but EXACT want a string key.

    Raises:
        ValueError: `key` is not a column, or a row's key is NULL, none of its sort, or not unique (at one time);
            names the row (from 1), not its value.
    """

    def __init__(
        self,
        name: str,
        key: str,
        columns: Mapping[str, DataType],
        rows: Iterable[Mapping[str, Any]],
        match: Match = Match.EXACT,
    ) -> None:
        if key not in columns:
            raise ValueError(f"table {name}: the key {key} is not one of its columns")
        self.schema = TableSchema(name, key, dict(columns), match)
        stored = list(rows)
        numbers: dict[Any, int] = {}
        keys: list[int] = []
        for number, row in enumerate(stored):
            value = row.get(key)
            found = None if value is None else normal_key(match, value)
            if found is None or (found in numbers and not self.schema.timed):
                what = "has no key" if value is None else f"has no {match}" if found is None else _REPEATED
                raise ValueError(f"table {name}: row {number + 1} {what}")
            keys.append(numbers.setdefault(found, len(numbers)))
        self._finder = _finder(match, numbers)
        self._keys = np.array(keys, np.intp)
        self._periods = self._timed(stored) if self.schema.timed else None
        self._columns = {column: _column(kind, [row.get(column) for row in stored]) for column, kind in columns.items()}

    def _timed(self, rows: list[Mapping[str, Any]]) -> Periods:
        valid_from, expires = bounds(rows)
        clash = overlap(self._keys, valid_from, expires)
        if clash is not None:
            raise ValueError(f"table {self.name}: row {clash[0] + 1} {_REPEATED}")
        return Periods(self._keys, valid_from, expires)

    @property
    def name(self) -> str:
        """The name that expressions use."""
        return self.schema.name

    def __len__(self) -> int:
        return len(self._keys)

    def rows(self, values: npt.NDArray[Any], times: Times | None = None) -> Numbers:
        """The number of the row that each of `values` (of the key's dtype) finds; -1 if there is none.

        `times`: ms, of each value; needed for a timed table, and for no other. Of nested keys the longest counts that
        has a row which holds.
        """
        found = self._finder.find(values)
        if self._periods is None or not np.count_nonzero(found != NONE):
            return found
        assert times is not None
        rows = self._periods.find(found, times)
        parents = self._finder.parents
        if parents is None:
            return rows
        left = np.flatnonzero((rows == NONE) & (found != NONE))
        while len(left):
            found[left] = parents[found[left]]
            rows[left] = self._periods.find(found[left], times[left])
            left = left[(rows[left] == NONE) & (found[left] != NONE)]
        return rows

    def candidates(self, value: object) -> Numbers:
        """The numbers of all rows whose key fits `value`, at whatever time: longest keys first."""
        number = int(self._finder.find(np.array([value], self.schema.key_type.dtype))[0])
        found: list[Numbers] = []
        while number != NONE:
            found.append(np.flatnonzero(self._keys == number))
            number = NONE if self._finder.parents is None else int(self._finder.parents[number])
        return np.concatenate(found) if found else np.zeros(0, np.intp)

    def column(self, name: str, rows: Numbers) -> Column:
        """The column `name` at the rows of these numbers; NULL for -1. KeyError: no such column."""
        kind, values, valid = self._columns[name]
        return Column(kind, values.take(rows), None if valid is None else valid.take(rows))

    def contains(self, values: npt.NDArray[Any], times: Times | None = None) -> npt.NDArray[np.bool_]:
        """Bool (rows,): whether each of `values` finds a row, see `rows`."""
        found: npt.NDArray[np.bool_] = self.rows(values, times) != NONE
        return found

    def lookup(self, values: npt.NDArray[Any], column: str, times: Times | None = None) -> Column:
        """The column `column` of the rows that `values` find; NULL where there is none. KeyError: no such column."""
        return self.column(column, self.rows(values, times))


_REPEATED = "repeats an earlier row's key"


def _finder(match: Match, numbers: dict[Any, int]) -> _Finder:
    if match is Match.CIDR:
        return Networks(list(numbers))
    return Prefixes(list(numbers)) if match is Match.PREFIX else _Exact(numbers)


def _column(kind: DataType, values: list[Any]) -> Column:
    """Stored values with a NULL appended: index -1 is "no such key"."""
    empty = kind.blank
    array = np.array([*(empty if value is None else value for value in values), empty], dtype=kind.dtype)
    valid = np.array([*(value is not None for value in values), False], dtype=np.bool_)
    array.flags.writeable = valid.flags.writeable = False
    return Column(kind, array, valid)
