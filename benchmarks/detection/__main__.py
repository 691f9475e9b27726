"""Apply the committed recipe to a folder of payments, fold by fold.

    python -m benchmarks.detection --data DIR --json OUT.json     (needs the extra `train`)

`--validate` judges the validation folds instead, which end before the first test fold begins: the recipe was chosen on
these. README.md beside this file says what is measured and what came out.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.detection.data import DataError, collect
from benchmarks.detection.features import PIPELINE, history_of
from benchmarks.detection.folds import DELAY_MS, days_of, final_folds, validation_folds
from benchmarks.detection.measure import METRICS, measured
from benchmarks.detection.recipe import PARAMETERS, SEEDS, scores_of
from models.training.folds import Fold, Span, rows_to_judge, within
from models.training.history import DAY_MS, History
from state.errors import ConfigError

Found = dict[str, Any]
_AMOUNT = "tx_amount"


def judged(history: History, fold: Fold, seeds: Sequence[int], threads: int) -> Found:
    """A fold's entry: days, numbers of payments and frauds, the mean over seeds of each metric, and each seed's.

    Where there are no frauds, or nothing else, to learn from or to judge, its metrics are None, and `reason` says why.
    """
    entry: Found = {"train": _days(fold.train), "test": _days(fold.test)}
    try:
        train = history.take(within(history, fold.train))
        test = history.take(rows_to_judge(history, fold, DELAY_MS))
    except ConfigError as error:
        return {**entry, **dict.fromkeys(METRICS), "reason": str(error)}
    amounts = test.matrix[:, test.names.index(_AMOUNT)].astype(np.float64)
    each = [measured(test, scores_of(train, test, seed, threads), amounts) for seed in seeds]
    entry |= {"train_rows": len(train.times), "train_frauds": train.frauds}
    entry |= {"test_rows": len(test.times), "test_frauds": test.frauds}
    return {**entry, **mean_of(each), "seeds": {str(seed): one for seed, one in zip(seeds, each, strict=True)}}


def mean_of(entries: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """The mean of each metric over the entries that have it; None: none has."""
    known = {name: [entry[name] for entry in entries if entry[name] is not None] for name in METRICS}
    return {name: float(np.mean(values)) if values else None for name, values in known.items()}


def run(
    data: Path, *, validate: bool = False, seeds: Sequence[int] = SEEDS, threads: int = 2,
    tell: Callable[[str], None] = lambda line: None,
) -> Found:  # fmt: skip
    """What is written as JSON.

    Raises:
        DataError: the folder cannot be used.
    """
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        payments = Path(folder) / "transactions.parquet"
        total = collect(data, payments)
        tell(f"{total:,} payments")
        history = history_of(payments, total)
    first, last = days_of(history.times)
    folds = (validation_folds if validate else final_folds)(first, last)
    entries = []
    for fold in folds:
        entries.append(judged(history, fold, seeds, threads))
        tell(_line(entries[-1]))
    return {
        "mean": mean_of(entries), "folds": entries, "kind": "validation" if validate else "test",
        "rows": total, "frauds": history.frauds, "days": _days(Span(first * DAY_MS, (last + 1) * DAY_MS)),
        "pipeline": f"{PIPELINE.parent.name}/{PIPELINE.name}", "features": list(history.names),
        "parameters": PARAMETERS, "seeds": list(seeds), "seconds": round(time.monotonic() - begun, 1),
    }  # fmt: skip


def _days(span: Span) -> list[str]:
    """The first and the last day."""
    return [str(np.datetime64(at // DAY_MS, "D")) for at in (span.start, span.stop - 1)]


def _line(entry: Mapping[str, Any]) -> str:
    values = ", ".join(f"{name} {'-' if entry[name] is None else format(entry[name], '.4f')}" for name in METRICS)
    reason = f" ({entry['reason']})" if "reason" in entry else ""
    return f"{' to '.join(entry['test'])}: {values}{reason}" if "test" in entry else f"mean: {values}"


def _tell(line: str) -> None:
    sys.stderr.write(line + "\n")


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="benchmarks.detection", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--data", type=Path, required=True, help="a folder of Parquet, CSV or NDJSON files")
    parser.add_argument("--json", type=Path, help="where the results go (stdout if absent)")
    parser.add_argument("--validate", action="store_true", help="judge the validation folds, not the test folds")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS, help="a model each; metrics are their means")
    parser.add_argument("--threads", type=int, default=2, help="of LightGBM; the results do not depend on it")
    chosen = parser.parse_args()
    try:
        found = run(chosen.data, validate=chosen.validate, seeds=chosen.seeds, threads=chosen.threads, tell=_tell)
        text = json.dumps(found, indent=2) + "\n"
        if chosen.json:
            chosen.json.write_text(text)
        else:
            sys.stdout.write(text)
    except (DataError, ConfigError, OSError) as error:
        sys.exit(f"error: {error}")
    _tell(_line(found["mean"]))


if __name__ == "__main__":
    main()
