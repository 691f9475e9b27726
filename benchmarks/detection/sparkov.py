"""The same recipe on Sparkov's payments, by configs/detection/sparkov.yaml: reported as it comes, nothing was tuned.

    python -m benchmarks.detection.sparkov --data DIR --json OUT.json [--model FILE]

Learned from: the days behind the first 30 up to two thirds of the files' days; then seven days until the last labels
are known; judged: the rest.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.detection.data import DataError
from benchmarks.detection.features import PIPELINE, history_of
from benchmarks.detection.folds import DELAY_MS, days_of
from benchmarks.detection.recipe import SEEDS, boosted
from models.training.folds import Span, within
from models.training.history import DAY_MS, History
from models.training.metrics import auc, average_precision, recall_at
from state.errors import ConfigError
from streamproc.cli.labelled import Labels

COLUMNS = ("trans_num", "trans_dt", "card_id", "merchant", "category", "amt", "dob", "city_pop", "is_fraud")
_WARM = 30
METRICS = ("auc", "ap", "recall_at_fpr_0.001")


def collect(folder: Path, target: Path) -> int:
    """Write the payments of the folder's Parquet files to `target`, in the order of time; how many.

    Raises:
        DataError: there are none, or a column is missing.
    """
    paths = sorted(folder.glob("*.parquet"))
    if not paths:
        raise DataError(f"{folder} has no .parquet file; give the folder of Sparkov's payments: --data DIR")
    tables = []
    for path in paths:
        with pq.ParquetFile(path) as file:
            if missing := [name for name in COLUMNS if name not in file.schema_arrow.names]:
                raise DataError(f"{path}: no column {', '.join(missing)}; the files need {', '.join(COLUMNS)}")
            tables.append(file.read(columns=list(COLUMNS)))
    whole = pa.concat_tables(tables, promote_options="permissive")
    pq.write_table(whole.sort_by([("trans_dt", "ascending"), ("trans_num", "ascending")]), target)
    return len(whole)


def spans(history: History) -> tuple[Span, Span]:
    """What is learned from, and what is judged."""
    first, last = days_of(history.times)
    known = first + (last - first) * 2 // 3
    if known <= first + _WARM:
        raise DataError(f"the files cover {last - first + 1} days; give more, {2 * _WARM} at least")
    return Span((first + _WARM) * DAY_MS, known * DAY_MS), Span(known * DAY_MS + DELAY_MS, (last + 1) * DAY_MS)


def run(data: Path, *, seeds: Sequence[int] = SEEDS, threads: int = 1, model: Path | None = None) -> dict[str, Any]:
    """What is written as JSON; `model`: where the first seed's goes, as ONNX.

    Raises:
        DataError: the folder cannot be used.
    """
    with tempfile.TemporaryDirectory() as folder:
        payments = Path(folder) / "transactions.parquet"
        total = collect(data, payments)
        history = history_of(payments, total, PIPELINE.with_name("sparkov.yaml"), Labels("is_fraud", "card_id"))
    train, test = (history.take(within(history, span)) for span in spans(history))
    learned = [boosted(train, seed, threads) for seed in seeds]
    if model:
        model.write_bytes(learned[0].onnx(1.0, 0.0))
    each = []
    for booster in learned:
        scores = booster.raw(test.matrix)
        values = auc(test.labels, scores), average_precision(test.labels, scores), recall_at(test.labels, scores)
        each.append(dict(zip(METRICS, values, strict=True)))
    mean = {name: float(np.mean([one[name] for one in each])) for name in METRICS}
    counts = {"train_rows": len(train.times), "train_frauds": train.frauds, "test_rows": len(test.times)}
    return {"mean": mean, **counts, "test_frauds": test.frauds, "seeds": dict(zip(map(str, seeds), each, strict=True))}


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="benchmarks.detection.sparkov", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--data", type=Path, required=True, help="a folder of Parquet files")
    parser.add_argument("--json", type=Path, help="where the results go (stdout if absent)")
    parser.add_argument("--model", type=Path, help="write the first seed's model (ONNX)")
    parser.add_argument("--threads", type=int, default=1)
    chosen = parser.parse_args()
    try:
        text = json.dumps(run(chosen.data, threads=chosen.threads, model=chosen.model), indent=2) + "\n"
        if chosen.json:
            chosen.json.write_text(text)
        else:
            sys.stdout.write(text)
    except (DataError, ConfigError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
