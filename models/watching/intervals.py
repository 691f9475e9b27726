"""What chance leaves open of a rate, of the difference of two, and of the difference of two average precisions."""

from __future__ import annotations

__all__ = [
    "DRAWS",
    "LEVEL",
    "Estimate",
    "average_precision",
    "bootstrap_difference",
    "difference",
    "estimate",
    "wilson",
]

import math

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


def bootstrap_difference(one: tuple[Ints, Ints], other: tuple[Ints, Ints], draws: int = DRAWS) -> Estimate | None:
    """Average precision of `one` less that of `other`, each (frauds, legitimate) by bin of the score.

    The percentile bootstrap (B. Efron and R. Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13), with
    frauds and legitimate payments drawn apart, so that each draw has as many of both as there were. To draw payments of
    which only the bin counts is to draw the bins' counts at once. Seeded: the same counts give the same interval.
    Payments are drawn as if independent: where few cards have most frauds, the interval is too narrow.
    None: one has no fraud, or no legitimate payment.
    """
    if not all(part.sum() for part in (*one, *other)):
        return None
    random = np.random.default_rng(_SEED)
    drawn = _resampled(one, random, draws) - _resampled(other, random, draws)
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail]).tolist()
    return _rounded(average_precision(*one) - average_precision(*other), low, high)


def _resampled(both: tuple[Ints, Ints], random: np.random.Generator, draws: int) -> npt.NDArray[np.float64]:
    """Average precisions of so many draws."""
    held = np.flatnonzero(both[0] + both[1])
    counts = [part[held] for part in both]
    found = []
    for start in range(0, draws, _AT_ONCE):
        size = min(_AT_ONCE, draws - start)
        frauds, legitimate = (random.multinomial(part.sum(), part / part.sum(), size) for part in counts)
        found.append(_precisions(frauds, legitimate))
    return np.concatenate(found)


def _rounded(value: float, low: float, high: float) -> Estimate:
    return Estimate(round(value, _DIGITS), round(low, _DIGITS), round(high, _DIGITS))
