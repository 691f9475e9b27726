"""CREATE TABLE against files: where it is said that one does not hold what is declared."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from tests.sql.support import ours, refusal

DECLARED = "CREATE TABLE t (\n    id INT,\n    amount DECIMAL(10, 1) NOT NULL\n);\nSELECT amount FROM t"
AT = "q.sql:3:5: "
MISFITS = {
    "a text": ("csv", "id,amount\n1,1.5\n2,secret\n", "amount is no decimal(1) in {}:3"),
    "more decimals": ("csv", "id,amount\n1,1.25\n", "amount is no decimal(1) in {}:2 (it has more decimal places)"),
    "too large": ("csv", "id,amount\n1,123456789012345678\n", "amount is no decimal(1) in {}:2 (it is too large)"),
    "behind a blank line": ("csv", "id,amount\n\n1,1.5\n\n2,secret\n", "amount is no decimal(1) in {}:5"),
    "behind a cell of lines": ("csv", 'note,amount\n"a\n\nb",1.5\n"c\nd",secret\n', "amount is no decimal(1) in {}:5"),
    "nothing": ("csv", "id,amount\n1,\n", "amount is NULL in {}:2, but declared NOT NULL"),
    "a list": ("ndjson", '{"amount":1}\n\n{"amount":["secret"]}\n', "amount is no decimal(1) in {}:3"),
    "a row without it": ("ndjson", '{"amount":1}\n\n{"id":1}\n', "amount is NULL in {}:3, but declared NOT NULL"),
}


@pytest.mark.parametrize("case", MISFITS.values(), ids=MISFITS)
def test_a_value_that_does_not_fit_is_said_with_both_places(case: tuple[str, str, str], tmp_path: Path) -> None:
    suffix, text, said = case
    path = tmp_path / f"t.{suffix}"
    path.write_text(text)
    assert refusal(DECLARED.replace("    id INT,\n", "\n"), {"t": path}) == AT + said.format(path)


def test_a_row_of_parquet_has_no_line(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    duckdb.sql(f"COPY (SELECT 1 AS id, unnest(['1.5', 'secret']) AS amount) TO '{path}' (FORMAT parquet)")
    assert refusal(DECLARED, {"t": path}) == f"{AT}amount is no decimal(1) in row 2 of {path}"


def test_of_several_files_the_one_is_named(tmp_path: Path) -> None:
    paths = [tmp_path / "1.csv", tmp_path / "2.ndjson", tmp_path / "3.csv"]
    for path, text in zip(paths, ["id,amount\n1,1\n2,2\n", '{"amount":1}\n', "amount\n1\n2\n3\nsecret\n"], strict=True):
        path.write_text(text)
    assert refusal(DECLARED, {"t": paths}) == f"{AT}amount is no decimal(1) in {paths[2]}:5"


MISSING = {
    "id,amonut\n1,1\n": "did you mean amonut?",
    "id,Amount\n1,1\n": "did you mean Amount?",
    "id,x,note\n1,1,1\n": "the file has id, x, note",
    "id;amount\n1;1\n": "cells are separated by commas, not by ;",
}


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
@pytest.mark.parametrize("text", MISSING)
def test_a_column_that_is_missing_is_said_with_the_nearest(text: str, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(text)
    if suffix == "parquet":
        made = tmp_path / "t.parquet"
        duckdb.sql(f"COPY (FROM read_csv('{path}', delim = ',', header = true)) TO '{made}' (FORMAT parquet)")
        path = made
    declared = DECLARED.replace("    id INT,\n", "\n") if ";" in text else DECLARED
    assert refusal(declared, {"t": path}) == f"{AT}{path} has no column amount ({MISSING[text]})"


def test_a_declared_column_is_not_the_nearest(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("amount1,x\n1,1\n")
    sql = "CREATE TABLE t (amount1 INT, amount2 INT); SELECT amount1 FROM t"
    assert refusal(sql, {"t": path}) == f"q.sql:1:30: {path} has no column amount2 (the file has amount1, x)"


SPARSE = '{"id":1,"amuont":2.5}\n{"id":2}\n'
OPTIONAL = (
    "CREATE TABLE t (\n    id INT,\n    amount DOUBLE,\n    paid TIMESTAMP(3)\n);\nSELECT id, amount, paid FROM t"
)


def test_what_no_row_of_ndjson_has_is_null(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "t.ndjson"
    path.write_text(SPARSE)
    with duckdb.connect() as connection:
        columns = "{id: 'INT', amount: 'DOUBLE', paid: 'TIMESTAMP'}"
        said = connection.execute(f"SELECT * FROM read_json('{path}', columns = {columns})").fetchall()
    assert [tuple(row.values()) for row in ours(OPTIONAL, {"t": path})] == said == [(1, None, None), (2, None, None)]
    warned = f"warning: q.sql:3:5: no row of {path} has amount, so that it is NULL (did you mean amuont?)\n"
    assert capsys.readouterr().err == warned


@pytest.mark.parametrize("text", ['{"id":1}\n', '{"id":1,"x":1}\n', '{"id":1,"amount":null}\n', "\n", ""])
def test_what_no_row_has_is_no_misspelling(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "t.ndjson"
    path.write_text(text)
    assert ours(OPTIONAL, {"t": path}) == [{"id": 1, "amount": None, "paid": None}] * text.count("id")
    assert capsys.readouterr().err == ""


def test_a_warning_does_not_rule_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "t.ndjson"
    path.write_text('{"id":1,"amou\\u001bnt":2}\n')
    ours(OPTIONAL, {"t": path})
    assert "(did you mean amou\\x1bnt?)\n" in capsys.readouterr().err


def test_what_no_row_has_may_not_be_not_null(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "t.ndjson"
    path.write_text(SPARSE)
    said = f"{AT}no row of {path} has amount, which is declared NOT NULL (did you mean amuont?)"
    assert refusal(DECLARED, {"t": path}) == said
    path.write_text("")
    assert ours(DECLARED, {"t": path}) == []
    assert capsys.readouterr().err == ""


def test_of_a_csv_or_ndjson_one_has_the_column(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = tmp_path / "1.csv"
    rows.write_text("id,other\n1,2\n")
    sparse = tmp_path / "2.ndjson"
    sparse.write_text('{"id":2}\n')
    said = f"{AT}no file of t has a column amount (the files have id, other)"
    assert refusal(OPTIONAL, {"t": [rows, sparse]}) == said
    sparse.write_text('{"id":2,"amount":7}\n')
    wanted = "CREATE TABLE t (id INT, amount DOUBLE); SELECT id, amount FROM t"
    assert ours(wanted, {"t": [rows, sparse]}) == [{"id": 1, "amount": None}, {"id": 2, "amount": 7.0}]
    rows.write_text("id,other\n")
    sparse.write_text('{"id":2}\n{"amounts":2}\n')
    assert ours(wanted, {"t": [sparse, rows]}) == [{"id": 2, "amount": None}, {"id": None, "amount": None}]
    warned = "warning: q.sql:1:25: no row of t has amount, so that it is NULL (did you mean amounts?)\n"
    assert capsys.readouterr().err == warned
