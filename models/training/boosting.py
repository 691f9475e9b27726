"""Gradient-boosted trees by LightGBM; its only importer."""

from __future__ import annotations

__all__ = ["BoostedTrees", "Booster"]

from collections.abc import Iterator, Mapping
from typing import Any

import lightgbm
import numpy as np
import numpy.typing as npt

from models.training.export import Node, trees_model
from models.training.history import History
from models.training.learners import Options, Value

Found = dict[str, Any]
_BINS = {"max_bin": 2047, "min_data_in_bin": 1}
"""Where the parameters do not say: with LightGBM's 255 an amount's cents are lost: .01 of average precision."""


class BoostedTrees:
    """LightGBM. Parameters are its own, by its own names, and `trees`: how many."""

    libraries: tuple[str, ...] = ("lightgbm",)

    def usual(self) -> Mapping[str, Value]:
        return {"trees": 100, "num_leaves": 15, "learning_rate": 0.1, "min_data_in_leaf": 20, "lambda_l2": 1.0,
                "feature_fraction": 1.0}  # fmt: skip

    def drawn(self, random: np.random.Generator) -> Mapping[str, Value]:
        return {
            "trees": int(random.integers(50, 301)),
            "num_leaves": int(random.choice([7, 15, 31, 63])),
            "learning_rate": round(float(np.exp(random.uniform(np.log(0.02), np.log(0.2)))), 4),
            "min_data_in_leaf": int(random.choice([5, 10, 20, 50, 100])),
            "lambda_l2": round(float(np.exp(random.uniform(np.log(0.1), np.log(20.0)))), 3),
            "feature_fraction": round(float(random.uniform(0.5, 1.0)), 2),
        }

    def fit(self, rows: History, parameters: Mapping[str, Value], options: Options) -> Booster:
        given: Found = dict(parameters)
        trees = int(given.pop("trees"))
        data = lightgbm.Dataset(
            rows.matrix, (rows.labels == 1).astype(np.float32), weight=options.weights(rows.labels),
            feature_name=list(rows.names),
        )  # fmt: skip
        signs = [(name in options.increasing) - (name in options.decreasing) for name in rows.names]
        more: Found = {"monotone_constraints": signs} if any(signs) else {}
        fixed: Found = {
            "objective": "binary", "seed": options.seed, "verbose": -1, "num_threads": options.threads,
            "deterministic": True, "force_row_wise": True,
        }  # fmt: skip
        return Booster(lightgbm.train({**_BINS, **given, **more, **fixed}, data, trees), len(rows.names))


class Booster:
    """What LightGBM has learned."""

    def __init__(self, booster: lightgbm.Booster, width: int) -> None:
        self._booster, self._width = booster, width

    def raw(self, matrix: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        found: Any = self._booster.predict(matrix, raw_score=True)
        return np.asarray(found, np.float64)

    def text(self) -> str:
        return str(self._booster.model_to_string())

    def trees(self, slope: float) -> list[list[Node]]:
        """Its trees, with leaves `slope` times theirs."""
        found = self._booster.dump_model()["tree_info"]
        return [list(_nodes(tree["tree_structure"], slope)) for tree in found]

    def onnx(self, slope: float, intercept: float) -> bytes:
        return trees_model(self.trees(slope), intercept, self._width)


def _nodes(root: Found, slope: float) -> Iterator[Node]:
    """Nodes of a tree; a child's number is its place."""
    waiting, number = [root], 1
    while waiting:
        node = waiting.pop(0)
        if "leaf_value" in node:
            yield Node(weight=slope * node["leaf_value"], cover=node.get("leaf_count", 1))
            continue
        threshold = float(node["threshold"])
        # A missing value takes the default's way where the training saw one; elsewhere LightGBM reads it as 0.
        left = bool(node["default_left"]) if node["missing_type"] == "NaN" else threshold >= 0
        yield Node(int(node["split_feature"]), threshold, number, number + 1, left, cover=node["internal_count"])
        waiting += [node["left_child"], node["right_child"]]
        number += 2
