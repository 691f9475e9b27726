"""Input files of `sql`: Parquet, CSV and NDJSON, read whole, for a column's type is what all its values say."""

from __future__ import annotations

__all__ = ["load_tables"]

import csv
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from decimal import Context, Decimal
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from operators.batch import Column
from operators.schema import MINOR_LIMIT, SCALE_MAX, DataType, Kind
from state.errors import ConfigError, Place
from streamproc.sql import CreateTable, Table
from streamproc.sql.tables import RawColumn, days_of, inferred, raw_of, typed, with_event_time

_CELL_MAX = 8 << 20
_INT_END = 2**63
_EXACT = Context(prec=100)
Columns = dict[str, RawColumn | Column]


def load_tables(inputs: Mapping[str, Sequence[Path]], declared: Mapping[str, CreateTable]) -> dict[str, Table]:
    """The tables, by name, of their files' rows one after the other; with the types that CREATE TABLE declares.

    Raises:
        ConfigError: a file cannot be read, or does not hold what is declared.
    """
    return {name: _table(name, paths, declared.get(name)) for name, paths in inputs.items()}


def _table(name: str, paths: Sequence[Path], declared: CreateTable | None) -> Table:
    parts = [_read(path) for path in paths]
    names = list(dict.fromkeys(one for _, columns in parts for one in columns))
    rows = sum(size for size, _ in parts)
    file = Place(", ".join(map(str, paths)))
    if declared is not None:
        missing = [one for one in declared.types if one not in names]
        if missing and rows:
            hint = "the file has " + ", ".join(names[:40])
            what = f"there is no column {missing[0]}, which CREATE TABLE {name} declares"
            raise ConfigError(what, file, hint)
        names = list(declared.types)
    columns: dict[str, Column] = {}
    unknown = set()
    for one in names:
        found = [part.get(one, RawColumn([None] * size)) for size, part in parts]
        if declared is None:
            joined = _joined(found, one, file)
            columns[one] = joined if isinstance(joined, Column) else inferred(joined)
            if isinstance(joined, RawColumn) and all(value is None for value in joined.values):
                unknown.add(one)
        else:
            columns[one] = _as_declared(one, found, declared, file)
    table = with_event_time(name, rows, columns, None if declared is None else declared.event_time)
    return table._replace(unknown=frozenset(unknown))


def _as_declared(name: str, parts: Sequence[RawColumn | Column], declared: CreateTable, file: Place) -> Column:
    kind, required = declared.types[name], name in declared.required
    if not required and all(isinstance(part, Column) and part.type == kind for part in parts):
        found = _joined(parts, name, file)
        assert isinstance(found, Column)
    else:
        raws = [part if isinstance(part, RawColumn) else raw_of(part) for part in parts]
        raw = RawColumn([value for one in raws for value in one.values], any(one.text for one in raws))
        found = typed(name, kind, raw, required, file)
    return days_of(found) if name in declared.days else found


def _joined(parts: Sequence[RawColumn | Column], name: str, file: Place) -> RawColumn | Column:
    """A column of several files as one."""
    if len(parts) == 1:
        return parts[0]
    if all(isinstance(one, RawColumn) for one in parts):
        raws = [one for one in parts if isinstance(one, RawColumn)]
        known = {one.text for one in raws if any(value is not None for value in one.values)}
        if len(known) <= 1:
            return RawColumn([value for one in raws for value in one.values], any(known))
    whole = [one for one in parts if isinstance(one, Column)]
    if len(whole) != len(parts) or len({one.type for one in whole}) != 1:
        raise ConfigError(f"the files do not agree on the type of {name}", file, "CREATE TABLE declares it")
    valid = None
    if any(one.valid is not None for one in whole):
        valid = np.concatenate([np.ones(len(c.values), np.bool_) if c.valid is None else c.valid for c in whole])
    return Column(whole[0].type, np.concatenate([one.values for one in whole]), valid)


def _read(path: Path) -> tuple[int, Columns]:
    """The number of rows, and the columns."""
    readers: dict[str, Callable[[Path], tuple[int, Columns]]] = {".csv": _csv}
    readers |= dict.fromkeys((".ndjson", ".jsonl", ".json"), _ndjson)
    readers |= dict.fromkeys((".parquet", ".pq"), _parquet)
    if not path.is_file():
        raise ConfigError("there is no such file" if not path.exists() else "this is not a file", Place(str(path)))
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise ConfigError("the file's kind is not known", Place(str(path)), "use .parquet, .csv or .ndjson")
    try:
        return reader(path)
    except OSError as error:
        raise ConfigError(f"the file cannot be read: {error.strerror or error}", Place(str(path))) from error
    except UnicodeDecodeError:
        raise ConfigError("the file is not UTF-8", Place(str(path))) from None


def _csv(path: Path) -> tuple[int, Columns]:
    csv.field_size_limit(_CELL_MAX)
    with open(path, encoding="utf-8-sig", newline="") as file:
        lines = csv.reader(file)
        try:
            names = [name.strip() for name in next(lines, [])]
            if len(set(names)) != len(names):
                twice = next(name for name in names if names.count(name) > 1)
                raise ConfigError(f"two columns are called {twice!r}", Place(str(path), 1))
            rows = []
            for row in lines:
                if row and len(row) != len(names):
                    what = f"the row has {len(row)} cells, the head {len(names)}"
                    raise ConfigError(what, Place(str(path), lines.line_num))
                if row:
                    rows.append(row)
        except csv.Error as error:
            raise ConfigError(f"this is no readable CSV file: {error}", Place(str(path), lines.line_num)) from None
    cells = list(zip(*rows, strict=True)) if rows else [()] * len(names)
    values = [[cell if cell else None for cell in column] for column in cells]
    return len(rows), {name: RawColumn(column, text=True) for name, column in zip(names, values, strict=True)}


def _ndjson(path: Path) -> tuple[int, Columns]:
    decode = msgspec.json.Decoder(dict[str, Any]).decode
    rows = []
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                rows.append(decode(line))
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                raise ConfigError(_wrong_line(line), Place(str(path), number)) from None
    names = dict.fromkeys(name for row in rows for name in row)
    return len(rows), {name: RawColumn([row.get(name) for row in rows]) for name in names}


def _wrong_line(line: bytes) -> str:
    """What is said of a line that cannot be read: msgspec refuses numbers that JSON allows and a float64 has not."""
    try:
        read = json.loads(line)
    except (ValueError, RecursionError):
        read = None
    return "a number is too large" if isinstance(read, dict) else "the line is no JSON object"


def _parquet(path: Path) -> tuple[int, Columns]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except pa.ArrowException as error:
        raise ConfigError(f"this is no readable Parquet file: {type(error).__name__}", Place(str(path))) from error
    columns: Columns = {}
    for name in table.column_names:
        column = _arrow(table.column(name).combine_chunks())
        if column is None:
            kind = table.schema.field(name).type
            sys.stderr.write(f"warning: {path}: the column {name} is left out: {kind} is no type that we know\n")
        else:
            columns[name] = column
    return table.num_rows, columns


def _arrow(array: Any) -> Column | None:
    """The column of an Arrow array; None if there is none for its type."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_dictionary(array.type):
        array = array.cast(array.type.value_type)
    valid = None if not array.null_count else np.asarray(array.is_valid().to_numpy(zero_copy_only=False), np.bool_)
    kind = array.type
    if pa.types.is_boolean(kind):
        return Column(DataType(Kind.BOOL), _filled(array, False, np.bool_), valid)
    if pa.types.is_uint64(kind) and (pc.max(array).as_py() or 0) >= _INT_END:
        return Column(DataType(Kind.STRING), _filled(array.cast(pa.string()), "", np.object_), valid)
    if pa.types.is_integer(kind):
        return Column(DataType(Kind.INT64), _filled(array.cast(pa.int64()), 0, np.int64), valid)
    if pa.types.is_floating(kind):
        values = _filled(array.cast(pa.float64()), np.nan, np.float64)
        good = np.isfinite(values)
        return Column(DataType(Kind.FLOAT64), np.where(good, values, 0.0), None if good.all() else good)
    if pa.types.is_decimal(kind) and 0 <= kind.scale <= SCALE_MAX:
        return _decimals(array.to_pylist(), kind.scale, valid)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return Column(DataType(Kind.STRING), _filled(array, "", np.object_), valid)
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        times = pc.cast(array, pa.timestamp("ms"), safe=False).cast(pa.int64())
        return Column(DataType(Kind.TIMESTAMP), _filled(times, 0, np.int64), valid)
    return None


def _decimals(values: list[Decimal | None], scale: int, valid: Any) -> Column:
    """Exact numbers; if one is too large for that, all as text."""
    minor = [0 if value is None else int(value.scaleb(scale, _EXACT)) for value in values]
    if max(map(abs, minor), default=0) < MINOR_LIMIT:
        return Column(DataType(Kind.DECIMAL, scale), np.array(minor, np.int64), valid)
    texts = ["" if value is None else f"{value:f}" for value in values]
    return Column(DataType(Kind.STRING), np.array(texts, np.object_), valid)


def _filled(array: Any, blank: Any, dtype: Any) -> Any:
    """Numpy values, `blank` for NULL."""
    filled = array.fill_null(blank) if array.null_count else array
    return np.array(filled.to_numpy(zero_copy_only=False), dtype)
