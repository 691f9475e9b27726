"""Look-up tables from CSV files, read exactly: no float on the way to a decimal."""

from __future__ import annotations

__all__ = ["TableContents", "empty_table", "read_table"]

import csv
import hashlib
import re
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from operators.schema import DataType, Kind
from operators.tables import LookupTable
from operators.values import parse_decimal, parse_timestamp
from state.errors import ConfigError, Place
from streamproc.language.model import Table
from streamproc.language.problems import Problems, nearest

ROWS_MAX = 5_000_000
_ERRORS_MAX = 20
_INTEGER = re.compile(r"-?\d{1,18}")
_FLOAT = re.compile(r"-?\d+(\.\d+)?([eE][-+]?\d+)?")
_MINOR_LIMIT = 2**53


class TableContents(NamedTuple):
    """A table, and the digest of what was loaded of it: the order of rows and other columns do not count."""

    table: LookupTable
    digest: str


def read_table(name: str, table: Table, folder: Path) -> TableContents:
    """Read the declared columns; others (comments, who added it) are ignored, and so are empty lines.

    An empty cell is NULL.

    Raises:
        ConfigError: no such file, a missing column, a wrong value, a repeated key: with the file's line.
    """
    path = folder / table.file
    types = {table.key: table.key_type, **table.columns}
    try:
        with open(path, encoding="utf-8-sig", newline="") as opened:
            rows = _rows(csv.reader(opened, strict=True), types, table, str(path))
    except FileNotFoundError:
        raise ConfigError(f"table {name}: there is no file {table.file}", table.place) from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"table {name}: {table.file} cannot be read: {error}", table.place) from None
    return TableContents(LookupTable(name, table.key, types, rows), _digest(table.key, types, rows))


def empty_table(name: str, table: Table) -> TableContents:
    """A table without rows: what is compiled with it can be checked all the same."""
    return TableContents(LookupTable(name, table.key, {table.key: table.key_type, **table.columns}, []), "")


def _digest(key: str, types: dict[str, DataType], rows: list[dict[str, Any]]) -> str:
    columns = [(name, str(kind)) for name, kind in sorted(types.items())]
    contents = sorted((row[key], [row[name] for name, _ in columns]) for row in rows)
    return hashlib.sha256(msgspec.json.encode([key, columns, contents])).hexdigest()


def _rows(lines: Any, types: dict[str, DataType], table: Table, file: str) -> list[dict[str, Any]]:
    header = [title.strip() for title in next(lines, [])]
    for column in types:
        if column not in header:
            raise ConfigError(f"there is no column {column!r}", Place(file, 1, 1), nearest(column, header))
    places = {column: header.index(column) for column in types}
    problems = Problems()
    rows: list[dict[str, Any]] = []
    seen: dict[Any, int] = {}
    for cells in lines:
        if not any(cell.strip() for cell in cells):
            continue
        place = Place(file, lines.line_num, 1)
        row: dict[str, Any] = {}
        for column, index in places.items():
            with problems.caught():
                row[column] = _value(cells[index].strip() if index < len(cells) else "", types[column], column, place)
        key = row.get(table.key)
        if key is None and table.key in row:
            problems.add(f"the key {table.key} is empty", place)
        elif key in seen:
            problems.add("the key stands there twice", place, f"first in line {seen[key]}")
        seen.setdefault(key, lines.line_num)
        rows.append(row)
        if len(rows) > ROWS_MAX or len(problems.errors) > _ERRORS_MAX:
            break
    problems.check()
    if len(rows) > ROWS_MAX:
        raise ConfigError(f"more than {ROWS_MAX} rows", Place(file))
    return rows


def _value(cell: str, kind: DataType, column: str, place: Place) -> int | float | str | bool | None:
    """The physical value of a cell; None for an empty one."""
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
        raise ConfigError(f"a value of {column} is not {kind}", place)
    return value
