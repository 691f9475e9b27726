"""What a score costs: 300 trees of 31 leaves on 60 features, alone and in the roles of a registry.

    python -m benchmarks.serving [--rows 512] [--rounds 200] [--stream]

The trees are learned from random numbers, whose way through a tree no processor can guess; with `--stream` they are
learned from, and given, what the stages of configs/card_fraud make of generated payments, each world with its own seed.
Each is scored by onnxruntime alone and, if numba is installed, with compiled trees. All ways are run in turn, round
after round; the median and the least of each are shown, us a row.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from benchmarks.train_demo_model import PIPELINE, features
from models.absent import Blank
from models.onnx import OnnxModel
from models.training.boosting import BoostedTrees
from models.training.history import History
from models.training.learners import Options
from operators.batch import Batch, Column, TaskRows
from operators.operator import FLOAT64, STRING, OutputField
from operators.schema import Kind
from operators.score import ScoreOperator
from operators.served_score import ServedScoreOperator
from operators.serving import Roles, ServedModel
from streamproc.language import compile_stages, load_pipeline

Matrix = npt.NDArray[np.float32]
Flags = npt.NDArray[np.bool_]

TREES, LEAVES, FEATURES = 300, 31, 60
LEARNED = 20_000
NAMES = tuple(f"f{number}" for number in range(FEATURES))
TIERS = {"low": 0, "medium": 40, "high": 70}
ROLES = {
    "champion": Roles(1),
    "champion, challenger of a tenth": Roles(1, 2, 0.1),
    "champion, one shadow": Roles(1, shadows=(2,)),
    "champion, challenger, two shadows": Roles(1, 2, 0.1, (3, 4)),
}


def drawn(rows: int) -> tuple[Matrix, Flags, Matrix]:
    """Rows to learn from, whether each is a fraud, and rows to score: random numbers."""
    random = np.random.default_rng(7)
    matrix = random.standard_normal((LEARNED, FEATURES)).astype(np.float32)
    frauds = matrix[:, :10].sum(axis=1) + random.standard_normal(LEARNED) > 3
    return matrix, frauds, np.random.default_rng(8).standard_normal((rows, FEATURES)).astype(np.float32)


def streamed(rows: int) -> tuple[Matrix, Flags, Matrix]:
    """The same of generated payments: what the model of configs/card_fraud is given, and more features, up to 60."""
    pipeline = load_pipeline(str(PIPELINE))
    (name, declared) = next(iter(pipeline.models.items()))
    numbers = (Kind.INT64, Kind.FLOAT64, Kind.DECIMAL)
    last = compile_stages(pipeline, models=Blank)[-1]
    more = [field.name for field in last.features if field.type.kind in numbers and field.name not in declared.features]
    names = (*declared.features, *more)[:FEATURES]
    given = replace(declared, features=names, places=(declared.place,) * len(names))
    pipeline = replace(pipeline, models={name: given})
    matrix, kinds = features(1, 2 * LEARNED, pipeline)
    scored, _ = features(2, LEARNED, pipeline)
    return matrix, kinds >= 0, scored[-rows:]


def models(path: Path, matrix: Matrix, frauds: Flags) -> dict[str, OnnxModel]:
    """Trees of the size that counts, in an ONNX file at `path`, by what scores them."""
    none = np.zeros(len(matrix), np.int64)
    history = History(NAMES, matrix, frauds.astype(np.int8), none, none)
    parameters = {"trees": TREES, "num_leaves": LEAVES, "learning_rate": 0.05, "min_data_in_leaf": 20}
    path.write_bytes(BoostedTrees().fit(history, parameters, Options(seed=7, threads=1)).onnx(1.0, 0.0))
    alone, found = OnnxModel(path), OnnxModel(path)
    found.warm_up()
    return {alone.scored_by: alone, found.scored_by: found}


def batch(matrix: Matrix) -> Batch:
    """Rows of these features, of as many cards."""
    rows = len(matrix)
    columns = {
        name: Column(FLOAT64, values.astype(np.float64), ~np.isnan(values))
        for name, values in zip(NAMES, matrix.T, strict=True)
    }
    columns["card"] = Column(STRING, np.array([f"card-{number:06}" for number in range(rows)], np.object_), None)
    return Batch(rows, (TaskRows(0, 0, rows),), np.zeros(rows, np.int64), ["k"] * rows, columns)


def ways(found: OnnxModel, rows: Batch) -> dict[str, Callable[[], object]]:
    """What is measured, by name."""
    plain = ScoreOperator("fraud", found, NAMES, TIERS)
    matrix = plain.features.of(rows).copy()
    measured: dict[str, Callable[[], object]] = {
        "the model alone": lambda: found.score(matrix),
        "the step of a file": lambda: plain.process(rows, None),  # type: ignore[arg-type]
    }
    for name, roles in ROLES.items():
        served = ServedModel("fraud", NAMES, lambda _: found, roles)
        step = ServedScoreOperator(served, NAMES, TIERS, OutputField("card", STRING), 0.0)
        measured[name] = lambda step=step: step.process(rows, None)  # type: ignore[misc]
    return measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=512, help="of a batch")
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--stream", action="store_true", help="payments instead of random numbers")
    given = parser.parse_args()
    matrix, frauds, scored = streamed(given.rows) if given.stream else drawn(given.rows)
    with TemporaryDirectory() as directory:
        found = models(Path(directory) / "model.onnx", matrix, frauds)
    rows = batch(scored)
    measured = {(name, by): run for by, one in found.items() for name, run in ways(one, rows).items()}
    took: dict[tuple[str, str], list[float]] = {way: [] for way in sorted(measured)}
    for _ in range(given.rounds):
        for way, run in measured.items():
            begun = time.perf_counter()
            run()
            took[way].append((time.perf_counter() - begun) / given.rows * 1e6)
    for (name, by), each in took.items():
        print(f"{name:36} {by:16} {statistics.median(each):6.2f} us a row (least {min(each):.2f})")


if __name__ == "__main__":
    main()
