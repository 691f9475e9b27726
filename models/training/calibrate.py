"""Where to draw the line: the score above which payments are flagged."""

from __future__ import annotations

__all__ = ["beyond", "cards_a_day", "threshold_of"]

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from models.training.history import DAY_MS, History
from models.training.metrics import false_positive_threshold

Floats = npt.NDArray[np.float64]


class Line(NamedTuple):
    """Probabilities: the one to flag above, and what either budget alone would allow."""

    at: float
    by_false_positives: float
    by_cards: float


def _best_of_cards(rows: History, scores: Floats) -> tuple[Floats, int]:
    """The highest score of each card on each day, falling; how many days there are."""
    days = rows.times // DAY_MS
    order = np.lexsort((-scores, rows.cards, days))
    day, card = days[order], rows.cards[order]
    first = np.ones(len(order), np.bool_)
    first[1:] = (day[1:] != day[:-1]) | (card[1:] != card[:-1])
    return np.sort(scores[order][first])[::-1], len(np.unique(days))


def cards_a_day(rows: History, scores: Floats, above: float) -> float:
    """How many cards have a payment above the line, on the mean of the days."""
    best, days = _best_of_cards(rows, scores)
    return float((best > above).sum() / days)


def threshold_of(rows: History, scores: Floats, false_positives: float, capacity: int) -> Line:
    """The lowest line that keeps both budgets; `capacity`: cards a day, 0: any number."""
    by_false = false_positive_threshold(rows.labels, scores, false_positives)
    by_cards = 0.0
    if capacity:
        best, days = _best_of_cards(rows, scores)
        by_cards = float(best[capacity * days]) if capacity * days < len(best) else 0.0
    return Line(max(by_false, by_cards), by_false, by_cards)


def beyond(chance: float) -> float:
    """A probability as a score (0-100) with four digits that is surely above it; 0 of 0.

    Trees give many payments the same score: if those at the line were above what is written, by rounding or as float32,
    they would all be flagged, and no budget kept.

    >>> beyond(0.123456), beyond(0.12345612)
    (12.3457, 12.3457)
    """
    return round(round(100 * chance, 4) + 0.0001, 4) if chance else 0.0
