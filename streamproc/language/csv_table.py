"""Look-up tables from CSV files, read exactly: no float on the way to a decimal."""

from __future__ import annotations

__all__ = ["TableContents", "cell_value", "empty_table", "read_table"]

import csv
import hashlib
import re
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from operators.periods import EXPIRES, VALID_FROM, bounds, overlap
from operators.prefixes import PREFIX_BYTES_MAX
from operators.schema import DataType, Kind
from operators.tables import LookupTable, Match, TableSchema, normal_key
from operators.values import parse_decimal, parse_timestamp
from state.errors import ConfigError, Place
from streamproc.language.model import Table
from streamproc.language.problems import Problems, nearest

ROWS_MAX = 5_000_000
_ERRORS_MAX = 20
_INTEGER = re.compile(r"-?\d{1,18}")
_FLOAT = re.compile(r"-?\d+(\.\d+)?([eE][-+]?\d+)?")
_MINOR_LIMIT = 2**53
_STRING, _TIMESTAMP = DataType(Kind.STRING), DataType(Kind.TIMESTAMP)
_IMPLIED = {VALID_FROM: _TIMESTAMP, EXPIRES: _TIMESTAMP, "added_by": _STRING, "added_at": _STRING, "reason": _STRING}
"""Columns that need no declaration: when a row holds; who made it, when and why."""
_RIGHT = {
    Match.CIDR: "10.0.0.0/8, 2001:db8::/32 or an address; no bits are set behind the prefix",
    Match.PREFIX: f"at most {PREFIX_BYTES_MAX} bytes",
}


class TableContents(NamedTuple):
    """A table, and the digest of what was loaded of it: the order of rows and other columns do not count."""

    table: LookupTable
    digest: str


def read_table(name: str, table: Table, folder: Path) -> TableContents:
    """Read the declared columns, and those that `_IMPLIED` names; others are ignored, and so are empty lines.

    An empty cell is NULL.

    Raises:
        ConfigError: no such file, a missing column, a wrong value, a repeated key: with the file's line.
    """
    path = folder / table.file
    try:
        with open(path, encoding="utf-8-sig", newline="") as opened:
            lines = csv.reader(opened, strict=True)
            header = [title.strip() for title in next(lines, [])]
            types = _types(table, header)
            rows = _rows(lines, _places(types, header, str(path)), types, table, str(path))
    except FileNotFoundError:
        raise ConfigError(f"table {name}: there is no file {table.file}", table.place) from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"table {name}: {table.file} cannot be read: {error}", table.place) from None
    return TableContents(LookupTable(name, table.key, types, rows, table.match), _digest(table, types, rows))


def empty_table(name: str, table: Table) -> TableContents:
    """A table without rows: what is compiled with it can be checked all the same."""
    return TableContents(LookupTable(name, table.key, _types(table, list(_IMPLIED)), [], table.match), "")


def _types(table: Table, header: list[str]) -> dict[str, DataType]:
    """The types of the declared columns, and of those that need no declaration."""
    implied = {column: kind for column, kind in _IMPLIED.items() if column in header}
    return {table.key: table.key_type, **table.columns} | {
        column: kind for column, kind in implied.items() if column != table.key and column not in table.columns
    }


def _timed(table: Table, types: dict[str, DataType]) -> bool:
    return TableSchema("", table.key, types).timed


def _digest(table: Table, types: dict[str, DataType], rows: list[dict[str, Any]]) -> str:
    columns = [(name, str(kind)) for name, kind in sorted(types.items())]
    contents = [(row[table.key], [row[name] for name, _ in columns]) for row in rows]
    contents.sort(key=lambda row: (row[0], msgspec.json.encode(row[1])))
    meant: list[object] = [table.key, columns, contents]
    timed = _timed(table, types)
    if table.match is not Match.EXACT or timed:
        meant += [table.match, timed]
    return hashlib.sha256(msgspec.json.encode(meant)).hexdigest()


def _places(types: dict[str, DataType], header: list[str], file: str) -> dict[str, int]:
    """Where each column stands in a line."""
    for column in types:
        if column not in header:
            raise ConfigError(f"there is no column {column!r}", Place(file, 1, 1), nearest(column, header))
    return {column: header.index(column) for column in types}


def _rows(
    lines: Any, places: dict[str, int], types: dict[str, DataType], table: Table, file: str
) -> list[dict[str, Any]]:
    problems = Problems()
    rows: list[dict[str, Any]] = []
    keys = _Keys(table, _timed(table, types))
    words: dict[Any, Any] = {}  # reasons and names come again: each text is kept once
    for cells in lines:
        if not any(cell.strip() for cell in cells):
            continue
        place = Place(file, lines.line_num, 1)
        row: dict[str, Any] = {}
        for column, index in places.items():
            with problems.caught():
                cell = cells[index].strip() if index < len(cells) else ""
                value = cell_value(cell, types[column], column, place)
                repeated = isinstance(value, str) and column != table.key
                row[column] = words.setdefault(value, value) if repeated else value
        with problems.caught():
            keys.add(row, place)
        rows.append(row)
        if len(rows) > ROWS_MAX or len(problems.errors) > _ERRORS_MAX:
            break
    problems.check()
    if len(rows) > ROWS_MAX:
        raise ConfigError(f"more than {ROWS_MAX} rows", Place(file))
    keys.check(rows, file)
    return rows


class _Keys:
    """The keys of a table as they are read: there, of their sort, and each once at a time."""

    def __init__(self, table: Table, timed: bool) -> None:
        self._table = table
        self._timed = timed
        self._first: dict[Any, int] = {}
        self._numbers: list[int] = []
        self._lines: list[int] = []

    def add(self, row: dict[str, Any], place: Place) -> None:
        """Take a row; ConfigError if it cannot be one."""
        name = self._table.key
        if name not in row:
            return
        if row[name] is None:
            raise ConfigError(f"the key {name} is empty", place)
        key = normal_key(self._table.match, row[name])
        if key is None:
            raise ConfigError(f"a value of {name} is not {self._table.match}", place, _RIGHT[self._table.match])
        first = self._lines[self._first[key]] if key in self._first else 0
        self._numbers.append(self._first.setdefault(key, len(self._lines)))
        self._lines.append(place.line)
        if first and not self._timed:
            raise ConfigError("the key stands there twice", place, f"first in line {first}")
        start, stop = row.get(VALID_FROM), row.get(EXPIRES)
        if start is not None and stop is not None and stop <= start:
            raise ConfigError(f"{EXPIRES} is not later than {VALID_FROM}", place)

    def check(self, rows: list[dict[str, Any]], file: str) -> None:
        """Of one key, only one row holds at a time; ConfigError if not."""
        clash = overlap(np.array(self._numbers, np.intp), *bounds(rows)) if self._timed else None
        if clash is not None:
            later, first = (self._lines[number] for number in clash)
            hint = f"first in line {first}; one must expire before the other is valid"
            raise ConfigError("the key stands there twice for the same time", Place(file, later, 1), hint)


def cell_value(cell: str, kind: DataType, column: str, place: Place) -> int | float | str | bool | None:
    """The physical value of a cell; None for an empty one.

    Raises:
        ConfigError: it is not of the column's type.
    """
    if not cell:
        return None
    value: int | float | str | bool | None
    match kind.kind:
        case Kind.STRING:
            return cell
        case Kind.DECIMAL:
            value = parse_decimal(cell, kind.scale)
            value = value if value is None or abs(value) < _MINOR_LIMIT else None
        case Kind.INT64:
            value = int(cell) if _INTEGER.fullmatch(cell) else None
        case Kind.FLOAT64:
            value = float(cell) if _FLOAT.fullmatch(cell) else None
        case Kind.TIMESTAMP:
            value = int(cell) if _INTEGER.fullmatch(cell) else parse_timestamp(cell)
        case Kind.BOOL:
            value = {"true": True, "false": False}.get(cell.lower())
    if value is None:
        hint = "2026-05-03T10:00:00Z, or ms since 1970" if kind.kind is Kind.TIMESTAMP else None
        raise ConfigError(f"a value of {column} is not {kind}", place, hint)
    return value
