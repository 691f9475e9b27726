"""Files with labels -> what a model learns from: each payment's features, as the plan that serves makes them.

The rows go through the plans that `run` executes, in the order of arrival, and what the score step would give its model
is kept. So a feature sees what was known when its payment was decided, and nothing later. The label is read beside the
plan, out of the same record; only a feature that the pipeline declares over it can see it.
"""

from __future__ import annotations

__all__ = ["Apart", "Labels", "kind_of", "label_rows", "read_history", "read_labels"]

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from models.training.history import History
from operators.plan import Plan
from operators.schema import DataType, FieldSpec, Kind, StreamSchema
from operators.score import FeatureMatrix, ScoreOperator
from operators.served_score import ServedScoreOperator
from operators.values import parse_timestamp
from state.errors import ConfigError, Place
from streamproc.cli.columns import file_columns, survey
from streamproc.cli.files import check_file, read_file
from streamproc.cli.replay_files import FileReplay, Result
from streamproc.cli.side_rows import Pieces
from streamproc.language.problems import nearest

_KINDS: dict[Any, int] = {1: 1, 0: 0, "1": 1, "0": 0, "true": 1, "false": 0, "True": 1, "False": 0, "1.0": 1, "0.0": 0}
"""True is 1 here, and 1.0, too."""


TEXT, TIME = DataType(Kind.STRING), DataType(Kind.TIMESTAMP)


class Apart(NamedTuple):
    """Labels that are no part of the payments: id -> label and when it was known, ms.

    `others_legitimate`: a payment that has none is no fraud; else it is left out. `timed`: it is told when they were
    known; else that is a fixed delay after the payment.
    """

    by_id: Mapping[str, tuple[int, int]]
    others_legitimate: bool
    timed: bool = True


class Labels:
    """Reads label and card out of records."""

    def __init__(self, label: str | None, card: str, apart: Apart | None = None) -> None:
        """Args:
        label: the key in the record of 0, 1, true or false; NULL, or no such key: never labelled. None: see `apart`.
        card: the key of what the payments of one card have in common.
        apart: labels that are not in the records.
        """
        self.label = label
        self.apart = apart
        fields: list[Any] = [("label", Any, None), ("card", Any, None)]
        names = {"card": card} if apart else {"label": str(label), "card": card}
        record = msgspec.defstruct("Labelled", fields[bool(apart) :], rename=names, gc=False)
        self._decode: Callable[[bytes], Any] = msgspec.json.Decoder(record).decode
        self._cards: dict[Any, int] = {}
        self.seen = False

    def of(self, record: bytes, place: Place, name: str) -> tuple[int, int, int]:
        """Label (-1: none), when it was known (ms; 0: not told) and card; a payment without a card is one of its own.

        `name`: the payment's id.

        Raises:
            ConfigError: the label is neither.
        """
        found = self._decode(record)
        card = self._cards.setdefault(found.card if found.card is not None else (place,), len(self._cards))
        if self.apart is not None:
            kind, known = self.apart.by_id.get(name, (0 if self.apart.others_legitimate else -1, 0))
            self.seen = self.seen or name in self.apart.by_id
            return kind, known, card
        kind = kind_of(found.label, str(self.label), place)
        self.seen = self.seen or kind >= 0
        return kind, 0, card


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


def read_labels(path: Path, name: str, label: str | None, at: str, *, others_legitimate: bool) -> Apart:
    """Labels out of a file of their own; a later row of a payment replaces an earlier one.

    Args:
        path: Parquet, CSV or NDJSON.
        name: its column of the payments' ids.
        label: its column of 0, 1, true or false; None: it lists frauds, and who is not in it is none.
        at: its column of the times: all rows have one, or none has.
        others_legitimate: see `Apart`.

    Raises:
        ConfigError: it cannot be read, or a row is not as told.
    """
    schema = _schema_of_labels(path, name, at)
    check_file(path, schema)
    survey([path], schema)
    if label is not None:
        _check_column(path, label)
    keys = {"id": name, "at": at} if label is None else {"id": name, "at": at, "label": label}
    shape = msgspec.defstruct("Label", [(key, Any, None) for key in keys], rename=keys, gc=False)
    found: dict[str, tuple[int, int]] = {}
    timed: bool | None = None
    for row, place in label_rows(path, schema, msgspec.json.Decoder(shape).decode):
        timed = row.at is not None if timed is None else timed
        known = parse_timestamp(row.at) if isinstance(row.at, str) else row.at
        if row.at is None and not timed:
            known = 0  # no row has a time
        elif not timed:
            known = None
        if row.id is None or not isinstance(known, int) or isinstance(known, bool):
            raise ConfigError(
                f"a label has no {name if row.id is None else at}", place, "ids, and times as those of a stream"
            )
        found[str(row.id)] = 1 if label is None else kind_of(row.label, label, place), known
    return Apart(found, others_legitimate or label is None, bool(timed))


def _schema_of_labels(path: Path, name: str, at: str) -> StreamSchema:
    """Of a file that may have no times."""
    names = file_columns(path)
    fields = [FieldSpec("id", TEXT, name, required=True)]
    if names is None or at in names:
        fields.append(FieldSpec("at", TIME, at))
    return StreamSchema("labels", "labels", tuple(fields), "id", fields[-1].name, "id")


def label_rows(path: Path, schema: StreamSchema, decode: Callable[[bytes], Any]) -> Iterator[tuple[Any, Place]]:
    """The rows of a file of labels as `decode` reads them, and where they stand.

    Raises:
        ConfigError: it cannot be read, or a row is no JSON object.
    """
    for piece in read_file(path, schema):
        for record, number in zip(piece.rows, piece.numbers, strict=True):
            place = Place(str(path), number)
            try:
                row = decode(record)
            except msgspec.DecodeError:
                raise ConfigError("this is no label: no JSON object", place) from None
            yield row, place


def read_history(
    plans: Sequence[Plan], paths: Sequence[Path], labels: Labels | None, sides: Mapping[str, Pieces] | None = None
) -> Iterator[tuple[Result, History]]:
    """Each piece of the files with its part of the history; duplicates and refused records are in none.

    Rows are those of `judged.fresh`, in that order: a piece's of one partition lie together.

    Args:
        plans: of all stages, compiled with `Blank` in the model's place.
        paths: files of the stream that is decided.
        labels: where they are; None: the caller knows, and all are -1, of card 0.
        sides: as of `FileReplay`.

    Raises:
        ConfigError: a file cannot be read, or there are no rows or no labels.
    """
    features = next(step.features for step in plans[-1].steps if isinstance(step, ScoreOperator | ServedScoreOperator))
    if labels and not labels.apart:
        for path in paths:
            _check_column(path, str(labels.label))
    replay, rows = FileReplay(plans, sides), 0
    for result in replay.run(paths):
        replay.told()
        part = _part(result, features, labels)
        rows += len(part.times)
        yield result, part
    if not rows:
        raise ConfigError("the files have no payment that can be decided", hint="`streamproc backtest` says why")
    if labels and not labels.seen:
        said, hint = f"no record has a label {labels.label!r}", "name the key that says fraud or not: --label"
        if labels.apart:
            said, hint = "no payment has a label in the file of labels", "its ids must be those of the payments"
        raise ConfigError(said, hint=hint)


def _check_column(path: Path, label: str) -> None:
    names = file_columns(path)
    if names is not None and label not in names:
        raise ConfigError(f"there is no column {label!r} of labels", Place(str(path)), nearest(label, names))


def _part(result: Result, features: FeatureMatrix, labels: Labels | None) -> History:
    batch, piece = result.judged.batch, result.piece
    fresh = result.judged.fresh
    places = result.judged.rows.offsets[fresh].tolist()
    if labels is None:
        found = [(-1, 0, 0)] * len(places)
    else:
        ids = result.judged.rows.ids
        found = [
            labels.of(piece.rows[at], Place(str(result.path), piece.numbers[at]), ids[row])
            for row, at in zip(fresh.tolist(), places, strict=True)
        ]
    kinds, known, cards = np.array(found, np.int64).reshape(-1, 3).T
    matrix = features.of(batch).copy() if batch.size else np.empty((0, len(features.names)), np.float32)
    apart = labels.apart if labels else None
    return History(
        features.names, matrix, kinds.astype(np.int8), batch.event_time, cards,
        known if apart is not None and apart.timed else None, apart is not None and apart.others_legitimate,
    )  # fmt: skip
