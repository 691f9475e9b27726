"""Look-up tables from files, CSV or JSON, read exactly: no float on the way to a decimal."""

from __future__ import annotations

__all__ = ["TableContents", "TableFile", "cell_value", "empty_table", "read_file", "read_table"]

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from operators.live_tables import IMPLIED, parse_cell
from operators.periods import EXPIRES, VALID_FROM, bounds, overlap
from operators.prefixes import PREFIX_BYTES_MAX
from operators.schema import DataType, Kind
from operators.tables import LookupTable, Match, TableSchema, normal_key
from state.errors import ConfigError, Place
from streamproc.language.model import Table
from streamproc.language.problems import Problems, nearest
from streamproc.language.table_lines import JSON_ENDINGS, Cells, commas_hint, csv_lines, json_lines

ROWS_MAX = 5_000_000
_ERRORS_MAX = 20
_RIGHT = {
    Match.CIDR: "10.0.0.0/8, 2001:db8::/32 or an address; no bits are set behind the prefix",
    Match.PREFIX: f"at most {PREFIX_BYTES_MAX} bytes",
}


class TableContents(NamedTuple):
    """A table, and the digest of what was loaded of it: the order of rows and other columns do not count."""

    table: LookupTable
    digest: str


class TableFile(NamedTuple):
    """A table's file as it was read: the types of the columns, those that the file has, and its rows (physical)."""

    types: dict[str, DataType]
    given: list[str]
    rows: list[dict[str, Any]]


def read_table(name: str, table: Table, folder: Path) -> TableContents:
    """The table of a file, see `read_file`. Of one that has a topic, the contents are no part of the digest."""
    types, _, rows = read_file(name, table, folder)
    digest = f"topic {table.topic}" if table.topic else _digest(table, types, rows)
    return TableContents(LookupTable(name, table.key, types, rows, table.match), digest)


def read_file(name: str, table: Table, folder: Path) -> TableFile:
    """Read the declared columns, and those that `IMPLIED` names; others are ignored, and so are empty lines.

    An empty cell is NULL.

    Raises:
        ConfigError: no such file, a missing column, a wrong value, a repeated key: with the file's line.
    """
    path, problems = folder / table.file, Problems()
    try:
        with open(path, encoding="utf-8-sig", newline="") as opened:
            is_json = path.suffix.lower() in JSON_ENDINGS
            header, lines = json_lines(opened, str(path), problems.note) if is_json else csv_lines(opened, str(path))
            types = _types(table, header)
            wanted = [name for name in types if name in header or name == table.key or name in table.columns]
            rows = _rows(lines, _places(wanted, header, str(path)), _Keys(table, types), str(path), problems)
    except FileNotFoundError:
        raise ConfigError(f"table {name}: there is no file {table.file}", table.place) from None
    except UnicodeDecodeError:
        raise ConfigError(f"table {name}: {table.file} is not UTF-8 text", table.place, "save it as UTF-8") from None
    except OSError as error:
        raise ConfigError(f"table {name}: {table.file} cannot be read: {error.strerror}", table.place) from None
    return TableFile(types, wanted, rows)


def empty_table(name: str, table: Table) -> TableContents:
    """A table without rows: what is compiled with it can be checked all the same."""
    return TableContents(LookupTable(name, table.key, _types(table, list(IMPLIED)), [], table.match), "")


def _types(table: Table, header: list[str]) -> dict[str, DataType]:
    """The types of the declared columns, and of those that need no declaration."""
    implied = {column: kind for column, kind in IMPLIED.items() if column in header or table.topic}
    return {table.key: table.key_type, **table.columns} | {
        column: kind for column, kind in implied.items() if column != table.key and column not in table.columns
    }


def _timed(table: Table, types: dict[str, DataType]) -> bool:
    return TableSchema("", table.key, types).timed


def _digest(table: Table, types: dict[str, DataType], rows: list[dict[str, Any]]) -> str:
    columns = [(name, str(kind)) for name, kind in sorted(types.items())]
    contents = [(row[table.key], [row.get(name) for name, _ in columns]) for row in rows]
    contents.sort(key=lambda row: (row[0], msgspec.json.encode(row[1])))
    meant: list[object] = [table.key, columns, contents]
    timed = _timed(table, types)
    if table.match is not Match.EXACT or timed:
        meant += [table.match, timed]
    return hashlib.sha256(msgspec.json.encode(meant)).hexdigest()


def _places(wanted: list[str], header: list[str], file: str) -> dict[str, int]:
    """Where each column stands in a line."""
    for column in wanted:
        if column not in header:
            raise ConfigError(
                f"there is no column {column!r}", Place(file, 1, 1), commas_hint(header) or nearest(column, header)
            )
    return {column: header.index(column) for column in wanted}


def _rows(
    lines: Iterator[Cells], places: dict[str, int], keys: _Keys, file: str, problems: Problems
) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    table, types = keys.table, keys.types
    words: dict[Any, Any] = {}  # reasons and names come again: each text is kept once
    for number, cells in lines:
        if not any(cells):
            continue
        place = Place(file, number, 1)
        row: dict[str, Any] = {}
        for column, index in places.items():
            with problems.caught():
                cell = cells[index] if index < len(cells) else ""
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

    def __init__(self, table: Table, types: dict[str, DataType]) -> None:
        self.table, self.types = table, types
        self._timed = _timed(table, types)
        self._first: dict[Any, int] = {}
        self._numbers: list[int] = []
        self._lines: list[int] = []

    def add(self, row: dict[str, Any], place: Place) -> None:
        """Take a row; ConfigError if it cannot be one."""
        name = self.table.key
        if name not in row:
            return
        if row[name] is None:
            raise ConfigError(f"the key {name} is empty", place)
        key = normal_key(self.table.match, row[name])
        if key is None:
            raise ConfigError(f"a value of {name} is not {self.table.match}", place, _RIGHT[self.table.match])
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
    value = parse_cell(cell, kind)
    if value is None:
        hint = "2026-05-03T10:00:00Z, or ms since 1970" if kind.kind is Kind.TIMESTAMP else None
        raise ConfigError(f"a value of {column} is not {kind}", place, hint)
    return value
