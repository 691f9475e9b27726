"""Labels that are in a file apart: which payments are frauds, by id."""

from __future__ import annotations

__all__ = ["LabelsFile", "read_labels"]

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from operators.schema import DataType, FieldSpec, Kind, StreamSchema
from state.errors import ConfigError, Place
from streamproc.cli.columns import file_columns, survey
from streamproc.cli.files import check_file
from streamproc.cli.labelled import kind_of, label_rows
from streamproc.language.problems import nearest


class LabelsFile(NamedTuple):
    """By a payment's id: its label (1, 0); of a fraud, its kind. `otherwise`: the label of one that is not listed."""

    labels: Mapping[str, int]
    kinds: Mapping[str, str]
    otherwise: int


def read_labels(path: Path, key: str, label: str | None, kind: str | None) -> LabelsFile:
    """Read all of it; a later row of a payment replaces an earlier one.

    Args:
        path: CSV, NDJSON or Parquet.
        key: the column of ids.
        label: the column of 0, 1, true or false; NULL: not known, and so are those that are not listed. None: the file
            lists frauds, and those that are not listed are legitimate.
        kind: the column of the kinds of frauds; None: there is none.

    Raises:
        ConfigError: it cannot be read, lacks a column or a label is neither.
    """
    schema = StreamSchema("labels", "labels", (FieldSpec("id", DataType(Kind.STRING), key),), "id", "id", "id")
    check_file(path, schema)
    survey([path], schema)
    names = file_columns(path)
    for name in filter(None, (label, kind)):
        if names is not None and name not in names:
            raise ConfigError(f"there is no column {name!r}", Place(str(path)), nearest(name, names))
    labels: dict[str, int] = {}
    kinds: dict[str, str] = {}
    decode = msgspec.json.Decoder(dict[str, Any]).decode
    for row, place in label_rows(path, schema, decode):
        found = kind_of(row.get(label), label, place) if label else 1
        if row.get(key) is None or found < 0:
            continue
        labels[str(row[key])] = found
        if kind and row.get(kind) is not None:
            kinds[str(row[key])] = str(row[kind])
    if not labels:
        raise ConfigError("there is no label in it", Place(str(path)), f"it needs {key}, and --label: what says fraud")
    return LabelsFile(labels, kinds, -1 if label else 0)
