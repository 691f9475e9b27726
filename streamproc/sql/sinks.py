"""The columns that a query's head gives its rows: those of a view, or of the table that rows are inserted into."""

from __future__ import annotations

__all__ = ["headed", "renamed"]

from collections.abc import Mapping, Sequence
from typing import Final

from msgspec.structs import replace

from operators.schema import DataType, Kind
from state.errors import ConfigError
from streamproc.language.problems import nearest
from streamproc.sql.ddl import CreateTable
from streamproc.sql.names import Rows
from streamproc.sql.plan import Project
from streamproc.sql.statements import Statement

_NUMBERS: Final = frozenset({Kind.INT64, Kind.DECIMAL, Kind.FLOAT64})
_FRACTIONS: Final = _NUMBERS - {Kind.INT64}


def headed(statement: Statement, rows: Rows, declared: Mapping[str, CreateTable]) -> Rows:
    """The rows with the names of their head's columns, by their places; `declared`: the tables of the file.

    Raises:
        ConfigError: there are more columns or fewer, or one's type is not that of the table's column.
    """
    head = statement.head
    table = declared.get(head.name) if head.kind == "insert" else None
    names: Sequence[str] = head.columns
    if table is not None:
        for one in head.columns:
            if one not in table.types:
                hint = nearest(one, table.types)
                raise ConfigError(f"the table {head.name} has no column {one}", head.place, hint)
        names = head.columns or tuple(table.types)
    if not names:
        return rows
    if len(names) != len(rows.columns):
        what = f"{head.name} has {len(names)} columns, the query {len(rows.columns)}"
        raise ConfigError(what, head.place, ", ".join(names))
    if table is not None:
        for name, column in zip(names, rows.columns, strict=True):
            if not _goes_into(column.type, table.types[name]):
                what = f"{name} of {head.name} is {table.types[name]}, the query's {column.name} {column.type}"
                raise ConfigError(what, head.place, f"CAST({column.name} AS ...)")
    return renamed(rows, names)


def renamed(rows: Rows, names: Sequence[str]) -> Rows:
    """The rows whose columns have these names, which are their keys."""
    pairs = tuple((name, one.key) for name, one in zip(names, rows.columns, strict=True))
    columns = tuple(replace(one, key=name, alias="", name=name) for name, one in zip(names, rows.columns, strict=True))
    time = next((name for name, one in zip(names, rows.columns, strict=True) if one.key == rows.time), "")
    return Rows(Project(rows.node, pairs), columns, time)


def _goes_into(one: DataType, other: DataType) -> bool:
    """Whether a column takes such values: a number goes into any that may have a fraction."""
    return one.kind is other.kind or (one.kind in _NUMBERS and other.kind in _FRACTIONS)
