"""Compiled trees against onnxruntime, to the bit; and files that are no such trees, which must not hang or crash."""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("numba")
pytest.importorskip("lightgbm")
pytest.importorskip("xgboost")
pytest.importorskip("onnxmltools")

import lightgbm
import onnx
import onnxmltools
import onnxruntime
import xgboost
from onnx import helper
from onnxmltools.convert.common.data_types import FloatTensorType

import models.onnx as serving
from models.forest import UnfitError, read_forest, sample_rows
from models.onnx import OnnxModel
from models.quickscorer import QuickScorer, leaf_sums
from models.training.boosting import BoostedTrees
from models.training.export import Node, trees_model
from models.training.history import History
from models.training.learners import Options
from models.training.linear import LogisticRegression
from models.training.xgboosting import XGBoostedTrees

Matrix = npt.NDArray[np.float32]
WIDTH = 6
NAMES = tuple(f"f{number}" for number in range(WIDTH))
EDGES = (0.0, 1e-45, float(np.finfo(np.float32).max), float(-np.finfo(np.float32).max), np.inf, -np.inf)


def history(seed: int, size: int = 1500) -> History:
    random = np.random.default_rng(seed)
    matrix = random.normal(size=(size, WIDTH)).astype(np.float32)
    matrix[:, 1] = np.round(matrix[:, 1] * 4)
    matrix[random.random(matrix.shape) < 0.1] = np.nan
    labels = (np.nan_to_num(matrix).sum(axis=1) + random.normal(size=size) > 1).astype(np.int8)
    return History(NAMES, matrix, labels, np.arange(size), np.arange(size))


def by_lightgbm(leaves: int) -> bytes:
    parameters = {"trees": 25, "num_leaves": leaves, "min_data_in_leaf": 2}
    return BoostedTrees().fit(history(leaves), parameters, Options()).onnx(0.7, -0.4)


def by_xgboost(depth: int) -> bytes:
    return XGBoostedTrees().fit(history(depth), {"trees": 25, "max_depth": depth, "eta": 0.3}, Options()).onnx(1.0, 0.1)


def converted(fitted: Any, convert: Callable[..., Any]) -> bytes:
    """What users of the common converter have."""
    rows = history(9)
    fitted.fit(rows.matrix, rows.labels)
    more = {"zipmap": False} if convert is onnxmltools.convert_lightgbm else {}
    found = convert(fitted, initial_types=[("x", FloatTensorType([None, WIDTH]))], target_opset=15, **more)
    return bytes(found.SerializeToString())


FORESTS: dict[str, Callable[[], bytes]] = {
    "lightgbm": lambda: by_lightgbm(31),
    "lightgbm, more than 32 leaves": lambda: by_lightgbm(50),
    "xgboost": lambda: by_xgboost(5),
    "xgboost, depth one": lambda: by_xgboost(1),
    "xgboost, up to 64 leaves": lambda: by_xgboost(6),
    "lightgbm by onnxmltools": lambda: converted(
        lightgbm.LGBMClassifier(n_estimators=20, verbose=-1), onnxmltools.convert_lightgbm
    ),
    "xgboost by onnxmltools": lambda: converted(
        xgboost.XGBClassifier(n_estimators=20, max_depth=4), onnxmltools.convert_xgboost
    ),
    "single leaves": lambda: trees_model([[Node(weight=0.25)], [Node(weight=-1.5)]], 0.125, WIDTH),
    "64 leaves": lambda: trees_model([chain(63)], 0.0, WIDTH),
    "a leaf beside stumps": lambda: trees_model([[Node(weight=0.1)], *map(stump, EDGES)], 0.3, WIDTH),
    "the same, by <": lambda: changed(
        trees_model([[Node(weight=0.1)], *map(stump, EDGES[:-1])], 0.3, WIDTH),
        nodes_modes=["LEAF", *["BRANCH_LT", "LEAF", "LEAF"] * len(EDGES[:-1])],
    ),
}


def stump(threshold: float) -> list[Node]:
    return [Node(1, threshold, 1, 2, missing_true=True), Node(weight=0.1), Node(weight=-0.7)]


def changed(content: bytes, **lists: Any) -> bytes:
    """With other attributes of its trees; None: without."""
    model = onnx.load_from_string(content)
    node = model.graph.node[0]
    kept = [attribute for attribute in node.attribute if attribute.name not in lists]
    del node.attribute[:]
    node.attribute.extend(kept)
    node.attribute.extend(helper.make_attribute(name, value) for name, value in lists.items() if value is not None)
    return bytes(model.SerializeToString())


def onnxruntime_alone(content: bytes, matrix: Matrix) -> Matrix:
    """The oracle."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    (found,) = session.run(["probabilities"], {session.get_inputs()[0].name: matrix})
    return np.asarray(found)


def warmed(content: bytes) -> OnnxModel:
    model = OnnxModel(Path("model.onnx"), NAMES, content=content)
    assert model.scored_by == "onnxruntime"
    model.warm_up()
    return model


@pytest.fixture(scope="module", params=FORESTS)
def content(request: pytest.FixtureRequest) -> bytes:
    return FORESTS[request.param]()


def test_scores_are_onnxruntimes_to_the_bit(content: bytes) -> None:
    model = warmed(content)
    assert model.scored_by == "compiled trees"
    plain = history(1).matrix
    matrix = np.concatenate(
        [sample_rows(read_forest(content, WIDTH), WIDTH), plain, np.nextafter(plain, np.float32(1))]
    )
    for size in (1, 15, 31, 32, 127, 128, 256, 257, 512, len(matrix)):
        given = np.ascontiguousarray(matrix[-size:])
        wanted = np.clip(onnxruntime_alone(content, given)[:, 1].astype(np.float64) * 100, 0, 100)
        assert model.score(given).tobytes() == wanted.tobytes()


def test_the_loop_gives_the_same_when_it_is_not_compiled(content: bytes) -> None:
    forest = read_forest(content, WIDTH)
    rows = sample_rows(forest, WIDTH)[:40]
    model = warmed(content)
    assert model._trees is not None
    found = QuickScorer(forest, leaf_sums).sums(rows)
    assert found.tobytes() == model._trees.scorer.sums(rows).tobytes()


def test_trees_that_score_otherwise_are_seen_when_they_are_loaded(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    content = FORESTS["xgboost, depth one"]()

    def wrong(content: bytes, width: int) -> Any:
        forest = read_forest(content, width)
        missing = forest.missing.copy()
        missing[-1] = not missing[-1]
        return forest._replace(missing=missing)

    monkeypatch.setattr("models.forest.read_forest", wrong)
    model = warmed(content)
    assert model.scored_by == "onnxruntime: its trees, compiled, give something else"
    (line,) = caplog.messages
    assert line == "model model.onnx is scored by onnxruntime: its trees, compiled, give something else"
    rows = history(2).matrix[:64]
    assert (model.score(rows) / 100).astype(np.float32).tobytes() == onnxruntime_alone(content, rows)[:, 1].tobytes()


@pytest.mark.parametrize("missing", ["numba", "onnx"])
def test_without_the_extra_onnxruntime_scores(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "can_compile", lambda: missing != "numba")
    monkeypatch.setattr(serving, "find_spec", lambda name: None if name == missing else object())
    model = warmed(FORESTS["single leaves"]())
    assert model.scored_by == "onnxruntime: numba or onnx is not installed"


@pytest.mark.parametrize("broken", ["numba", "models.forest"])
def test_an_extra_that_cannot_be_imported_ends_nothing(
    broken: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """numba and numpy, or onnx and protobuf, of releases that do not fit each other."""
    monkeypatch.setattr(serving, "can_compile", lambda: True)
    monkeypatch.setitem(sys.modules, broken, None)
    model = warmed(FORESTS["single leaves"]())
    assert model.scored_by == "onnxruntime: its trees cannot be compiled (ModuleNotFoundError)"
    assert len(caplog.messages) == 1


def test_what_is_no_forest_is_scored_by_onnxruntime(caplog: pytest.LogCaptureFixture) -> None:
    fitted = LogisticRegression().fit(history(3), LogisticRegression().usual(), Options())
    model = warmed(fitted.onnx(1.0, 0.0))
    assert model.scored_by == "onnxruntime: its input does not go to one ensemble of trees alone"
    assert not caplog.messages


def chain(depth: int) -> list[Node]:
    """A node a level, and a leaf more."""
    return [node for at in range(0, 2 * depth, 2) for node in (Node(0, at, at + 2, at + 1), Node())] + [Node()]


def function() -> bytes:
    """The stumps as a function of this name, which gives something else in a place where no sample looks."""
    model = onnx.load_from_string(STUMPS)
    (node, *_) = model.graph.node
    trees = helper.make_node(node.op_type, ["x"], ["sums"], domain=node.domain)
    for given in node.attribute:
        trees.attribute.add(name=given.name, ref_attr_name=given.name, type=given.type)
    body = [
        trees,
        helper.make_node("ReduceMax", ["x"], ["most"], axes=[1], keepdims=1),
        helper.make_node("Floor", ["most"], ["whole"]),
        helper.make_node("Constant", [], ["hundred"], value_floats=[100.0]),
        helper.make_node("Equal", ["whole", "hundred"], ["is"]),
        helper.make_node("Cast", ["is"], ["more"], to=onnx.TensorProto.FLOAT),
        helper.make_node("Add", ["sums", "more"], ["y"]),
    ]
    names = [given.name for given in node.attribute]
    made = helper.make_function("own", node.op_type, ["x"], ["y"], body, list(model.opset_import), attributes=names)
    model.functions.append(made)
    model.opset_import.append(helper.make_opsetid("own", 1))
    node.domain = "own"
    return bytes(model.SerializeToString())


def classes(labels: Any) -> bytes:
    """The stumps as a classifier of these."""
    names = {"treeids": [0, 0, 1, 1], "nodeids": [1, 2, 1, 2], "ids": [0] * 4, "weights": [0.1] * 4}
    kind = "classlabels_strings" if isinstance(labels[0], str) else "classlabels_int64s"
    given = {f"class_{name}": values for name, values in names.items()}
    model = onnx.load_from_string(changed(STUMPS, post_transform="LOGISTIC", **{kind: labels}, **given))
    model.graph.node[0].op_type = "TreeEnsembleClassifier"
    return bytes(model.SerializeToString())


STUMPS = trees_model([stump(0.5), stump(1.5)], 0.0, WIDTH)
LESS = ["BRANCH_LT", "LEAF", "LEAF"] * 2
CIRCLE = [Node(weight=1.0), Node(0, 1.0, 2, 3), Node(0, 1.0, 1, 4), Node(weight=1.0), Node(weight=1.0)]
BROKEN: dict[str, tuple[str, bytes]] = {
    "no protobuf": ("parsed", b"\xff\xff\xff\xff"),
    "no nodes": ("no nodes", changed(STUMPS, nodes_treeids=None)),
    "a circle": ("circle", trees_model([CIRCLE], 0.0, WIDTH)),
    "a root below itself": ("two ways", changed(STUMPS, nodes_truenodeids=[0, 0, 0, 1, 0, 0])),
    "two ways to a node": ("two ways", changed(STUMPS, nodes_truenodeids=[2, 0, 0, 1, 0, 0])),
    "a node of another tree": ("not there", changed(STUMPS, nodes_truenodeids=[4, 0, 0, 1, 0, 0])),
    "a node far away": ("not there", changed(STUMPS, nodes_falsenodeids=[2**63 - 1, 0, 0, 2, 0, 0])),
    "a negative node": ("not there", changed(STUMPS, nodes_truenodeids=[-1, 0, 0, 1, 0, 0])),
    "nodes out of order": ("numbered", changed(STUMPS, nodes_nodeids=[0, 2, 1, 0, 1, 2])),
    "a tree in two pieces": ("stand together", changed(STUMPS, nodes_treeids=[0, 0, 1, 1, 1, 0])),
    "a feature beyond the width": ("feature", changed(STUMPS, nodes_featureids=[WIDTH, 0, 0, 1, 0, 0])),
    "a negative feature": ("feature", changed(STUMPS, nodes_featureids=[-1, 0, 0, 1, 0, 0])),
    "a threshold that is none": ("no number", changed(STUMPS, nodes_values=[np.nan, 0, 0, 1, 0, 0])),
    "less than all": ("no number", changed(STUMPS, nodes_values=[-np.inf, 0, 0] * 2, nodes_modes=LESS)),
    "lists of other lengths": ("length", changed(STUMPS, nodes_values=[1.0])),
    "no thresholds": ("length", changed(STUMPS, nodes_values=None)),
    "kinds mixed": ("kind", changed(STUMPS, nodes_modes=["BRANCH_LEQ", "LEAF", "LEAF", "BRANCH_LT", "LEAF", "LEAF"])),
    "a kind without end": ("kind", changed(STUMPS, nodes_modes=[*LESS * 100, "L" * 100_000])),
    "another kind": ("kind", changed(STUMPS, nodes_modes=["BRANCH_EQ", "LEAF", "LEAF"] * 2)),
    "the mean": ("sum", changed(STUMPS, aggregate_function="AVERAGE")),
    "a sigmoid twice": ("sigmoid", changed(STUMPS, post_transform="LOGISTIC")),
    "two targets": ("targets", changed(STUMPS, target_ids=[0, 1, 0, 1], n_targets=2)),
    "two targets in one": ("one number each", changed(STUMPS, target_ids=[0, 1, 0, 1])),
    "three classes": ("classes", classes([0, 1, 2])),
    "classes by name": ("classes", classes(["no", "yes"])),
    "a weight twice": ("one number each", changed(STUMPS, target_nodeids=[1, 1, 1, 2])),
    "a weight of a root": ("one number each", changed(STUMPS, target_nodeids=[0, 2, 1, 2])),
    "a weight of no node": ("leaves that are not", changed(STUMPS, target_nodeids=[1, 2, 1, 2**63 - 1])),
    "a weight of no tree": ("leaves that are not", changed(STUMPS, target_treeids=[0, 7, 1, 1])),
    "a weight without end": ("numbers that are none", changed(STUMPS, target_weights=[0.0, np.inf, 1.0, 1.0])),
    "two bases": ("begin", changed(STUMPS, base_values=[0.0, 1.0])),
    "65 leaves": ("64 leaves", trees_model([chain(64)], 0.0, WIDTH)),
    "a function": ("functions", function()),
    "a chain without end": ("deep", trees_model([chain(3000)], 0.0, WIDTH)),
}


@pytest.mark.parametrize(("reason", "content"), BROKEN.values(), ids=BROKEN)
def test_a_file_is_not_believed(reason: str, content: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(UnfitError, match=reason):
            read_forest(content, WIDTH)
        assert tracemalloc.get_traced_memory()[1] < 3 * len(content) + (1 << 21), "more memory than it is long"
    finally:
        tracemalloc.stop()


def test_a_function_that_is_called_as_trees_are_is_scored_by_onnxruntime() -> None:
    rows = np.zeros((64, WIDTH), np.float32)
    rows[5, 0] = 100.5
    model, wanted = warmed(function()), onnxruntime_alone(function(), rows)[:, 1]
    assert wanted[5] != wanted[4]
    assert (model.score(rows) / 100).astype(np.float32).tobytes() == wanted.tobytes()


def test_a_width_that_is_not_known_or_huge_is_no_forest() -> None:
    for width in (0, 1_000_000):
        with pytest.raises(UnfitError, match="too large"):
            read_forest(STUMPS, width)
    read_forest(STUMPS, WIDTH)
