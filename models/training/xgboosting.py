"""Gradient-boosted trees by XGBoost; its only importer."""

from __future__ import annotations

__all__ = ["XGBoostedTrees"]

import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import xgboost

from models.training.export import Node, below, trees_model
from models.training.history import History
from models.training.learners import Options, Value

Found = dict[str, Any]
_GREATEST = np.finfo(np.float32).max


class XGBoostedTrees:
    """XGBoost. Parameters are its own, by its own names, and `trees`: how many."""

    libraries: tuple[str, ...] = ("xgboost-cpu",)

    def usual(self) -> Mapping[str, Value]:
        return {"trees": 100, "max_depth": 5, "eta": 0.1, "min_child_weight": 5.0, "lambda": 1.0,
                "colsample_bytree": 1.0}  # fmt: skip

    def drawn(self, random: np.random.Generator) -> Mapping[str, Value]:
        return {
            "trees": int(random.integers(50, 301)),
            "max_depth": int(random.integers(3, 9)),
            "eta": round(float(np.exp(random.uniform(np.log(0.02), np.log(0.2)))), 4),
            "min_child_weight": round(float(np.exp(random.uniform(0.0, np.log(30.0)))), 2),
            "lambda": round(float(np.exp(random.uniform(np.log(0.1), np.log(20.0)))), 3),
            "colsample_bytree": round(float(random.uniform(0.5, 1.0)), 2),
        }

    def fit(self, rows: History, parameters: Mapping[str, Value], options: Options) -> _Booster:
        given: Found = dict(parameters)
        trees = int(given.pop("trees"))
        fraud, weights = rows.labels == 1, options.weights(rows.labels)
        data = xgboost.DMatrix(
            _finite(rows.matrix), fraud.astype(np.float32), weight=weights, feature_names=list(rows.names),
            nthread=options.threads,
        )  # fmt: skip
        signs = tuple((name in options.increasing) - (name in options.decreasing) for name in rows.names)
        more: Found = {"monotone_constraints": signs} if any(signs) else {}
        share = float(np.float32(weights[fraud].sum() / weights.sum()))
        fixed: Found = {
            "objective": "binary:logistic", "base_score": share, "seed": options.seed, "nthread": options.threads,
            "verbosity": 0, "device": "cpu",
        }  # fmt: skip
        found = xgboost.train({"tree_method": "hist", "max_bin": 2048, **given, **more, **fixed}, data, trees)
        return _Booster(found, rows.names, float(np.log(share / (1 - share))))


class _Booster:
    """`base`: the log-odds that the trees start from."""

    def __init__(self, booster: xgboost.Booster, names: tuple[str, ...], base: float) -> None:
        self._booster, self._names, self._base = booster, names, base

    def raw(self, matrix: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        data = xgboost.DMatrix(_finite(matrix), feature_names=list(self._names))
        return np.asarray(self._booster.predict(data, output_margin=True), np.float64)

    def text(self) -> str:
        return bytes(self._booster.save_raw("json")).decode() + "\n"

    def onnx(self, slope: float, intercept: float) -> bytes:
        model = json.loads(self.text())["learner"]["gradient_booster"]["model"]
        trees = [list(_nodes(tree, slope)) for tree in model["trees"]]
        return trees_model(trees, slope * self._base + intercept, len(self._names))


def _finite(matrix: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """XGBoost refuses infinities; no threshold tells them from the largest numbers."""
    return np.clip(matrix, -_GREATEST, _GREATEST)


def _nodes(tree: Found, slope: float) -> Iterator[Node]:
    """Nodes of a tree; below a threshold is left, where ours are left at it, too."""
    columns = (tree[key] for key in ("split_indices", "split_conditions", "left_children", "right_children",
                                     "default_left", "sum_hessian"))  # fmt: skip
    for feature, value, left, right, missing_left, cover in zip(*columns, strict=True):
        if left < 0:
            yield Node(weight=slope * value, cover=cover)
        else:
            yield Node(feature, below(value), left, right, bool(missing_left), cover=cover)
