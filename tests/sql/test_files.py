"""Values of files as tables have them: what is NULL, what a declared type takes, what a file cannot hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.sql.support import Row, agree, ours, refusal, theirs, write

EMPTY: list[Row] = [{"id": 1, "c": ""}, {"id": 2, "c": "x"}, {"id": 3, "c": None}]


@pytest.mark.parametrize("suffix", ["ndjson", "parquet", "csv"])
def test_an_empty_text_is_null_in_a_csv_only(suffix: str, tmp_path: Path) -> None:
    """COPY writes both NULL and '' as an empty cell; every other kind of file tells them apart."""
    files = {"t": write(tmp_path, "t", EMPTY, suffix)}
    if suffix == "csv":
        files["t"].write_text("id,c\n1,\n2,x\n3,\n")
    query = "SELECT id, c IS NULL AS missing FROM t"
    agree(ours(f"CREATE TABLE t (id INT, c STRING); {query}", files), theirs(query, files))


@pytest.mark.parametrize("suffix", ["ndjson", "parquet"])
def test_an_empty_text_is_not_null(suffix: str, tmp_path: Path) -> None:
    files = {"t": write(tmp_path, "t", EMPTY[:2], suffix)}
    found = ours("CREATE TABLE t (id INT, c STRING NOT NULL); SELECT c FROM t", files)
    assert [row["c"] for row in found] == ["", "x"]
    assert "row 1: c is no int64" in refusal("CREATE TABLE t (id INT, c INT); SELECT c FROM t", files)
