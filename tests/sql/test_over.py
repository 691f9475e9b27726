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


FIRST = "SELECT payment_id, amount FROM (SELECT *, ROW_NUMBER() OVER ({}) AS n FROM payments) AS v WHERE n <= {}"
ORDERS = {
    "keep the first": ("PARTITION BY card_id ORDER BY event_time", 1),
    "keep the last": ("PARTITION BY card_id ORDER BY event_time DESC", 1),
    "the greatest": ("PARTITION BY card_id ORDER BY amount DESC NULLS LAST, payment_id", 3),
    "the least, NULL first": ("PARTITION BY merchant_country, online ORDER BY amount NULLS FIRST, payment_id DESC", 2),
    "of all": ("ORDER BY items % 7 DESC, merchant_country || payment_id", 5),
}


@pytest.mark.parametrize(("window", "count"), ORDERS.values(), ids=ORDERS)
def test_the_first_rows_of_a_key_in_any_order(window: str, count: int, tmp_path: Path) -> None:
    files = {"payments": write(tmp_path, "payments", payments())}
    sql = FIRST.format(window, count)
    agree(ours(sql, files), theirs(sql, files))


def test_the_first_rows_of_a_window_of_time(tmp_path: Path) -> None:
    """Flink's window Top-N, of rows and of what cards spent."""
    files = {"payments": write(tmp_path, "payments", payments())}
    window = "TABLE(TUMBLE(TABLE payments, DESCRIPTOR(event_time), INTERVAL '10' MINUTE))"
    bucket = "time_bucket(INTERVAL '10 minutes', event_time)"
    top = "SELECT {} FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY {} ORDER BY {} DESC NULLS LAST, {}) AS n FROM {})"
    rows = top.format("payment_id, window_start", "window_start, window_end", "amount", "payment_id", window)
    reference = f"(SELECT *, {bucket} AS window_start FROM payments)"
    reference = top.format("payment_id, window_start", "window_start", "amount", "payment_id", reference)
    agree(ours(f"{rows} WHERE n <= 2", files), theirs(f"{reference} WHERE n <= 2", files))
    spent = "(SELECT card_id, SUM(amount) AS spent, {} AS w FROM {} GROUP BY card_id, {})"
    mine = spent.format("window_start", window, "window_start, window_end")
    other = spent.format(bucket, "payments", bucket)
    sql = [top.format("card_id, spent, w", "w", "spent", "card_id", one) + " WHERE n = 1" for one in (mine, other)]
    agree(ours(sql[0], files), theirs(sql[1], files))


def test_places_in_several_orders_stand_side_by_side(tmp_path: Path) -> None:
    files = {"payments": write(tmp_path, "payments", payments())}
    sql = """SELECT payment_id, ROW_NUMBER() OVER (ORDER BY amount NULLS FIRST, payment_id) AS a,
        ROW_NUMBER() OVER (PARTITION BY card_id ORDER BY event_time) AS b,
        COUNT(*) OVER (PARTITION BY card_id ORDER BY event_time) AS c FROM payments"""
    agree(ours(sql, files), theirs(sql, files))
