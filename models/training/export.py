"""Models as ONNX, node by node; the only importer of onnx.

Written here and not by a converter, for three things that serving must not lose: calibration lies in the leaves and
costs nothing; a threshold, which libraries hold in double precision, is rounded down to the float32 below it, so that
a float32 value falls on the same side; and a missing value takes the way the library would send it.
"""

from __future__ import annotations

__all__ = ["Node", "below", "linear_model", "trees_model"]

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

OPSET, ML_OPSET, IR_VERSION = 15, 3, 8
CLIP = 8.0
"""Standard deviations: a linear model must not follow one wild value."""


class Node(NamedTuple):
    """`feature` <= `threshold` leads to node `true`, else to `false`; a missing value to `true` if `missing_true`.

    A leaf has no feature (-1), and a weight. `cover`: rows of training that came through it, or their weight:
    explanations need it, scoring does not.
    """

    feature: int = -1
    threshold: float = 0.0
    true: int = 0
    false: int = 0
    missing_true: bool = False
    weight: float = 0.0
    cover: float = 0.0


def below(value: float) -> float:
    """The largest float32 that is below a float32."""
    return float(np.nextafter(np.float32(value), np.float32(-np.inf)))


def _at_most(value: float) -> float:
    """The largest float32 that is not above."""
    with np.errstate(over="ignore"):
        near = np.float32(value)
        return below(value) if float(near) > value else float(near)


def trees_model(trees: Sequence[Sequence[Node]], intercept: float, width: int) -> bytes:
    """A classifier: sigmoid(`intercept` + the sum of a leaf's weight of each tree). Node 0 is a tree's root."""
    nodes = [(tree, number, node) for tree, found in enumerate(trees) for number, node in enumerate(found)]
    leaves = [(tree, number, node.weight) for tree, number, node in nodes if node.feature < 0]
    ensemble = helper.make_node(
        "TreeEnsembleRegressor", ["x"], ["odds"], domain="ai.onnx.ml", n_targets=1, base_values=[intercept],
        nodes_treeids=[tree for tree, _, _ in nodes], nodes_nodeids=[number for _, number, _ in nodes],
        nodes_featureids=[max(node.feature, 0) for *_, node in nodes],
        nodes_modes=["LEAF" if node.feature < 0 else "BRANCH_LEQ" for *_, node in nodes],
        nodes_values=[_at_most(node.threshold) for *_, node in nodes],
        nodes_truenodeids=[node.true for *_, node in nodes], nodes_falsenodeids=[node.false for *_, node in nodes],
        nodes_missing_value_tracks_true=[int(node.missing_true) for *_, node in nodes],
        nodes_hitrates=[float(node.cover) for *_, node in nodes],
        target_treeids=[tree for tree, _, _ in leaves], target_nodeids=[number for _, number, _ in leaves],
        target_ids=[0] * len(leaves), target_weights=[weight for *_, weight in leaves],
    )  # fmt: skip
    return _classifier([ensemble], [], width)


def linear_model(
    weights: npt.NDArray[np.float64], intercept: float, means: npt.NDArray[np.float64], scales: npt.NDArray[np.float64]
) -> bytes:
    """A classifier: missing values become the mean, values are standardised and clipped, then weighed."""
    constants = [
        _constant("low", [-CLIP]), _constant("high", [CLIP]),
        helper.make_tensor("weights", TensorProto.FLOAT, [len(weights), 1], weights.astype(np.float32)),
        helper.make_tensor("bias", TensorProto.FLOAT, [1], [intercept]),
    ]  # fmt: skip
    nodes = [
        helper.make_node("Imputer", ["x"], ["whole"], domain="ai.onnx.ml", imputed_value_floats=means.tolist(),
                         replaced_value_float=float("nan")),
        helper.make_node("Scaler", ["whole"], ["scaled"], domain="ai.onnx.ml", offset=means.tolist(),
                         scale=(1 / scales).tolist()),
        helper.make_node("Clip", ["scaled", "low", "high"], ["bounded"]),
        helper.make_node("Gemm", ["bounded", "weights", "bias"], ["odds"]),
    ]  # fmt: skip
    return _classifier(nodes, constants, len(weights))


def _constant(name: str, values: Sequence[float]) -> Any:
    return helper.make_tensor(name, TensorProto.FLOAT, [], values)


def _classifier(nodes: Sequence[Any], constants: Sequence[Any], width: int) -> bytes:
    """`nodes` give `odds` (log-odds, one column) of `x`."""
    end = [
        helper.make_node("Sigmoid", ["odds"], ["fraud"]),
        helper.make_node("Sub", ["one", "fraud"], ["legitimate"]),
        helper.make_node("Concat", ["legitimate", "fraud"], ["probabilities"], axis=1),
    ]
    graph = helper.make_graph(
        [*nodes, *end], "streamproc",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, width])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, 2])],
        [*constants, _constant("one", [1.0])],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", ML_OPSET)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="streamproc")
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))
