"""How good scores are, by the definitions of the Fraud Detection Handbook (Le Borgne et al., 2022, chapter 4).

`labels`: 1 and 0. Scores need be no probabilities; equal ones are never told apart by the order of rows.
"""

from __future__ import annotations

__all__ = [
    "auc",
    "average_precision",
    "card_precision",
    "card_precision_by_day",
    "false_positive_threshold",
    "measured",
    "recall_at",
]

import numpy as np
import numpy.typing as npt

from models.training.history import DAY_MS, History, Metric

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
CARDS_A_DAY = 100
FALSE_POSITIVES = 0.001


def _curve(labels: npt.NDArray[np.int8], scores: Floats) -> tuple[Ints, Ints]:
    """Frauds and legitimate payments at or above each distinct score, falling."""
    order = np.argsort(-scores, kind="stable")
    ranked, fraud = scores[order], labels[order] == 1
    last = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)
    hits = np.cumsum(fraud)[last]
    return hits.astype(np.int64), (last + 1 - hits).astype(np.int64)


def average_precision(labels: npt.NDArray[np.int8], scores: Floats) -> float:
    """Area under the precision-recall curve: the sum of precision times the step of recall.

    >>> average_precision(np.array([1, 0, 1, 0], np.int8), np.array([0.9, 0.8, 0.7, 0.1]))
    0.8333333333333333
    """
    hits, false = _curve(labels, scores)
    return float((np.diff(hits, prepend=0) / hits[-1] * hits / (hits + false)).sum())


def auc(labels: npt.NDArray[np.int8], scores: Floats) -> float:
    """Area under the ROC curve: how often a fraud's score is above a legitimate payment's; equal ones count half."""
    hits, false = _curve(labels, scores)
    before = np.concatenate([[0], hits[:-1]])
    return float((np.diff(false, prepend=0) * (before + hits) / 2).sum() / (int(hits[-1]) * int(false[-1])))


def recall_at(labels: npt.NDArray[np.int8], scores: Floats, budget: float = FALSE_POSITIVES) -> float:
    """The share of frauds found, where at most `budget` of the legitimate payments may be flagged."""
    hits, false = _curve(labels, scores)
    within = hits[false <= budget * false[-1]]
    return float(within[-1] / hits[-1]) if len(within) else 0.0


def card_precision(rows: History, scores: Floats, k: int = CARDS_A_DAY) -> float:
    """The mean over days of `card_precision_by_day`."""
    return float(np.mean(list(card_precision_by_day(rows, scores, k).values())))


def card_precision_by_day(rows: History, scores: Floats, k: int = CARDS_A_DAY) -> dict[int, float]:
    """By day: frauds' cards among the k of highest score, by k. A card once found is looked at no more.

    Days are UTC's since 1970, those of which there are rows. Of cards with equal scores, the one that was numbered
    first is first.
    """
    days = rows.times // DAY_MS
    found: set[int] = set()
    shares = {}
    for day in np.unique(days).tolist():
        best: dict[int, tuple[float, bool]] = {}
        of_day = np.flatnonzero(days == day)
        columns = rows.cards[of_day], scores[of_day], rows.labels[of_day] == 1
        for card, score, fraud in zip(*(column.tolist() for column in columns), strict=True):
            if card not in found:
                highest, known = best.get(card, (-np.inf, False))
                best[card] = max(highest, score), known or fraud
        top = sorted(best, key=lambda card: (-best[card][0], card))[:k]
        hits = {card for card in top if best[card][1]}
        found |= hits
        shares[day] = len(hits) / k
    return shares


def false_positive_threshold(labels: npt.NDArray[np.int8], scores: Floats, budget: float) -> float:
    """The lowest score such that at most `budget` of the legitimate payments lie above it."""
    legitimate = np.sort(scores[labels == 0])[::-1]
    return float(legitimate[min(int(budget * len(legitimate)), len(legitimate) - 1)])


def measured(rows: History, scores: Floats) -> Metric:
    """All of them, by the names they have in a manifest."""
    return {
        "auc": auc(rows.labels, scores),
        "average_precision": average_precision(rows.labels, scores),
        f"card_precision_{CARDS_A_DAY}": card_precision(rows, scores),
        f"recall_at_{FALSE_POSITIVES}": recall_at(rows.labels, scores),
    }
