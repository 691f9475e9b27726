"""Labels that are in a file apart: which payments are frauds, by id, and perhaps when that was known."""

from __future__ import annotations

__all__ = ["LABEL_AT", "Apart", "check_column", "kind_of", "read_labels"]

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import replace

from operators.schema import DataType, FieldSpec, Kind, StreamSchema
from operators.values import parse_timestamp
from state.errors import ConfigError, Place
from streamproc.cli.columns import file_columns, survey
from streamproc.cli.files import check_file, read_file
from streamproc.language.problems import nearest

LABEL_AT = "label_at"
"""The column that says when a label was known."""
_KINDS: dict[Any, int] = {1: 1, 0: 0, "1": 1, "0": 0, "true": 1, "false": 0, "True": 1, "False": 0, "1.0": 1, "0.0": 0}
"""True is 1 here, and 1.0, too."""
_TEXT, _TIME = DataType(Kind.STRING), DataType(Kind.TIMESTAMP)


class Apart(NamedTuple):
    """Labels that are no part of the payments: id -> label (1, 0; -1: taken back) and when it was known, ms.

    `others_legitimate`: a payment that has none is no fraud; else it is left out. `timed`: it is told when they were
    known; else that is a fixed delay after the payment. `kinds`: of frauds, by id.
    """

    by_id: Mapping[str, tuple[int, int]]
    others_legitimate: bool
    timed: bool = True
    kinds: Mapping[str, str] = {}

    def of(self, name: str) -> tuple[int, int]:
        """Label and when it was known (0: not told) of the payment with this id; -1: none."""
        return self.by_id.get(name, (0 if self.others_legitimate else -1, 0))


def kind_of(value: Any, label: str, place: Place) -> int:
    """1, 0, or -1 for NULL.

    Raises:
        ConfigError: it is none of them.
    """
    if value is None:
        return -1
    kind = _KINDS.get(value) if isinstance(value, str | int | float) else None
    if kind is None:
        raise ConfigError(
            f"the label {label} is neither 0, 1, true nor false", place, "name a column that says fraud or not"
        )
    return kind


def read_labels(
    path: Path, name: str, label: str | None, *, others_legitimate: bool = False, kind: str | None = None
) -> Apart:
    """Labels out of a file of their own; a later row of a payment replaces an earlier one, NULL takes it back.

    Args:
        path: Parquet, CSV or NDJSON. All its rows have a `label_at`, or none has.
        name: its column of the payments' ids.
        label: its column of 0, 1, true or false; None: it lists frauds, and who is not in it is none.
        others_legitimate: see `Apart`.
        kind: its column of the kinds of frauds.

    Raises:
        ConfigError: it cannot be read, or a row is not as told.
    """
    schema = _schema(path, name)
    survey([path], schema)
    for column in filter(None, (label, kind)):
        check_column(path, column)
    found: dict[str, tuple[int, int]] = {}
    kinds: dict[str, str] = {}
    timed: bool | None = None
    for row, place in _rows(path, schema):
        payment, at = row.get(name), row.get(LABEL_AT)
        timed = at is not None if timed is None else timed
        known = _known(at, timed=timed)
        if payment is None or known is None:
            missing = name if payment is None else LABEL_AT
            raise ConfigError(f"a label has no {missing}", place, "ids, and times as those of a stream")
        found[str(payment)] = 1 if label is None else kind_of(row.get(label), label, place), known
        if kind and row.get(kind) is not None:
            kinds[str(payment)] = str(row[kind])
    return Apart(found, others_legitimate or label is None, bool(timed), kinds)


def check_column(path: Path, label: str) -> None:
    """Raises ConfigError if the file says which columns it has, and this is none of them."""
    names = file_columns(path)
    if names is not None and label not in names:
        raise ConfigError(f"there is no column {label!r} of labels", Place(str(path)), nearest(label, names))


def _known(at: Any, *, timed: bool) -> int | None:
    """ms; 0: not told, as in the whole file. None: it is no time, or missing, or there should be none."""
    if not timed:
        return 0 if at is None else None
    known = parse_timestamp(at) if isinstance(at, str) else at
    return known if isinstance(known, int) and not isinstance(known, bool) else None


def _schema(path: Path, name: str) -> StreamSchema:
    """Of a file that may have no times.

    Raises:
        ConfigError: there is no such file, or it is of no known kind.
    """
    plain = StreamSchema("labels", "labels", (FieldSpec("id", _TEXT, name, required=True),), "id", "id", "id")
    names = file_columns(check_file(path, plain))
    if names is not None and LABEL_AT not in names:
        return plain
    return replace(plain, fields=(*plain.fields, FieldSpec("at", _TIME, LABEL_AT)), event_time="at")


def _rows(path: Path, schema: StreamSchema) -> Iterator[tuple[dict[str, Any], Place]]:
    """Each, and where it stands.

    Raises:
        ConfigError: the file cannot be read, or a row is no JSON object.
    """
    decode = msgspec.json.Decoder(dict[str, Any]).decode
    for piece in read_file(path, schema):
        for record, number in zip(piece.rows, piece.numbers, strict=True):
            place = Place(str(path), number)
            try:
                row = decode(record)
            except msgspec.DecodeError:
                raise ConfigError("this is no label: no JSON object", place) from None
            yield row, place
