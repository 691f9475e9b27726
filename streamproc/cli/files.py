"""Input files of `feed` and `backtest`: Parquet, CSV, NDJSON and Avro, read in order and in bounded pieces.

Both commands get the very same records from a file, so that what a backtest says is what a run would have decided.
NDJSON lines are passed on byte for byte, broken ones too; empty lines are none, nor is a byte order mark of the first.
"""

from __future__ import annotations

__all__ = [
    "NDJSON",
    "PARQUET",
    "Piece",
    "check_file",
    "find_stream",
    "line_form",
    "read_file",
    "resolve_inputs",
    "skip_mark",
]

import csv
import io
import os
import re
from bisect import bisect_right
from codecs import BOM_UTF8
from collections.abc import Iterator, Mapping, Sequence
from io import BufferedReader
from itertools import islice
from pathlib import Path
from typing import IO, NamedTuple

import msgspec

from operators.forms import Form
from operators.plan import Plan, streams_of
from operators.schema import StreamSchema
from state.errors import ConfigError, Place
from streamproc.cli.columns import check_columns
from streamproc.cli.records import Key, Row, RowWriter, arrow_values, key_reader, text_values
from streamproc.language.problems import nearest

ROWS_MAX = 16_384
LINE_BYTES_MAX = 8 << 20
_READ_BYTES = 2 << 20
PARQUET = (".parquet", ".pq")
NDJSON = (".ndjson", ".jsonl", ".json")
_AVRO = (".avro",)
_KINDS = {"json": (*PARQUET, ".csv", *NDJSON), "debezium": NDJSON, "avro": _AVRO}
"""By a stream's format: a change event is a whole line, an Avro record brings its schema."""


class Piece(NamedTuple):
    """Consecutive records of a file.

    `numbers`: where each stands in the file, from 1 (a line of NDJSON, a row of the others). `skipped`: (number,
    reason) of rows that are no records at all. `progress`: bytes of the file done so far, about.
    """

    rows: Sequence[Row]
    keys: Sequence[Key]
    numbers: Sequence[int]
    skipped: Sequence[tuple[int, str]]
    progress: int

    @property
    def last(self) -> int:
        """The place of its last row, whether that is a record or not."""
        return max([*self.numbers[-1:], *(number for number, _ in self.skipped[-1:])], default=0)

    def after(self, number: int) -> Piece:
        """Its rows behind the one that stands at `number`."""
        if not (self.numbers and self.numbers[0] <= number) and not (self.skipped and self.skipped[0][0] <= number):
            return self
        at = bisect_right(self.numbers, number)
        skipped = [row for row in self.skipped if row[0] > number]
        return Piece(self.rows[at:], self.keys[at:], self.numbers[at:], skipped, self.progress)


def resolve_inputs(given: Sequence[str], plans: Sequence[Plan], stream: str = "") -> dict[str, list[Path]]:
    """The files of `[STREAM=]FILE` arguments, in order, by stream; the first is the one that is decided.

    A file without STREAM is of `stream`, or of the stream it is called after: `logins.csv`, `logins-2026-05.csv`.

    Raises:
        ConfigError: a file is missing or of no known kind, the pipeline has no such stream, or it cannot be known whose
            a file is.
    """
    streams = streams_of(plans)
    paths: dict[str, list[Path]] = {name: [] for name in streams}
    for text in given:
        name, separator, rest = text.partition("=")
        if not text or (separator and not rest and not os.path.exists(text)):
            option, hint = ("", "name a file") if stream else ("--input ", f"write --input {name or 'STREAM'}=FILE")
            raise ConfigError(f"{option}{text or repr(text)}: the file is missing", hint=hint)
        if separator and name.isidentifier() and not os.path.exists(text):
            found = find_stream(name, plans)
            paths[name].append(check_file(Path(rest), found))
        else:
            name = stream or _called_after(Path(text), streams)
            paths[name].append(check_file(Path(text), streams[name]))
    return paths


def find_stream(name: str, plans: Sequence[Plan]) -> StreamSchema:
    """A stream by its name.

    Raises:
        ConfigError: the pipeline does not have it.
    """
    streams = streams_of(plans)
    if name not in streams:
        raise ConfigError(f"the pipeline {plans[0].pipeline} has no stream {name}", hint=nearest(name, streams))
    return streams[name]


def _called_after(path: Path, streams: Mapping[str, StreamSchema]) -> str:
    """The stream with the longest name that the file's begins with, a word of its own; one stream's files are all its.

    Raises:
        ConfigError: there are several, and it is called after none.
    """
    fits = [name for name in streams if re.match(rf"{re.escape(name)}(?![A-Za-z0-9])", path.name)]
    if len(streams) > 1 and not fits:
        raise ConfigError(f"{path} is called after none of the streams {', '.join(streams)}", hint=f"STREAM={path}")
    return max(fits, key=len, default=next(iter(streams)))


def check_file(path: Path, schema: StreamSchema) -> Path:
    """Refuse a file that cannot be an input of the stream."""
    if not path.is_file():
        raise ConfigError("there is no such file" if not path.exists() else "this is not a file", Place(str(path)))
    known = _KINDS[schema.format]
    if path.suffix.lower() not in known:
        hint = "use .parquet, .csv or .ndjson" if schema.format == "json" else f"use {known[0]}"
        what = "not known" if schema.format == "json" else f"none of a stream of format {schema.format}"
        raise ConfigError(f"the file's kind is {what}", Place(str(path)), hint)
    return path


def read_file(path: Path, schema: StreamSchema) -> Iterator[Piece]:
    """All records of a file, in order. Blocks: for a thread.

    Raises:
        ConfigError: it cannot be read, or lacks a column that every record needs.
    """
    suffix = path.suffix.lower()
    reader = _read_parquet if suffix in PARQUET else _read_csv if suffix == ".csv" else _read_ndjson
    if suffix in _AVRO:
        from streamproc.cli.avro_files import read_avro as reader
    try:
        yield from reader(path, schema)
    except OSError as error:
        raise ConfigError(f"the file cannot be read: {error.strerror or error}", Place(str(path))) from error


def _read_parquet(path: Path, schema: StreamSchema) -> Iterator[Piece]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            check_columns(names, schema, path)
            declared = {spec.source: spec for spec in schema.fields}
            writer = RowWriter(names, schema)
            total = max(1, file.metadata.num_rows)
            size = path.stat().st_size
            done = 0
            for batch in file.iter_batches(batch_size=ROWS_MAX):
                columns = [arrow_values(batch.column(i), declared.get(name)) for i, name in enumerate(names)]
                rows, keys = writer.write(columns)
                numbers = range(done + 1, done + 1 + len(rows))
                done += len(rows)
                yield Piece(rows, keys, numbers, (), size * done // total)
    except pa.ArrowException as error:
        raise ConfigError(f"this is no readable Parquet file: {type(error).__name__}", Place(str(path))) from error


def _read_csv(path: Path, schema: StreamSchema) -> Iterator[Piece]:
    """With Python's csv module: it knows the place of a bad row, and bad rows must not end a file."""
    csv.field_size_limit(LINE_BYTES_MAX)
    with open(path, "rb") as file:
        lines = csv.reader(io.TextIOWrapper(file, "utf-8-sig", errors="surrogateescape", newline=""))
        try:
            names = [name.strip() for name in next(lines, [])]
            check_columns(names, schema, path)
            reader = _CsvColumns(names, schema)
            number = 1
            while cells := list(islice(lines, ROWS_MAX)):
                yield reader.piece(cells, number, file.tell())
                number += len(cells)
        except csv.Error as error:
            raise ConfigError(f"this is no readable CSV file: {error}", Place(str(path), lines.line_num)) from None


class _CsvColumns:
    """Turns rows of text cells into records."""

    def __init__(self, names: list[str], schema: StreamSchema) -> None:
        declared = {spec.source: spec for spec in schema.fields}
        self._specs = [declared.get(name) for name in names]
        self._writer = RowWriter(names, schema)

    def piece(self, cells: list[list[str]], number: int, progress: int) -> Piece:
        """Rows number, number + 1 ...; empty ones are none, those with too many or too few cells are skipped."""
        width = len(self._specs)
        numbers: Sequence[int] = range(number, number + len(cells))
        skipped: list[tuple[int, str]] = []
        if any(len(row) != width for row in cells):
            skipped = [(n, "wrong_cells") for n, row in zip(numbers, cells, strict=True) if row and len(row) != width]
            numbers = [n for n, row in zip(numbers, cells, strict=True) if len(row) == width]
            cells = [row for row in cells if len(row) == width]
        try:
            rows, keys = self._records(cells)
        except UnicodeEncodeError:
            good = [all(map(_is_text, row)) for row in cells]
            skipped += [(n, "not_utf8") for n, fine in zip(numbers, good, strict=True) if not fine]
            numbers = [n for n, fine in zip(numbers, good, strict=True) if fine]
            rows, keys = self._records([row for row, fine in zip(cells, good, strict=True) if fine])
        return Piece(rows, keys, numbers, sorted(skipped), progress)

    def _records(self, cells: list[list[str]]) -> tuple[list[Row], list[Key]]:
        if not cells:
            return [], []
        columns = zip(*cells, strict=True)
        values = [text_values(column, spec) for column, spec in zip(columns, self._specs, strict=True)]
        return self._writer.write(values)


def _is_text(cell: str) -> bool:
    """Whether a cell was UTF-8."""
    try:
        cell.encode()
    except UnicodeEncodeError:
        return False
    return True


def _read_ndjson(path: Path, schema: StreamSchema) -> Iterator[Piece]:
    key_of = key_reader(schema, line_form(schema))
    with open(path, "rb") as file:
        skip_mark(file)
        number = 1
        for lines in _lines(file, path):
            for at in range(0, len(lines), ROWS_MAX):
                some = lines[at : at + ROWS_MAX]
                numbers: Sequence[int] = range(number, number + len(some))
                number += len(some)
                if not all(map(bytes.strip, some)):
                    numbers = [n for n, line in zip(numbers, some, strict=True) if line.strip()]
                    some = [line for line in some if line.strip()]
                yield Piece(some, list(map(key_of, some)), numbers, (), file.tell())


def skip_mark(file: BufferedReader) -> None:
    """Over the byte order mark that some programs begin a UTF-8 file with."""
    if file.peek(len(BOM_UTF8)).startswith(BOM_UTF8):
        file.read(len(BOM_UTF8))


def line_form(schema: StreamSchema) -> Form | None:
    """How a line that is passed on as it is holds the key."""
    if schema.format != "debezium":
        return None
    from operators.debezium import DebeziumForm

    return DebeziumForm(msgspec.structs.replace(schema, fields=(schema.field(schema.key),)))


def _lines(file: IO[bytes], path: Path) -> Iterator[list[bytes]]:
    """Whole lines without their ends, a few MiB at a time."""
    rest = b""
    while block := file.read(_READ_BYTES):
        *lines, rest = (rest + block).split(b"\n")
        if len(rest) > LINE_BYTES_MAX:
            raise ConfigError(f"a line is longer than {LINE_BYTES_MAX >> 20} MiB", Place(str(path)))
        if lines:
            yield lines
    if rest:
        yield [rest]
