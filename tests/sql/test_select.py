"""SELECT, WHERE, CASE and the types of columns, against DuckDB."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.sql.support import agree, ours, payments, theirs, write

BOTH = {
    "all": "SELECT * FROM payments",
    "names and aliases": "SELECT p.card_id, p.payment_id AS id FROM payments AS p",
    "case": """
        SELECT payment_id, amount, CASE WHEN amount > 10000 THEN 'large'
            WHEN merchant_country <> cardholder_country THEN 'foreign' ELSE 'plain' END AS flag
        FROM payments WHERE amount > 10000 OR merchant_country <> cardholder_country""",
    "case without else": "SELECT payment_id, CASE card_id WHEN 'c1' THEN 1 WHEN 'c2' THEN 2 END AS n FROM payments",
    "nulls": "SELECT payment_id FROM payments WHERE card_id IS NULL OR NOT online",
    "coalesce": "SELECT coalesce(card_id, 'none') AS c, nullif(items, 3) AS i FROM payments",
    "like": "SELECT payment_id FROM payments WHERE payment_id LIKE 'p00_1%' OR card_id NOT LIKE '%1'",
    "between and in": "SELECT items FROM payments WHERE items BETWEEN 2 AND 9 AND merchant_country IN ('DE', 'US')",
    "arithmetic": "SELECT amount * 2 + items AS a, items - 1 AS b, -items AS c, items % 7 AS d FROM payments",
    "extract": "SELECT EXTRACT(HOUR FROM event_time) AS h, EXTRACT(MINUTE FROM event_time) AS m FROM payments",
    "interval": """SELECT payment_id FROM payments
        WHERE event_time < TIMESTAMP '2026-05-01 00:10:00' + INTERVAL '5' MINUTE""",
    "syntax of functions": """SELECT FLOOR(amount) AS f, SUBSTRING(payment_id FROM 2 FOR 3) AS s,
        SUBSTRING(payment_id, 3) AS u, POSITION('0' IN payment_id) AS p, CEIL(amount / 3) AS c FROM payments""",
    "cast": "SELECT CAST(items AS VARCHAR) AS t, CAST(items AS DOUBLE) AS f FROM payments",
    "a query in FROM": """SELECT q.twice + 1 AS x
        FROM (SELECT items * 2 AS twice, card_id FROM payments) AS q WHERE q.card_id = 'c1'""",
    "WITH": """WITH large AS (SELECT * FROM payments WHERE amount > 10000), named AS (SELECT card_id AS c FROM large)
        SELECT c FROM named WHERE c <> 'c1'""",
    "no rows": "SELECT payment_id FROM payments WHERE items > 1000",
}


@pytest.mark.parametrize("sql", BOTH.values(), ids=BOTH)
@pytest.mark.parametrize("suffix", ["ndjson", "csv", "parquet"])
def test_duckdb_says_the_same(sql: str, suffix: str, tmp_path: Path) -> None:
    files = {"payments": write(tmp_path, "payments", payments(), suffix)}
    mine = ours(sql, files)
    agree(mine, theirs(sql, files))
    assert mine or sql == BOTH["no rows"]


def test_rows_come_as_they_stand_in_the_file(tmp_path: Path) -> None:
    rows = payments()
    found = ours("SELECT payment_id FROM payments", {"payments": write(tmp_path, "payments", rows)})
    assert [row["payment_id"] for row in found] == [row["payment_id"] for row in rows]


def test_several_statements_comments_and_semicolons(tmp_path: Path) -> None:
    sql = """
        -- first; of two
        SELECT 1 AS a FROM t; /* ; between */ ;
        SELECT 'x;y' AS b, `odd name` AS c FROM t;;
    """
    path = tmp_path / "t.csv"
    path.write_text("odd name\n7\n")
    assert ours(sql, {"t": path}) == [{"a": 1}, {"b": "x;y", "c": 7}]


TYPED = {
    "int": (["1", "-20", ""], [1, -20, None]),
    "float": (["1", "2.50", "1e3"], [1.0, 2.5, 1000.0]),
    "bool": (["true", "FALSE", ""], [True, False, None]),
    "text": (["1", "x", ""], ["1", "x", None]),
    "leading zeros are no number": (["007", "8", "9"], ["007", "8", "9"]),
    "too large for int64": (["9223372036854775808", "1", "2.5"], ["9223372036854775808", "1", "2.5"]),
    "as large as int64": (["9223372036854775807", "-9223372036854775808", "2"], [2**63 - 1, -(2**63), 2]),
    "not finite": (["1e999", "1", "2"], ["1e999", "1", "2"]),
    "time": (
        ["2026-05-03T10:00:00+02:00", "2026-05-03 10:00:00.1234", "2026-05-03"],
        ["2026-05-03T08:00:00.000Z", "2026-05-03T10:00:00.123Z", "2026-05-03T00:00:00.000Z"],
    ),
    "nothing": (["", "", ""], [None, None, None]),
}


@pytest.mark.parametrize(("cells", "values"), TYPED.values(), ids=TYPED)
def test_a_csv_columns_type_is_what_all_cells_say(cells: list[str], values: list[object], tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("n,x\n" + "".join(f"{n},{cell}\n" for n, cell in enumerate(cells)))
    found = [row["x"] for row in ours("SELECT x FROM t", {"t": path})]
    assert found == values
    assert list(map(type, found)) == list(map(type, values))


def test_leading_nulls_do_not_hide_a_type(tmp_path: Path) -> None:
    path = tmp_path / "t.ndjson"
    rows = [{"a": None}] * 5000 + [{"a": 1, "late": 2.5}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert ours("SELECT a + late AS s FROM t WHERE a > 0", {"t": path}) == [{"s": 3.5}]


EVENT_TIMES = {
    "event_time": "at,event_time\n2026-05-01T00:00:01Z,2026-05-01T00:00:02Z\n",
    "the only one": "x,at\n1,2026-05-01T00:00:02Z\n",
    "beside a day": "born,at\n1980-02-03,2026-05-01T00:00:02Z\n",
}


@pytest.mark.parametrize("text", EVENT_TIMES.values(), ids=EVENT_TIMES)
def test_which_column_is_the_event_time(text: str, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(text)
    found = ours("SELECT seconds_since(TIMESTAMP '2026-05-01 00:00:00') AS s FROM t", {"t": path})
    assert found == [{"s": 2.0}]


def test_create_table_gives_types(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("id,amount,at,ms\n007,12.5,2026-05-03T10:00:00Z,1000\n008,,2026-05-03T10:00:01Z,\n")
    sql = """
        CREATE TABLE t (
            id STRING NOT NULL, amount DECIMAL(10, 2), `at` TIMESTAMP(3), ms TIMESTAMP_LTZ(3),
            WATERMARK FOR `at` AS `at` - INTERVAL '5' SECOND, PRIMARY KEY (id) NOT ENFORCED
        ) WITH ('connector' = 'filesystem', 'format' = 'csv');
        SELECT id, amount * 3 AS a, ms FROM t
    """
    statement_rows = ours(sql, {"t": path})
    assert statement_rows == [
        {"id": "007", "a": 37.5, "ms": "1970-01-01T00:00:01.000Z"},
        {"id": "008", "a": None, "ms": None},
    ]
