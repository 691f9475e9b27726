"""The recipe on Sparkov's columns, small; and that no feature sees a label before its time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("lightgbm")

from benchmarks.detection.data import DataError
from benchmarks.detection.features import PIPELINE, history_of
from benchmarks.detection.sparkov import METRICS, collect, run
from models.training.history import DAY_MS, History
from streamproc.cli.labelled import Labels
from tests.detection.payments import payments, written

pytestmark = pytest.mark.timeout(120)


def columns(days: int) -> dict[str, Any]:
    """The Handbook's payments under Sparkov's names."""
    given = payments(days)
    return {
        "trans_num": np.char.add("t", given["TRANSACTION_ID"].astype(str)),
        "trans_dt": given["TX_DATETIME"],
        "card_id": given["CUSTOMER_ID"],
        "merchant": np.char.add("m", given["TERMINAL_ID"].astype(str)),
        "category": np.char.add("c", (given["TERMINAL_ID"] % 7).astype(str)),
        "amt": given["TX_AMOUNT"],
        "dob": np.full(len(given["TX_AMOUNT"]), "1980-02-29"),
        "city_pop": given["CUSTOMER_ID"] * 100,
        "is_fraud": given["TX_FRAUD"],
    }


def history(given: dict[str, Any], tmp: Path) -> History:
    total = collect(written(given, tmp / "data"), tmp / "all.parquet")
    found = history_of(tmp / "all.parquet", total, PIPELINE.with_name("sparkov.yaml"), Labels("is_fraud", "card_id"))
    return found.take(np.lexsort((found.matrix[:, 0], found.cards, found.times)))


def test_from_a_folder_to_the_figures(tmp_path: Path) -> None:
    found = run(written(columns(80), tmp_path), seeds=(1, 2), threads=1)
    assert set(found["mean"]) == set(METRICS)
    assert found["mean"]["auc"] > 0.55  # two thirds of these frauds are a terminal's, which is no key here
    assert found["mean"]["auc"] == pytest.approx(np.mean([one["auc"] for one in found["seeds"].values()]))


def test_no_feature_sees_a_label_before_its_time(tmp_path: Path) -> None:
    given = columns(40)
    times = given["trans_dt"].astype("datetime64[ms]").astype(np.int64)
    before = history(given, tmp_path / "before")
    for days, same in ((7, True), (8, False)):
        late = times > times[-1] - days * DAY_MS
        changed = {**given, "is_fraud": np.where(late, 1 - given["is_fraud"], given["is_fraud"])}
        after = history(changed, tmp_path / str(days))
        assert (before.labels != after.labels).sum() == late.sum() > 0
        assert np.array_equal(before.matrix, after.matrix, equal_nan=True) == same


def test_what_cannot_be_used_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="give the folder of Sparkov"):
        run(tmp_path)
    written({"amt": np.ones(3)}, tmp_path)
    with pytest.raises(DataError, match="no column trans_num"):
        run(tmp_path)
    written(columns(40), tmp_path)
    with pytest.raises(DataError, match="cover 40 days"):
        run(tmp_path, seeds=(1,))
