"""From counts of days to what is said of versions: drift, labels, precision, false positives, who is better."""

from __future__ import annotations

__all__ = ["Comparison", "Figures", "Judged", "VersionFigures", "figures"]

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from models.drift import Drift, drift_of_counts
from models.watching.days import Day, Ints, Known, Tally
from models.watching.intervals import Estimate, bootstrap_difference, difference, estimate
from models.watching.labels import UNKNOWN, Kinds


class Judged(msgspec.Struct, frozen=True):
    """Of payments whose label is known: `hits` of the `frauds` were told, and `false` of the `legitimate` ones.

    `precision`: hits by all that was told; `recall`: hits by frauds; `false_positive_rate`: false by legitimate ones;
    each with its interval (`models.watching.intervals.wilson`), None: there is nothing to divide by.
    """

    frauds: int
    legitimate: int
    hits: int
    false: int
    precision: Estimate | None
    recall: Estimate | None
    false_positive_rate: Estimate | None


class VersionFigures(msgspec.Struct, frozen=True):
    """`drift`: of what it was given and of its score against its training, the worst first; () where that is not known.

    `alerts`: what was decided of the payments it decided. `flagged`: by its score and `threshold`, of all it scored, as
    a shadow too; None: it has no known threshold. `average_precision`: None: frauds or legitimate payments lack.
    """

    version: int
    decided: int
    scored: int
    threshold: float | None
    drift: tuple[Drift, ...]
    alerts: Judged
    flagged: Judged | None
    average_precision: float | None

    @property
    def shifted(self) -> tuple[str, ...]:
        """The features that have drifted, and `score` if it has."""
        return tuple(one.name for one in self.drift if one.shifted)


class Comparison(msgspec.Struct, frozen=True):
    """`version` against `against`, which decided more payments, on the `days` on which both have scored.

    Differences, of `version` less `against`, at each one's own threshold, with intervals; positive: more.
    """

    version: int
    against: int
    days: int
    frauds: tuple[int, int]
    legitimate: tuple[int, int]
    precision: Estimate | None
    recall: Estimate | None
    false_positive_rate: Estimate | None
    average_precision: Estimate | None


class Figures(msgspec.Struct, frozen=True):
    """Of some days. `unscored`: decided without a score. `labelled`: payments whose label is known. `overdue`: whose
    label is not, although they are older than labels usually take. `notes`: what cannot be said, and why.
    """

    rows: int
    unscored: int
    labelled: int
    overdue: int
    versions: tuple[VersionFigures, ...]
    comparisons: tuple[Comparison, ...]
    notes: tuple[str, ...]

    @property
    def labelled_share(self) -> float | None:
        """Of the payments: how mature the labels are."""
        return self.labelled / self.rows if self.rows else None


class Labelled(NamedTuple):
    """A day, with what is known of its payments, and the version's counts of that."""

    day: Day
    labels: Kinds
    tallies: dict[int, Tally]

    @staticmethod
    def of(day: Day, labels: Kinds) -> Labelled:
        """Count it."""
        return Labelled(day, labels, day.tallies(labels))


def figures(
    days: Sequence[Labelled],
    drifting: Sequence[Day],
    compared: Sequence[Labelled],
    known: Mapping[int, Known],
    overdue_ms: int,
) -> Figures:
    """Say it of `days`.

    Args:
        days: what counts and judgements are of.
        drifting: what drift is of.
        compared: what comparisons are of.
        known: of all versions.
        overdue_ms: the labels of payments before that should be known.
    """
    decided: dict[int, int] = {}
    for one in days:
        for version, its in one.day.versions.items():
            decided[version] = decided.get(version, 0) + its.decided
    notes = [f"version {version}: {known[version].why}" for version in sorted(decided) if known[version].why]
    return Figures(
        rows=sum(one.day.rows for one in days),
        unscored=sum(one.day.unscored for one in days),
        labelled=sum(int((one.labels != UNKNOWN).sum()) for one in days),
        overdue=sum(one.day.overdue(one.labels, overdue_ms) for one in days),
        versions=tuple(_version(version, days, drifting, known[version]) for version in sorted(decided)),
        comparisons=_comparisons(decided, compared, known),
        notes=tuple(notes),
    )


def _version(version: int, days: Sequence[Labelled], drifting: Sequence[Day], known: Known) -> VersionFigures:
    tally, mine = _total(version, days), [one.day.versions[version] for one in days if version in one.day.versions]
    precision = tally.ranked.average_precision
    return VersionFigures(
        version,
        sum(one.decided for one in mine),
        sum(one.scored for one in mine),
        known.threshold,
        _drift(version, drifting, known),
        _judged(tally.alerts),
        None if known.threshold is None else _judged(tally.flagged),
        None if precision is None else round(precision, 6),
    )


def _total(version: int, days: Sequence[Labelled]) -> Tally:
    """Of days on some of which it has scored."""
    return Tally.of_all([one.tallies[version] for one in days if version in one.tallies])


def _drift(version: int, days: Sequence[Day], known: Known) -> tuple[Drift, ...]:
    found = []
    for name, then in known.baseline.items():
        parts = [day.versions[version].histograms[name] for day in days if version in day.versions]
        counts = np.sum(parts, axis=0) if parts else np.zeros(1, np.int64)
        if counts.any():
            found.append(drift_of_counts(name, then, counts.tolist()))
    return tuple(sorted(found, key=lambda one: -one.index))


def _judged(counts: Ints) -> Judged:
    frauds, legitimate, hits, false = counts.tolist()
    return Judged(
        frauds, legitimate, hits, false,
        estimate(hits, hits + false), estimate(hits, frauds), estimate(false, legitimate),
    )  # fmt: skip


def _comparisons(
    decided: Mapping[int, int], days: Sequence[Labelled], known: Mapping[int, Known]
) -> tuple[Comparison, ...]:
    """Each version against the one that decided most (of several, the lowest number), if both scored on some day."""
    if not decided:
        return ()
    champion = min(decided, key=lambda version: (-decided[version], version))
    found = []
    for version in sorted(decided.keys() - {champion}):
        both = [one for one in days if {version, champion} <= one.tallies.keys()]
        if both:
            found.append(_compared(version, champion, both, known))
    return tuple(found)


def _compared(version: int, against: int, days: Sequence[Labelled], known: Mapping[int, Known]) -> Comparison:
    one, other = _total(version, days), _total(against, days)
    first, second = one.flagged.tolist(), other.flagged.tolist()
    at_thresholds = known[version].threshold is not None and known[against].threshold is not None

    def less(hits: int, whole: tuple[int, ...]) -> Estimate | None:
        """Of the flagged ones: `hits` by the sum of `whole`, places in the counts."""
        if not at_thresholds:
            return None
        return difference(
            (first[hits], sum(first[at] for at in whole)), (second[hits], sum(second[at] for at in whole))
        )

    return Comparison(
        version, against, len(days), (first[0], second[0]), (first[1], second[1]),
        less(2, (2, 3)), less(2, (0,)), less(3, (1,)),
        bootstrap_difference(one.ranked, other.ranked),
    )  # fmt: skip
