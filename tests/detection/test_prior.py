"""What the recipe adds for a terminal of which no label tells anything."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("lightgbm")

from benchmarks.detection.prior import AGE, STREAK
from benchmarks.detection.recipe import boosted, fit
from models.explaining.explainer import Explainer
from models.onnx import OnnxModel
from models.training.history import History

NAMES = ("ratio", STREAK, AGE)


@pytest.fixture(scope="module")
def train() -> History:
    random = np.random.default_rng(5)
    size = 2_000
    ratio = np.abs(random.normal(1, 1, size))
    streak = np.where(random.random(size) < 0.1, random.uniform(7, 35, size), np.nan)
    age = np.where(random.random(size) < 0.1, np.nan, 7 + random.exponential(3, size))
    labels = ((ratio > 2.2) | ~np.isnan(streak)).astype(np.int8)
    matrix = np.stack([ratio, streak, age], axis=1).astype(np.float32)
    return History(NAMES, matrix, labels, np.arange(size, dtype=np.int64), np.arange(size, dtype=np.int64))


def test_the_odds_grow_as_the_age_of_the_newest_label(train: History) -> None:
    ages = np.array([0.0, 7.0, 8.0, 10.5, 14.0, 27.9, 28.0, 90.0, np.nan], np.float32)
    quiet = np.stack([np.ones(9), np.full(9, np.nan), ages], axis=1).astype(np.float32)
    added = fit(train, 1, 1).raw(quiet) - boosted(train, 1, 1).raw(quiet)
    wanted = [math.log(min(28.0, max(7.0, 90.0 if math.isnan(age) else age)) / 7) for age in ages.tolist()]
    assert added == pytest.approx(wanted, abs=0.0217)  # a step of the 64 between 7 and 28 days
    streak = quiet.copy()
    streak[:, 1] = 9.0
    np.testing.assert_array_equal(fit(train, 1, 1).raw(streak), boosted(train, 1, 1).raw(streak))


def test_the_file_has_it_and_explanations_add_up(train: History, tmp_path: Path) -> None:
    near = np.nextafter(train.matrix, np.float32(np.inf)), np.nextafter(train.matrix, np.float32(-np.inf))
    edges = (7 * 4 ** (np.arange(1, 64) / 64)).astype(np.float32)
    at_edges = np.stack([np.ones(63), np.full(63, np.nan), edges], axis=1).astype(np.float32)
    matrix = np.concatenate([train.matrix, *near, at_edges])
    fitted = fit(train, 1, 1)
    content = fitted.onnx(0.7, -0.4)
    (tmp_path / "model.onnx").write_bytes(content)
    wanted = 1 / (1 + np.exp(-(0.7 * fitted.raw(matrix) - 0.4)))
    assert np.abs(OnnxModel(tmp_path / "model.onnx", NAMES).score(matrix) / 100 - wanted).max() < 1e-5
    scores = OnnxModel(tmp_path / "model.onnx", NAMES).score(train.matrix[:200])
    found = Explainer(content, NAMES).explain(train.matrix[:200], scores)
    assert found.additive.all()
    assert found.fits.all()
    assert np.abs(found.shares[:, 2]).max() > 0.1
