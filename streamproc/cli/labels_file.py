"""Labels that are in a file apart: which payments are frauds, by id."""

from __future__ import annotations

__all__ = ["LabelsFile", "read_labels"]

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from state.errors import ConfigError, Place
from streamproc.cli.columns import check_text, file_columns
from streamproc.cli.labelled import KINDS
from streamproc.language.problems import nearest
from streamproc.language.table_lines import JSON_ENDINGS

_PARQUET = (".parquet", ".pq")


class LabelsFile(NamedTuple):
    """By a payment's id: its label (1, 0); of a fraud, its kind. `otherwise`: the label of one that is not listed."""

    labels: Mapping[str, int]
    kinds: Mapping[str, str]
    otherwise: int


def read_labels(path: Path, key: str, label: str | None, kind: str | None) -> LabelsFile:
    """Read all of it.

    Args:
        path: CSV, NDJSON or Parquet.
        key: the column of ids.
        label: the column of 0, 1, true or false; NULL: not known, and so are those that are not listed. None: the file
            lists frauds, and those that are not listed are legitimate.
        kind: the column of the kinds of frauds; None: there is none.

    Raises:
        ConfigError: it cannot be read, lacks a column or a label is neither.
    """
    labels: dict[str, int] = {}
    kinds: dict[str, str] = {}
    for number, row in _rows(path, [key, *filter(None, (label, kind))]):
        payment = row.get(key)
        found = _label(row.get(label), Place(str(path), number)) if label else 1
        if payment is None or found is None:
            continue
        labels[str(payment)] = found
        if kind and row.get(kind) is not None:
            kinds[str(payment)] = str(row[kind])
    if not labels:
        raise ConfigError("there is no label in it", Place(str(path)), f"it needs {key}, and --label: what says fraud")
    return LabelsFile(labels, kinds, -1 if label else 0)


def _label(value: Any, place: Place) -> int | None:
    if value is None or value != value:  # noqa: PLR0124 - NaN is how a column of numbers has holes
        return None
    found = KINDS.get(value) if isinstance(value, str | int | float) else None
    if found is None:
        hint = "name a column that says fraud or not; without --label all that the file lists are frauds"
        raise ConfigError("a label is neither 0, 1, true nor false", place, hint)
    return found


def _rows(path: Path, wanted: list[str]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Line, or row, and values by column; a cell without text is None."""
    suffix = path.suffix.lower()
    if not path.is_file():
        raise ConfigError("there is no such file", Place(str(path)))
    if suffix not in (".csv", *_PARQUET, *JSON_ENDINGS):
        raise ConfigError("the file's kind is not known", Place(str(path)), "use .parquet, .csv or .ndjson")
    check_text(path)
    names = file_columns(path)
    for name in wanted:
        if names is not None and name not in names:
            raise ConfigError(f"there is no column {name!r}", Place(str(path)), nearest(name, names))
    try:
        yield from _csv(path) if suffix == ".csv" else _parquet(path, wanted) if suffix in _PARQUET else _ndjson(path)
    except OSError as error:
        raise ConfigError(f"the file cannot be read: {error.strerror or error}", Place(str(path))) from error


def _csv(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    with open(path, encoding="utf-8-sig", newline="") as file:
        lines = csv.reader(file)
        try:
            names = [name.strip() for name in next(lines, [])]
            for cells in lines:
                row = dict(zip(names, (cell.strip() or None for cell in cells), strict=False))
                yield lines.line_num, row
        except (csv.Error, UnicodeDecodeError):
            raise ConfigError("this is no readable CSV file", Place(str(path), lines.line_num + 1)) from None


def _ndjson(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    decode = msgspec.json.Decoder(dict[str, Any]).decode
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                yield number, decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError):
                raise ConfigError("this is no JSON object", Place(str(path), number), "one a line: NDJSON") from None


def _parquet(path: Path, wanted: list[str]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            number = 0
            for batch in file.iter_batches(columns=wanted):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except pa.ArrowException as error:
        raise ConfigError(f"this is no readable Parquet file: {type(error).__name__}", Place(str(path))) from error
