"""Two pipelines' decisions on the same payments -> what a report says of their differences."""

from __future__ import annotations

__all__ = ["LISTED_MAX", "SHOWN_MAX", "compared"]

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from models.evaluation.decisions import Decisions
from models.evaluation.differences import differences
from models.evaluation.evaluation import Settings, evaluated
from streamproc.cli.times import rfc3339
from streamproc.report.report import Changed, Comparison

LISTED_MAX = 10_000
SHOWN_MAX = 20


def compared(
    before: Decisions, after: Decisions, ids: Sequence[str], name: str, *, settings: Settings, beside: str
) -> tuple[Comparison, list[Changed]]:
    """What the pipeline `name` decides differently, and the rows, for the list `beside` the page.

    `ids`: of the payments of `before`.
    """
    found = differences(before, after)
    stricter, milder = [
        [_changed(direction, before, after, ids[row], one) for row, one in _pairs(pairs)]
        for direction, pairs in (("stricter", found.stricter), ("milder", found.milder))
    ]
    comparison = Comparison(
        name,
        evaluated(after, settings),
        found.moves,
        found.same,
        found.only_before,
        found.only_after,
        tuple(stricter[:SHOWN_MAX]),
        len(found.stricter),
        tuple(milder[:SHOWN_MAX]),
        len(found.milder),
        len(stricter) + len(milder),
        beside,
    )
    return comparison, [*stricter, *milder]


def _pairs(pairs: npt.NDArray[np.int64]) -> list[tuple[int, tuple[int, int]]]:
    """Of the first `LISTED_MAX`: the place before, and both places."""
    return [(before, (before, after)) for before, after in pairs[:LISTED_MAX].tolist()]


def _changed(direction: str, before: Decisions, after: Decisions, payment: str, pair: tuple[int, int]) -> Changed:
    old, new = pair
    label = int(before.labels[old])
    return Changed(
        direction,
        payment,
        rfc3339(int(before.times[old])),
        _known(before.amounts[old]),
        None if label < 0 else label == 1,
        before.actions[before.action[old]],
        after.actions[after.action[new]],
        _known(before.scores[old]),
        _known(after.scores[new]),
        _rules(before, old),
        _rules(after, new),
    )


def _known(value: np.float64) -> float | None:
    return None if np.isnan(value) else float(value)


def _rules(found: Decisions, row: int) -> tuple[str, ...]:
    return tuple(found.rules[at] for at in np.flatnonzero(found.hits[row]).tolist() if at not in found.shadow)
