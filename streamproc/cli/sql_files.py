"""Input files of `sql`: Parquet, CSV and NDJSON, read whole, for a column's type is what all its values say.

What tables they make is in `sql_tables.py`.
"""

from __future__ import annotations

__all__ = ["FileRows", "read_rows"]

import csv
import json
import sys
from collections.abc import Callable
from decimal import Context, Decimal
from itertools import islice
from math import isinf
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np

from operators.batch import Column
from operators.schema import MINOR_LIMIT, SCALE_MAX, DataType, Kind
from state.errors import ConfigError, Place
from streamproc.cli.files import NDJSON, PARQUET, skip_mark
from streamproc.sql.tables import RawColumn

_CSV: Final = ".csv"
_CELL_MAX = 8 << 20
_INT_END = 2**63
_EXACT = Context(prec=100)
Columns = dict[str, RawColumn | Column]


class FileRows(NamedTuple):
    """A file's rows, by column."""

    path: Path
    size: int
    columns: Columns

    @property
    def sparse(self) -> bool:
        """Whether a row may lack a column."""
        return self.path.suffix.lower() in NDJSON

    def column(self, name: str) -> RawColumn | Column:
        """A column; NULLs if the file has none of that name."""
        return self.columns.get(name, RawColumn([None] * self.size))

    def row_name(self, row: int) -> str:
        """What a row is called: by the line where it begins, if its file has lines."""
        suffix = self.path.suffix.lower()
        if suffix in PARQUET:
            return f"row {row + 1} of {self.path}"
        return str(Place(str(self.path), _csv_line(self.path, row) if suffix == _CSV else _line(self.path, row)))


def read_rows(path: Path) -> FileRows:
    """All rows of a file.

    Raises:
        ConfigError: it cannot be read.
    """
    readers: dict[str, Callable[[Path], tuple[int, Columns]]] = {_CSV: _csv}
    readers |= dict.fromkeys(NDJSON, _ndjson)
    readers |= dict.fromkeys(PARQUET, _parquet)
    if not path.is_file():
        raise ConfigError("there is no such file" if not path.exists() else "this is not a file", Place(str(path)))
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise ConfigError("the file's kind is not known", Place(str(path)), "use .parquet, .csv or .ndjson")
    try:
        return FileRows(path, *reader(path))
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


def _csv_line(path: Path, row: int) -> int:
    """Where a row of a CSV begins."""
    with open(path, encoding="utf-8-sig", newline="") as file:
        lines = csv.reader(file)
        next(lines, None)
        begin = lines.line_num + 1
        for cells in lines:
            if cells:
                row -= 1
            if row < 0:
                break
            begin = lines.line_num + 1
    return begin


def _line(path: Path, row: int) -> int:
    """Where a row of NDJSON stands."""
    with open(path, "rb") as file:
        filled = (number for number, line in enumerate(file, 1) if line.strip())
        return next(islice(filled, row, None), 0)


def _ndjson(path: Path) -> tuple[int, Columns]:
    decode = msgspec.json.Decoder(dict[str, Any]).decode
    rows = []
    with open(path, "rb") as file:
        skip_mark(file)
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
    numbers: list[float] = []

    def number(text: str) -> None:
        numbers.append(float(text))

    try:
        read = json.loads(line.decode(), parse_int=number, parse_float=number, parse_constant=_refuse)
    except (ValueError, RecursionError):
        read = None
    is_large = isinstance(read, dict) and any(map(isinf, numbers))
    return "a number is too large" if is_large else "the line is no JSON object"


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


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


def _arrow(array: Any) -> RawColumn | Column | None:
    """The column of an Arrow array; None if there is none for its type."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_dictionary(array.type):
        array = array.cast(array.type.value_type)
    valid = None if not array.null_count else np.asarray(array.is_valid().to_numpy(zero_copy_only=False), np.bool_)
    kind = array.type
    if pa.types.is_null(kind):
        return RawColumn([None] * len(array))
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
