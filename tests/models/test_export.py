"""ONNX files against the library that trained them, where they may differ: missing values, thresholds, infinity."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("lightgbm")
pytest.importorskip("xgboost")

from models.onnx import OnnxModel
from models.training.boosting import BoostedTrees
from models.training.history import History
from models.training.learners import Learner, Options
from models.training.linear import LogisticRegression, fit_sigmoid, sigmoid
from models.training.xgboosting import XGBoostedTrees

LEARNERS: tuple[Learner, ...] = (BoostedTrees(), XGBoostedTrees(), LogisticRegression())
NAMES = ("cents", "gaps", "wild", "flag")


def rows(seed: int, size: int = 3000) -> History:
    random = np.random.default_rng(seed)
    cents = np.round(random.lognormal(3, 1, size), 2)
    gaps = np.where(random.random(size) < 0.3, np.nan, random.normal(size=size))
    wild = np.where(random.random(size) < 0.05, np.inf, random.normal(size=size) * 1e6)
    flag = (random.random(size) < 0.5).astype(float)
    odds = 0.02 * (cents - 40) + np.where(np.isnan(gaps), 1, gaps) + flag - 2
    labels = (random.random(size) < 1 / (1 + np.exp(-odds))).astype(np.int8)
    matrix = np.stack([cents, gaps, wild, flag], axis=1).astype(np.float32)
    return History(NAMES, matrix, labels, np.arange(size, dtype=np.int64), np.arange(size, dtype=np.int64))


def hard(matrix: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Neighbours of every value, values missing where none was, zeros and infinities."""
    near = np.nextafter(matrix, np.float32(np.inf)), np.nextafter(matrix, np.float32(-np.inf))
    holes = matrix.copy()
    holes[np.arange(len(holes)), np.arange(len(holes)) % matrix.shape[1]] = np.nan
    ends = np.array([[0.0] * 4, [-0.0] * 4, [np.inf] * 4, [-np.inf] * 4, [np.nan] * 4], np.float32)
    return np.concatenate([matrix, *near, holes, ends])


@pytest.mark.parametrize("learner", LEARNERS, ids=["lightgbm", "xgboost", "logistic"])
def test_the_file_gives_what_the_library_gives(learner: Learner, tmp_path: Path) -> None:
    history = rows(1)
    fitted = learner.fit(
        history, {**learner.usual(), **({"trees": 40} if "trees" in learner.usual() else {})}, Options()
    )
    path = tmp_path / "model.onnx"
    path.write_bytes(fitted.onnx(0.7, -0.4))
    matrix = hard(history.matrix)
    wanted = sigmoid(0.7 * fitted.raw(matrix) - 0.4)
    assert np.abs(OnnxModel(path, NAMES).score(matrix) / 100 - wanted).max() < 1e-5


@pytest.mark.parametrize("learner", LEARNERS[:2], ids=["lightgbm", "xgboost"])
def test_neighbours_in_float32_are_told_apart(learner: Learner, tmp_path: Path) -> None:
    """A threshold between two of them, in double precision, must not be rounded up to the upper one."""
    steps = np.arange(4000) % 8
    column = (np.float32(1) + steps * np.float32(2**-23)).astype(np.float32)
    labels = (steps % 2).astype(np.int8)
    history = History(("x",), column[:, None], labels, np.arange(4000), np.arange(4000))
    fitted = learner.fit(history, {**learner.usual(), "trees": 10}, Options())
    path = tmp_path / "model.onnx"
    path.write_bytes(fitted.onnx(1.0, 0.0))
    wanted = sigmoid(fitted.raw(column[:8, None]))
    assert np.abs(OnnxModel(path).score(column[:8, None]) / 100 - wanted).max() < 1e-5
    assert np.ptp(wanted) > 0.1


@pytest.mark.parametrize("learner", LEARNERS[:2], ids=["lightgbm", "xgboost"])
def test_constraints_hold(learner: Learner) -> None:
    history = rows(2)
    fitted = learner.fit(history, learner.usual(), Options(increasing=("cents",), decreasing=("gaps",)))
    free = learner.fit(history, learner.usual(), Options())
    for column, sign in ((0, 1), (1, -1)):
        matrix = np.repeat(history.matrix[:20], 200, axis=0)
        matrix[:, column] = np.tile(np.linspace(-4, 200, 200, dtype=np.float32), 20)
        steps = sign * np.diff(fitted.raw(matrix).reshape(20, 200), axis=1)
        assert (steps >= -1e-5).all()
        unbound = sign * np.diff(free.raw(matrix).reshape(20, 200), axis=1)
        assert (unbound < -1e-3).any()  # so the constraint did something


def test_weights_make_both_kinds_alike() -> None:
    labels = np.array([1, 0, 0, 0], np.int8)
    assert Options(positive_weight=0).weights(labels).tolist() == [3, 1, 1, 1]
    assert Options(positive_weight=5).weights(labels).tolist() == [5, 1, 1, 1]


def test_calibration_finds_the_sigmoid_that_drew_the_labels() -> None:
    random = np.random.default_rng(3)
    raw = random.normal(size=200_000) * 2
    labels = (random.random(len(raw)) < sigmoid(0.5 * raw - 1.5)).astype(np.int8)
    assert fit_sigmoid(raw, labels) == pytest.approx((0.5, -1.5), abs=0.03)


def test_a_perfect_order_gives_platts_probabilities_and_not_certainty() -> None:
    """Of f frauds (f + 1) / (f + 2), of l legitimate ones 1 / (l + 2): log-odds ln(f + 1) and -ln(l + 1)."""
    labels = np.array([1] * 3 + [0] * 8, np.int8)
    slope, intercept = fit_sigmoid(np.where(labels == 1, 1.0, -1.0), labels)
    assert (intercept + slope, intercept - slope) == pytest.approx((np.log(4), -np.log(9)))


def test_calibration_never_turns_the_order_round() -> None:
    raw = np.linspace(-1, 1, 100)
    assert fit_sigmoid(raw, (raw < 0).astype(np.int8)) == (1.0, 0.0)
