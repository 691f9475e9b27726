"""What was learned from is what is served: in a run the exported model gives the scores of the trained one."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import orjson
import pytest

pytest.importorskip("lightgbm")

from benchmarks.detection.data import collect
from benchmarks.detection.features import PIPELINE, history_of
from benchmarks.detection.folds import days_of, final_folds
from benchmarks.detection.recipe import fit
from models.training.folds import within
from tests.detection.payments import payments, written

ROOT = Path(__file__).parents[2]
SHOWN = ("tx_amount", "ratio", "ratio_max_14d", "unexplained_30d", "streak_days")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


def run(*arguments: str | Path) -> bytes:
    """A command of this checkout; its stdout."""
    done = subprocess.run(
        [sys.executable, *map(str, arguments)], cwd=ROOT, capture_output=True, check=False, timeout=150
    )
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    return done.stdout


def test_a_run_has_the_features_and_scores_that_were_learned(tmp_path: Path) -> None:
    data, log = written(payments(24), tmp_path / "data"), f"file:{tmp_path / 'log'}"
    pipeline = tmp_path / "pipeline.yaml"
    shutil.copy(PIPELINE, pipeline)
    found = ("--data", data, "--seeds", "1", "--threads", "1", "--json", tmp_path / "out.json")
    run("-m", "benchmarks.detection", *found, "--model", tmp_path / "model.onnx")
    total = collect(data, tmp_path / "transactions.parquet")
    history = history_of(tmp_path / "transactions.parquet", total)
    fold = final_folds(*days_of(history.times))[-1]
    wanted = 1 / (1 + np.exp(-fit(history.take(within(history, fold.train)), 1, 1).raw(history.matrix)))
    cli = ("-m", "streamproc.cli.main")
    run(*cli, "feed", "transactions", tmp_path / "transactions.parquet", "--pipeline", pipeline, "--log", log)
    state = ("--state", tmp_path / "state", "--until-end", "--log-level", "warning")
    run(*cli, "run", pipeline, "--log", log, *state)
    tail = ("--pipeline", pipeline, "--log", log, "--from-start", "--until-end")
    decided = [orjson.loads(line) for line in run(*cli, "tail", "decisions", *tail).splitlines()]
    amounts = history.matrix[:, history.names.index("tx_amount")].tolist()
    place_of = {key: place for place, key in enumerate(zip(history.times.tolist(), amounts, strict=True))}
    assert len(place_of) == len(decided) == total > 10_000
    places = [history.names.index(name) for name in SHOWN]
    for row in decided:
        place = place_of[row["event_time"], float(np.float32(row["tx_amount"]))]
        online = np.array([np.nan if row[name] is None else row[name] for name in SHOWN], np.float32)
        np.testing.assert_array_equal(online, history.matrix[place, places])
        assert row["score"] == pytest.approx(100 * wanted[place], abs=1e-3)
