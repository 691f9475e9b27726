"""What a score costs: 300 trees of 31 leaves on 60 features, alone and in the roles of a registry.

    python -m benchmarks.serving [--rows 512] [--rounds 200]

The trees are learned from random numbers: what a row costs depends on how deep it goes, not on what it finds. All
ways are run in turn, round after round; the median of each is shown, us a row.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from models.onnx import OnnxModel
from models.training.boosting import BoostedTrees
from models.training.history import History
from models.training.learners import Options
from operators.batch import Batch, Column, TaskRows
from operators.operator import FLOAT64, STRING, OutputField
from operators.score import ScoreOperator
from operators.served_score import ServedScoreOperator
from operators.serving import Roles, ServedModel

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


def model(path: Path) -> OnnxModel:
    """Trees of the size that counts, in an ONNX file at `path`."""
    random = np.random.default_rng(7)
    matrix = random.standard_normal((LEARNED, FEATURES)).astype(np.float32)
    drawn = matrix[:, :10].sum(axis=1) + random.standard_normal(LEARNED) > 3
    none = np.zeros(LEARNED, np.int64)
    history = History(NAMES, matrix, drawn.astype(np.int8), none, none)
    parameters = {"trees": TREES, "num_leaves": LEAVES, "learning_rate": 0.05, "min_data_in_leaf": 20}
    path.write_bytes(BoostedTrees().fit(history, parameters, Options(seed=7, threads=1)).onnx(1.0, 0.0))
    return OnnxModel(path)


def batch(rows: int) -> Batch:
    """Rows of random features, of as many cards."""
    random = np.random.default_rng(8)
    columns = {name: Column(FLOAT64, random.standard_normal(rows), None) for name in NAMES}
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
    given = parser.parse_args()
    with TemporaryDirectory() as directory:
        measured = ways(model(Path(directory) / "model.onnx"), batch(given.rows))
    took: dict[str, list[float]] = {name: [] for name in measured}
    for _ in range(given.rounds):
        for name, run in measured.items():
            begun = time.perf_counter()
            run()
            took[name].append((time.perf_counter() - begun) / given.rows * 1e6)
    for name, each in took.items():
        print(f"{name:36} {statistics.median(each):6.2f} us a row (least {min(each):.2f})")


if __name__ == "__main__":
    main()
