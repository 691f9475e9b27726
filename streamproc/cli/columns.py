"""The columns of an input file against the fields of its stream: a misspelt `from:` must not pass in silence."""

from __future__ import annotations

__all__ = ["absent_columns", "check_columns", "file_columns", "survey"]

import csv
import io
import sys
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from pathlib import Path

from operators.schema import FieldSpec, StreamSchema
from state.errors import ConfigError, Place
from streamproc.language.table_lines import JSON_ENDINGS, commas_hint

_LISTED_MAX = 40
_LOOK_BYTES = 4096
_UTF16_MARKS = (BOM_UTF16_LE, BOM_UTF16_BE)
_CLOSE = 0.8
"""As alike must two names be for one to be proposed: columns of a file have much in common (`user_id`, `card_id`)."""


def survey(paths: Sequence[Path], schema: StreamSchema) -> None:
    """Look at the columns of all files before anything is done with one, and warn on stderr of what is missing.

    Raises:
        ConfigError: a file cannot be read, is no text of its kind, or lacks a column that every record needs.
    """
    for path in dict.fromkeys(paths):
        _check_text(path)
        names = file_columns(path)
        if names is None:
            continue
        check_columns(names, schema, path)
        if line := absent_columns(names, schema):
            sys.stderr.write(f"warning: {path}: {line}\n")


def _check_text(path: Path) -> None:
    """Refuse a file of which each line would become a dead letter: UTF-16, or one JSON array.

    Raises:
        ConfigError: it is such a file, or cannot be read.
    """
    suffix = path.suffix.lower()
    if suffix != ".csv" and suffix not in JSON_ENDINGS:
        return
    try:
        with open(path, "rb") as file:
            begin = file.read(_LOOK_BYTES)
    except OSError as error:
        raise ConfigError(f"the file cannot be read: {error.strerror or error}", Place(str(path))) from error
    if begin.startswith(_UTF16_MARKS) or b"\0" in begin[:4]:
        raise ConfigError("this is UTF-16, not UTF-8 text", Place(str(path)), "save it as UTF-8")
    if suffix in JSON_ENDINGS and begin.removeprefix(BOM_UTF8).lstrip().startswith(b"["):
        hint = f"jq -c '.[]' {path.name} > {path.stem}-lines.ndjson"
        raise ConfigError("this is a JSON array; a file of records has one object a line", Place(str(path), 1), hint)


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
    place = Place(str(path), 1 if path.suffix.lower() == ".csv" else 0)  # Parquet has no lines
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(f"two columns are called {twice[0]!r}", place)
    required = (spec.name for spec in schema.fields if spec.required)
    roles = dict.fromkeys((schema.id, schema.key, schema.event_time, *required))
    missing = [spec for role in roles if (spec := schema.field(role)).source not in names]
    if not missing:
        return
    if len(missing) == 1:
        said = f"there is no column {missing[0].source!r} (field {missing[0].name} of stream {schema.name})"
    else:
        each = ", ".join(f"{spec.source!r} (field {spec.name})" for spec in missing)
        said = f"there are no columns {each} of stream {schema.name}"
    absent = [spec for spec in schema.fields if spec.source not in names and spec not in missing]
    if absent:
        said += ", nor, of what is not required, " + ", ".join(
            f"{spec.source!r} (field {spec.name})" for spec in absent
        )
    raise ConfigError(said, place, _hint([*missing, *absent], names, schema))


def absent_columns(names: Sequence[str], schema: StreamSchema) -> str:
    """What to say of the declared fields that have no column; nothing if each has one."""
    absent = [spec for spec in schema.fields if spec.source not in names]
    if not absent:
        return ""
    each = ", ".join(f"{spec.source!r} for field {spec.name}" for spec in absent)
    many = ("s", "they") if len(absent) > 1 else ("", "it")
    return f"no column{many[0]} {each}: {many[1]} will be NULL ({_hint(absent, names, schema)})"


def _hint(missing: Sequence[FieldSpec], names: Sequence[str], schema: StreamSchema) -> str:
    """The nearest columns that no field has taken, else what there is."""
    if separated := commas_hint(names):
        return separated
    taken = {spec.source for spec in schema.fields}
    free = {name.lower(): name for name in names if name not in taken}
    near = {}
    for spec in missing:
        if found := get_close_matches(spec.source.lower(), free, 1, _CLOSE):
            near[spec.source] = free[found[0]]
    if near and len(missing) == 1:
        return f"did you mean {next(iter(near.values()))}?"
    if near:
        return "did you mean " + ", ".join(f"{name} for {source!r}" for source, name in near.items()) + "?"
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
