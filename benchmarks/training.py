"""How long `streamproc train` takes, part by part: card_fraud's model on generated payments, one thread.

    python -m benchmarks.training [--payments 30000 120000] [--trials 3]     (needs the extra `train`)

`features`: the plan that serves over the files, as `train` makes them, files read in it. `train`: all that follows:
the search over two folds, the test fold, calibration, the version's model, its files. Of that, once more and alone, in
processor time: `fit`, the version's model by the usual parameters; `export`, to ONNX; `parity`, ONNX against the
library on 10,000 rows. `payments_per_s`: of the command, features and training.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.train_demo_model import PIPELINE, START_MS
from models.training.boosting import BoostedTrees
from models.training.folds import Window, last_window, learned_from
from models.training.history import DAY_MS, History
from models.training.learners import Options
from models.training.train import Settings, parity, train
from streamproc.cli.training import Where, labelled_history
from streamproc.language import load_pipeline
from streamproc.services.generator import (
    GeneratorOptions,
    generate,
    write_account_events,
    write_labels,
    write_parquet,
)

Result = dict[str, Any]
PAYMENTS = (30_000, 120_000)
TRIALS = 3
WINDOW = Window(6, 2, DAY_MS, 2)  # the generator's payments cover 14 days


def files(folder: Path, count: int) -> tuple[list[str], Path]:
    """What `train` is given: the payments with the account events, and the list of frauds."""
    traffic = generate(GeneratorOptions(events=count, seed=1001, start_ms=START_MS))
    payments, events, labels = (folder / f"{name}.parquet" for name in ("transactions", "account_events", "labels"))
    write_parquet(traffic, payments)
    write_account_events(traffic, events)
    write_labels(traffic, labels)
    return [str(payments), str(events)], labels


def alone(history: History, options: Options) -> Result:
    """Seconds of processor time of the version's fit, its export and its check."""
    span = last_window(history, WINDOW)
    learned, learner = learned_from(history, span, span.stop + WINDOW.delay_ms), BoostedTrees()
    begun = time.process_time()
    fitted = learner.fit(learned, learner.usual(), options)
    learnt = time.process_time()
    content = fitted.onnx(1.0, 0.0)
    written = time.process_time()
    found = parity(content, fitted, history, (1.0, 0.0), options.seed)
    checked = time.process_time()
    return {
        "learned_rows": len(learned.times), "fit_cpu_s": learnt - begun, "export_cpu_s": written - learnt,
        "parity_cpu_s": checked - written, "parity": found.largest,
    }  # fmt: skip


def one(count: int, trials: int) -> Result:
    """A training on `count` payments."""
    pipeline, options = load_pipeline(str(PIPELINE)), Options(seed=1, threads=1)
    with tempfile.TemporaryDirectory() as name:
        inputs, labels = files(Path(name), count)
        begun, cpu = time.perf_counter(), time.process_time()
        plans, history = labelled_history(pipeline, inputs, None, Where(None, labels, others_legitimate=False))
        made, made_cpu = time.perf_counter(), time.process_time()
        settings = Settings("lightgbm", WINDOW, options, trials)
        plan = [plan.state_fingerprint for plan in plans]
        train(history, settings, name="fraud", label="", card="", plan=plan, tell=print_)
        done, done_cpu = time.perf_counter(), time.process_time()
    return {
        "payments": count, "features": len(history.names), "trials": trials, "features_s": made - begun,
        "features_cpu_us_a_payment": (made_cpu - cpu) / count * 1e6, "train_s": done - made,
        "train_cpu_s": done_cpu - made_cpu, "payments_per_s": count / (done - begun), **alone(history, options),
    }  # fmt: skip


def print_(line: str) -> None:
    """Progress."""
    print(f"  training: {line}", file=sys.stderr)


def run(counts: Sequence[int], trials: int = TRIALS) -> list[Result]:
    """One training a size."""
    return [one(count, trials) for count in counts]


def main() -> None:
    parser = argparse.ArgumentParser(description="How long a training takes.")
    parser.add_argument("--payments", nargs="+", type=int, default=list(PAYMENTS))
    parser.add_argument("--trials", type=int, default=TRIALS)
    chosen = parser.parse_args()
    for result in run(chosen.payments, chosen.trials):
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
