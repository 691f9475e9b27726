"""How many decisions one core explains a second: exact TreeSHAP of rows as a block has them, models of several sizes.

    python -m benchmarks.explanations [--rows 2000]     (needs the extra `train`)

Random rows of which a tenth is missing, and LightGBM trained on them. `ms to open`: reading the ONNX file, and what is
reckoned beforehand. `alone`: one row, as an explanation on demand is. Each figure is the best of three.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import numpy.typing as npt

from models.explaining.explainer import Explainer
from models.training.boosting import BoostedTrees
from models.training.history import History
from models.training.learners import Options

SIZES = ((60, 15, 44), (300, 31, 60))  # the demo's model; 300 trees of 31 leaves on 60 features
BLOCK = 256
LEARNED = 20_000


def history(width: int) -> History:
    random = np.random.default_rng(1)
    matrix = random.normal(size=(LEARNED, width)).astype(np.float32)
    matrix[random.random(matrix.shape) < 0.1] = np.nan
    odds = np.nan_to_num(matrix[:, : width // 2]).sum(axis=1) * 0.5 - 2
    labels = (random.random(LEARNED) < 1 / (1 + np.exp(-odds))).astype(np.int8)
    order = np.arange(LEARNED, dtype=np.int64)
    return History(tuple(f"f{i}" for i in range(width)), matrix, labels, order, order)


def best(work: Callable[[], object]) -> float:
    """Seconds."""
    found = []
    for _ in range(3):
        started = time.perf_counter()
        work()
        found.append(time.perf_counter() - started)
    return min(found)


def explained(explainer: Explainer, matrix: npt.NDArray[np.float32], scores: npt.NDArray[np.float64]) -> None:
    for start in range(0, len(matrix), BLOCK):
        found = explainer.explain(matrix[start : start + BLOCK], scores[start : start + BLOCK])
        assert found.additive.all()
        assert found.fits.all()


def main() -> None:
    parser = argparse.ArgumentParser(description="Decisions explained a second.")
    parser.add_argument("--rows", type=int, default=2000)
    rows: int = parser.parse_args().rows
    print("| trees | leaves | features | ms to open | explained/s, in blocks of 256 | alone, ms |")
    print("|---|---|---|---|---|---|")
    for trees, leaves, width in SIZES:
        learned = history(width)
        parameters: dict[str, int | float] = {
            **BoostedTrees().usual(),
            "trees": trees,
            "num_leaves": leaves,
            "max_bin": 255,
        }
        content = BoostedTrees().fit(learned, parameters, Options()).onnx(1.0, 0.0)
        explainer = Explainer(content, learned.names)
        matrix = learned.matrix[:rows]
        scores = 50 * (1 + np.tanh(explainer.explain(matrix, np.zeros(rows)).raw / 2))

        opening = best(partial(Explainer, content, learned.names))
        alone = best(partial(explainer.explain, matrix[:1], scores[:1]))
        speed = rows / best(partial(explained, explainer, matrix, scores))
        print(f"| {trees} | {leaves} | {width} | {opening * 1000:.0f} | {speed:,.0f} | {alone * 1000:.1f} |")


if __name__ == "__main__":
    main()
