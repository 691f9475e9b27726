"""What is said of a terminal of which no label tells anything: its risk grows with the time that nothing is known of.

Seven days of payments have about a hundred frauds at terminals whose compromise is too young for labels: too few to
learn from them how risk depends on the age of the newest legitimate label, enough to learn noise. But it follows from
what a compromise is: it may have begun on any day since that label, so the chance is proportional to the age; up to
28 days, as no window of the pipeline that counts frauds at a terminal looks much further back.

It is one more tree beside the learned ones, so ONNX, explanations and serving know nothing of it.
"""

from __future__ import annotations

__all__ = ["WithPrior", "log_age", "tree"]

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from models.training.boosting import Booster
from models.training.export import Node, trees_model
from models.training.history import History

STREAK, AGE = "streak_days", "legit_days"
DELAY, LIMIT = 7.0, 28.0
LEAVES = 64
_EDGES = (DELAY * (LIMIT / DELAY) ** (np.arange(1, LEAVES) / LEAVES)).astype(np.float32)
_STEP = math.log(LIMIT / DELAY) / LEAVES
_ANY = float(np.finfo(np.float32).max)


def log_age(history: History, matrix: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """What is added to the log-odds of each row: 0 in a streak of frauds, else ln(age / 7), in steps of 2 %."""
    streak, age = (matrix[:, history.names.index(name)] for name in (STREAK, AGE))
    steps = np.where(np.isnan(age), LEAVES - 1, np.searchsorted(_EDGES, age))
    return np.where(np.isnan(streak), steps * _STEP, 0.0)


def tree(history: History, slope: float) -> list[Node]:
    """The same as a tree; a missing age is the highest."""
    streak, age = (history.names.index(name) for name in (STREAK, AGE))
    steps = np.searchsorted(_EDGES, history.matrix[np.isnan(history.matrix[:, streak]), age])
    counts = np.bincount(np.minimum(steps, LEAVES - 1), minlength=LEAVES).astype(float)
    known = len(history.matrix) - counts.sum()
    ladder = list(_ladder(age, counts, slope))
    shifted = [node if node.feature < 0 else node._replace(true=node.true + 2, false=node.false + 2) for node in ladder]
    return [Node(streak, _ANY, 1, 2, cover=known + counts.sum()), Node(cover=known), *shifted]


def _ladder(age: int, counts: npt.NDArray[np.float64], slope: float) -> Iterator[Node]:
    """A whole binary tree over the steps, level by level: the children of node n are 2n + 1 and 2n + 2."""
    width = LEAVES
    while width:
        for low in range(0, LEAVES, width):
            number, cover = LEAVES // width - 1 + low // width, float(counts[low : low + width].sum())
            if width == 1:
                yield Node(weight=slope * low * _STEP, cover=cover)
            else:
                threshold = float(_EDGES[low + width // 2 - 1])
                yield Node(age, threshold, 2 * number + 1, 2 * number + 2, cover=cover)
        width //= 2


class WithPrior:
    """Learned trees and that one."""

    def __init__(self, booster: Booster, train: History) -> None:
        self._booster, self._train = booster, train

    def raw(self, matrix: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        return self._booster.raw(matrix) + log_age(self._train, matrix)

    def text(self) -> str:
        return self._booster.text()

    def onnx(self, slope: float, intercept: float) -> bytes:
        trees = [*self._booster.trees(slope), tree(self._train, slope)]
        return trees_model(trees, intercept, len(self._train.names))
