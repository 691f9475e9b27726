"""The recipe, chosen on validation folds only (README.md has the table): one LightGBM model, 300 trees of 7 leaves."""

from __future__ import annotations

__all__ = ["PARAMETERS", "SEEDS", "scores_of"]

import numpy as np
import numpy.typing as npt

from models.training.boosting import BoostedTrees
from models.training.history import History
from models.training.learners import Options, Value

SEEDS = (1, 2, 3, 4, 5)
PARAMETERS: dict[str, Value] = {
    "trees": 300, "num_leaves": 7, "learning_rate": 0.03, "min_data_in_leaf": 20, "lambda_l2": 1.0,
    "feature_fraction": 0.7, "bagging_fraction": 0.8, "bagging_freq": 1, "max_bin": 8191,
}  # fmt: skip


def scores_of(train: History, test: History, seed: int, threads: int) -> npt.NDArray[np.float64]:
    """Learn from `train`, score `test` (log-odds)."""
    fitted = BoostedTrees().fit(train, PARAMETERS, Options(seed=seed, threads=threads))
    return fitted.raw(test.matrix)
