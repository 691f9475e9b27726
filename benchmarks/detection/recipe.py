"""The recipe, chosen on validation folds only (README.md has the table): one LightGBM model, and what is known before.

300 trees of up to 7 leaves. No branch is grown for a gain below `min_gain_to_split`: of seven days, lesser ones are
noise, and rank at random what no label tells of.
"""

from __future__ import annotations

__all__ = ["PARAMETERS", "SEEDS", "boosted", "fit"]

from benchmarks.detection.prior import WithPrior
from models.training.boosting import BoostedTrees, Booster
from models.training.history import History
from models.training.learners import Fitted, Options, Value

SEEDS = (1, 2, 3, 4, 5)
PARAMETERS: dict[str, Value] = {
    "trees": 300, "num_leaves": 7, "learning_rate": 0.03, "min_data_in_leaf": 20, "lambda_l2": 1.0,
    "feature_fraction": 0.7, "bagging_fraction": 0.8, "bagging_freq": 1, "max_bin": 8191, "min_gain_to_split": 8.0,
}  # fmt: skip


def fit(train: History, seed: int, threads: int) -> Fitted:
    """Learn from `train`, and add what is known of terminals; the result does not depend on `threads`."""
    return WithPrior(boosted(train, seed, threads), train)


def boosted(train: History, seed: int, threads: int) -> Booster:
    """What is learned alone: for features without a terminal's."""
    return BoostedTrees().fit(train, PARAMETERS, Options(seed=seed, threads=threads))
