"""MATCH_RECOGNIZE in statements; what a pattern means is tested where patterns are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.sql.support import agree, ours, payments, stamp, theirs, write

TAKEOVER = """
    SELECT * FROM account_events
    MATCH_RECOGNIZE (
        PARTITION BY account_id
        ORDER BY event_time
        MEASURES
            FIRST(A.event_time) AS first_failure,
            COUNT(A.event_time) AS failures,
            LAST(D.amount) AS amount,
            D.event_time AS bought_at
        ONE ROW PER MATCH
        AFTER MATCH SKIP PAST LAST ROW
        PATTERN (A{{3,}} B C D) {within}
        DEFINE
            A AS event_type = 'login_failed',
            B AS event_type = 'login',
            C AS event_type = 'address_change',
            D AS event_type = 'purchase' AND amount > 1000
    ) AS takeover;
"""


def events() -> list[dict[str, object]]:
    """Account 1 is taken over within four minutes, 2 within twenty, 3 with too few failures, 4 for too little."""
    said = ["login_failed"] * 3 + ["login", "address_change", "purchase"]
    rows = []
    for account, (step, kinds, amount) in enumerate(
        [(48, said, 1500), (240, said, 1500), (48, said[1:], 1500), (48, said, 1000)], 1
    ):
        for n, kind in enumerate(kinds):
            bought = amount if kind == "purchase" else None
            rows.append(
                {
                    "account_id": account,
                    "event_type": kind,
                    "amount": bought,
                    "event_time": stamp(n * step * 1000 + account),
                }
            )
    return sorted(rows, key=lambda row: str(row["event_time"])[::-1])


def took(account: int, step: int) -> dict[str, object]:
    return {
        "account_id": account,
        "first_failure": stamp(account),
        "failures": 3,
        "amount": 1500,
        "bought_at": stamp(5 * step * 1000 + account),
    }


def test_an_account_is_taken_over(tmp_path: Path) -> None:
    files = {"account_events": write(tmp_path, "account_events", events())}
    assert ours(TAKEOVER.format(within="WITHIN INTERVAL '10' MINUTE"), files) == [took(1, 48)]
    assert ours(TAKEOVER.format(within=""), files) == [took(1, 48), took(2, 240)]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_two_rows_are_what_lag_says(seed: int, tmp_path: Path) -> None:
    files = {"payments": write(tmp_path, "payments", payments(seed=seed))}
    sql = """SELECT m.card_id, m.a, m.b, m.gap FROM (SELECT * FROM payments WHERE items > 3)
        MATCH_RECOGNIZE (PARTITION BY card_id ORDER BY event_time
            MEASURES A.payment_id AS a, B.payment_id AS b, B.items - A.items AS gap
            AFTER MATCH SKIP TO NEXT ROW PATTERN (A B) WITHIN INTERVAL '5' MINUTE
            DEFINE A AS merchant_country = 'DE', B AS merchant_country <> 'DE' AND B.items > A.items) AS m
        WHERE gap < 30"""
    reference = """SELECT card_id, a, payment_id AS b, items - before AS gap FROM (
            SELECT *, LAG(payment_id) OVER w AS a, LAG(items) OVER w AS before, LAG(merchant_country) OVER w AS country,
                LAG(event_time) OVER w AS since
            FROM payments WHERE items > 3 WINDOW w AS (PARTITION BY card_id ORDER BY event_time))
        WHERE country = 'DE' AND merchant_country <> 'DE' AND items > before
            AND event_time < since + INTERVAL '5 minutes' AND items - before < 30"""
    mine = ours(sql, files)
    agree(mine, theirs(reference, files))
    assert mine


def test_all_rows_of_a_match(tmp_path: Path) -> None:
    rows = [
        {"k": "x", "n": n, "event_time": stamp(ms)} for n, ms in [(1, 3000), (5, 1000), (2, 4000), (9, 5000), (7, 6000)]
    ]
    rows.append({"k": "y", "n": 8, "event_time": stamp(0)})
    files = {"t": write(tmp_path, "t", rows)}
    sql = """SELECT k, n, kind, number FROM t MATCH_RECOGNIZE (PARTITION BY k ORDER BY event_time
        MEASURES CLASSIFIER() AS kind, MATCH_NUMBER() AS number ALL ROWS PER MATCH
        PATTERN (DOWN UP+) DEFINE DOWN AS n < PREV(n), UP AS n > PREV(n))"""
    assert [tuple(row.values()) for row in ours(sql, files)] == [
        ("x", 1, "DOWN", 1),
        ("x", 2, "UP", 1),
        ("x", 9, "UP", 1),
    ]


def test_sums_of_floats_and_decimals(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("n,x,event_time\n" + "".join(f"{n},{n}.25,{stamp(n)}\n" for n in range(1, 5)))
    query = """SELECT s, a FROM t MATCH_RECOGNIZE (ORDER BY event_time MEASURES SUM(A.x) AS s, AVG(A.x) AS a
        PATTERN (A{3}) DEFINE A AS x > 1)"""
    assert ours(query, {"t": path}) == [{"s": 6.75, "a": 2.25}]
    declared = "CREATE TABLE t (x DECIMAL(10, 2), event_time TIMESTAMP(3));"
    assert ours(declared + query, {"t": path}) == [{"s": 6.75, "a": 2.25}]


def test_matches_come_as_the_rows_that_show_them(tmp_path: Path) -> None:
    rows = [{"k": None if k == "z" else k, "event_time": stamp(ms)} for ms, k in enumerate("zyxyzzx")]
    files = {"t": write(tmp_path, "t", rows)}
    sql = """SELECT * FROM t
        MATCH_RECOGNIZE (PARTITION BY k ORDER BY event_time MEASURES LAST(A.event_time) AS e PATTERN (A A))"""
    assert [(row["k"], row["e"]) for row in ours(sql, files)] == [("y", stamp(3)), (None, stamp(4)), ("x", stamp(6))]


def test_an_empty_table(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("k,event_time\n")
    sql = """CREATE TABLE t (k STRING, event_time TIMESTAMP(3));
        SELECT * FROM t MATCH_RECOGNIZE (PARTITION BY k ORDER BY event_time MEASURES COUNT(*) AS n PATTERN (A B))"""
    assert ours(sql, {"t": path}) == []


def test_json_numbers(tmp_path: Path) -> None:
    files = {"account_events": write(tmp_path, "account_events", events())}
    found = ours(TAKEOVER.format(within="WITHIN INTERVAL '10' MINUTE"), files)
    assert json.dumps(found[0]["amount"]) in {"1500", "1500.0"}


def test_the_time_of_a_match_is_that_of_its_last_row(tmp_path: Path) -> None:
    """Flink's MATCH_ROWTIME(); windows may be made of it."""
    files = {"account_events": write(tmp_path, "account_events", events())}
    pattern = TAKEOVER.format(within="").replace("ONE ROW", ", MATCH_ROWTIME() AS at_time ONE ROW").rstrip("; \n")
    assert {row["account_id"]: row["at_time"] for row in ours(pattern, files)} == {
        1: took(1, 48)["bought_at"],
        2: took(2, 240)["bought_at"],
    }
    windows = f"""SELECT TUMBLE_START(at_time, INTERVAL '10' MINUTE) AS s, COUNT(*) AS n FROM ({pattern})
        GROUP BY TUMBLE(at_time, INTERVAL '10' MINUTE)"""
    assert ours(windows, files) == [{"s": stamp(0), "n": 1}, {"s": stamp(1_200_000), "n": 1}]
