"""Shares of a score, against their definition, and against the libraries that trained the model."""

from __future__ import annotations

import contextlib
import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("lightgbm")
pytest.importorskip("xgboost")

import lightgbm
import xgboost

from models.explaining.explainer import Explainer
from models.explaining.linear import LinearShares
from models.training.boosting import BoostedTrees
from models.training.export import Node, trees_model
from models.training.learners import Options
from models.training.linear import LogisticRegression
from models.training.xgboosting import XGBoostedTrees
from state.errors import ConfigError
from tests.models.shapley_samples import nodes
from tests.models.test_export import NAMES, hard, rows
from tests.operators.samples import examples
from tests.oracle.shapley import Leaf, Split, shapley

NAN = float("nan")
WIDTH = 4
VALUES = st.sampled_from([-1.0, 0.0, 0.5, 1.0, 2.0])


def splits(children: st.SearchStrategy[Any]) -> st.SearchStrategy[Split]:
    return st.builds(Split, st.integers(0, WIDTH - 1), VALUES, st.booleans(), children, children)


LEAVES = st.builds(Leaf, st.sampled_from([-2.0, -0.25, 0.5, 1.5]), st.integers(1, 50).map(float))
TREES = st.recursive(LEAVES, splits, max_leaves=12)
ROWS = st.lists(st.lists(VALUES | st.just(NAN), min_size=WIDTH, max_size=WIDTH), min_size=1, max_size=3)


def explainer(trees: list[Split | Leaf], base: float = 0.25) -> Explainer:
    return Explainer(trees_model([list(nodes(tree)) for tree in trees], base, WIDTH), NAMES)


def scored(explains: Explainer, matrix: Any) -> Any:
    """Explained with the scores that its own sums mean."""
    raw = explains.explain(matrix, np.zeros(len(matrix))).raw
    return explains.explain(matrix, 100 / (1 + np.exp(-raw)))


@examples(100)
@given(st.lists(TREES, min_size=1, max_size=3), ROWS)
def test_shares_are_those_of_the_definition(trees: list[Split | Leaf], given_rows: list[list[float]]) -> None:
    found = scored(explainer(trees), np.array(given_rows, np.float32))
    for row, shares in zip(given_rows, found.shares.tolist(), strict=True):
        assert shares == pytest.approx(shapley(trees, row), abs=1e-12)
    assert found.additive.all()
    assert found.fits.all()


@examples(50)
@given(st.lists(TREES, min_size=1, max_size=2), ROWS)
def test_leaves_without_a_table_give_the_same(trees: list[Split | Leaf], given_rows: list[list[float]]) -> None:
    matrix = np.array(given_rows, np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("models.explaining.shapley.TABLED_BYTES_MAX", 0)
        computed = scored(explainer(trees), matrix)
    assert computed.shares == pytest.approx(scored(explainer(trees), matrix).shares, abs=1e-13)


def test_a_row_has_the_same_shares_alone_and_among_others() -> None:
    """To the bit: rows are explained together as they come, and two that explain must write the same bytes."""
    history = rows(9, 900)
    parameters = {**BoostedTrees().usual(), "trees": 60, "num_leaves": 31, "min_data_in_leaf": 2}
    explains = Explainer(BoostedTrees().fit(history, parameters, Options(seed=5)).onnx(1.0, 0.0), history.names)
    together = scored(explains, history.matrix)
    for some in (slice(0, 1), slice(255, 258), slice(100, 500)):
        apart = scored(explains, history.matrix[some])
        assert np.array_equal(apart.shares, together.shares[some])
        assert np.array_equal(apart.raw, together.raw[some])


def test_lightgbm_gives_the_same_shares() -> None:
    history = rows(3)
    fitted = BoostedTrees().fit(history, {**BoostedTrees().usual(), "trees": 40}, Options())
    explains = Explainer(fitted.onnx(0.7, -0.4), NAMES)
    matrix = hard(history.matrix[:300])
    wanted: Any = lightgbm.Booster(model_str=fitted.text()).predict(matrix, pred_contrib=True)
    found = scored(explains, matrix)
    assert np.abs(found.shares - 0.7 * wanted[:, :-1]).max() < 1e-5  # the file has float32 leaves
    assert found.base == pytest.approx(0.7 * wanted[0, -1] - 0.4, abs=1e-5)
    assert found.additive.all()


def test_xgboost_gives_the_same_shares() -> None:
    history = rows(4)
    fitted = XGBoostedTrees().fit(history, {**XGBoostedTrees().usual(), "trees": 40}, Options())
    explains = Explainer(fitted.onnx(1.0, 0.0), NAMES)
    matrix = np.clip(hard(history.matrix[:300]), -3e38, 3e38)
    booster = xgboost.Booster(model_file=bytearray(fitted.text().encode()))
    wanted = booster.predict(xgboost.DMatrix(matrix, feature_names=list(NAMES)), pred_contribs=True)
    found = scored(explains, matrix)
    assert np.abs(found.shares - wanted[:, :-1]).max() < 1e-4  # it sums in float32 itself
    assert found.additive.all()


def test_a_linear_models_shares_are_its_terms() -> None:
    history = rows(5)
    fitted = LogisticRegression().fit(history, LogisticRegression().usual(), Options())
    found = scored(Explainer(fitted.onnx(0.5, 0.1), NAMES), history.matrix)
    said = json.loads(fitted.text())
    for row, shares in zip(history.matrix[:50].tolist(), found.shares.tolist(), strict=False):
        terms = []
        for value, term in zip(row, said["features"].values(), strict=True):
            standard = 0.0 if math.isnan(value) else (value - term["mean"]) / term["scale"]
            terms.append(0.5 * term["weight"] * min(8.0, max(-8.0, standard)))
        assert shares == pytest.approx(terms, rel=1e-4, abs=1e-6)
    assert found.base == pytest.approx(0.5 * said["intercept"] + 0.1, abs=1e-6)
    assert found.additive.all()


def test_a_linear_models_score_is_the_same_to_the_bit_whatever_rows_are_beside_it() -> None:
    chance = np.random.default_rng(0)
    model = LinearShares(chance.normal(size=20), 0.5, np.zeros(20), np.zeros(20), np.ones(20), -9.0, 9.0)
    matrix = chance.normal(size=(200, 20)).astype(np.float32)
    assert model.sums(matrix).tolist() == [model.sums(row[None]).item() for row in matrix]


def test_a_score_of_another_model_does_not_fit() -> None:
    found = explainer([Leaf(0.0, 1.0)]).explain(np.zeros((2, WIDTH), np.float32), np.array([56.2177, 56.3]))
    assert found.fits.tolist() == [True, False]  # 100 / (1 + exp(-0.25))


TREE = Split(0, 0.5, True, Leaf(1.0, 3.0), Split(1, 0.0, False, Leaf(2.0, 4.0), Leaf(3.0, 5.0)))
GOOD = list(nodes(TREE))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({0: GOOD[0]._replace(feature=4)}, "none of the 4"),
        ({0: GOOD[0]._replace(true=9)}, "not there"),
        ({0: GOOD[0]._replace(true=2)}, "two ways"),
        ({2: GOOD[2]._replace(true=2, false=3)}, "two ways"),
        ({0: GOOD[0]._replace(true=0)}, "circle"),
        ({0: GOOD[0]._replace(cover=99)}, "how many rows"),
        ({0: GOOD[0]._replace(cover=NAN)}, "no number"),
        ({0: GOOD[0]._replace(threshold=NAN)}, "no number"),
        ({1: GOOD[1]._replace(weight=NAN)}, "no number"),
        ({number: node._replace(cover=1.0) for number, node in enumerate(GOOD)}, "how many rows"),
    ],
    ids=range(10),
)
def test_a_wrong_tree_is_refused(wrong: dict[int, Node], said: str) -> None:
    content = trees_model([[wrong.get(number, node) for number, node in enumerate(GOOD)]], 0.0, WIDTH)
    with pytest.raises(ConfigError, match=said):
        Explainer(content, NAMES)


def test_a_tree_that_is_too_deep_is_refused() -> None:
    deep: Split | Leaf = Leaf(1.0, 1.0)
    for _ in range(65):
        deep = Split(0, 0.5, True, Leaf(1.0, 1.0), deep)
    with pytest.raises(ConfigError, match="deeper"):
        explainer([deep])


@examples(200)
@given(st.data())
def test_damaged_bytes_are_refused_or_explained(data: st.DataObject) -> None:
    good = bytearray(trees_model([GOOD], 0.5, WIDTH))
    for _ in range(data.draw(st.integers(1, 3))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(ConfigError):
        Explainer(bytes(good[: data.draw(st.integers(0, len(good)))]), NAMES)
