"""Statements of a pipeline say what the same statements say over the whole table, which DuckDB agrees with."""

from __future__ import annotations

import json
import random
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from operators.decide import RuleDecider
from state.errors import ConfigError
from streamproc.runtime.metrics import WorkerMetrics
from streamproc.runtime.stage import Part, Stage, by_fate
from tests.runtime.test_handed_on_rows import compute
from tests.sql.streaming import HEAD, TABLE, in_batches, over_tables, pipeline, plans_of, streamed
from tests.sql.support import Row, changes, payments, stamp, write


def rows(seed: int = 1) -> list[Row]:
    """Payments with a card and exact amounts, out of order by up to a minute."""
    made = payments(300, seed)
    for row in made:
        row["card_id"] = row["card_id"] or "c5"
        row["amount"] = None if row["amount"] is None else round(row["amount"], 2)
    return made


STATELESS = {
    "select": "SELECT * FROM payments",
    "case": """SELECT payment_id, amount * 2 AS twice, CASE WHEN amount > 10000 THEN 'large'
            WHEN merchant_country <> cardholder_country THEN 'foreign' END AS flag
        FROM payments WHERE amount > 10000 OR merchant_country <> cardholder_country""",
    "queries in queries": """WITH large AS (SELECT payment_id AS id, amount / 3 AS third, items FROM payments
            WHERE amount > 9000)
        SELECT l.id || '!' AS id, l.third + 1 AS x FROM large AS l WHERE l.items > 10""",
    "times": """SELECT payment_id, FLOOR(event_time TO HOUR) AS hour, event_time + INTERVAL '5' MINUTE AS later,
            minutes_since(TIMESTAMP '2026-05-01 00:00:00') AS m FROM payments WHERE online""",
}
AGGREGATES = """COUNT(*) AS n, COUNT(amount) AS known, SUM(amount) AS total, AVG(amount) AS mean, MIN(amount) AS low,
    MAX(items) AS most, SUM(items) AS items, COUNT(cardholder_country) AS homes"""
WINDOWS = {
    "tumble": f"""SELECT card_id, TUMBLE_START(event_time, INTERVAL '5' MINUTE) AS ws,
            TUMBLE_END(event_time, INTERVAL '5' MINUTE) AS we, TUMBLE_ROWTIME(event_time, INTERVAL '5' MINUTE) AS t,
            {AGGREGATES}, SUM(items) FILTER (WHERE online) AS bought, COUNT(*) FILTER (WHERE NOT online) AS offline
        FROM payments GROUP BY card_id, TUMBLE(event_time, INTERVAL '5' MINUTE)""",
    "having": """SELECT card_id, COUNT(*) AS cnt, SUM(amount) AS total,
            TUMBLE_END(event_time, INTERVAL '5' MINUTE) AS window_end
        FROM payments WHERE merchant_country <> 'US'
        GROUP BY card_id, TUMBLE(event_time, INTERVAL '5' MINUTE) HAVING COUNT(*) >= 2 AND SUM(amount) > 10000""",
    "tumble of a table": f"""SELECT window_start AS ws, card_id AS c, window_time AS t, {AGGREGATES}
        FROM TABLE(TUMBLE(TABLE payments, DESCRIPTOR(event_time), INTERVAL '5' MINUTE))
        WHERE items > 3 GROUP BY window_start, window_end, window_time, card_id""",
    "hop": f"""SELECT HOP_START(event_time, INTERVAL '2' MINUTE, INTERVAL '6' MINUTE) AS ws, card_id, {AGGREGATES}
        FROM payments GROUP BY card_id, HOP(event_time, INTERVAL '2' MINUTE, INTERVAL '6' MINUTE)""",
    "cumulate": f"""SELECT window_start AS ws, card_id, window_end AS we, {AGGREGATES} FROM TABLE(
            CUMULATE(TABLE payments, DESCRIPTOR(event_time), INTERVAL '2' MINUTE, INTERVAL '6' MINUTE)) AS w
        GROUP BY card_id, window_start, window_end""",
    "session": f"""SELECT SESSION_START(event_time, INTERVAL '3' MINUTE) AS ws, card_id,
            SESSION_END(event_time, INTERVAL '3' MINUTE) AS we, {AGGREGATES}
        FROM payments GROUP BY card_id, SESSION(event_time, INTERVAL '3' MINUTE)""",
    "more keys": f"""SELECT merchant_country, online, items > 20 AS many, card_id, {AGGREGATES}
        FROM payments
        GROUP BY TUMBLE(event_time, INTERVAL '30' MINUTE), merchant_country, online, items > 20, card_id""",
    "distinct": """SELECT card_id, online, COUNT(DISTINCT merchant_country) AS countries, COUNT(*) AS n,
            COUNT(DISTINCT cardholder_country) AS homes, COUNT(DISTINCT amount) AS amounts,
            COUNT(DISTINCT items % 5) FILTER (WHERE items > 9) AS fives, SUM(items) AS items
        FROM payments GROUP BY online, card_id, TUMBLE(event_time, INTERVAL '20' MINUTE)""",
    "distinct of hops": """SELECT window_start AS ws, card_id, COUNT(DISTINCT merchant_country) AS countries
        FROM TABLE(HOP(TABLE payments, DESCRIPTOR(event_time), INTERVAL '4' MINUTE, INTERVAL '12' MINUTE))
        GROUP BY card_id, window_start, window_end HAVING COUNT(DISTINCT merchant_country) > 1""",
    "distinct of growing ones": """SELECT window_end AS we, card_id, COUNT(DISTINCT online) AS ways
        FROM TABLE(CUMULATE(TABLE payments, DESCRIPTOR(event_time), INTERVAL '5' MINUTE, INTERVAL '20' MINUTE))
        GROUP BY card_id, window_start, window_end""",
    "over results": """SELECT w.c, w.n * 2 AS twice, w.we FROM (SELECT card_id AS c, COUNT(*) AS n,
            TUMBLE_END(event_time, INTERVAL '5' MINUTE) AS we
        FROM (SELECT * FROM payments WHERE items > 2) AS p
        GROUP BY card_id, TUMBLE(event_time, INTERVAL '5' MINUTE)) AS w WHERE w.n > 2 AND w.c <> 'c1'""",
}


@pytest.mark.parametrize(
    "more",
    [
        "features: {large: amount > 100}",
        "patterns: {two: \"PATTERN (A B) WITHIN INTERVAL '1' MINUTE DEFINE A AS amount > 1, B AS amount > 2\"}",
        "windows: {spent: {tumble: 1m, aggregates: [count]}}",
        "rules: [{id: large, when: amount > 100, then: review}]",
        "decision: {severity: [decline, approve]}",
        "deadline: 1s",
        "topics: {decisions: decided}",
    ],
)
def test_who_has_statements_alone_decides_nothing(more: str) -> None:
    text = pipeline(one=STATELESS["select"])
    (silent,), (deciding,) = plans_of(text), plans_of(f"{text}{more}\n")
    assert (silent.is_silent, deciding.is_silent) == (True, False)
    assert silent.decision_fingerprint != deciding.decision_fingerprint
    assert silent.topics.decisions == ""
    assert deciding.topics.decisions in ("shop.decisions", "decided")


def test_a_repeat_finds_the_code_of_a_file_that_decides_or_does_not() -> None:
    """State keeps codes, and it stays when a file gets its first rule or loses its last."""
    text = pipeline(one=STATELESS["select"])
    (silent,), (deciding,) = plans_of(text), plans_of(f"{text}decision: {{include: [amount]}}\n")
    assert silent.state_fingerprint == deciding.state_fingerprint
    names, others = (RuleDecider((), plan.decision).action_names for plan in (silent, deciding))
    assert (silent.decision.otherwise, len(names)) == ("none", len(others))
    assert names.index("none") == others.index(deciding.decision.otherwise)


@pytest.mark.parametrize(("more", "decisions"), [("", {}), ("decision: {include: [amount]}\n", {"approve": 5})])
def test_records_of_statements_alone_are_no_decisions(more: str, decisions: dict[str, int]) -> None:
    (plan,) = plans_of(f"{pipeline(one=STATELESS['select'])}{more}")
    now_ms = 1_800_000_000_000
    computed = compute(
        plan, [json.dumps(row | {"card_id": "c", "amount": 5}).encode() for row in payments(5)], now_ms, now_ms
    )
    metrics = WorkerMetrics()
    metrics.committed(*by_fate([Part(cast("Stage", SimpleNamespace(plan=plan)), computed)]), 0.0, now_ms)
    samples = {(s.name, *s.labels.values()): s.value for family in metrics.registry.collect() for s in family.samples}
    assert samples["streamproc_records_total",] == 5
    assert {key[1]: n for key, n in samples.items() if key[0] == "streamproc_decisions_total"} == decisions


@pytest.mark.parametrize("sql", STATELESS.values(), ids=STATELESS)
def test_rows_come_as_they_do_of_a_table(sql: str, tmp_path: Path) -> None:
    files = {"payments": write(tmp_path, "payments", rows())}
    mine = streamed(pipeline(one=sql), files)["one"]
    assert mine == over_tables(sql, files)
    assert len(mine) > 5


@pytest.mark.parametrize("sql", WINDOWS.values(), ids=WINDOWS)
@pytest.mark.parametrize("seed", [1, 2])
def test_windows_are_those_of_a_table(sql: str, seed: int, tmp_path: Path) -> None:
    files = {"payments": write(tmp_path, "payments", rows(seed))}
    mine = streamed(pipeline(one=sql), files)["one"]
    assert sorted(map(json.dumps, mine)) == sorted(map(json.dumps, over_tables(sql, files)))
    assert len(mine) > 5


def test_a_window_is_told_when_the_watermark_is_past_it_and_late_rows_do_not_count(tmp_path: Path) -> None:
    times = [("a", 0), ("b", 250), ("c", 419), ("d", 420), ("e", 299), ("f", 900)]
    made = [dict(rows()[0], payment_id=name, card_id="c1", event_time=stamp(s * 1000)) for name, s in times]
    sql = """SELECT COUNT(*) AS n, card_id, TUMBLE_END(event_time, INTERVAL '5' MINUTE) AS e FROM payments
        GROUP BY card_id, TUMBLE(event_time, INTERVAL '5' MINUTE)"""
    text = pipeline(HEAD.replace(", idle: 1m", ""), one=sql)
    found = streamed(text, {"payments": write(tmp_path, "payments", made)})["one"]
    # e comes when the watermark (two minutes behind d) has reached 5:00; the window of f is still open.
    assert [(row["n"], row["e"]) for row in found] == [(2, stamp(300_000)), (2, stamp(600_000))]


def takeover(seed: int) -> list[Row]:
    """Small payments and large ones, no two of a card at one time."""
    pick = random.Random(seed)
    return [
        dict(
            rows()[0],
            payment_id=f"p{n:04}",
            card_id=pick.choice("abc"),
            amount=pick.choice([1.5, 2.25, 3, 250.75]),
            event_time=stamp(n * 30_000 + pick.randrange(30_000)),
        )
        for n in range(300)
    ]


MATCHES = {
    "measures": """SELECT * FROM payments MATCH_RECOGNIZE (PARTITION BY card_id ORDER BY event_time
        MEASURES COUNT(S.amount) AS tries, SUM(S.amount) AS tried, L.amount AS amount, FIRST(S.payment_id) AS first,
            MATCH_ROWTIME() AS at_time
        PATTERN (S{2,} L) WITHIN INTERVAL '5' MINUTE DEFINE S AS amount < 5, L AS amount > 50 * MIN(S.amount)) AS m""",
    "around and inside": """SELECT m.c, m.gap + 1 AS gap FROM (SELECT card_id AS c, amount - 1 AS less, event_time AS t
            FROM payments WHERE amount <> 3)
        MATCH_RECOGNIZE (PARTITION BY c ORDER BY t MEASURES B.less - A.less AS gap
            PATTERN (A B) WITHIN INTERVAL '10' MINUTE DEFINE A AS A.less < 2, B AS B.less > PREV(B.less)) AS m
        WHERE m.gap < 200""",
    "no within": """SELECT card_id, b FROM payments MATCH_RECOGNIZE (PARTITION BY card_id ORDER BY event_time
        MEASURES B.payment_id AS b PATTERN (A A A B) DEFINE A AS amount < 3, B AS amount > 100)""",
}


@pytest.mark.parametrize("sql", MATCHES.values(), ids=MATCHES)
def test_matches_are_those_of_a_table(sql: str, tmp_path: Path) -> None:
    files = {"payments": write(tmp_path, "payments", takeover(3))}
    mine = streamed(pipeline(one=sql), files)["one"]
    assert mine == over_tables(sql, files)
    assert len(mine) > 3


@pytest.mark.parametrize(("size", "restore"), [(1, True), (0, False), (7, True)])
def test_a_key_that_is_no_text_has_state_of_its_own(size: int, restore: bool, tmp_path: Path) -> None:
    made = [row | {"items": "abc".index(row["card_id"]) - 1} for row in takeover(3)]
    sql = MATCHES["no within"].replace("card_id", "items")
    text = pipeline(HEAD.replace("partition_by: card_id", "partition_by: items"), one=sql)
    mine = in_batches(text, [("payments", row) for row in made], size, restore=restore)
    assert sorted(mine, key=repr) == sorted(over_tables(sql, {"payments": write(tmp_path, "p", made)}), key=repr)
    assert len({row["items"] for row in mine}) == 3


LOGINS = """  logins:
    id: login_id
    event_time: event_time
    fields: {login_id: string, card_id: string, items: int64, event_time: timestamp}
"""
TWO = HEAD.replace("partition_by", LOGINS + "partition_by")


def test_several_streams_are_tables_of_their_own(tmp_path: Path) -> None:
    logins = [
        {"login_id": f"l{n}", "card_id": f"c{n % 4}", "items": n, "event_time": stamp(n * 70_000)} for n in range(90)
    ]
    files = {"payments": write(tmp_path, "payments", rows()), "logins": write(tmp_path, "logins", logins)}
    table = "CREATE TABLE logins (login_id STRING NOT NULL, card_id STRING, items BIGINT, event_time TIMESTAMP(3));"
    rowwise = "SELECT login_id, items * 2 AS twice FROM logins WHERE items % 3 = 0"
    windows = """SELECT card_id, COUNT(*) AS n, SUM(items) AS s FROM logins
        GROUP BY card_id, TUMBLE(event_time, INTERVAL '20' MINUTE)"""
    others = "SELECT payment_id FROM payments WHERE items > 30"
    found = streamed(pipeline(TWO, rowwise=rowwise, windows=windows, others=others), files)
    only = {"logins": files["logins"]}
    for name, sql in (("rowwise", rowwise), ("windows", windows)):
        expected = over_tables(sql, only, table)
        assert sorted(map(json.dumps, found[name])) == sorted(map(json.dumps, expected))
        assert expected
    expected = over_tables(others, {"payments": files["payments"]})
    assert sorted(map(json.dumps, found["others"])) == sorted(map(json.dumps, expected))


CHANGES = """  changes:
    id: change_id
    event_time: change_time
    fields: {change_id: string, card_id: string, kind: string, level: int64, change_time: timestamp}
"""
JOINED = HEAD.replace("partition_by", CHANGES + "ttl: 1d\npartition_by")
CHANGES_TABLE = """CREATE TABLE changes (change_id STRING NOT NULL, card_id STRING NOT NULL, kind STRING, level BIGINT,
    change_time TIMESTAMP(3));"""
JOINS = {
    "plain": """SELECT p.payment_id, c.kind FROM payments p
        JOIN changes c ON p.card_id = c.card_id AND c.level = p.items""",
    "minutes since": """SELECT p.payment_id, c.change_id, TIMESTAMPDIFF(MINUTE, c.change_time, p.event_time) AS minutes,
            CASE WHEN TIMESTAMPDIFF(MINUTE, c.change_time, p.event_time) < 30 THEN 'high' ELSE 'medium' END AS risk
        FROM payments AS p JOIN changes AS c ON p.card_id = c.card_id
        WHERE p.event_time >= c.change_time AND TIMESTAMPDIFF(MINUTE, c.change_time, p.event_time) < 60""",
    "interval": """SELECT p.payment_id, c.kind FROM payments p, changes c WHERE p.card_id = c.card_id
        AND p.event_time BETWEEN c.change_time - INTERVAL '5' MINUTE AND c.change_time + INTERVAL '30' MINUTE""",
    "of queries": """SELECT p.id, c.much FROM (SELECT payment_id AS id, card_id AS card FROM payments WHERE online) AS p
        JOIN (SELECT card_id, level * 2 AS much FROM changes WHERE level > 1) AS c ON c.card_id = p.card""",
    "with itself": """SELECT a.payment_id, b.payment_id AS other FROM payments a JOIN payments b
        ON a.card_id = b.card_id AND a.event_time BETWEEN b.event_time - INTERVAL '90' SECOND AND b.event_time""",
    "left": """SELECT p.payment_id, c.kind FROM payments p
        LEFT JOIN changes c ON p.card_id = c.card_id AND c.level = p.items WHERE p.items < 9""",
    "full": """SELECT p.payment_id, c.change_id, COALESCE(p.items, c.level) AS n
        FROM payments p FULL OUTER JOIN changes c
            ON c.card_id = p.card_id AND upper(c.kind) = p.cardholder_country AND c.change_time < p.event_time""",
    "as of": """SELECT p.payment_id, c.change_id, c.level + 1 AS level FROM payments AS p
        JOIN changes FOR SYSTEM_TIME AS OF p.event_time AS c ON p.card_id = c.card_id""",
    "as of, left": """SELECT p.payment_id, c.kind, c.level FROM payments AS p
        LEFT JOIN changes FOR SYSTEM_TIME AS OF p.event_time AS c ON p.card_id = c.card_id WHERE p.items > 5""",
    "as of, left, by two keys": """SELECT p.payment_id, c.kind FROM payments AS p
        LEFT JOIN changes FOR SYSTEM_TIME AS OF p.event_time AS c
        ON p.card_id = c.card_id AND p.cardholder_country = UPPER(c.kind)""",
    "as of, if": """SELECT p.payment_id, c.kind FROM payments AS p
        JOIN changes FOR SYSTEM_TIME AS OF p.event_time AS c ON p.card_id = c.card_id AND c.level < p.items / 10""",
}


def joined_files(folder: Path) -> dict[str, Path]:
    """Payments and changes in order of time."""
    made = [dict(row, change_id=f"x{n}") for n, row in enumerate(changes(60)) if row["card_id"] is not None]
    payments_by_time = sorted(rows(), key=lambda row: str(row["event_time"]))
    return {
        "payments": write(folder, "payments", payments_by_time),
        "changes": write(folder, "changes", sorted(made, key=lambda row: str(row["change_time"]))),
    }


def over(frame: str, more: str = "") -> str:
    """A window of a card's rows."""
    return f"(PARTITION BY card_id{more} ORDER BY event_time {frame})"


HOUR = over("RANGE BETWEEN INTERVAL '20' MINUTE PRECEDING AND CURRENT ROW")
FOUR = over("ROWS BETWEEN 3 PRECEDING AND CURRENT ROW")
SEEN = """COUNT(*) OVER {0} AS n, COUNT(amount) OVER {0} AS known, SUM(amount) OVER {0} AS total,
    AVG(items) OVER {0} AS mean, MIN(amount) OVER {0} AS low, MAX(merchant_country) OVER {0} AS last_country,
    FIRST_VALUE(cardholder_country) OVER {0} AS f, LAST_VALUE(amount) OVER {0} AS l"""
OVERS = {
    "time": f"""SELECT payment_id, {SEEN.format(HOUR)}, COUNT(DISTINCT merchant_country) OVER {HOUR} AS countries
        FROM payments""",
    "rows": f"""SELECT payment_id, {SEEN.format(FOUR)}, COUNT(DISTINCT cardholder_country) OVER {FOUR} AS homes
        FROM payments WHERE items > 3""",
    "all": f"SELECT payment_id, event_time, {SEEN.format(over(''))} FROM payments",
    "all rows": f"""SELECT card_id, payment_id,
            {SEEN.format(over("ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW"))},
            ROW_NUMBER() OVER {over("")} AS place
        FROM payments""",
    "this time": f"""SELECT payment_id, SUM(items) OVER {over("RANGE BETWEEN CURRENT ROW AND CURRENT ROW")} AS s,
            SUM(items) OVER {over("ROWS BETWEEN CURRENT ROW AND CURRENT ROW")} AS own FROM payments""",
    "before": f"""SELECT payment_id, amount - LAG(amount) OVER {over("")} AS step,
            LAG(items, 3, 0 - items) OVER {over("")} AS i
        FROM payments""",
    "more keys": f"""SELECT payment_id, ROW_NUMBER() OVER {over("", ", merchant_country, items % 2")} AS n
        FROM payments""",
    "around and inside": f"""SELECT v.id || '!' AS id, v.n - 1 AS others FROM (SELECT payment_id AS id, n, t FROM (
            SELECT payment_id, COUNT(*) OVER {HOUR} AS n, event_time AS t FROM (SELECT * FROM payments WHERE online)))
        AS v WHERE v.n >= 3""",
}
KEPT = HEAD.replace("partition_by", "ttl: 3d\npartition_by")


def spaced(files_rows: list[Row]) -> list[Row]:
    """Rows of which several have one time, not later than two minutes behind the newest."""
    for n, row in enumerate(files_rows):
        row["event_time"] = stamp((n // 3) * 50_000 - (n % 4) * 20_000)
    return files_rows


@pytest.mark.parametrize("sql", OVERS.values(), ids=OVERS)
@pytest.mark.parametrize("ties", [False, True])
def test_what_rows_see_of_those_before_is_as_in_a_table(sql: str, ties: bool, tmp_path: Path) -> None:
    files = {"payments": write(tmp_path, "payments", spaced(rows(4)) if ties else rows(4))}
    mine = streamed(pipeline(KEPT, one=sql), files)["one"]
    expected = over_tables(sql, files)
    assert sorted(map(json.dumps, mine)) == sorted(map(json.dumps, expected))
    assert len(mine) > 5


def test_over_tells_rows_in_order_of_time_and_none_that_come_too_late(tmp_path: Path) -> None:
    times = [("a", 0), ("b", 250), ("c", 200), ("d", 400), ("e", 279), ("f", 280), ("g", 900)]
    made = [dict(rows()[0], payment_id=name, card_id="c1", event_time=stamp(s * 1000)) for name, s in times]
    sql = f"SELECT payment_id, COUNT(*) OVER {over('')} AS n FROM payments"
    text = pipeline(KEPT.replace(", idle: 1m", ""), one=sql)
    found = streamed(text, {"payments": write(tmp_path, "payments", made)})["one"]
    # e is behind the watermark, two minutes behind d; f is just not; g still waits.
    assert [(row["payment_id"], row["n"]) for row in found] == [("a", 1), ("c", 2), ("b", 3), ("f", 4), ("d", 5)]


def test_over_forgets_a_key_without_rows_for_the_ttl(tmp_path: Path) -> None:
    times = [("a", 0), ("b", 599), ("c", 1199), ("d", 1798), ("e", 9999)]
    made = [dict(rows()[0], payment_id=name, card_id="c1", event_time=stamp(s * 1000)) for name, s in times]
    sql = f"SELECT payment_id, COUNT(*) OVER {over('')} AS n FROM payments"
    text = pipeline(KEPT.replace("ttl: 3d", "ttl: 10m"), one=sql)
    found = streamed(text, {"payments": write(tmp_path, "payments", made)})["one"]
    assert [(row["payment_id"], row["n"]) for row in found][:4] == [("a", 1), ("b", 2), ("c", 1), ("d", 2)]


UNIONS = {
    "rows": """SELECT payment_id AS id, items AS n FROM payments WHERE items > 5
        UNION ALL SELECT change_id, level FROM changes""",
    "of one stream": """SELECT payment_id AS id, 'many' AS why FROM payments WHERE items > 25
        UNION ALL SELECT payment_id, 'large' FROM payments WHERE amount > 10000""",
    "types": "SELECT u.x + 1 AS y FROM (SELECT items AS x FROM payments UNION ALL SELECT amount FROM payments) AS u",
    "three": """SELECT u.id, u.n * 2 AS twice FROM (SELECT payment_id AS id, items AS n FROM payments UNION ALL
        (SELECT change_id AS id, level AS n FROM changes UNION ALL SELECT kind, 7 FROM changes)) AS u WHERE u.n > 2""",
    "windows": """SELECT card_id, COUNT(*) AS n, COUNT(DISTINCT what) AS kinds,
            TUMBLE_START(at_time, INTERVAL '20' MINUTE) AS ws
        FROM (SELECT card_id, 'payment' AS what, event_time AS at_time FROM payments UNION ALL
            SELECT card_id, kind, change_time FROM changes) AS u
        GROUP BY card_id, TUMBLE(at_time, INTERVAL '20' MINUTE)""",
    "over": """SELECT u.id, COUNT(DISTINCT what) OVER (PARTITION BY card_id ORDER BY at_time
            RANGE BETWEEN INTERVAL '10' MINUTE PRECEDING AND CURRENT ROW) AS kinds
        FROM (SELECT payment_id AS id, card_id, 'payment' AS what, event_time AS at_time FROM payments UNION ALL
            SELECT change_id, card_id, kind, change_time FROM changes) AS u""",
    "patterns": """SELECT card_id, change, payment
        FROM (SELECT card_id, payment_id AS id, items AS n, event_time AS at_time FROM payments UNION ALL
            SELECT card_id, change_id, 0 - level, change_time FROM changes)
        MATCH_RECOGNIZE (PARTITION BY card_id ORDER BY at_time MEASURES C.id AS change, P.id AS payment
            PATTERN (C P) WITHIN INTERVAL '10' MINUTE DEFINE C AS n < 0, P AS n > 10) AS m""",
}


@pytest.mark.parametrize("sql", UNIONS.values(), ids=UNIONS)
def test_rows_of_several_queries_are_those_of_tables(sql: str, tmp_path: Path) -> None:
    files = joined_files(tmp_path)
    mine = streamed(pipeline(JOINED, one=sql), files)["one"]
    expected = over_tables(sql, files, TABLE + CHANGES_TABLE)
    assert sorted(map(json.dumps, mine)) == sorted(map(json.dumps, expected))
    assert len(mine) > 5


@pytest.mark.parametrize("sql", JOINS.values(), ids=JOINS)
def test_pairs_are_those_of_tables(sql: str, tmp_path: Path) -> None:
    files = joined_files(tmp_path)
    mine = streamed(pipeline(JOINED, one=sql), files)["one"]
    expected = over_tables(sql, files, TABLE + CHANGES_TABLE)
    assert sorted(map(json.dumps, mine)) == sorted(map(json.dumps, expected))
    assert len(mine) > 5


def test_pairs_lie_less_than_the_ttl_apart(tmp_path: Path) -> None:
    files = joined_files(tmp_path)
    sql = "SELECT p.payment_id, c.change_id FROM payments p JOIN changes c ON p.card_id = c.card_id"
    mine = streamed(pipeline(JOINED.replace("ttl: 1d", "ttl: 10m"), one=sql), files)["one"]
    near = (
        sql
        + """ AND p.event_time > c.change_time - INTERVAL '10' MINUTE
        AND p.event_time < c.change_time + INTERVAL '10' MINUTE"""
    )
    expected = over_tables(near, files, TABLE + CHANGES_TABLE)
    found, wanted = sorted(map(json.dumps, mine)), sorted(map(json.dumps, expected))
    # Stream time is of all cards: a pair at the very edge may be gone.
    assert set(found) <= set(wanted)
    assert len(over_tables(sql, files, TABLE + CHANGES_TABLE)) > len(found) > 50


def test_a_row_that_a_statement_fails_on_is_refused_alone(tmp_path: Path) -> None:
    made = rows()[:6]
    made[3]["merchant_country"] = "7"
    sql = "SELECT payment_id, CAST(merchant_country AS BIGINT) AS n FROM payments WHERE merchant_country = '7'"
    wrong = sql.replace("= '7'", "<> '7'")
    files = {"payments": write(tmp_path, "payments", made)}
    found = streamed(pipeline(fine=sql, wrong=wrong), files)
    assert found == {"fine": [{"payment_id": made[3]["payment_id"], "n": 7}], "wrong": []}


G = "GROUP BY card_id, TUMBLE(event_time, INTERVAL '5' MINUTE)"
C = "PARTITION BY card_id ORDER BY event_time"
M = "SELECT * FROM payments MATCH_RECOGNIZE ({} ORDER BY event_time {})"
REFUSED = {
    "SELECT amuont FROM payments": "p.yaml:19:12: there is no column amuont (did you mean amount?)",
    "SELECT 1 FROM paymnets": "p.yaml:19:19: there is no table paymnets (did you mean payments?)",
    "SELECT payment_id FROM payments\nORDER BY amount": "p.yaml:20:5: ORDER BY needs all rows: a stream has no end",
    "SELECT payment_id FROM payments LIMIT 5": "p.yaml:19:37: LIMIT needs all rows",
    "SELECT DISTINCT card_id FROM payments": (
        "p.yaml:19:12: rows that come once are remembered for the stage's `ttl` (ttl: 1d)"
    ),
    "SELECT DISTINCT items FROM payments": "p.yaml:19:12: rows that come once must have the column card_id: equal ones",
    "SELECT items FROM payments UNION SELECT items FROM payments": "rows that come once must have the column card_id",
    "SELECT items FROM payments GROUP BY items": "p.yaml:19:32: rows that come once must have the column card_id",
    f"SELECT DISTINCT n FROM (SELECT COUNT(*) AS n FROM payments {G})": "have been grouped or matched go no further",
    f"""SELECT COUNT(*) AS n FROM (SELECT * FROM payments UNION ALL SELECT * FROM payments WHERE items > 1) AS u
        {G}""": ("rows of one stream in two queries of UNION ALL go no further than WHERE and SELECT in a pipeline"),
    f"""SELECT COUNT(*) AS n FROM payments {G}
        UNION ALL SELECT items AS n FROM payments""": "UNION ALL: rows that have been grouped or matched go no further",
    "SELECT p.items FROM payments p JOIN payments q ON p.card_id = q.card_id": (
        "p.yaml:19:36: JOIN keeps the rows of both sides for the stage's `ttl` (ttl: 1d)"
    ),
    "SELECT p.items FROM payments p LEFT JOIN payments q ON p.card_id = q.card_id": (
        "p.yaml:19:41: JOIN keeps the rows of both sides for the stage's `ttl` (ttl: 1d)"
    ),
    "SELECT p.items FROM payments p FULL JOIN payments q ON p.items = q.items": "JOIN wants card_id = card_id of both",
    "SELECT p.items FROM payments p JOIN payments q ON p.items = q.items": "JOIN wants card_id = card_id of both sides",
    "SELECT p.items FROM payments p CROSS JOIN payments q": "JOIN wants card_id = card_id of both sides",
    """SELECT COUNT(*) FROM payments p JOIN payments FOR SYSTEM_TIME AS OF p.event_time AS q ON p.card_id = q.card_id
        GROUP BY p.card_id, TUMBLE(p.event_time, INTERVAL '5' MINUTE)""": "go no further than WHERE and SELECT",
    "SELECT SUM(items) OVER (ORDER BY event_time) FROM payments": "OVER wants PARTITION BY card_id: other keys are",
    f"SELECT SUM(items) OVER ({C}) FROM payments": "OVER keeps a key's rows, unless a RANGE ends them, for the stage's",
    f"SELECT LAG(items, 10000) OVER ({C}) FROM payments": "p.yaml:19:30: OVER looks back at 9,999 rows at most",
    f"SELECT COUNT(DISTINCT items) OVER ({C}) FROM payments": "COUNT(DISTINCT ...) OVER all rows keeps all values",
    f"SELECT SUM(CAST(items AS DOUBLE)) OVER ({C}) FROM payments": "sum of float64 is not exact",
    f"SELECT COUNT(*) OVER ({C}), COUNT(*) OVER (PARTITION BY card_id, items ORDER BY event_time) FROM payments": (
        "OVER: all functions of a pipeline's statement have one PARTITION BY"
    ),
    """SELECT COUNT(*) OVER (PARTITION BY c ORDER BY e) FROM (SELECT card_id AS c, TUMBLE_END(event_time, INTERVAL '5'
        MINUTE) AS e FROM payments GROUP BY card_id, TUMBLE(event_time, INTERVAL '5' MINUTE))""": "go no further than",
    "SELECT card_id, COUNT(*) FROM payments GROUP BY card_id": "p.yaml:19:44: GROUP BY wants a window of time: other",
    "SELECT COUNT(*) FROM payments": "GROUP BY wants a window of time",
    "SELECT COUNT(*) FROM payments GROUP BY TUMBLE(event_time, INTERVAL '5' MINUTE)": (
        "p.yaml:19:35: GROUP BY must have card_id: other groups are spread over partitions"
    ),
    "SELECT COUNT(*) FILTER (WHERE online) FROM payments GROUP BY card_id, SESSION(event_time, INTERVAL '5' MINUTE)": (
        "FILTER in a SESSION is not part of a pipeline's statements"
    ),
    f"SELECT SUM(CAST(items AS DOUBLE)) FROM payments {G}": "sum of float64 is not exact",
    f"SELECT STDDEV(items) FROM payments {G}": "STDDEV_SAMP is not part of a pipeline's statements (COUNT, COUNT(DIS",
    f"SELECT SUM(DISTINCT items) FROM payments {G}": "SUM(DISTINCT ...) is not part of a pipeline's statements",
    f"SELECT LAST_VALUE(items) FROM payments {G}": "LAST_VALUE is not part of a pipeline's statements",
    "SELECT payment_id, ROW_NUMBER() OVER (PARTITION BY card_id ORDER BY event_time DESC) AS n FROM payments": (
        "ROW_NUMBER in another order than that of the event time: rows that were told are not taken back"
    ),
    "SELECT payment_id, ROW_NUMBER() OVER (PARTITION BY card_id ORDER BY amount DESC) AS n FROM payments": (
        "rows that were told are not taken back (ORDER BY the event time keeps the first ones)"
    ),
    f"SELECT MIN(merchant_country) FROM payments {G}": "min of string is not exact, or has no meaning",
    "SELECT window_start FROM TABLE(TUMBLE(TABLE payments, DESCRIPTOR(event_time), INTERVAL '5' MINUTE))": (
        "TABLE(TUMBLE(...)) wants GROUP BY window_start, window_end"
    ),
    """SELECT COUNT(*) FROM TABLE(TUMBLE(TABLE payments, DESCRIPTOR(event_time), INTERVAL '5' MINUTE))
        WHERE window_end > TIMESTAMP '2026-01-01' GROUP BY card_id, window_end""": "HAVING may ask for them, WHERE not",
    "SELECT COUNT(*) FROM payments GROUP BY card_id, TUMBLE(event_time + INTERVAL '1' DAY, INTERVAL '5' MINUTE)": (
        "a window wants the column of a time"
    ),
    M.format("PARTITION BY merchant_country", "PATTERN (A B)"): "PARTITION BY must have card_id: other keys are spread",
    M.format(
        "PARTITION BY card_id", "ALL ROWS PER MATCH PATTERN (A B)"
    ): "ALL ROWS PER MATCH is not part of a pipeline",
    M.format("PARTITION BY card_id", "AFTER MATCH SKIP TO NEXT ROW PATTERN (A B)"): "AFTER MATCH SKIP PAST LAST ROW",
    M.format("PARTITION BY card_id", "PATTERN (A B+) DEFINE A AS items > 1"): "p.yaml:19:",
    "INSERT INTO x SELECT 1 FROM payments": "p.yaml:19:17: an entry of `sql` is one query",
    "SELECT 1 FROM payments; SELECT 2 FROM payments": "an entry of `sql` is one query: SELECT, perhaps behind WITH",
    "CREATE TABLE payments (a INT)": "the pipeline's streams are the tables",
    "SELECT 'x FROM payments": "p.yaml:19:12: a quote or a comment is not closed",
}


@pytest.mark.parametrize(("sql", "said"), REFUSED.items(), ids=range(len(REFUSED)))
def test_what_a_stream_has_no_form_of_is_refused_with_its_place(sql: str, said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        plans_of(pipeline(one=sql))
    assert said in str(refused.value)


NAMES = {
    "sql: SELECT 1": "sql must be a mapping of names",
    "sql: {decisions: SELECT 1 FROM payments}": "sql decisions: another topic is called so",
    "sql: {a: {statment: SELECT 1 FROM payments}}": "unknown key 'statment' in sql a (did you mean statement?)",
    "sql: {payments: SELECT 1 FROM payments}": "sql payments: shop.payments is the stream's topic (choose",
    "rules: [{id: big, when: amount > 5, then: review, reason: big}]\n"
    "sql: {a: {statement: SELECT 1 FROM payments, topic: shop.decisions}}": "shop.decisions is the decisions topic",
}


@pytest.mark.parametrize(("yaml", "said"), NAMES.items(), ids=range(len(NAMES)))
def test_names_and_topics_are_checked(yaml: str, said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        plans_of(HEAD + yaml)
    assert said in str(refused.value)


def test_repartitioning_sees_that_keys_are_no_partition_keys() -> None:
    """Their text is JSON: where a partition key's text goes, theirs does not."""
    statements = {"w": WINDOWS["having"], "m": MATCHES["measures"], "j": JOINS["plain"], "a": JOINS["as of"]}
    (plan,) = plans_of(pipeline(JOINED, **statements))
    assert len(plan.tables) == 5
    assert plan.stream.key not in {table.key for table in plan.tables}


def test_a_later_stage_has_the_columns_of_the_stream() -> None:
    """Not those that its records have for themselves."""
    head = HEAD.partition("partition_by")[0]
    stages = "stages:\n  - {name: first, partition_by: card_id}\n  - name: second\n    partition_by: payment_id\n"
    (plan,) = plans_of(HEAD)
    *_, last = plans_of(head + stages + "    sql: {all: SELECT * FROM payments}\n")
    assert [name for name, _ in last.statements[0].columns] == [field.name for field in plan.stream.fields]


def test_what_belongs_to_the_state() -> None:
    sql = f"SELECT card_id, COUNT(*) AS n FROM payments {G}"
    plain, commented, longer, rowwise = (
        plans_of(pipeline(one=one))[0]
        for one in (sql, f"-- so\n{sql}", sql.replace("5", "6"), "SELECT payment_id FROM payments")
    )
    bare = plans_of(HEAD)[0]
    assert plain.state_fingerprint == commented.state_fingerprint
    assert len({plan.state_fingerprint for plan in (plain, longer, bare)}) == 3
    assert rowwise.state_fingerprint == bare.state_fingerprint
    assert rowwise.decision_fingerprint != bare.decision_fingerprint


ONE_TIME = HEAD.split("streams:", maxsplit=1)[0] + "streams:\n{}{}partition_by: card_id\n"
PROBES = """  payments:
    id: payment_id
    event_time: event_time
    fields: {payment_id: string, card_id: string, event_time: timestamp}
"""
VERSIONS = """  changes:
    id: card_id
    event_time: changed
    fields: {card_id: string, kind: string, changed: timestamp}
"""


def test_a_version_of_the_very_time_is_seen_if_its_stream_comes_first(tmp_path: Path) -> None:
    sql = """SELECT p.payment_id, c.kind FROM payments p
        LEFT JOIN changes FOR SYSTEM_TIME AS OF p.event_time AS c ON p.card_id = c.card_id"""
    at = stamp(0)
    files = {
        "payments": write(tmp_path, "payments", [{"payment_id": "p1", "card_id": "c1", "event_time": at}]),
        "changes": write(tmp_path, "changes", [{"card_id": "c1", "kind": "email", "changed": at}]),
    }
    seen = [{"payment_id": "p1", "kind": "email"}]
    assert over_tables(sql, files, "") == seen

    behind = pipeline(ONE_TIME.format(PROBES, VERSIONS), one=sql)
    assert streamed(behind, files)["one"] == [{"payment_id": "p1", "kind": None}]
    (warning,) = plans_of(behind)[0].warnings
    assert warning.startswith(
        "p.yaml:15:18: FOR SYSTEM_TIME AS OF: of rows with one time payments comes before changes"
    )
    assert "name changes first in `streams`" in warning

    before = pipeline(ONE_TIME.format(VERSIONS, PROBES), one=sql)
    assert streamed(before, dict(reversed(files.items())))["one"] == seen
    assert not plans_of(before)[0].warnings
