"""The folder that is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest

from benchmarks.detection.data import COLUMNS, DataError, collect
from tests.detection.payments import payments, written


def collected(folder: Path, tmp: Path) -> Any:
    target = tmp / "all.parquet"
    assert collect(folder, target) == pq.read_metadata(target).num_rows
    return pq.read_table(target)


def test_files_are_joined_sorted_and_numbered(tmp_path: Path) -> None:
    columns = payments(3)
    folder, size = tmp_path / "data", len(columns["TX_FRAUD"])
    whole = collected(written(columns, folder), tmp_path)
    shuffled = np.random.default_rng(1).permutation(size)
    for name, rows in (("b", shuffled[:200]), ("a", shuffled[200:])):
        written({key: values[rows] for key, values in columns.items()}, tmp_path / "two", f"{name}.parquet")
    assert collected(tmp_path / "two", tmp_path).equals(whole)
    assert whole["TRANSACTION_ID"].to_pylist() == list(range(size))
    assert whole["TX_AMOUNT"].to_pylist() == columns["TX_AMOUNT"].tolist()
    assert whole["TX_FRAUD"].to_pylist() == columns["TX_FRAUD"].tolist()
    assert "TX_FRAUD_SCENARIO" not in whole.column_names


def test_other_kinds_of_files_and_of_columns_say_the_same(tmp_path: Path) -> None:
    columns = payments(2)
    whole = collected(written(columns, tmp_path / "data"), tmp_path)
    (tmp_path / "csv").mkdir()
    pa_csv.write_csv(pa.table(columns), tmp_path / "csv" / "p.csv")
    assert collected(tmp_path / "csv", tmp_path).equals(whole)
    texts = {**columns, "TX_DATETIME": columns["TX_DATETIME"].astype(str), "TX_FRAUD": columns["TX_FRAUD"] == 1}
    assert collected(written(texts, tmp_path / "texts"), tmp_path).equals(whole)
    rows = [dict(zip(texts, row, strict=True)) for row in zip(*(v.tolist() for v in texts.values()), strict=True)]
    (tmp_path / "json").mkdir()
    import orjson

    (tmp_path / "json" / "p.ndjson").write_bytes(b"\n".join(map(orjson.dumps, rows)))
    assert collected(tmp_path / "json", tmp_path).equals(whole)


def test_keys_may_be_text(tmp_path: Path) -> None:
    columns = payments(2)
    columns["CUSTOMER_ID"] = np.char.add("c", columns["CUSTOMER_ID"].astype(str))
    found = collected(written(columns, tmp_path / "data"), tmp_path)["CUSTOMER_ID"].to_numpy()
    assert len(set(zip(found.tolist(), columns["CUSTOMER_ID"].tolist(), strict=True))) == len(set(found.tolist()))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"TX_FRAUD": None}, "no column TX_FRAUD"),
        ({"TX_FRAUD": np.full(5, 2)}, "neither 0, 1"),
        ({"TX_AMOUNT": np.array([1, 2, np.nan, 4, 5])}, "NaN"),
        ({"TX_AMOUNT": np.array(["1", "2", "x", "4", "5"])}, "not all values are numbers"),
        ({"TX_DATETIME": np.array(["2024-01-01", "?", "", "", ""])}, "not all values are times"),
        ({"TX_DATETIME": np.arange(5)}, "not all values are times"),
    ],
)
def test_what_cannot_be_used_is_said(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    columns = {name: values[:5] for name, values in payments(1).items()}
    columns = {name: values for name, values in {**columns, **change}.items() if values is not None}
    with pytest.raises(DataError, match=said):
        collect(written(columns, tmp_path / "data"), tmp_path / "out.parquet")


def test_a_missing_value_is_said(tmp_path: Path) -> None:
    columns = {name: pa.array(payments(1)[name][:3]) for name in COLUMNS}
    columns["CUSTOMER_ID"] = pa.array([1, None, 2])
    with pytest.raises(DataError, match="1 rows have no CUSTOMER_ID"):
        collect(written(columns, tmp_path / "data"), tmp_path / "out.parquet")


def test_a_wrong_folder_is_said(tmp_path: Path) -> None:
    for folder, said in ((tmp_path / "no", "is no folder"), (tmp_path, "give the folder")):
        with pytest.raises(DataError, match=said):
            collect(folder, tmp_path / "out.parquet")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match="cannot be read"):
        collect(tmp_path, tmp_path / "out.parquet")
    (tmp_path / "broken.parquet").unlink()
    written({name: np.array([], values.dtype) for name, values in payments(1).items()}, tmp_path)
    with pytest.raises(DataError, match="no rows"):
        collect(tmp_path, tmp_path / "out.parquet")
