"""Files with labels -> what a model learns from: each payment's features, as the plan that serves makes them.

The rows go through the plans that `run` executes, in the order of arrival, and what the score step would give its model
is kept. So a feature sees what was known when its payment was decided, and nothing later. The label is read beside the
plan, out of the same record; only a feature that the pipeline declares over it can see it.
"""

from __future__ import annotations

__all__ = ["Blank", "Labels", "joined", "read_history"]

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from models.training.history import History
from operators.plan import Plan
from operators.score import FeatureMatrix, ScoreOperator
from operators.served_score import ServedScoreOperator
from state.errors import ConfigError, Place
from streamproc.cli.columns import file_columns
from streamproc.cli.replay_files import FileReplay, Result
from streamproc.cli.side_rows import Pieces
from streamproc.language.problems import nearest

_KINDS: dict[Any, int] = {1: 1, 0: 0, "1": 1, "0": 0, "true": 1, "false": 0, "True": 1, "False": 0, "1.0": 1, "0.0": 0}
"""True is 1 here, and 1.0, too."""
_COLUMNS = ("matrix", "labels", "times", "cards")


class Blank:
    """Stands where the model will; nothing may depend on its scores, so it gives the same one to all."""

    width = 0
    digest = "0" * 64

    def __init__(self, path: Path) -> None:
        """`path`: of the model, which need not exist."""

    def score(self, matrix: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """0 each."""
        return np.zeros(len(matrix))


class Labels:
    """Reads label and card out of records."""

    def __init__(self, label: str, card: str) -> None:
        """Args:
        label: the key in the record of 0, 1, true or false; NULL, or no such key: never labelled.
        card: the key of what the payments of one card have in common.
        """
        self.label = label
        fields: list[Any] = [("label", Any, None), ("card", Any, None)]
        record = msgspec.defstruct("Labelled", fields, rename={"label": label, "card": card}, gc=False)
        self._decode: Callable[[bytes], Any] = msgspec.json.Decoder(record).decode
        self._cards: dict[Any, int] = {}
        self.seen = False

    def of(self, record: bytes, place: Place) -> tuple[int, int]:
        """Label (-1: none) and card; a payment without a card is one of its own.

        Raises:
            ConfigError: the label is neither.
        """
        found = self._decode(record)
        card = self._cards.setdefault(found.card if found.card is not None else (place,), len(self._cards))
        if found.label is None:
            return -1, card
        self.seen = True
        kind = _KINDS.get(found.label) if isinstance(found.label, str | int | float) else None
        if kind is None:
            raise ConfigError(
                f"the label {self.label} is neither 0, 1, true nor false", place, "name a column that says fraud or not"
            )
        return kind, card


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
    if labels:
        for path in paths:
            _check_column(path, labels.label)
    replay, rows = FileReplay(plans, sides), 0
    for result in replay.run(paths):
        replay.told()
        part = _part(result, features, labels)
        rows += len(part.times)
        yield result, part
    if not rows:
        raise ConfigError("the files have no payment that can be decided", hint="`streamproc backtest` says why")
    if labels and not labels.seen:
        raise ConfigError(
            f"no record has a label {labels.label!r}", hint="name the key that says fraud or not: --label"
        )


def _check_column(path: Path, label: str) -> None:
    names = file_columns(path)
    if names is not None and label not in names:
        raise ConfigError(f"there is no column {label!r} of labels", Place(str(path)), nearest(label, names))


def _part(result: Result, features: FeatureMatrix, labels: Labels | None) -> History:
    batch, piece = result.judged.batch, result.piece
    places = result.judged.rows.offsets[result.judged.fresh].tolist()
    if labels is None:
        found = [(-1, 0)] * len(places)
    else:
        found = [labels.of(piece.rows[at], Place(str(result.path), piece.numbers[at])) for at in places]
    kinds, cards = np.array(found, np.int64).reshape(-1, 2).T
    matrix = features.of(batch).copy() if batch.size else np.empty((0, len(features.names)), np.float32)
    return History(features.names, matrix, kinds.astype(np.int8), batch.event_time, cards)


def joined(parts: Sequence[History]) -> History:
    """One behind the other."""
    columns = [np.concatenate([getattr(part, name) for part in parts]) for name in _COLUMNS]
    return History(parts[0].names, *columns)
