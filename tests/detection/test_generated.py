"""Generated payments are what both benchmarks read, and the same numbers make the same ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from benchmarks.detection import data, sparkov
from benchmarks.detection.generated import FILE, payments


def test_both_benchmarks_read_the_same_payments(tmp_path: Path) -> None:
    folder = tmp_path / "payments"
    folder.mkdir()
    made = payments(30, 4_000)
    pq.write_table(made, folder / FILE)
    assert data.collect(folder, tmp_path / "handbook.parquet") == 4_000
    assert sparkov.collect(folder, tmp_path / "sparkov.parquet") == 4_000
    handbook, other = pq.read_table(tmp_path / "handbook.parquet"), pq.read_table(tmp_path / "sparkov.parquet")
    assert pc.sum(handbook["TX_FRAUD"]).as_py() == pc.sum(other["is_fraud"]).as_py() > 20
    assert pc.sum(handbook["TX_AMOUNT"]).as_py() == pytest.approx(pc.sum(other["amt"]).as_py())
    assert len(pc.unique(other["trans_num"])) == 4_000
    assert other["dob"].null_count == other["city_pop"].null_count == 4_000


def test_the_same_numbers_make_the_same_payments() -> None:
    assert payments(30, 4_000, 5).equals(payments(30, 4_000, 5))
    assert not payments(30, 4_000, 5).equals(payments(30, 4_000, 6))


def test_a_label_says_whether_a_payment_was_planted() -> None:
    """Planted ones come once cards have made their history: none in the first weeks."""
    made = payments(100, 14_000)
    at = made["TX_DATETIME"].to_numpy()
    frauds = made["TX_FRAUD"].to_numpy() == 1
    assert 0.005 < frauds.mean() < 0.02
    assert at[frauds].min() > at.min() + np.timedelta64(25, "D")
