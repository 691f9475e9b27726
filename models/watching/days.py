"""What is kept of a day of event time (UTC): counts by version, and of each payment what its label will be asked."""

from __future__ import annotations

__all__ = ["BINS", "DAY_MS", "Day", "Known", "Rows", "Tally", "VersionDay", "joined"]

from collections.abc import Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from models.drift import counts_of
from models.manifest import Bins
from models.watching.intervals import Ranked
from models.watching.labels import UNKNOWN, Kinds

DAY_MS = 86_400_000
BINS = 10_001
"""Of scores, a hundredth of 0-100 each."""
SCORE = "score"
"""The name of the score among the baselines of a manifest."""
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Kind = TypeVar("Kind", bound=np.generic)


class Known(msgspec.Struct, frozen=True):
    """What is known of a version. `threshold`: flagged is what scores above it; None: not known.

    `baseline`: of its training, by feature, and of its score. `why`: why something is not known.
    """

    threshold: float | None = None
    baseline: dict[str, Bins] = {}
    why: str = ""


class Rows(NamedTuple):
    """Decided payments, column by column.

    `ids`, `cards`: int64, hashes; a card is what payments are keyed by. `times`: int64, ms. `alerted`: another action
    than the usual one. `versions`: int64, which version's score decided; 0: there was none. `scores`: float64, 0-100,
    NaN where there is none. `shadows`: those of other versions beside it, float64. `names`, `matrix`: what the model
    was given, float32 (rows, names).
    """

    ids: Ints
    cards: Ints
    times: Ints
    alerted: Mask
    versions: Ints
    scores: Floats
    shadows: Mapping[int, Floats]
    names: tuple[str, ...]
    matrix: npt.NDArray[np.float32]

    def take(self, which: Mask) -> Rows:
        """Only some of them."""
        shadows = {version: scores[which] for version, scores in self.shadows.items()}
        return Rows(
            self.ids[which], self.cards[which], self.times[which], self.alerted[which], self.versions[which],
            self.scores[which], shadows, self.names, self.matrix[which],
        )  # fmt: skip


def joined(parts: Sequence[Rows]) -> list[Rows]:
    """Neighbours that were given the same features as one, so that counting them takes one call."""
    groups: list[list[Rows]] = []
    for part in parts:
        if groups and groups[-1][0].names == part.names:
            groups[-1].append(part)
        else:
            groups.append([part])
    return [_one(group) for group in groups]


def _one(parts: list[Rows]) -> Rows:
    if len(parts) == 1:
        return parts[0]
    versions = dict.fromkeys(version for part in parts for version in part.shadows)
    shadows = {
        version: np.concatenate([part.shadows.get(version, np.full(len(part.ids), np.nan)) for part in parts])
        for version in versions
    }
    return Rows(
        np.concatenate([part.ids for part in parts]),
        np.concatenate([part.cards for part in parts]),
        np.concatenate([part.times for part in parts]),
        np.concatenate([part.alerted for part in parts]),
        np.concatenate([part.versions for part in parts]),
        np.concatenate([part.scores for part in parts]),
        shadows,
        parts[0].names,
        np.concatenate([part.matrix for part in parts]),
    )


class _Column(Generic[Kind]):
    """Values that are added to, and are one array when they are asked for."""

    def __init__(self, of_type: type[Kind]) -> None:
        self._type, self._parts = of_type, [np.empty(0, of_type)]

    def add(self, values: npt.NDArray[Any]) -> None:
        self._parts.append(values.astype(self._type))

    @property
    def all(self) -> npt.NDArray[Kind]:
        if len(self._parts) > 1:
            self._parts = [np.concatenate(self._parts)]
        return self._parts[0]


class Tally(NamedTuple):
    """Payments whose label is known.

    `alerts`, `flagged`: int64 (4,): frauds, legitimate ones, and how many of both were alerted (of those that the
    version decided), or lie above its threshold (of all it scored). `ranked`: by score, in BINS.
    """

    alerts: Ints
    flagged: Ints
    ranked: Ranked

    @staticmethod
    def of_all(parts: Sequence[Tally]) -> Tally:
        """Of one or more together."""
        ranked = [part.ranked for part in parts]
        return Tally(
            np.sum([part.alerts for part in parts], axis=0),
            np.sum([part.flagged for part in parts], axis=0),
            Ranked(
                np.concatenate([one.frauds for one in ranked]),
                np.concatenate([one.cards for one in ranked]),
                np.sum([one.legitimate for one in ranked], axis=0),
            ),
        )


class VersionDay:
    """What one version did in a day, 8 bytes a payment that it scored.

    `decided`: payments that its score decided; `scored`: those and what it scored as a shadow. `histograms`: by
    feature, counts by the bins of its baseline, missing ones last.
    """

    def __init__(self, known: Known) -> None:
        self._known = known
        self.decided = self.scored = 0
        self.histograms = {name: np.zeros(len(b.edges) + 2, np.int64) for name, b in known.baseline.items()}
        self._places, self._bins = _Column(np.int32), _Column(np.uint16)
        self._flagged, self._mine = _Column(np.bool_), _Column(np.bool_)

    def add(self, rows: Rows, scores: Floats, places: Ints, *, mine: bool) -> None:
        """Payments that it scored. `places`: theirs in the day. `mine`: it decided them."""
        self.scored += len(scores)
        self.decided += len(scores) * mine
        self._places.add(places)
        self._bins.add(np.rint(scores * 100).clip(0, BINS - 1))
        threshold = self._known.threshold
        self._flagged.add(np.zeros(len(scores), np.bool_) if threshold is None else scores > threshold)
        self._mine.add(np.full(len(scores), mine))
        columns = {SCORE: scores, **dict(zip(rows.names, rows.matrix.T, strict=True))}
        for name in self.histograms.keys() & columns.keys():
            self.histograms[name] += counts_of(columns[name], self._known.baseline[name].edges)

    def tally(self, labels: Kinds, alerted: Mask, cards: Ints) -> Tally:
        """What came of its payments; `labels`, `alerted` and `cards` are of all payments of the day."""
        places, bins, mine = self._places.all, self._bins.all.astype(np.int64), self._mine.all
        kinds, told = labels[places], alerted[places]
        fraud, legitimate = kinds == 1, kinds == 0

        def four(which: Mask, hit: Mask) -> Ints:
            counted = (fraud & which, legitimate & which, fraud & which & hit, legitimate & which & hit)
            return np.array([mask.sum() for mask in counted], np.int64)

        return Tally(
            four(mine, told),
            four(np.ones(len(mine), np.bool_), self._flagged.all),
            Ranked(bins[fraud], cards[places[fraud]], np.bincount(bins[legitimate], minlength=BINS).astype(np.int64)),
        )


class Day:
    """`day`: days since 1970. Ids, cards, times and actions of its payments are kept, 21 bytes each."""

    def __init__(self, day: int) -> None:
        self.day = day
        self.rows = self.unscored = 0
        self.versions: dict[int, VersionDay] = {}
        self._ids, self._cards = _Column(np.int64), _Column(np.int64)
        self._ms, self._alerted = _Column(np.int32), _Column(np.bool_)

    @property
    def end_ms(self) -> int:
        """When it is over."""
        return (self.day + 1) * DAY_MS

    @property
    def ids(self) -> Ints:
        """Hashes of its payments' ids."""
        return self._ids.all

    @property
    def times(self) -> Ints:
        """Its payments' event times, ms."""
        return self._ms.all + np.int64(self.day * DAY_MS)

    def add(self, rows: Rows, known: Mapping[int, Known]) -> None:
        """Payments of this day; `known`: of all versions that scored them."""
        places = np.arange(self.rows, self.rows + len(rows.ids))
        self.rows += len(rows.ids)
        self._ids.add(rows.ids)
        self._cards.add(rows.cards)
        self._ms.add(rows.times - self.day * DAY_MS)
        self._alerted.add(rows.alerted)
        decisive = np.where(np.isnan(rows.scores), 0, rows.versions)
        self.unscored += int((decisive == 0).sum())
        for version in np.unique(decisive[decisive > 0]).tolist():
            mine = decisive == version
            self._version(version, known).add(rows.take(mine), rows.scores[mine], places[mine], mine=True)
        for version, scores in rows.shadows.items():
            # One that is also at work counts once: its score is the same.
            told = ~np.isnan(scores) & (decisive != version)
            if told.any():
                self._version(version, known).add(rows.take(told), scores[told], places[told], mine=False)

    def tallies(self, labels: Kinds) -> dict[int, Tally]:
        """By version; `labels`: of all payments of the day."""
        return {
            version: one.tally(labels, self._alerted.all, self._cards.all) for version, one in self.versions.items()
        }

    def overdue(self, labels: Kinds, until_ms: int) -> int:
        """Payments made before `until_ms` whose label is not known."""
        return int(((labels == UNKNOWN) & (self.times < until_ms)).sum())

    def _version(self, version: int, known: Mapping[int, Known]) -> VersionDay:
        if version not in self.versions:
            self.versions[version] = VersionDay(known[version])
        return self.versions[version]
