"""Functions OVER the rows before, against DuckDB on the same statement."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.sql.support import agree, ours, payments, theirs, write

FUNCTIONS = {
    "sums": "SUM(amount) OVER w AS s, COUNT(*) OVER w AS n, COUNT(amount) OVER w AS k, AVG(items) OVER w AS a, "
    "SUM(items) OVER w AS i",
    "extremes": "MIN(amount) OVER w AS l, MAX(amount) OVER w AS h, MAX(merchant_country) OVER w AS c, "
    "MIN(event_time) OVER w AS t",
    "distinct": "COUNT(DISTINCT merchant_country) OVER w AS d, COUNT(DISTINCT cardholder_country) OVER w AS e",
    "ends": "FIRST_VALUE(payment_id) OVER w AS f, LAST_VALUE(items) OVER w AS z",
}
FRAMES = {
    "range": "RANGE BETWEEN INTERVAL '10' MINUTE PRECEDING AND CURRENT ROW",
    "rows": "ROWS BETWEEN 3 PRECEDING AND CURRENT ROW",
    "all rows": "ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW",
    "all": "RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW",
    "plain": "",
    "short": "RANGE INTERVAL '2' MINUTE PRECEDING",
}


@pytest.mark.parametrize("functions", FUNCTIONS.values(), ids=FUNCTIONS)
@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)
@pytest.mark.parametrize("keys", ["PARTITION BY card_id", "PARTITION BY merchant_country, items > 20", ""])
def test_duckdb_says_the_same(functions: str, frame: str, keys: str, tmp_path: Path) -> None:
    files = {"payments": write(tmp_path, "payments", payments())}
    sql = f"SELECT payment_id, {functions} FROM payments WINDOW w AS ({keys} ORDER BY event_time {frame})"
    agree(ours(sql, files), theirs(sql, files))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_rows_of_one_time_are_in_each_others_range(seed: int, tmp_path: Path) -> None:
    files = {"payments": write(tmp_path, "payments", payments(seed=seed, ties=True))}
    sql = """SELECT payment_id, COUNT(*) OVER (PARTITION BY card_id ORDER BY event_time) AS n,
        SUM(amount) OVER (ORDER BY event_time RANGE BETWEEN INTERVAL '5' MINUTE PRECEDING AND CURRENT ROW) AS s
        FROM payments"""
    agree(ours(sql, files), theirs(sql, files))


def test_places_of_rows(tmp_path: Path) -> None:
    files = {"payments": write(tmp_path, "payments", payments())}
    sql = """SELECT payment_id, ROW_NUMBER() OVER w AS n, LAG(amount) OVER w AS a, LAG(items, 2, -1) OVER w AS b,
            amount - LAG(amount) OVER w AS step
        FROM payments WINDOW w AS (PARTITION BY card_id ORDER BY event_time)"""
    agree(ours(sql, files), theirs(sql, files))


def test_rows_come_in_order_of_time(tmp_path: Path) -> None:
    files = {"payments": write(tmp_path, "payments", payments())}
    sql = "SELECT event_time, COUNT(*) OVER (ORDER BY event_time) AS n FROM payments"
    found = ours(sql, files)
    assert [row["n"] for row in found] == list(range(1, len(found) + 1))
    assert [row["event_time"] for row in found] == sorted(row["event_time"] for row in found)


def test_a_filter_on_a_velocity(tmp_path: Path) -> None:
    files = {"payments": write(tmp_path, "payments", payments())}
    sql = """SELECT payment_id, n FROM (SELECT payment_id, COUNT(*) OVER (PARTITION BY card_id ORDER BY event_time
        RANGE BETWEEN INTERVAL '10' MINUTE PRECEDING AND CURRENT ROW) AS n FROM payments) AS v WHERE n >= 5"""
    mine = ours(sql, files)
    agree(mine, theirs(sql, files))
    assert mine


def test_a_sum_of_floats_has_no_rest_of_what_has_left(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("event_time,x\n2026-05-01T00:00:00Z,1e16\n2026-05-01T01:00:00Z,0.5\n")
    frame = "RANGE BETWEEN INTERVAL '1' MINUTE PRECEDING AND CURRENT ROW"
    sql = f"SELECT SUM(x) OVER (ORDER BY event_time {frame}) AS s FROM t"
    assert [row["s"] for row in ours(sql, {"t": path})] == [1e16, 0.5]
