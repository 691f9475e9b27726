"""The columns of an input file against the fields of its stream: a misspelt `from:` must not pass in silence."""

from __future__ import annotations

__all__ = ["absent_columns", "check_columns", "file_columns", "survey"]

import csv
import io
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from operators.schema import StreamSchema
from state.errors import ConfigError, Place
from streamproc.language.problems import nearest

_LISTED_MAX = 40


def survey(paths: Sequence[Path], schema: StreamSchema) -> None:
    """Look at the columns of all files before anything is done with one, and warn on stderr of what is missing.

    Raises:
        ConfigError: a file cannot be read, or lacks a column that every record needs.
    """
    for path in dict.fromkeys(paths):
        names = file_columns(path)
        if names is None:
            continue
        check_columns(names, schema, path)
        for line in absent_columns(names, schema):
            sys.stderr.write(f"warning: {path}: {line}\n")


def file_columns(path: Path) -> list[str] | None:
    """The columns that the file says it has; None for NDJSON, which does not say."""
    readers: dict[str, Callable[[Path], list[str]]] = {".csv": _csv, ".parquet": _parquet, ".pq": _parquet}
    reader = readers.get(path.suffix.lower())
    try:
        return reader(path) if reader else None
    except OSError as error:
        raise ConfigError(f"the file cannot be read: {error.strerror or error}", Place(str(path))) from error


def check_columns(names: Sequence[str], schema: StreamSchema, path: Path) -> None:
    """Refuse a file in which not one row could be decided.

    Raises:
        ConfigError: it lacks the id, the key, the event time or a required field, or has two columns of one name.
    """
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(f"two columns are called {twice[0]!r}", Place(str(path), 1))
    required = (spec.name for spec in schema.fields if spec.required)
    for role in dict.fromkeys((schema.id, schema.key, schema.event_time, *required)):
        source = schema.field(role).source
        if source not in names:
            said = f"there is no column {source!r} (field {role} of stream {schema.name})"
            raise ConfigError(said, Place(str(path), 1), _hint(source, names, schema))


def absent_columns(names: Sequence[str], schema: StreamSchema) -> list[str]:
    """What to say of each declared field that has no column."""
    return [
        f"no column {spec.source!r} for field {spec.name}: it will be NULL ({_hint(spec.source, names, schema)})"
        for spec in schema.fields
        if spec.source not in names
    ]


def _hint(source: str, names: Sequence[str], schema: StreamSchema) -> str:
    """The nearest column that no field has taken, else what there is."""
    taken = {spec.source for spec in schema.fields}
    near = nearest(source, [name for name in names if name not in taken])
    if near and near.startswith("did you mean"):
        return near
    if not names:
        return "the file has no columns"
    more = f" and {len(names) - _LISTED_MAX} more" if len(names) > _LISTED_MAX else ""
    return f"the file has {', '.join(names[:_LISTED_MAX])}{more}"


def _parquet(path: Path) -> list[str]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            return list(file.schema_arrow.names)
    except pa.ArrowException as error:
        raise ConfigError(f"this is no readable Parquet file: {type(error).__name__}", Place(str(path))) from error


def _csv(path: Path) -> list[str]:
    with open(path, "rb") as file:
        lines = csv.reader(io.TextIOWrapper(file, "utf-8-sig", errors="backslashreplace", newline=""))
        try:
            return [name.strip() for name in next(lines, [])]
        except csv.Error as error:
            raise ConfigError(f"this is no readable CSV file: {error}", Place(str(path), lines.line_num)) from None
