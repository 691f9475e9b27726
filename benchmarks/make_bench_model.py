"""Train the model of the benchmark's variant M: LightGBM, 300 trees of 31 leaves over ten features, as ONNX.

    python -m benchmarks.make_bench_model [FILE]     (configs/bench_v1/model.onnx by default; needs the extra `train`)

The features are drawn to look like the job's; what is measured is the cost of the model, not its skill. To
compare decisions with another engine's, give both the same file.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import lightgbm
import numpy as np
import numpy.typing as npt
import onnx
from onnxmltools import convert_lightgbm
from onnxmltools.convert.common.data_types import FloatTensorType

ROWS = 200_000
SEED = 20181020
TARGET = Path(__file__).parents[1] / "configs" / "bench_v1" / "model.onnx"


def features(rows: int, seed: int) -> npt.NDArray[np.float32]:
    """Columns: amount, n_5m, s_5m, n_1h, s_1h, n_24h, s_24h, n_30s, speed_kmh, hour."""
    random = np.random.default_rng(seed)
    amount = np.maximum(np.round(np.exp(np.log(25) + 0.9 * random.standard_normal(rows)), 2), 0.5)
    counts = [1 + random.poisson(rate * random.exponential(1.0, rows)) for rate in (0.05, 0.3, 1.5, 9.0)]
    n_30s, n_5m, n_1h, n_24h = (np.maximum.accumulate(np.stack(counts))[i] for i in range(4))
    sums = [amount + (n - 1) * random.gamma(2.0, 18.0, rows) for n in (n_5m, n_1h, n_24h)]
    travelled = random.random(rows) < 0.03
    speed = np.where(travelled, random.exponential(2_000.0, rows), random.exponential(1.0, rows))
    hour = random.integers(0, 24, rows)
    columns = [amount, n_5m, sums[0], n_1h, sums[1], n_24h, sums[2], n_30s, speed, hour]
    return np.stack(columns, axis=1).astype(np.float32)


def train(inputs: npt.NDArray[np.float32], seed: int) -> lightgbm.LGBMClassifier:
    """Fit the classifier to labels drawn from a logistic model of the features."""
    z = -5.0 + 0.012 * inputs[:, 0] + 0.45 * inputs[:, 7] + 0.0012 * inputs[:, 6] + 0.5 * np.log1p(inputs[:, 8] / 50)
    labels = np.random.default_rng(seed).random(len(z)) < 1 / (1 + np.exp(-z))
    model = lightgbm.LGBMClassifier(
        n_estimators=300, num_leaves=31, learning_rate=0.05, n_jobs=1, random_state=1, verbose=-1, deterministic=True
    )
    return model.fit(inputs, labels.astype(np.int8))


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the benchmark's model and write it as ONNX.")
    parser.add_argument("file", nargs="?", type=Path, default=TARGET)
    parser.add_argument("--rows", type=int, default=ROWS)
    chosen = parser.parse_args()
    model = train(features(chosen.rows, SEED), SEED + 1)
    converted = convert_lightgbm(
        model, initial_types=[("x", FloatTensorType([None, 10]))], zipmap=False, target_opset=15
    )
    onnx.save(converted, str(chosen.file))
    print(f"{chosen.file}: {chosen.file.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
