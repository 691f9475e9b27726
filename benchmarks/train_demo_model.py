"""Train the small model of configs/card_fraud: LightGBM, 60 trees, on the pipeline's own features, as ONNX.

    python -m benchmarks.train_demo_model [FILE]     (configs/card_fraud/model.onnx by default; needs the extra `train`)

Generated traffic goes through the very plans that `run` executes, and what its score step would give the model is kept
(as `streamproc train` does it): what it learns from is what it will see. Labels come from the generator by transaction
id, and touch nothing else. Worlds (seeds) differ between training, early look and the demo.
The same seeds give the same file, byte for byte.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

from models.absent import Blank
from models.training.boosting import BoostedTrees
from models.training.history import History, joined
from models.training.learners import Fitted, Options
from models.training.linear import sigmoid
from streamproc.cli.labelled import read_history
from streamproc.language import compile_stages, load_pipeline
from streamproc.language.model import Pipeline
from streamproc.services.generator import FRAUD_KINDS, SEQUENCE_KINDS, GeneratorOptions, generate, write_ndjson

PIPELINE = Path(__file__).parents[1] / "configs" / "card_fraud" / "pipeline.yaml"
TARGET = PIPELINE.with_name("model.onnx")
TRAINING_SEEDS, TEST_SEED = (1001, 1002, 1003), 2001
START_MS = 1_767_225_600_000  # 2026-01-01
EVENTS = 120_000
TREES, LEAVES = 60, 15
KINDS = tuple(kind for kind in FRAUD_KINDS if kind not in SEQUENCE_KINDS)  # a score knows no order
THRESHOLDS = (70.0, 90.0)  # of the pipeline's rules

Matrix = npt.NDArray[np.float32]


def features(seed: int, events: int, pipeline: Pipeline | None = None) -> tuple[Matrix, npt.NDArray[np.int64]]:
    """The rows the pipeline's model would be given, and their kinds (-1: legitimate)."""
    traffic = generate(GeneratorOptions(events=events, seed=seed, start_ms=START_MS, kinds=KINDS))
    kind_of = dict(zip(traffic.ids, traffic.rows.kind.tolist(), strict=True))
    kinds: list[int] = []
    parts: list[History] = []
    plans = compile_stages(pipeline or load_pipeline(str(PIPELINE)), models=Blank)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "transactions.ndjson"
        write_ndjson(traffic, path)
        for result, part in read_history(plans, [path], None):
            ids = result.judged.rows.ids
            kinds += [kind_of[ids[row]] for row in result.judged.fresh.tolist()]
            parts.append(part)
    matrix = joined(parts).matrix
    assert len(matrix) == len(kinds) == events
    return matrix, np.array(kinds)


def train(matrix: Matrix, fraud: npt.NDArray[np.bool_], names: tuple[str, ...]) -> Fitted:
    order = np.arange(len(matrix), dtype=np.int64)
    parameters = {
        "trees": TREES, "num_leaves": LEAVES, "learning_rate": 0.1, "min_data_in_leaf": 40, "lambda_l2": 5.0,
        "max_bin": 255, "min_data_in_bin": 3,
    }  # fmt: skip
    return BoostedTrees().fit(History(names, matrix, fraud.astype(np.int8), order, order), parameters, Options())


def judge(model: Fitted, matrix: Matrix, kinds: npt.NDArray[np.int64]) -> str:
    """What the model alone finds on payments it has not seen."""
    score = 100 * sigmoid(model.raw(matrix))
    lines = []
    for threshold in THRESHOLDS:
        hit = score > threshold
        found = [f"{kind} {hit[kinds == i].mean():.0%}" for i, kind in enumerate(KINDS)]
        lines.append(f"score > {threshold:.0f}: {', '.join(found)}; of legitimate {hit[kinds < 0].mean():.3%}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the demo's model and write it as ONNX.")
    parser.add_argument("file", nargs="?", type=Path, default=TARGET)
    parser.add_argument("--events", type=int, default=EVENTS, help="of each training world")
    chosen = parser.parse_args()
    parts = [features(seed, chosen.events) for seed in TRAINING_SEEDS]
    matrix, kinds = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    model = train(matrix, kinds >= 0, load_pipeline(str(PIPELINE)).models["fraud"].features)
    print(judge(model, *features(TEST_SEED, chosen.events)))
    chosen.file.write_bytes(model.onnx(1.0, 0.0))
    print(f"{chosen.file}: {chosen.file.stat().st_size:,} bytes, trained on {len(matrix):,} payments")


if __name__ == "__main__":
    main()
