"""Files with labels -> what a model learns from: each payment's features, as the plan that serves makes them.

The rows go through the plans that `run` executes, in the order of arrival, and what the score step would give its model
is kept. So a feature sees what was known when its payment was decided, and nothing later. The label is read beside the
plan, out of the same record; only a feature that the pipeline declares over it can see it.
"""

from __future__ import annotations

__all__ = ["Labels", "read_history"]

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from models.training.history import History
from operators.plan import Plan
from operators.score import FeatureMatrix, ScoringOperator
from state.errors import ConfigError, Place
from streamproc.cli.labels_file import Apart, check_column, kind_of
from streamproc.cli.replay_files import FileReplay, Result
from streamproc.cli.side_rows import Pieces


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
            kind, known = self.apart.of(name)
            self.seen = self.seen or name in self.apart.by_id
            return kind, known, card
        kind = kind_of(found.label, str(self.label), place)
        self.seen = self.seen or kind >= 0
        return kind, 0, card


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
    features = next(step.features for step in plans[-1].steps if isinstance(step, ScoringOperator))
    if labels and not labels.apart:
        for path in paths:
            check_column(path, str(labels.label))
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
