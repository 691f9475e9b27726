"""What can be said of scores: points of operation, calibration, precision at the capacity of the analysts."""

from __future__ import annotations

__all__ = ["Bin", "Point", "brier", "calibration", "calibration_error", "payment_precision", "points"]

import msgspec
import numpy as np
import numpy.typing as npt

from models.evaluation.decisions import Decisions
from models.training.history import DAY_MS

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int8]


class Point(msgspec.Struct, frozen=True):
    """If all payments of this score and above were flagged. `cards_a_day`: with a flagged payment, mean of the days."""

    score: float
    flagged: int
    frauds: int
    fraud_value: float
    cards_a_day: float


def points(judged: Decisions, count: int) -> list[Point]:
    """Up to about `count` points, from the highest score to the lowest, close together where few are flagged."""
    order = np.argsort(-judged.scores, kind="stable")
    ranked, fraud = judged.scores[order], judged.labels[order] == 1
    last = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)  # the last payment of each score
    wanted = np.unique(np.searchsorted(last + 1, np.geomspace(1, len(ranked), count)).clip(max=len(last) - 1))
    places = last[wanted]
    hits, value = np.cumsum(fraud), np.cumsum(np.where(fraud, np.nan_to_num(judged.amounts[order]), 0.0))
    cards = _cards_so_far(judged, order)
    days = len(np.unique(judged.times // DAY_MS))
    return [
        Point(float(ranked[at]), at + 1, int(hits[at]), float(value[at]), float(cards[at] / days))
        for at in places.tolist()
    ]


def _cards_so_far(judged: Decisions, order: npt.NDArray[np.intp]) -> npt.NDArray[np.int64]:
    """How many cards, each day's apart, are among the payments up to each place of the order."""
    _, cards = np.unique(judged.cards[order], return_inverse=True)
    days = judged.times[order] // DAY_MS
    _, first = np.unique((days - days.min()) * len(cards) + cards, return_index=True)
    new = np.zeros(len(order), np.int64)
    new[first] = 1
    return np.cumsum(new)


class Bin(msgspec.Struct, frozen=True):
    """Payments with scores from `low` (0-100) on, below the next bin's: mean score / 100, and the share of frauds."""

    low: float
    payments: int
    frauds: int
    predicted: float
    observed: float


def calibration(labels: Labels, scores: Floats, bins: int = 10) -> list[Bin]:
    """Bins of equal width over 0-100, without those that are empty. 100 is of the last one."""
    codes = np.minimum((scores * bins / 100).astype(np.int64), bins - 1)
    payments = np.bincount(codes, minlength=bins)
    frauds = np.bincount(codes[labels == 1], minlength=bins)
    sums = np.bincount(codes, scores / 100, minlength=bins)
    return [
        Bin(100 * at / bins, int(payments[at]), int(frauds[at]), sums[at] / payments[at], frauds[at] / payments[at])
        for at in np.flatnonzero(payments).tolist()
    ]


def calibration_error(bins: list[Bin]) -> float:
    """Expected calibration error: the mean distance of score and share of frauds, by payments."""
    return sum(one.payments * abs(one.predicted - one.observed) for one in bins) / sum(one.payments for one in bins)


def brier(labels: Labels, scores: Floats) -> float:
    """Mean squared distance of score / 100 and label."""
    return float(np.mean((scores / 100 - labels) ** 2))


def payment_precision(judged: Decisions, k: int) -> dict[int, float]:
    """By day (days since 1970, UTC): frauds among the k payments of highest score, by k.

    Of equal scores the payment that came first is first.
    """
    days = judged.times // DAY_MS
    order = np.lexsort((np.arange(len(days)), -judged.scores, days))
    found = {}
    for day in np.unique(days).tolist():
        start, stop = np.searchsorted(days[order], (day, day + 1)).tolist()
        found[day] = float((judged.labels[order[start : min(stop, start + k)]] == 1).sum() / k)
    return found
