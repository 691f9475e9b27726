"""Values of files as tables have them: what is NULL, what a declared type takes, what a file cannot hold."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from streamproc.cli.sql_tables import load_tables
from streamproc.sql import CreateTable, parse_file
from tests.sql.support import Row, agree, ours, refusal, theirs, write


def parquet(path: Path) -> Path:
    """The CSV as a Parquet file."""
    made = path.with_suffix(".parquet")
    duckdb.sql(f"COPY (FROM read_csv('{path}', types = {{'paid': 'TIMESTAMP'}})) TO '{made}' (FORMAT parquet)")
    return made


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
    assert "q.sql:1:25: c is no int64 in " in refusal("CREATE TABLE t (id INT, c INT); SELECT c FROM t", files)


MIXED = {
    "lists": ['["a"]', "[]", None, '["b",["c",1]]'],
    "objects": ['{"k":{"l":[1.5]}}', "{}", None],
    "a list and a text": ['["a"]', '"x"', None],
    "an object and a number": ['{"k":null}', "7"],
    "numbers and texts": ["1", '"x"', "-2.5", '""', None],
    "numbers and bools": ["1", "true", None, "false"],
    "texts and bools": ['"true"', "true"],
    "a number beyond int64 and a text": ["74027046123456789012345", '"x"'],
}


@pytest.mark.parametrize("values", MIXED.values(), ids=MIXED)
def test_mixed_and_nested_values_are_text(values: list[str | None], tmp_path: Path) -> None:
    """Also where the statement does not name them."""
    path = tmp_path / "t.ndjson"
    path.write_text("".join(f'{{"n":{n},"a":{one}}}\n' if one else f'{{"n":{n}}}\n' for n, one in enumerate(values)))
    assert ours("SELECT n FROM t", {"t": path}) == [{"n": n} for n in range(len(values))]
    with duckdb.connect() as connection:
        said = connection.execute(f"SELECT a->>'$' FROM read_json('{path}', columns = {{a: 'JSON'}})").fetchall()
    assert ours("SELECT a FROM t", {"t": path}) == [{"a": one} for (one,) in said]


DAYS = """id,paid
1,2026-05-01T10:00:00Z
2,2026-05-01T23:59:59.999Z
3,1969-12-31T23:00:00Z
4,
"""


@pytest.mark.parametrize(
    ("declared", "query"),
    [
        ("", "SELECT CAST(paid AS DATE) AS d, COUNT(*) AS n FROM t GROUP BY CAST(paid AS DATE)"),
        ("", "SELECT id FROM t WHERE CAST(paid AS DATE) = DATE '2026-05-01'"),
        ("CREATE TABLE t (id INT, paid DATE);", "SELECT paid AS d FROM t"),
        ("CREATE TABLE t (paid DATE, id INT);", "SELECT paid AS d, COUNT(id) AS n FROM t GROUP BY paid"),
    ],
)
@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_date_is_a_day(declared: str, query: str, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(DAYS)
    files = {"t": path if suffix == "csv" else parquet(path)}
    found = ours(declared + query, files)
    if declared:
        query = query.replace("FROM t", "FROM (SELECT id, CAST(paid AS DATE) AS paid FROM t)")
    agree(found, theirs(query, files))


def test_sums_of_decimals_are_divided_exactly(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a,n\n0.10,400\n0.20,400\n0.30,400\n")
    declared = "CREATE TABLE t (a DECIMAL(10, 2), n BIGINT);"
    found = ours(f"{declared} SELECT SUM(a) / COUNT(*) AS x, SUM(a) * 100 / SUM(n) AS y FROM t", {"t": path})
    assert found == [{"x": 0.2, "y": 0.05}]


def test_names_of_columns_may_need_escapes(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text('"q""q","b\\c","n\nl",plain\n1,2,3,4\n')
    for query in ("SELECT * FROM t", 'SELECT "q""q" + 1 AS "x""\\y", plain AS "\t" FROM t'):
        agree(ours(query, {"t": path}), theirs(query, {"t": path}))


LARGE = {
    "a number of 64 bits without sign": (pa.array([1, 2**63], pa.uint64()), ["1", "9223372036854775808"]),
    "a decimal of 128 bits": (
        pa.array([Decimal("0.10"), Decimal("99999999999999999999.50")], pa.decimal128(30, 2)),
        ["0.10", "99999999999999999999.50"],
    ),
    "a decimal beyond 2^53 minor units": (
        pa.array([Decimal("-90071992547409.92"), None], pa.decimal128(18, 2)),
        ["-90071992547409.92", None],
    ),
    "the largest that fits": (pa.array([2**63 - 1, None], pa.uint64()), [2**63 - 1, None]),
}


@pytest.mark.parametrize(("array", "values"), LARGE.values(), ids=LARGE)
def test_parquets_numbers_that_do_not_fit_are_text(array: Any, values: list[object], tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"id": [1, 2], "x": array}), path)
    assert ours("SELECT id FROM t", {"t": path}) == [{"id": 1}, {"id": 2}]
    assert [row["x"] for row in ours("SELECT x FROM t", {"t": path})] == values
    if isinstance(values[0], str):
        said = refusal("CREATE TABLE t (id INT, x DECIMAL(18, 2)); SELECT id FROM t WHERE x > 0", {"t": path})
        assert "x is no decimal(2) in row" in said
        assert "t.parquet (it is too large)" in said


@pytest.mark.parametrize("suffix", ["csv", "ndjson"])
def test_whole_numbers_beyond_int64_are_text(suffix: str, tmp_path: Path) -> None:
    """Such numbers are ids: the 23 digits of a card network's reference would merge as floats."""
    ids = ["74027046123456789012345", "74027046123456789012346", "1"]
    path = tmp_path / f"t.{suffix}"
    head, row = ("arn\n", "{}\n") if suffix == "csv" else ("", '{{"arn":{}}}\n')
    path.write_text(head + "".join(row.format(one) for one in ids))
    found = ours("SELECT arn, COUNT(*) AS n FROM t GROUP BY arn", {"t": path})
    assert found == [{"arn": one, "n": 1} for one in ids]
    assert ours("CREATE TABLE t (arn DOUBLE); SELECT MIN(arn) AS x FROM t", {"t": path}) == [{"x": 1.0}]
    other = tmp_path / f"u.{suffix}"
    other.write_text(head + row.format(7))
    (declared,) = parse_file("CREATE TABLE t (arn STRING)", "q.sql")
    assert isinstance(declared, CreateTable)
    tables = load_tables({"t": [path, other]}, {"t": declared})
    assert tables["t"].columns["arn"].values.tolist() == [*ids, "7"]


@pytest.mark.parametrize("name", ["t.csv", "t.ndjson"])
def test_an_empty_file_has_no_columns_unless_they_are_declared(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text("")
    said = "the input of t is empty, so its columns are not known (CREATE TABLE t (...) declares them)"
    assert refusal("SELECT * FROM t", {"t": path}) == f"q.sql:1:15: {said}"
    assert ours("CREATE TABLE t (a INT); SELECT a FROM t", {"t": path}) == []


@pytest.mark.parametrize("name", ["t.csv", "t.ndjson"])
def test_a_byte_order_mark_is_no_part_of_the_first_line(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text("a\n1\n2\n" if name.endswith("csv") else '{"a": 1}\n{"a": 2}\n', "utf-8-sig")
    assert ours("SELECT a FROM t", {"t": path}) == [{"a": 1}, {"a": 2}]


WRONG_LINES = {
    "no number": (b'{"a": NaN}', "the line is no JSON object"),
    "half a letter": (b'{"a": "\\ud800"}', "the line is no JSON object"),
    "two bytes a letter": ('{"a": 1}'.encode("utf-16-le"), "the line is no JSON object"),
    "too large": (b'{"a": 1e999}', "a number is too large"),
}


@pytest.mark.parametrize("wrong", WRONG_LINES)
def test_a_line_that_cannot_be_read_is_said_to_be_what_it_is(wrong: str, tmp_path: Path) -> None:
    line, said = WRONG_LINES[wrong]
    path = tmp_path / "t.ndjson"
    path.write_bytes(b'{"a": 1}\n' + line + b"\n")
    assert refusal("SELECT * FROM t", {"t": path}) == f"{path}:2: {said}"


def test_a_parquet_column_of_no_type_has_the_declared_one(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"id": ["a", "b"], "amount": pa.nulls(2)}), path)
    query = "SELECT id, amount + 1 AS more FROM t"
    want = [{"id": "a", "more": None}, {"id": "b", "more": None}]
    assert ours("CREATE TABLE t (id STRING, amount DOUBLE); " + query, {"t": path}) == want
    assert theirs(query, {"t": path}) == want
    assert ours("SELECT amount FROM t", {"t": path}) == [{"amount": None}] * 2


UNKNOWN = {
    "SELECT SUM(amount) AS s FROM t": "amount",
    "SELECT amount + 1 AS a FROM t": "amount",
    "SELECT COUNT(*) AS n FROM t GROUP BY TUMBLE(event_time, INTERVAL '1' DAY)": "event_time",
}


@pytest.mark.parametrize("sql", UNKNOWN)
@pytest.mark.parametrize("rows", ["", "1,,\n"])
def test_a_column_without_a_value_has_no_type(sql: str, rows: str, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("id,amount,event_time\n" + rows)
    said = refusal(sql, {"t": path})
    assert f"({UNKNOWN[sql]} has no value in the input of t, so that it counts as a string: CREATE TABLE t " in said
    declared = "CREATE TABLE t (id INT, amount DECIMAL(10, 2), event_time TIMESTAMP(3));"
    if "TUMBLE" not in sql:
        assert len(ours(f"{declared} {sql}", {"t": path})) <= 1
    assert "has no value" not in refusal("SELECT SUM(x) AS s FROM t", {"t": path})
