"""Champion against candidate on the same payments, with what chance could have made of the difference."""

from __future__ import annotations

__all__ = ["Comparison", "compared", "weighted_precision"]

import msgspec
import numpy as np
import numpy.typing as npt

from models.training.history import History

Floats = npt.NDArray[np.float64]
DRAWS = 500
LEVEL = 0.95


class Comparison(msgspec.Struct, frozen=True):
    """Average precision of both; `low`, `high`: 95 % interval of candidate - champion, by bootstrap of cards."""

    champion: float
    candidate: float
    low: float
    high: float
    cards: int
    draws: int

    def not_worse(self, margin: float) -> bool:
        """Whether the candidate loses less than `margin`, whatever chance did."""
        return self.low > -margin


class _Ranked:
    """Payments by falling score; what does not change from draw to draw."""

    def __init__(self, labels: npt.NDArray[np.int8], scores: Floats) -> None:
        self.order = np.argsort(-scores, kind="stable")
        ranked = scores[self.order]
        self.last = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)
        self.fraud = labels[self.order] == 1

    def precision(self, weights: Floats) -> float:
        heavy = weights[self.order]
        hits, all_ = np.cumsum(heavy * self.fraud)[self.last], np.cumsum(heavy)[self.last]
        steps = np.diff(hits, prepend=0.0)
        return float((steps * hits / np.maximum(all_, 1e-12)).sum() / hits[-1])


def weighted_precision(labels: npt.NDArray[np.int8], scores: Floats, weights: Floats) -> float:
    """Average precision where a payment counts as often as its weight says.

    >>> weighted_precision(np.array([1, 0], np.int8), np.array([0.1, 0.9]), np.array([2.0, 1.0]))
    0.6666666666666666
    """
    return _Ranked(labels, scores).precision(weights)


def compared(rows: History, champion: Floats, candidate: Floats, seed: int, draws: int = DRAWS) -> Comparison:
    """Both on `rows`. Cards are drawn, not payments: the frauds of a card are no independent evidence.

    A draw without a fraud says nothing and is drawn again; that there is one is the caller's business.
    """
    both = _Ranked(rows.labels, champion), _Ranked(rows.labels, candidate)
    cards, card_of = np.unique(rows.cards, return_inverse=True)
    fraud = rows.labels == 1
    random = np.random.default_rng(seed)
    differences: list[float] = []
    while len(differences) < draws:
        weights = np.bincount(random.integers(0, len(cards), len(cards)), minlength=len(cards))[card_of].astype(float)
        if weights[fraud].any():
            one, two = (ranked.precision(weights) for ranked in both)
            differences.append(two - one)
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(differences, [tail, 1 - tail]).tolist()
    whole = np.ones(len(fraud))
    one, two = (ranked.precision(whole) for ranked in both)
    return Comparison(round(one, 6), round(two, 6), round(low, 6), round(high, 6), len(cards), draws)
