"""What chance leaves open of a rate, of the difference of two, and of the difference of two average precisions."""

from __future__ import annotations

__all__ = [
    "DRAWS",
    "LEVEL",
    "Estimate",
    "Ranked",
    "average_precision",
    "bootstrap_difference",
    "difference",
    "estimate",
    "wilson",
]

import math
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
LEVEL = 0.95
_Z = 1.959963984540054
"""Of the normal distribution at `LEVEL`, two-sided."""
DRAWS = 500
_AT_ONCE = 50
_SEED = 1
_DIGITS = 6


class Estimate(msgspec.Struct, frozen=True):
    """A value and the interval that holds the true one with `LEVEL`."""

    value: float
    low: float
    high: float


def wilson(hits: int, trials: int) -> tuple[float, float]:
    """The score interval of a proportion.

    E. B. Wilson, "Probable inference, the law of succession, and statistical inference", Journal of the American
    Statistical Association 22 (1927), 209-212. It stays within 0 and 1, and holds for few trials and rare hits.

    >>> tuple(round(bound, 4) for bound in wilson(0, 10))
    (0.0, 0.2775)
    """
    share, square = hits / trials, _Z * _Z
    middle = share + square / (2 * trials)
    spread = _Z * math.sqrt(share * (1 - share) / trials + square / (4 * trials * trials))
    whole = 1 + square / trials
    low = 0.0 if hits == 0 else (middle - spread) / whole
    return low, 1.0 if hits == trials else (middle + spread) / whole


def estimate(hits: int, trials: int) -> Estimate | None:
    """A proportion with `wilson`'s interval; None: nothing was tried."""
    if not trials:
        return None
    return _rounded(hits / trials, *wilson(hits, trials))


def difference(one: tuple[int, int], other: tuple[int, int]) -> Estimate | None:
    """Proportion of `one` less that of `other`, each (hits, trials); None: nothing was tried of one.

    R. G. Newcombe, "Interval estimation for the difference between independent proportions", Statistics in Medicine 17
    (1998), 873-890, method 10: from `wilson`'s bounds. For payments of different cards; of the same payments (a shadow
    beside who decided) it is too wide, as both mostly agree.
    """
    if not (one[1] and other[1]):
        return None
    first, second = one[0] / one[1], other[0] / other[1]
    (low1, high1), (low2, high2) = wilson(*one), wilson(*other)
    apart = first - second
    return _rounded(
        apart,
        apart - math.sqrt((first - low1) ** 2 + (high2 - second) ** 2),
        apart + math.sqrt((high1 - first) ** 2 + (second - low2) ** 2),
    )


def average_precision(frauds: Ints, legitimate: Ints) -> float:
    """Area under the precision-recall curve, of payments counted by rising score, int64 (bins,).

    The sum of precision times the step of recall, as of `models.training.metrics`: those of one bin have equal scores.
    At least one is a fraud.

    >>> round(average_precision(np.array([0, 1, 0, 1]), np.array([1, 0, 1, 0])), 6)
    0.833333
    """
    return float(_precisions(frauds, legitimate))


def _precisions(frauds: Ints, legitimate: Ints) -> npt.NDArray[np.float64]:
    """`average_precision` of each row of counts."""
    falling = frauds[..., ::-1]
    hits, every = falling.cumsum(-1), (frauds + legitimate)[..., ::-1].cumsum(-1)
    found: npt.NDArray[np.float64] = (falling * hits / np.maximum(every, 1)).sum(-1) / hits[..., -1]
    return found


class Ranked(NamedTuple):
    """What a version's scores made of payments whose label is known, by bin of the score.

    `frauds`: int64 (frauds,), the bin of each. `cards`: int64 (frauds,), whose it was. `legitimate`: int64 (bins,),
    how many.
    """

    frauds: Ints
    cards: Ints
    legitimate: Ints

    @property
    def average_precision(self) -> float | None:
        """None: there is no fraud, or no legitimate payment."""
        if not (len(self.frauds) and self.legitimate.any()):
            return None
        return average_precision(np.bincount(self.frauds, minlength=len(self.legitimate)), self.legitimate)


def bootstrap_difference(one: Ranked, other: Ranked, draws: int = DRAWS) -> Estimate | None:
    """Average precision of `one` less that of `other`; None: one has none.

    The percentile bootstrap (B. Efron and R. Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13), frauds
    and legitimate payments drawn apart. Of frauds cards are drawn, with all of theirs, as the frauds of a card are no
    independent evidence; of legitimate payments so many as there were. To draw payments of which only the bin counts
    is to draw the bins' counts at once. Seeded: the same payments give the same interval. Of the same payments (a
    shadow beside who decided) it is too wide, as the two are drawn apart, too.
    """
    first, second = one.average_precision, other.average_precision
    if first is None or second is None:
        return None
    random = np.random.default_rng(_SEED)
    drawn = _resampled(one, random, draws) - _resampled(other, random, draws)
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail]).tolist()
    return _rounded(first - second, low, high)


def _resampled(of: Ranked, random: np.random.Generator, draws: int) -> npt.NDArray[np.float64]:
    """Average precisions of so many draws."""
    order = np.argsort(of.frauds, kind="stable")
    bins, starts = np.unique(of.frauds[order], return_index=True)
    cards, card_of = np.unique(of.cards[order], return_inverse=True)
    held = np.union1d(bins, np.flatnonzero(of.legitimate))
    counts, each = of.legitimate[held], np.full(len(cards), 1 / len(cards))
    found = []
    for start in range(0, draws, _AT_ONCE):
        size = min(_AT_ONCE, draws - start)
        frauds = np.zeros((size, len(held)), np.int64)
        times = random.multinomial(len(cards), each, size)[:, card_of]
        frauds[:, np.searchsorted(held, bins)] = np.add.reduceat(times, starts, axis=1)
        found.append(_precisions(frauds, random.multinomial(counts.sum(), counts / counts.sum(), size)))
    return np.concatenate(found)


def _rounded(value: float, low: float, high: float) -> Estimate:
    return Estimate(round(value, _DIGITS), round(low, _DIGITS), round(high, _DIGITS))
