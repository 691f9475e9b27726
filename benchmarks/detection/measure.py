"""What a fold is judged by."""

from __future__ import annotations

__all__ = ["METRICS", "measured", "value_at_cards"]

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from models.training.history import DAY_MS, History
from models.training.metrics import auc, average_precision, card_precision, recall_at

Floats = npt.NDArray[np.float64]
_CARDS = 100


def value_at_cards(rows: History, scores: Floats, amounts: Floats, k: int = _CARDS) -> float:
    """The share of the frauds' value that lies, day by day, on the `k` cards of the highest score.

    A card's score is its highest of the day, its value that of its frauds of the day. Each day stands for
    itself: a card that was found the day before counts again.
    """
    found = 0.0
    days, fraud = rows.times // DAY_MS, rows.labels == 1
    for day in np.unique(days):
        of_day = np.flatnonzero(days == day)
        cards, place = np.unique(rows.cards[of_day], return_inverse=True)
        best = np.full(len(cards), -np.inf)
        np.maximum.at(best, place, scores[of_day])
        value = np.bincount(place, np.where(fraud[of_day], amounts[of_day], 0.0))
        found += float(value[np.lexsort((cards, -best))[:k]].sum())
    return found / float(amounts[fraud].sum())


METRICS: Mapping[str, Callable[[History, Floats, Floats], float]] = {
    "auc": lambda rows, scores, _: auc(rows.labels, scores),
    "ap": lambda rows, scores, _: average_precision(rows.labels, scores),
    "cp100": lambda rows, scores, _: card_precision(rows, scores, _CARDS),
    "recall_at_fpr_0.001": lambda rows, scores, _: recall_at(rows.labels, scores, 0.001),
    "value_at_100_cards": value_at_cards,
}


def measured(rows: History, scores: Floats, amounts: Floats) -> dict[str, float]:
    """All of `METRICS`; `amounts`: of the payments."""
    return {name: metric(rows, scores, amounts) for name, metric in METRICS.items()}
