"""GROUP BY windows of time, against DuckDB's answer to the same question in its own words."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.sql.support import agree, ours, payments, theirs, write

# Windows of 5 minutes by arithmetic that DuckDB does itself: start, end.
TUMBLE = "time_bucket(INTERVAL '5 minutes', event_time)"
AGGREGATES = """COUNT(*) AS n, COUNT(amount) AS known, SUM(amount) AS total, AVG(amount) AS mean, MIN(amount) AS low,
    MAX(payment_id) AS last, COUNT(DISTINCT merchant_country) AS countries, SUM(items) AS items, AVG(items) AS each,
    MIN(event_time) AS first, COUNT(DISTINCT cardholder_country) FILTER (WHERE online) AS homes,
    STDDEV(amount) AS spread, STDDEV_POP(items) AS spread_pop, STDDEV_SAMP(items) FILTER (WHERE online) AS spread_on,
    VAR_POP(amount) AS v, VAR_SAMP(amount) AS w, VARIANCE(items) AS x, SUM(DISTINCT items) AS once,
    AVG(DISTINCT items) AS mean_once, VAR_POP(DISTINCT items) AS v_once, MAX(DISTINCT items) AS most"""
HOPS = """(SELECT p.*, s AS ws, s + INTERVAL '5 minutes' AS we FROM payments p, LATERAL (
    SELECT unnest(generate_series(time_bucket(INTERVAL '2 minutes', event_time) - INTERVAL '4 minutes',
        time_bucket(INTERVAL '2 minutes', event_time), INTERVAL '2 minutes')) AS s)
    WHERE s + INTERVAL '5 minutes' > event_time)"""
STEPS = """(SELECT p.*, time_bucket(INTERVAL '6 minutes', event_time) AS ws, e AS we FROM payments p, LATERAL (
    SELECT unnest(generate_series(time_bucket(INTERVAL '2 minutes', event_time) + INTERVAL '2 minutes',
        time_bucket(INTERVAL '6 minutes', event_time) + INTERVAL '6 minutes', INTERVAL '2 minutes')) AS e))"""
SESSIONS = """(SELECT *, MIN(event_time) OVER s AS ws, MAX(event_time) OVER s + INTERVAL '3 minutes' AS we FROM (
    SELECT *, SUM(begins) OVER (PARTITION BY card_id ORDER BY event_time ROWS UNBOUNDED PRECEDING) AS number FROM (
        SELECT *, CASE WHEN event_time - LAG(event_time) OVER (PARTITION BY card_id ORDER BY event_time)
            <= INTERVAL '3 minutes' THEN 0 ELSE 1 END AS begins FROM payments))
    WINDOW s AS (PARTITION BY card_id, number))"""

CASES = {
    "tumble": (
        f"""SELECT card_id, TUMBLE_START(event_time, INTERVAL '5' MINUTE) AS ws,
            TUMBLE_END(event_time, INTERVAL '5' MINUTE) AS we, {AGGREGATES}
        FROM payments GROUP BY TUMBLE(event_time, INTERVAL '5' MINUTE), card_id""",
        f"SELECT card_id, {TUMBLE} AS ws, {TUMBLE} + INTERVAL '5 minutes' AS we, {AGGREGATES} FROM payments "
        f"GROUP BY {TUMBLE}, card_id",
    ),
    "tumble of a table": (
        f"""SELECT window_start AS ws, window_end AS we, card_id, {AGGREGATES}
        FROM TABLE(TUMBLE(TABLE payments, DESCRIPTOR(event_time), INTERVAL '5' MINUTES))
        GROUP BY window_start, window_end, card_id""",
        f"SELECT {TUMBLE} AS ws, {TUMBLE} + INTERVAL '5 minutes' AS we, card_id, {AGGREGATES} FROM payments "
        f"GROUP BY {TUMBLE}, card_id",
    ),
    "without a key": (
        """SELECT TUMBLE_START(event_time, INTERVAL '5' MINUTE) AS ws, COUNT(*) AS n, SUM(amount) + 1 AS s
        FROM payments GROUP BY TUMBLE(event_time, INTERVAL '5' MINUTE)""",
        f"SELECT {TUMBLE} AS ws, COUNT(*) AS n, SUM(amount) + 1 AS s FROM payments GROUP BY {TUMBLE}",
    ),
    "having": (
        """SELECT card_id, COUNT(*) AS n, SUM(amount) AS s FROM payments
        GROUP BY card_id, TUMBLE(event_time, INTERVAL '5' MINUTE) HAVING COUNT(*) >= 3 AND SUM(amount) > 1000""",
        f"SELECT card_id, COUNT(*) AS n, SUM(amount) AS s FROM payments GROUP BY card_id, {TUMBLE} "
        "HAVING COUNT(*) >= 3 AND SUM(amount) > 1000",
    ),
    "an expression as a key": (
        """SELECT items > 10 AS many, COUNT(*) AS n FROM payments WHERE online
        GROUP BY TUMBLE(event_time, INTERVAL '5' MINUTE), items > 10""",
        f"SELECT items > 10 AS many, COUNT(*) AS n FROM payments WHERE online GROUP BY {TUMBLE}, items > 10",
    ),
    "hop": (
        f"""SELECT HOP_START(event_time, INTERVAL '2' MINUTE, INTERVAL '5' MINUTE) AS ws, card_id,
            HOP_END(event_time, INTERVAL '2' MINUTE, INTERVAL '5' MINUTE) AS we, {AGGREGATES}
        FROM payments GROUP BY card_id, HOP(event_time, INTERVAL '2' MINUTE, INTERVAL '5' MINUTE)""",
        f"SELECT ws, card_id, we, {AGGREGATES} FROM {HOPS} GROUP BY ws, we, card_id",
    ),
    "hop of a table": (
        f"""SELECT window_start AS ws, card_id, window_end AS we, {AGGREGATES} FROM TABLE(
            HOP(DATA => TABLE payments, TIMECOL => DESCRIPTOR(event_time), SLIDE => INTERVAL '2' MINUTE,
                SIZE => INTERVAL '5' MINUTE)) GROUP BY card_id, window_start, window_end""",
        f"SELECT ws, card_id, we, {AGGREGATES} FROM {HOPS} GROUP BY ws, we, card_id",
    ),
    "cumulate": (
        f"""SELECT window_start AS ws, card_id, window_end AS we, {AGGREGATES} FROM TABLE(
            CUMULATE(TABLE payments, DESCRIPTOR(event_time), INTERVAL '2' MINUTE, INTERVAL '6' MINUTE))
        GROUP BY card_id, window_start, window_end""",
        f"SELECT ws, card_id, we, {AGGREGATES} FROM {STEPS} GROUP BY ws, we, card_id",
    ),
    "session": (
        f"""SELECT SESSION_START(event_time, INTERVAL '3' MINUTE) AS ws, card_id,
            SESSION_END(event_time, INTERVAL '3' MINUTE) AS we, {AGGREGATES}
        FROM payments GROUP BY card_id, SESSION(event_time, INTERVAL '3' MINUTE)""",
        f"SELECT ws, card_id, we, {AGGREGATES} FROM {SESSIONS} GROUP BY ws, we, card_id",
    ),
    "session of a table": (
        f"""SELECT window_start AS ws, card_id, window_end AS we, {AGGREGATES} FROM TABLE(
            SESSION(TABLE payments PARTITION BY card_id, DESCRIPTOR(event_time), INTERVAL '3' MINUTE))
        GROUP BY card_id, window_start, window_end""",
        f"SELECT ws, card_id, we, {AGGREGATES} FROM {SESSIONS} GROUP BY ws, we, card_id",
    ),
    "windows of windows": (
        """SELECT TUMBLE_START(t, INTERVAL '10' MINUTE) AS ws, MAX(n) AS most FROM (
            SELECT card_id, COUNT(*) AS n, TUMBLE_ROWTIME(event_time, INTERVAL '5' MINUTE) AS t
            FROM payments GROUP BY card_id, TUMBLE(event_time, INTERVAL '5' MINUTE))
        GROUP BY TUMBLE(t, INTERVAL '10' MINUTE)""",
        f"""SELECT time_bucket(INTERVAL '10 minutes', t) AS ws, MAX(n) AS most FROM (
            SELECT {TUMBLE} AS t, COUNT(*) AS n FROM payments GROUP BY card_id, {TUMBLE})
        GROUP BY time_bucket(INTERVAL '10 minutes', t)""",
    ),
    "a window's rows": (
        """SELECT payment_id, window_start AS ws, window_end AS we
        FROM TABLE(TUMBLE(TABLE payments, DESCRIPTOR(event_time), INTERVAL '5' MINUTE))""",
        f"SELECT payment_id, {TUMBLE} AS ws, {TUMBLE} + INTERVAL '5 minutes' AS we FROM payments",
    ),
}


@pytest.mark.parametrize(("sql", "reference"), CASES.values(), ids=CASES)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_duckdb_says_the_same(sql: str, reference: str, seed: int, tmp_path: Path) -> None:
    files = {"payments": write(tmp_path, "payments", payments(seed=seed))}
    mine = ours(sql, files)
    agree(mine, theirs(reference, files))
    assert len(mine) > 5


def test_windows_come_in_order_of_their_ends(tmp_path: Path) -> None:
    files = {"payments": write(tmp_path, "payments", payments())}
    sql = CASES["hop"][0]
    ends = [row["we"] for row in ours(sql, files)]
    assert ends == sorted(ends)
    assert len(set(ends)) > 20


def test_a_session_goes_on_at_exactly_the_gap(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("at\n2026-05-01T00:00:00Z\n2026-05-01T00:05:00Z\n2026-05-01T00:10:00.001Z\n")
    sql = """SELECT COUNT(*) AS n, SESSION_END(at, INTERVAL '5' MINUTE) AS e FROM t
        GROUP BY SESSION(at, INTERVAL '5' MINUTE)"""
    assert ours(sql, {"t": path}) == [
        {"n": 2, "e": "2026-05-01T00:10:00.000Z"},
        {"n": 1, "e": "2026-05-01T00:15:00.001Z"},
    ]


def test_no_rows_no_windows(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("event_time,x\n")
    sql = """CREATE TABLE t (event_time TIMESTAMP(3), x INT);
        SELECT SUM(x) FROM t GROUP BY TUMBLE(event_time, INTERVAL '5' MINUTE)"""
    assert ours(sql, {"t": path}) == []


def test_spans_are_equal_in_whatever_unit_they_are_written(tmp_path: Path) -> None:
    files = {"payments": write(tmp_path, "payments", payments())}
    sql = """SELECT TUMBLE_ROWTIME(event_time, INTERVAL '{}) AS at, COUNT(*) AS n FROM payments
        GROUP BY TUMBLE(event_time, INTERVAL '10' MINUTE)"""
    wanted = ours(sql.format("10' MINUTE"), files)
    assert ours(sql.format("10' MINUTES"), files) == wanted
    assert ours(sql.format("600' SECOND"), files) == wanted


def test_first_and_last_values_skip_nulls(tmp_path: Path) -> None:
    """In the order of the file, as Flink tells them in that of arrival."""
    files = {"payments": write(tmp_path, "payments", payments())}
    sql = """SELECT card_id, FIRST_VALUE(amount) AS f, LAST_VALUE(amount) AS l,
        LAST_VALUE(cardholder_country) FILTER (WHERE items > 5) AS c FROM payments GROUP BY card_id"""
    reference = """SELECT card_id, FIRST(amount) FILTER (WHERE amount IS NOT NULL) AS f,
        LAST(amount) FILTER (WHERE amount IS NOT NULL) AS l,
        LAST(cardholder_country) FILTER (WHERE items > 5 AND cardholder_country IS NOT NULL) AS c
        FROM payments GROUP BY card_id"""
    agree(ours(sql, files), theirs(reference, files, "SET threads = 1"))


def test_aggregates_of_no_rows_and_of_one(tmp_path: Path) -> None:
    files = {"payments": write(tmp_path, "payments", [row for row in payments() if row["amount"]][:1])}
    every = """STDDEV_POP(items) AS a, STDDEV_SAMP(items) AS b, VAR_POP(amount) AS c, LISTAGG(payment_id) AS d,
        SUM(DISTINCT items) AS e, COUNT(DISTINCT amount) AS f"""
    for where in ("TRUE", "items < 0"):
        sql = f"SELECT {every} FROM payments WHERE {where}"
        agree(ours(sql, files), theirs(sql, files))
    empty = ours("SELECT FIRST_VALUE(payment_id) AS x, LAST_VALUE(items) AS y FROM payments WHERE items < 0", files)
    assert empty == [{"x": None, "y": None}]


def test_texts_are_joined_in_their_order(tmp_path: Path) -> None:
    files = {"payments": write(tmp_path, "payments", payments())}
    every = "LISTAGG(payment_id, '-') AS ids, LISTAGG(cardholder_country) FILTER (WHERE online) AS lands"
    sql = f"SELECT card_id, {every} FROM payments GROUP BY card_id, TUMBLE(event_time, INTERVAL '5' MINUTE)"
    agree(ours(sql, files), theirs(f"SELECT card_id, {every} FROM payments GROUP BY card_id, {TUMBLE}", files))


def test_distinct_texts_are_joined_once(tmp_path: Path) -> None:
    files = {"payments": write(tmp_path, "payments", payments())}
    (row,) = ours("SELECT LISTAGG(DISTINCT merchant_country, '; ') AS x FROM payments", files)
    assert sorted(row["x"].split("; ")) == ["DE", "FR", "US"]


def test_close_values_far_from_zero_have_their_variance(tmp_path: Path) -> None:
    rows = [{"event_time": "2026-05-01T10:00:00Z", "x": 1e9 + n % 3} for n in range(999)]
    files = {"t": write(tmp_path, "t", rows)}
    sql = "SELECT VAR_POP(x) AS v FROM t"
    assert round(ours(sql, files)[0]["v"], 9) == round(2 / 3, 9)
