"""Scoring: the operator against onnxruntime, and models that must not start."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from models.onnx import OnnxModel
from operators.batch import Batch, Column, TaskRows
from operators.operator import OperatorContext
from operators.schema import DataType, Kind
from operators.score import ScoreOperator
from state.errors import ConfigError
from tests.operators.samples import column

KIT = Path(__file__).parents[3] / "shared" / "bench" / "kit" / "model.onnx"
WEIGHTS = np.array([[0.5], [-0.25], [1.0]], np.float32)
NAMES = ("amount", "fresh", "n")
NO_CONTEXT = cast("OperatorContext", None)


def logistic(
    path: Path, *, columns: int = 2, rows: int | None = None, kind: int = TensorProto.FLOAT, gain: float = 1.0
) -> Path:
    """Write a logistic model of three features; the options make it unfit."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["z"]),
        helper.make_node("Sigmoid", ["z"], ["p"]),
        helper.make_node("Sub", ["one", "p"], ["q"]),
        helper.make_node("Concat", ["q", "p"] if columns == 2 else ["p"], ["both"], axis=1),
        helper.make_node("Mul", ["both", "gain"], ["probabilities"]),
    ]
    graph = helper.make_graph(
        nodes,
        "logistic",
        [helper.make_tensor_value_info("x", kind, [rows, 3])],
        [helper.make_tensor_value_info("probabilities", kind, [rows, columns])],
        [
            numpy_helper.from_array(WEIGHTS.astype(helper.tensor_dtype_to_np_dtype(kind)), "w"),
            numpy_helper.from_array(np.array([[1.0]], helper.tensor_dtype_to_np_dtype(kind)), "one"),
            numpy_helper.from_array(np.array([[gain]], helper.tensor_dtype_to_np_dtype(kind)), "gain"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)
    onnx.save(model, path)
    return path


def batch(columns: dict[str, Column]) -> Batch:
    size = len(next(iter(columns.values())).values)
    return Batch(size, (TaskRows(0, 0, size),), np.zeros(size, np.int64), ["k"] * size, dict(columns))


def by_hand(amount: float, fresh: float, n: float) -> float:
    return float(100 / (1 + np.exp(-(0.5 * amount - 0.25 * fresh + n))))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return logistic(tmp_path / "model.onnx")


@pytest.fixture
def kit() -> Path:
    if not KIT.exists():
        if os.environ.get("CI") == "true" and KIT.parents[2].exists():
            pytest.fail(f"{KIT.name} is missing from the shared folder", pytrace=False)
        pytest.skip("the benchmark kit is not here")
    return KIT


def test_scores_and_tiers_of_a_batch(path: Path) -> None:
    tiers = {"low": 20, "medium": 50, "high": 90}
    operator = ScoreOperator("fraud", OnnxModel.load(path, NAMES), NAMES, tiers)
    assert operator.inputs == NAMES
    assert [(field.name, str(field.type)) for field in operator.outputs] == [
        ("fraud.score", "float64"), ("fraud.failed", "bool"), ("fraud.tier", "string"),
    ]  # fmt: skip
    rows = batch({
        "amount": column("decimal(2)", [100, 250, -900, 100]),
        "fresh": column("bool", [True, False, True, None]),
        "n": column("int64", [0, 3, 0, 0]),
    })  # fmt: skip
    operator.process(rows, NO_CONTEXT)
    score, tier = rows.columns["fraud.score"], rows.columns["fraud.tier"]
    wanted = [by_hand(1.0, 1, 0), by_hand(2.5, 0, 3), by_hand(-9.0, 1, 0), 0.0]
    np.testing.assert_allclose(score.values, wanted, rtol=1e-5)
    assert score.values.dtype == np.float64
    assert score.valid is not None
    assert score.valid.tolist() == [True, True, True, False]  # a NULL feature is NaN to the model
    assert rows.columns["fraud.failed"].values.tolist() == [False, False, False, True]
    assert rows.columns["fraud.failed"].valid is None
    assert tier.values.tolist() == ["medium", "high", "", ""]
    assert tier.valid is not None
    assert tier.valid.tolist() == [True, True, False, False]


def test_without_tiers_there_is_only_a_score(path: Path) -> None:
    operator = ScoreOperator("m", OnnxModel(path), NAMES, {})
    assert [field.name for field in operator.outputs] == ["m.score", "m.failed"]
    rows = batch({name: column("float64", [0.0]) for name in NAMES})
    operator.replay(rows, NO_CONTEXT)
    assert set(rows.columns) == set(NAMES)
    operator.process(rows, NO_CONTEXT)
    assert set(rows.columns) == {*NAMES, "m.score", "m.failed"}
    assert rows.columns["m.score"] == Column(DataType(Kind.FLOAT64), np.array([50.0]), None)


def test_a_late_row_has_neither_score_nor_failed(path: Path) -> None:
    """Whether the model could have scored it or not: nobody asked it."""
    rows = batch({name: column("float64", [0.0, None, 0.0, None]) for name in NAMES})
    rows.late = np.array([True, True, False, False])
    ScoreOperator("m", OnnxModel(path), NAMES, {}).process(rows, NO_CONTEXT)
    score, failed = rows.columns["m.score"], rows.columns["m.failed"]
    assert score.valid is not None
    assert failed.valid is not None
    assert score.valid.tolist() == [False, False, True, False]
    assert failed.valid.tolist() == [False, False, True, True]
    assert failed.values.tolist() == [False, False, False, True]


def test_no_rows(path: Path) -> None:
    rows = batch({name: column("float64", []) for name in NAMES})
    ScoreOperator("m", OnnxModel(path), NAMES, {"low": 0}).process(rows, NO_CONTEXT)
    assert rows.columns["m.score"].values.shape == rows.columns["m.tier"].values.shape == (0,)


def test_batches_may_grow_and_shrink(path: Path) -> None:
    operator = ScoreOperator("m", OnnxModel(path), NAMES, {})
    for size in (1, 200, 3):
        values = np.arange(size) / 100
        rows = batch({name: column("float64", values.tolist()) for name in NAMES})
        operator.process(rows, NO_CONTEXT)
        np.testing.assert_allclose(rows.columns["m.score"].values, 100 / (1 + np.exp(-1.25 * values)), rtol=1e-5)


def test_what_is_beyond_float32_is_infinite_and_does_not_warn(path: Path) -> None:
    rows = batch({"amount": column("float64", [1e300]), "fresh": column("bool", [False]), "n": column("int64", [0])})
    ScoreOperator("m", OnnxModel(path), NAMES, {}).process(rows, NO_CONTEXT)
    assert rows.columns["m.score"].values.tolist() == [100.0]


def test_text_is_no_feature(path: Path) -> None:
    rows = batch({"amount": column("string", ["12"]), "fresh": column("bool", [False]), "n": column("int64", [0])})
    with pytest.raises(ConfigError, match="feature amount is a string"):
        ScoreOperator("m", OnnxModel(path), NAMES, {}).process(rows, NO_CONTEXT)


def test_the_digest_is_checked(path: Path) -> None:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert OnnxModel.load(path, NAMES, digest.upper()).digest == digest
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(ConfigError, match="not the registered file"):
        OnnxModel.load(path, NAMES, digest)


def test_models_that_do_not_fit_are_refused_at_start(tmp_path: Path, path: Path) -> None:
    refused: dict[str, Callable[[], object]] = {
        "cannot be read: No such file": lambda: OnnxModel.load(tmp_path / "nowhere.onnx", NAMES),
        "takes 3 features, the pipeline gives it 2": lambda: OnnxModel.load(path, NAMES[:2]),
        "no output of two class": lambda: OnnxModel.load(logistic(tmp_path / "one.onnx", columns=1), NAMES),
        "a free number of rows": lambda: OnnxModel.load(logistic(tmp_path / "fixed.onnx", rows=1), NAMES),
        "one float32 matrix": lambda: OnnxModel.load(logistic(tmp_path / "d.onnx", kind=TensorProto.DOUBLE), NAMES),
        r"outside 0\.\.1": lambda: OnnxModel.load(logistic(tmp_path / "gain.onnx", gain=100.0), NAMES),
    }
    for wanted, load in refused.items():
        with pytest.raises(ConfigError, match=wanted) as caught:
            load()
        assert caught.value.hint
    with pytest.raises(ConfigError, match="takes 3 features"):
        ScoreOperator("m", OnnxModel(path), NAMES[:2], {})
    with pytest.raises(ConfigError, match="tiers must rise"):
        ScoreOperator("m", OnnxModel(path), NAMES, {"low": 50, "high": 50})


@pytest.mark.parametrize("content", [b"", b"no model", b"\x08\x08"])
def test_a_corrupt_model_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.onnx").write_bytes(content)
    with pytest.raises(ConfigError, match=r"bad.onnx"):
        OnnxModel.load(tmp_path / "bad.onnx", NAMES)


@pytest.mark.parametrize("name", ["w.bin", "a-long-name-" * 12 + ".bin"])
def test_weights_in_other_files_are_refused(tmp_path: Path, path: Path, name: str) -> None:
    loaded = onnx.load(path)
    onnx.save(
        loaded, tmp_path / "split.onnx", save_as_external_data=True, location=name, size_threshold=0,
    )  # fmt: skip
    assert (tmp_path / name).exists()
    with pytest.raises(ConfigError, match="weights in other files"):
        OnnxModel.load(tmp_path / "split.onnx", NAMES)


def graph(path: Path, nodes: list[Any], constants: dict[str, Any]) -> OnnxModel:
    """Of two features; its output is whatever `nodes` make of `x`, though it says (rows, 2)."""
    made = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 2])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, 2])],
        [numpy_helper.from_array(np.array(values), name) for name, values in constants.items()],
    )  # fmt: skip
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return OnnxModel(path)


def test_a_row_on_which_the_model_fails_has_no_score_and_its_neighbours_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row gives an index (its first value) of a table of two: others are out of bounds."""
    nodes = [
        helper.make_node("Gather", ["x", "zero"], ["f"], axis=1),
        helper.make_node("Cast", ["f"], ["i"], to=TensorProto.INT64),
        helper.make_node("Gather", ["table", "i"], ["probabilities"], axis=0),
    ]
    table = np.array([[0.9, 0.1], [0.3, 0.7]], np.float32)
    model = graph(tmp_path / "m.onnx", nodes, {"zero": np.int64(0), "table": table})
    scores = model.score(np.array([[1, 0], [0, 0], [9, 0], [1, 0], [-7, 0]], np.float32))
    np.testing.assert_allclose(scores, [70, 10, np.nan, 70, np.nan], rtol=1e-6)
    assert np.isnan(model.score(np.full((1, 2), 9, np.float32))).all()
    many = np.zeros((8192, 2), np.float32)
    many[[5, 77, 8191]] = 9
    assert np.flatnonzero(np.isnan(model.score(many))).tolist() == [5, 77, 8191]
    asked: list[int] = []
    monkeypatch.setattr(model, "_run", lambda rows: asked.append(len(rows)))
    assert np.isnan(model.score(many)).all()
    assert len(asked) < 1000  # and not 16,383


def test_an_output_of_another_shape_is_no_score(tmp_path: Path) -> None:
    """It leaves out rows whose first value is 5 or more: what is left stood beside other rows."""
    nodes = [
        helper.make_node("Gather", ["x", "zero"], ["first"], axis=1),
        helper.make_node("Less", ["first", "five"], ["kept"]),
        helper.make_node("Compress", ["x", "kept"], ["few"], axis=0),
        helper.make_node("Mul", ["few", "tenth"], ["probabilities"]),
    ]
    constants = {"zero": np.int64(0), "five": np.float32(5), "tenth": np.float32(0.1)}
    model = graph(tmp_path / "m.onnx", nodes, constants)
    scores = model.score(np.array([[1, 1], [9, 1], [2, 3], [6, 4]], np.float32))
    np.testing.assert_allclose(scores, [10, np.nan, 30, np.nan], rtol=1e-6)


def test_what_is_no_probability_is_no_score(tmp_path: Path) -> None:
    """One that is out by a float32's rounding is the nearest."""
    nodes = [helper.make_node("Identity", ["x"], ["probabilities"])]
    model = graph(tmp_path / "m.onnx", nodes, {})
    given = [0.25, 1.0, 1.0000001, -1e-7, 1.5, -0.5, float("inf"), float("-inf"), float("nan")]
    scores = model.score(np.array([[0, one] for one in given], np.float32))
    np.testing.assert_array_equal(scores, [25, 100, 100, 0, *[np.nan] * 5])


def kit_rows(size: int) -> npt.NDArray[np.float32]:
    rng = np.random.default_rng(3)
    scale = np.array([300, 5, 500, 9, 900, 12, 3000, 6, 1500, 24])
    matrix: npt.NDArray[np.float32] = (rng.random((size, 10)) * scale).astype(np.float32)
    matrix[rng.random(matrix.shape) < 0.05] = np.nan
    return matrix


def test_a_forest_scores_as_onnxruntime_does_at_every_batch_size(kit: Path) -> None:
    matrix = kit_rows(700)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # threads share the trees: other sums, other last bits
    session = onnxruntime.InferenceSession(kit, options, providers=["CPUExecutionProvider"])
    direct: Any = session.run(["probabilities"], {"x": matrix})[0]
    model = OnnxModel.load(kit, [f"f{i}" for i in range(10)])
    whole = model.score(matrix)
    np.testing.assert_array_equal(whole, direct[:, 1].astype(np.float64) * 100)
    assert whole.min() >= 0
    assert whole.max() <= 100
    for size in (1, 2, 8, 31, 64, 512):
        parts = [model.score(matrix[i : i + size]) for i in range(0, 700, size)]
        np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_loading_a_model_reports_to_nobody(tmp_path: Path) -> None:
    """Before its first report onnxruntime writes an id for this machine and a queue below $HOME."""
    load = "import sys; from models.onnx import OnnxModel; from pathlib import Path; OnnxModel(Path(sys.argv[1]))"
    words = [sys.executable, "-c", load, str(logistic(tmp_path / "m.onnx"))]
    home = tmp_path / "home"
    home.mkdir()
    done = subprocess.run(
        words, cwd=Path(__file__).parents[2], env={"HOME": str(home)}, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list(home.iterdir()) == []
