"""benchmarks/detection from the folder to the figures, on small data; and that no feature sees a label too early."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("lightgbm")

from benchmarks.detection.__main__ import mean_of, run
from benchmarks.detection.data import DataError, collect
from benchmarks.detection.features import history_of
from benchmarks.detection.folds import final_folds, validation_folds
from benchmarks.detection.measure import METRICS, value_at_cards
from models.training.history import DAY_MS, History
from tests.detection.payments import payments, written

WEEK = 7 * DAY_MS
pytestmark = pytest.mark.timeout(120)


def history(columns: dict[str, Any], tmp: Path) -> History:
    """In the order of time."""
    total = collect(written(columns, tmp / "data"), tmp / "all.parquet")
    found = history_of(tmp / "all.parquet", total)
    return found.take(np.lexsort((found.matrix[:, 0], found.cards, found.times)))


def test_from_a_folder_to_the_figures(tmp_path: Path) -> None:
    """Without the kinds of fraud, which must not be looked at, the figures are the same."""
    columns = payments(62)
    whole = run(written(columns, tmp_path / "whole"), seeds=(1, 2, 3), threads=1)
    del columns["TX_FRAUD_SCENARIO"]
    out = tmp_path / "out.json"
    arguments = ["--data", str(written(columns, tmp_path / "less")), "--json", str(out), "--seeds", "1", "2", "3"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.detection", *arguments, "--threads", "1"],
        cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False, timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text())
    assert found["mean"] == whole["mean"]
    assert found["folds"] == whole["folds"]
    first_days = ["2024-04-04", "2024-04-11", "2024-04-18", "2024-04-25"]
    assert [fold["test"][0] for fold in found["folds"]] == first_days
    assert found["folds"][-1]["test"][1] == "2024-05-01"
    assert set(found["mean"]) == set(METRICS)
    assert found["mean"] == mean_of(found["folds"])
    assert all(set(fold["seeds"]) == {"1", "2", "3"} for fold in found["folds"])
    assert found["mean"]["auc"] > 0.75
    assert found["mean"]["ap"] > 0.4


def test_a_fold_without_frauds_has_no_metrics(tmp_path: Path) -> None:
    columns = payments(42)
    day = (columns["TX_DATETIME"] - columns["TX_DATETIME"][0]).astype("timedelta64[D]").astype(int)
    columns["TX_FRAUD"][day >= 36] = 0
    columns["TX_FRAUD"][(day >= 7) & (day < 14)] = 0  # the second fold learns from these
    kept = day != 16  # a day without payments
    found = run(written({name: values[kept] for name, values in columns.items()}, tmp_path), seeds=(1,), threads=1)
    aucs = [fold["auc"] for fold in found["folds"]]
    assert [value is None for value in aucs] == [False, True, False, False]
    assert "no frauds" in found["folds"][1]["reason"]
    assert found["mean"]["auc"] == pytest.approx(np.mean([value for value in aucs if value is not None]))


def test_no_feature_sees_a_label_before_its_time(tmp_path: Path) -> None:
    columns = payments(50)
    now = columns["TX_DATETIME"][-1].astype("datetime64[ms]").astype(np.int64)
    before = history(columns, tmp_path / "before")
    late = columns["TX_DATETIME"].astype("datetime64[ms]").astype(np.int64) > now - WEEK
    changed = {**columns, "TX_FRAUD": np.where(late, 1 - columns["TX_FRAUD"], columns["TX_FRAUD"])}
    after = history(changed, tmp_path / "after")
    assert (before.labels != after.labels).sum() == late.sum() > 0
    np.testing.assert_array_equal(before.matrix, after.matrix)
    older = columns["TX_DATETIME"].astype("datetime64[ms]").astype(np.int64) > now - WEEK - DAY_MS
    changed = {**columns, "TX_FRAUD": np.where(older, 1 - columns["TX_FRAUD"], columns["TX_FRAUD"])}
    differs = (before.matrix != history(changed, tmp_path / "older").matrix) & ~np.isnan(before.matrix)
    rows = np.flatnonzero(differs.any(axis=1))
    assert len(rows) > 0
    assert before.times[rows].min() > now - DAY_MS


def test_the_books_folds_where_there_are_its_days() -> None:
    def day(text: str) -> int:
        return int(np.datetime64(text).astype("datetime64[D]").astype(int))

    def dates(at: int) -> str:
        return str(np.datetime64(at, "ms").astype("datetime64[D]"))

    found = final_folds(day("2018-04-01"), day("2018-09-30"))
    assert [dates(fold.train.start) for fold in found] == ["2018-07-25", "2018-08-01", "2018-08-08", "2018-08-15"]
    assert [dates(fold.test.stop) for fold in found] == ["2018-08-15", "2018-08-22", "2018-08-29", "2018-09-05"]
    assert all(fold.train.stop + WEEK == fold.test.start for fold in found)
    assert found == final_folds(day("2018-07-25"), day("2018-09-04"))
    validation = validation_folds(day("2018-04-01"), day("2018-09-30"))
    assert [dates(fold.train.start) for fold in validation][::7] == ["2018-05-16", "2018-07-04"]
    assert validation[-1].test.stop == found[0].train.start
    other = final_folds(day("2018-04-01"), day("2018-09-03"))
    assert [dates(fold.test.stop) for fold in other] == ["2018-08-14", "2018-08-21", "2018-08-28", "2018-09-04"]
    assert len(final_folds(0, 20)) == 1
    with pytest.raises(DataError, match="cover 20 days"):
        final_folds(0, 19)
    with pytest.raises(DataError, match="begin too late"):
        validation_folds(0, 60)


def test_the_value_on_the_cards_of_highest_score_against_a_slow_count() -> None:
    random = np.random.default_rng(3)
    size, k = 400, 5
    rows = History(
        ("a",), np.zeros((size, 1), np.float32), (random.random(size) < 0.1).astype(np.int8),
        random.integers(0, 4 * DAY_MS, size), random.integers(0, 30, size),
    )  # fmt: skip
    scores, amounts = random.integers(0, 50, size) / 50, random.random(size)
    listed = list(zip(rows.times.tolist(), rows.cards.tolist(), rows.labels.tolist(), scores, amounts, strict=True))
    found = 0.0
    for day in range(4):
        of_day = [row for row in listed if row[0] // DAY_MS == day]
        cards = sorted({row[1] for row in of_day}, key=lambda c: (-max(r[3] for r in of_day if r[1] == c), c))[:k]
        found += sum(row[4] for row in of_day if row[1] in cards and row[2])
    wanted = found / sum(row[4] for row in listed if row[2])
    assert value_at_cards(rows, scores, amounts, k) == pytest.approx(wanted)


def test_a_wrong_folder_ends_with_what_to_do(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.detection", "--data", str(tmp_path)],
        cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "--data DIR" in done.stderr
    assert "Traceback" not in done.stderr
