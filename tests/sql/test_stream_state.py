"""What statements of a pipeline keep: rows are DuckDB's, row by row or all at once, and a restore changes nothing."""

from __future__ import annotations

import datetime as dt
import json
import random
from pathlib import Path

import pytest

from operators.statements.joins import ROWS_MAX
from tests.sql.streaming import END, HEAD, in_batches, pipeline, tellings
from tests.sql.support import Row, agree, stamp, theirs, write

WAYS = pytest.mark.parametrize(("size", "restore"), [(1, True), (0, False), (7, True)])


def rows(seed: int, size: int = 90) -> list[Row]:
    """Payments of four cards, some equal but for their ids and times; NULLs; out of order by less than two minutes."""
    pick = random.Random(seed)
    return [
        {
            "payment_id": f"p{n:03}",
            "card_id": pick.choice(["c1", "c2", "c3", "c5"]),
            "amount": pick.choice([None, 1.5, 2.25, 300.0]),
            "merchant_country": pick.choice([None, "DE", 'D"E', "FR"]),
            "cardholder_country": pick.choice(["DE", None]),
            "items": pick.choice([None, 1, 2, 3]),
            "online": pick.choice([True, False, None]),
            "event_time": stamp(max(0, n * 60_000 - pick.randrange(110_000))),
        }
        for n in range(size)
    ]


SESSIONS = """(SELECT *, MIN(event_time) OVER s AS ws, MAX(event_time) OVER s + INTERVAL '4 minutes' AS we FROM (
    SELECT *, SUM(begins) OVER (PARTITION BY card_id ORDER BY event_time ROWS UNBOUNDED PRECEDING) AS number FROM (
        SELECT *, CASE WHEN event_time - LAG(event_time) OVER (PARTITION BY card_id ORDER BY event_time)
            <= INTERVAL '4 minutes' THEN 0 ELSE 1 END AS begins FROM payments))
    WINDOW s AS (PARTITION BY card_id, number))"""
DIFFERENT = """COUNT(DISTINCT merchant_country) AS countries, COUNT(DISTINCT amount) AS amounts, COUNT(*) AS n,
    COUNT(DISTINCT items % 2) AS odd, COUNT(DISTINCT online) AS ways, SUM(items) AS items,
    COUNT(merchant_country) AS known, COUNT(DISTINCT cardholder_country) > 0 AS at_home"""


@WAYS
@pytest.mark.parametrize("seed", [1, 2])
def test_sessions_count_different_values(seed: int, size: int, restore: bool, tmp_path: Path) -> None:
    made = rows(seed)
    sql = f"""SELECT card_id, SESSION_START(event_time, INTERVAL '4' MINUTE) AS ws,
            SESSION_END(event_time, INTERVAL '4' MINUTE) AS we, {DIFFERENT}
        FROM payments GROUP BY card_id, SESSION(event_time, INTERVAL '4' MINUTE)"""
    reference = f"SELECT card_id, ws, we, {DIFFERENT} FROM {SESSIONS} GROUP BY card_id, ws, we"
    mine = in_batches(pipeline(HEAD, one=sql), [("payments", row) for row in made], size, restore=restore)
    agree(mine, theirs(reference, {"payments": write(tmp_path, "payments", made)}))
    assert max(row["countries"] for row in mine) == 3


def test_a_row_between_two_sessions_joins_their_values() -> None:
    def row(name: str, minutes: int, country: str | None) -> Row:
        return dict(
            rows(1)[0], payment_id=name, card_id="c1", merchant_country=country, event_time=stamp(minutes * 60_000)
        )

    made = [row("a", 0, "DE"), row("b", 3, "FR"), row("c", 10, "DE"), row("d", 12, "US"), row("e", 6, None)]
    sql = """SELECT COUNT(*) AS n, COUNT(DISTINCT merchant_country) AS countries FROM payments
        GROUP BY card_id, SESSION(event_time, INTERVAL '4' MINUTE)"""
    text = pipeline(HEAD.replace("disorder: 2m", "disorder: 20m"), one=sql)
    before = in_batches(text, [("payments", one) for one in made[:4]], 1, restore=True)
    assert before == [{"n": 2, "countries": 2}, {"n": 2, "countries": 2}]
    assert in_batches(text, [("payments", one) for one in made], 1, restore=True) == [{"n": 5, "countries": 3}]


CHANGES = """  changes:
    id: change_id
    event_time: change_time
    fields: {change_id: string, card_id: string, kind: string, level: int64, change_time: timestamp}
"""
KEPT = HEAD.replace("partition_by", f"{CHANGES}ttl: 1d\npartition_by")


def changes(seed: int, size: int = 40) -> list[Row]:
    """Account changes of four cards, in the same time as the payments."""
    pick = random.Random(seed)
    return [
        {
            "change_id": f"x{n:03}",
            "card_id": pick.choice(["c1", "c2", "c3", "c4"]),
            "kind": pick.choice([None, "DE", "FR", "phone"]),
            "level": pick.choice([None, 1, 2, 9]),
            "change_time": stamp(n * 140_000 + pick.randrange(60_000)),
        }
        for n in range(size)
    ]


def both(payments: list[Row], others: list[Row]) -> list[tuple[str, Row]]:
    """The records of both streams, one after the other in a random order of streams."""
    pick = random.Random(len(payments))
    left, right = [("payments", row) for row in payments], [("changes", row) for row in others]
    found = []
    while left or right:
        found.append((left if not right or (left and pick.random() < 0.7) else right).pop(0))
    return found


ONCE = {
    "distinct": "SELECT DISTINCT card_id, merchant_country, amount, online FROM payments",
    "around and inside": """SELECT u.c || '!' AS c, u.twice FROM (SELECT DISTINCT card_id AS c, items * 2 AS twice
        FROM payments WHERE merchant_country IS NOT NULL) AS u WHERE u.twice IS NULL OR u.twice > 2""",
    "groups without aggregates": "SELECT card_id, items % 2 AS odd FROM payments GROUP BY card_id, items % 2",
    "union": "SELECT card_id, merchant_country AS what FROM payments UNION SELECT card_id, kind FROM changes",
    "union of types": """SELECT card_id, items AS x FROM payments UNION SELECT card_id, amount FROM payments
        UNION SELECT card_id, level FROM changes""",
    "union of one stream": """SELECT card_id, items FROM payments WHERE online
        UNION SELECT card_id, 3 - items FROM payments WHERE amount > 2""",
}


@WAYS
@pytest.mark.parametrize("sql", ONCE.values(), ids=ONCE)
def test_equal_rows_come_once(sql: str, size: int, restore: bool, tmp_path: Path) -> None:
    made, others = rows(3), changes(4)
    mine = in_batches(pipeline(KEPT, one=sql), both(made, others), size, restore=restore)
    files = {"payments": write(tmp_path, "payments", made), "changes": write(tmp_path, "changes", others)}
    agree(mine, theirs(sql, files))
    assert len(mine) > 5


def test_a_row_comes_again_after_the_ttl_without_its_like() -> None:
    """By stream time, so a late one is no older; each like counts, also one that does not come."""
    times = [0, 59_999, 119_999, 300_000, 1_000, 359_999, 360_000, 420_000]
    made = [("payments", dict(rows(1)[0], payment_id=f"p{n}", event_time=stamp(at))) for n, at in enumerate(times)]
    text = pipeline(HEAD.replace("partition_by", "ttl: 1m\npartition_by"), one="SELECT DISTINCT card_id FROM payments")
    told = [len(in_batches(text, made[: n + 1], 1, restore=True)) for n in range(len(made))]
    assert told == [1, 1, 2, 3, 3, 3, 3, 4]
    assert told == [len(in_batches(text, made[: n + 1], 0, restore=False)) for n in range(len(made))]


def test_zeros_of_both_signs_are_equal(tmp_path: Path) -> None:
    made = [dict(rows(1)[0], payment_id=name, card_id="c1", items=items) for name, items in (("a", 1), ("b", -1))]
    sql = "SELECT DISTINCT card_id, CAST(0 AS DOUBLE) * items AS zero FROM payments"
    mine = in_batches(pipeline(KEPT, one=sql), [("payments", row) for row in made], 0, restore=False)
    assert json.dumps(mine) == json.dumps(theirs(sql, {"payments": write(tmp_path, "payments", made)}))


OUTER = {
    "left": "SELECT p.payment_id, c.change_id, c.kind FROM payments p LEFT JOIN changes c ON p.card_id = c.card_id",
    "right": "SELECT p.payment_id, c.change_id FROM payments p RIGHT OUTER JOIN changes c ON p.card_id = c.card_id",
    "full, two keys": """SELECT p.payment_id, c.change_id, c.card_id AS card, c.level + 1 AS more FROM payments p
        FULL JOIN changes c ON p.card_id = c.card_id AND p.items = c.level""",
    "full, no key": """SELECT p.payment_id, c.change_id FROM payments p
        FULL JOIN changes c ON c.card_id = p.card_id AND upper(p.merchant_country) = c.kind""",
    "a condition": """SELECT p.payment_id, c.change_id, p.items FROM payments p
        LEFT JOIN changes c ON p.card_id = c.card_id AND p.amount < c.level * 100 AND c.kind <> p.cardholder_country""",
    "an interval": """SELECT p.payment_id, c.change_id FROM payments p FULL JOIN changes c ON p.card_id = c.card_id
        AND c.change_time BETWEEN p.event_time - INTERVAL '3' MINUTE AND p.event_time""",
    "with itself": """SELECT a.payment_id, b.payment_id AS other FROM payments a
        LEFT JOIN payments b ON a.card_id = b.card_id AND a.items + 1 = b.items AND a.amount = b.amount""",
    "around and inside": """SELECT j.id || '!' AS id, j.kind FROM (SELECT p.id, c.kind
        FROM (SELECT payment_id AS id, card_id AS card FROM payments WHERE online) AS p
        LEFT JOIN (SELECT * FROM changes WHERE level > 1) AS c ON p.card = c.card_id AND c.kind = 'FR') AS j
        WHERE j.kind IS NULL OR j.id > 'p03'""",
}


@WAYS
@pytest.mark.parametrize("sql", OUTER.values(), ids=OUTER)
def test_rows_without_a_partner_come_too(sql: str, size: int, restore: bool, tmp_path: Path) -> None:
    made, others = rows(5, 60), changes(6, 30)
    mine = in_batches(pipeline(KEPT, one=sql), both(made, others), size, restore=restore)
    files = {"payments": write(tmp_path, "payments", made), "changes": write(tmp_path, "changes", others)}
    expected = theirs(sql, files)
    agree(mine, expected)
    alone = [row for row in expected if None in list(row.values())[:2]]
    assert 0 < len(alone) < len(expected)


def told_in_time(records: list[tuple[str, Row]], ttl: int, alone: tuple[str, ...]) -> list[list[list[str | None]]]:
    """What a join by card_id says after each record, and at the end, by looking at all before: (payment, change).

    `alone`: the streams whose rows come without a partner, too.
    """
    rows: list[tuple[str, Row, int]] = []
    settled: set[int] = set()
    newest, said = 0, []

    def lonely() -> list[list[str | None]]:
        over = [n for n, (name, _, at) in enumerate(rows) if name in alone and n not in settled and at <= newest - ttl]
        settled.update(over)
        return [pair(rows[n][1], None) if rows[n][0] == "payments" else pair(None, rows[n][1]) for n in over]

    def pair(payment: Row | None, change: Row | None) -> list[str | None]:
        return [None if payment is None else payment["payment_id"], None if change is None else change["change_id"]]

    for name, row in records:
        at = moment(row.get("event_time") or row["change_time"])
        newest = max(newest, at)
        told = []
        for n, (stream, other, then) in enumerate(rows):
            if stream != name and other["card_id"] == row["card_id"] and then > newest - ttl:
                told.append(pair(row, other) if name == "payments" else pair(other, row))
                settled |= {n, len(rows)}
        rows.append((name, row, at))
        said.append(sorted([*told, *lonely()], key=str))
    newest = END
    return [*said, sorted(lonely(), key=str)]


def moment(text: str) -> int:
    return int(dt.datetime.fromisoformat(text).timestamp() * 1000)


@WAYS
@pytest.mark.parametrize(("kind", "alone"), {"LEFT": ("payments",), "FULL": ("payments", "changes")}.items())
def test_who_is_alone_comes_when_it_will_stay_so(kind: str, alone: tuple[str, ...], size: int, restore: bool) -> None:
    records = both(rows(7, 120), changes(8, 50))
    sql = f"SELECT p.payment_id, c.change_id FROM payments p {kind} JOIN changes c ON p.card_id = c.card_id"
    mine = in_batches(pipeline(KEPT.replace("ttl: 1d", "ttl: 3m"), one=sql), records, size, restore=restore)
    expected = told_in_time(records, 180_000, alone)
    at = 0
    for number, told in enumerate(expected):
        segment = [list(row.values()) for row in mine[at : at + len(told)]]
        assert sorted(segment, key=str) == told, f"after record {number}"
        at += len(told)
    assert at == len(mine)
    lonely = [number for number, told in enumerate(expected[:-1]) if any(None in one for one in told)]
    assert len(lonely) > 20


def test_a_row_that_has_no_room_comes_alone() -> None:
    """The oldest of a key go; those that had a partner do not come again."""
    made = [dict(rows(1)[0], payment_id=f"p{n:04}", card_id="c1", event_time=stamp(n)) for n in range(ROWS_MAX + 3)]
    change = dict(changes(1)[0], card_id="c1", change_id="x", change_time=stamp(0))
    records = [("payments", made[0]), ("changes", change), *(("payments", row) for row in made[1:])]
    sql = """SELECT p.payment_id, c.change_id FROM payments p LEFT JOIN changes c
        ON p.card_id = c.card_id AND p.payment_id < 'p0001'"""
    mine = in_batches(pipeline(KEPT, one=sql), records, 500, restore=True)
    assert [list(row.values()) for row in mine[:3]] == [["p0000", "x"], ["p0001", None], ["p0002", None]]
    assert len(mine) == len(made)


def test_rows_that_waited_have_the_key_of_their_partition() -> None:
    """They are told after a row of another card, or by the clock."""
    made, others = rows(7, 40), changes(8, 20)
    card = {row["payment_id"]: row["card_id"] for row in made} | {row["change_id"]: row["card_id"] for row in others}
    sql = """SELECT COALESCE(p.payment_id, c.change_id) AS id, p.items FROM payments p
        FULL JOIN changes c ON p.items = c.level AND p.card_id = c.card_id"""
    told = tellings(pipeline(KEPT.replace("ttl: 1d", "ttl: 4m"), one=sql), both(made, others), 7, restore=False)
    found = [(one.key.decode(), card[json.loads(one.text)["id"]]) for one in told]
    assert len({key for key, _ in found}) > 3
    assert [key for key, _ in found] == [key for _, key in found]


def test_a_pair_that_the_condition_fails_on_is_none(tmp_path: Path) -> None:
    made = [dict(row, merchant_country=str(n) if n % 3 else "x") for n, row in enumerate(rows(9, 12))]
    sql = """SELECT p.payment_id, c.change_id FROM payments p
        LEFT JOIN changes c ON p.card_id = c.card_id AND {}(p.merchant_country AS BIGINT) > c.level"""
    mine = in_batches(pipeline(KEPT, one=sql.format("CAST")), both(made, others := changes(9, 12)), 4, restore=True)
    files = {"payments": write(tmp_path, "payments", made), "changes": write(tmp_path, "changes", others)}
    agree(mine, theirs(sql.format("TRY_CAST"), files))
