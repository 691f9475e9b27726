"""Tables of `sql`: the rows of their files, with the types that CREATE TABLE declares or that all values have."""

from __future__ import annotations

__all__ = ["load_tables"]

import sys
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Final

import numpy as np

from operators.batch import Column
from operators.schema import DataType
from state.errors import ConfigError
from streamproc.cli.errors import printable
from streamproc.cli.sql_files import FileRows, read_rows
from streamproc.language.table_lines import commas_hint
from streamproc.sql import CreateTable, Table
from streamproc.sql.tables import RawColumn, Wanted, days_of, inferred, nulls, raw_of, typed, with_event_time

_LISTED_MAX: Final = 40
_CLOSE: Final = 0.8
"""As alike must two names be: columns of a file have much in common (`user_id`, `card_id`)."""


def load_tables(inputs: Mapping[str, Sequence[Path]], declared: Mapping[str, CreateTable]) -> dict[str, Table]:
    """The tables, by name, of their files' rows one after the other; with the types that CREATE TABLE declares.

    Raises:
        ConfigError: a file cannot be read, or does not hold what is declared.
    """
    return {name: _table(name, paths, declared.get(name)) for name, paths in inputs.items()}


def _table(name: str, paths: Sequence[Path], declared: CreateTable | None) -> Table:
    parts = [read_rows(path) for path in paths]
    rows = sum(part.size for part in parts)
    if declared is not None:
        if rows:
            _check_missing(parts, declared)
        columns = {one: _as_declared(one, parts, declared) for one in declared.types}
        return with_event_time(name, rows, columns, declared.event_time)
    found = {one: [part.column(one) for part in parts] for one in _names(parts)}
    columns = {one: _as_found(one, columns, name, paths) for one, columns in found.items()}
    unknown = frozenset(one for one, columns in found.items() if not any(map(_tells, columns)))
    return with_event_time(name, rows, columns, None)._replace(unknown=unknown)


def _names(parts: Sequence[FileRows]) -> list[str]:
    return list(dict.fromkeys(one for part in parts for one in part.columns))


def _check_missing(parts: Sequence[FileRows], declared: CreateTable) -> None:
    """What of a declared column that no file has: rows of NDJSON lack what is NULL, other files have all columns.

    Raises:
        ConfigError: a file should have it.
    """
    names = _names(parts)
    sure = any(part.size and not part.sparse for part in parts)
    alone = str(parts[0].path) if len(parts) == 1 else ""
    for one in declared.types:
        if one in names:
            continue
        place, hint = declared.places[one], _meant(one, names, declared)
        if sure:
            said = f"{alone} has no column {one}" if alone else f"no file of {declared.name} has a column {one}"
            listed = f"the file{' has' if alone else 's have'} {', '.join(names[:_LISTED_MAX])}"
            raise ConfigError(said, place, hint or commas_hint(names) or listed)
        said = f"no row of {alone or declared.name} has {one}"
        if one in declared.required:
            raise ConfigError(f"{said}, which is declared NOT NULL", place, hint)
        if hint:
            sys.stderr.write(f"warning: {printable(f'{place}: {said}, so that it is NULL ({hint})')}\n")


def _meant(name: str, names: Sequence[str], declared: CreateTable) -> str | None:
    """The column of the files, not declared itself, that a declared one is nearly called like."""
    free = {one.lower(): one for one in names if one not in declared.types and commas_hint([one]) is None}
    near = get_close_matches(name.lower(), free, 1, _CLOSE)
    return f"did you mean {free[near[0]]}?" if near else None


def _as_declared(name: str, parts: Sequence[FileRows], declared: CreateTable) -> Column:
    wanted = Wanted(name, declared.types[name], name in declared.required, declared.places[name])
    made = []
    for part in parts:
        found = part.column(name)
        if isinstance(found, RawColumn):
            made.append(typed(wanted, found, part.row_name))
        elif found.type != wanted.type or (wanted.required and found.valid is not None):
            made.append(typed(wanted, raw_of(found), part.row_name))
        else:
            made.append(found)
    whole = _end_to_end(made)
    return days_of(whole) if name in declared.days else whole


def _as_found(name: str, parts: Sequence[RawColumn | Column], table: str, paths: Sequence[Path]) -> Column:
    """A column with the type that it has in all files."""
    made = _inferred(parts)
    files: dict[DataType, Path] = {}
    for part, column, path in zip(parts, made, paths, strict=True):
        if _tells(part):
            files.setdefault(column.type, path)
    if len(files) > 1:
        each = ", ".join(f"{kind} in {path}" for kind, path in files.items())
        hint = f"CREATE TABLE {table} says its type"
        raise ConfigError(f"the files of {table} do not agree on {name}: {each}", hint=hint)
    kind = next(iter(files), made[0].type)
    return _end_to_end([column if column.type == kind else nulls(kind, len(column.values)) for column in made])


def _tells(part: RawColumn | Column) -> bool:
    """Whether a part says what type its column has: one without any value does not, unless it is Parquet's."""
    return isinstance(part, Column) or any(value is not None for value in part.values)


def _inferred(parts: Sequence[RawColumn | Column]) -> list[Column]:
    """Each part with a type. All cells of CSV files are looked at together, and so are all values of NDJSON."""
    made: dict[int, Column] = {n: part for n, part in enumerate(parts) if isinstance(part, Column)}
    for text in (False, True):
        raws = {n: part for n, part in enumerate(parts) if isinstance(part, RawColumn) and part.text is text}
        if len(raws) == 1:
            made |= {n: inferred(part) for n, part in raws.items()}
            continue
        whole = inferred(RawColumn([value for part in raws.values() for value in part.values], text))
        begin = 0
        for n, part in raws.items():
            end = begin + len(part.values)
            made[n] = whole.take(np.arange(begin, end))
            begin = end
    return [made[n] for n in range(len(parts))]


def _end_to_end(columns: Sequence[Column]) -> Column:
    """Columns of one type as one."""
    if len(columns) == 1:
        return columns[0]
    valid = None
    if any(one.valid is not None for one in columns):
        valid = np.concatenate([np.ones(len(c.values), np.bool_) if c.valid is None else c.valid for c in columns])
    return Column(columns[0].type, np.concatenate([one.values for one in columns]), valid)
