"""JOIN: plain, by intervals, as of a time, look-ups; against DuckDB."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

from streamproc.sql import pairs
from tests.sql.support import Row, agree, changes, ours, payments, refusal, theirs, write

PLAIN = {
    "inner": "SELECT p.payment_id, c.kind FROM payments p JOIN changes c ON p.card_id = c.card_id",
    "left": "SELECT p.payment_id, c.kind, c.level FROM payments p LEFT JOIN changes AS c ON p.card_id = c.card_id",
    "right": "SELECT p.payment_id, c.kind FROM payments p RIGHT OUTER JOIN changes c ON p.card_id = c.card_id",
    "full": "SELECT p.payment_id, p.amount, c.kind FROM payments p FULL JOIN changes c ON p.card_id = c.card_id",
    "with a condition": """SELECT p.payment_id, c.kind FROM payments p
        LEFT JOIN changes c ON p.card_id = c.card_id AND p.items > c.level * 8 AND c.kind <> 'email'""",
    "computed keys": """SELECT p.payment_id, c.kind FROM payments p
        JOIN changes c ON upper(p.card_id) = upper(c.card_id) AND (c.level + 1 = p.items)""",
    "two keys": """SELECT p.payment_id, c.kind FROM payments p
        JOIN changes c ON c.card_id = p.card_id AND c.level = p.items""",
    "without keys": "SELECT p.payment_id, c.kind FROM payments p JOIN changes c ON p.items < c.level",
    "cross": "SELECT p.payment_id, c.kind FROM payments p CROSS JOIN changes c",
    "interval": """SELECT p.payment_id, c.kind FROM payments p JOIN changes c ON p.card_id = c.card_id
        AND p.event_time BETWEEN c.change_time AND c.change_time + INTERVAL '30' MINUTE""",
    "left interval": """SELECT p.payment_id, c.kind FROM payments p LEFT JOIN changes c ON p.card_id = c.card_id
        AND p.event_time BETWEEN c.change_time - INTERVAL '1' MINUTE AND c.change_time + INTERVAL '30' MINUTE""",
    "interval with a comma": """SELECT p.payment_id, c.kind FROM payments p, changes c WHERE p.card_id = c.card_id
        AND p.event_time BETWEEN c.change_time AND c.change_time + INTERVAL '30' MINUTE AND p.items > 3""",
    "itself": """SELECT a.payment_id, b.payment_id AS other FROM payments a JOIN payments b ON a.card_id = b.card_id
        AND a.merchant_country <> b.merchant_country AND b.event_time > a.event_time
        AND b.event_time < a.event_time + INTERVAL '10' MINUTE""",
    "three": """SELECT a.payment_id, b.kind, c.kind AS k FROM payments a JOIN changes b ON a.card_id = b.card_id
        LEFT JOIN changes c ON b.card_id = c.card_id AND c.level = b.level + 1""",
    "queries": """WITH late AS (SELECT * FROM changes WHERE level > 2)
        SELECT q.payment_id, late.kind FROM (SELECT * FROM payments WHERE items > 20) AS q
        JOIN late ON q.card_id = late.card_id""",
    "star": "SELECT p.*, c.level FROM payments p JOIN changes c ON p.card_id = c.card_id",
}


@pytest.mark.parametrize("sql", PLAIN.values(), ids=PLAIN)
def test_duckdb_says_the_same(sql: str, tmp_path: Path) -> None:
    files = {"payments": write(tmp_path, "payments", payments()), "changes": write(tmp_path, "changes", changes())}
    mine = ours(sql, files)
    agree(mine, theirs(sql, files))
    assert mine


@pytest.mark.parametrize("empty", ["payments", "changes"])
@pytest.mark.parametrize("kind", ["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"])
def test_an_empty_side(empty: str, kind: str, tmp_path: Path) -> None:
    files = {"payments": write(tmp_path, "payments", payments()), "changes": write(tmp_path, "changes", changes())}
    sql = f"""SELECT p.payment_id, c.kind, c.level
        FROM (SELECT * FROM payments WHERE items > {100 if empty == "payments" else 5}) AS p
        {kind} (SELECT * FROM changes WHERE level > {100 if empty == "changes" else 2}) AS c ON p.card_id = c.card_id"""
    agree(ours(sql, files), theirs(sql, files))


def test_minutes_since_a_change(tmp_path: Path) -> None:
    """Flink's TIMESTAMPDIFF counts whole elapsed units: DuckDB's date_sub."""
    files = {"payments": write(tmp_path, "payments", payments()), "changes": write(tmp_path, "changes", changes())}
    sql = """SELECT p.payment_id, TIMESTAMPDIFF(MINUTE, c.change_time, p.event_time) AS minutes,
            CASE WHEN TIMESTAMPDIFF(MINUTE, c.change_time, p.event_time) < 30 THEN 'hot' ELSE 'warm' END AS heat
        FROM payments AS p JOIN changes AS c ON p.card_id = c.card_id
        WHERE TIMESTAMPDIFF(MINUTE, c.change_time, p.event_time) < 60"""
    their_words = sql.replace("TIMESTAMPDIFF(MINUTE,", "date_sub('minute',")
    mine = ours(sql, files)
    agree(mine, theirs(their_words, files))
    assert min(row["minutes"] for row in mine) < 0, "a plain JOIN has SQL's meaning: changes behind the payment, too"


AS_OF = {
    "inner": ("JOIN", "", "ASOF JOIN"),
    "left": ("LEFT JOIN", "", "ASOF LEFT JOIN"),
}


@pytest.mark.parametrize(("join", "more", "reference"), AS_OF.values(), ids=AS_OF)
@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_as_of_a_time(join: str, more: str, reference: str, seed: int, tmp_path: Path) -> None:
    files = {
        "payments": write(tmp_path, "payments", payments(seed=seed)),
        "changes": write(tmp_path, "changes", changes(seed=seed)),
    }
    sql = f"""SELECT p.payment_id, c.kind, c.change_time FROM payments AS p
        {join} changes FOR SYSTEM_TIME AS OF p.event_time AS c ON p.card_id = c.card_id"""
    their_words = f"""SELECT p.payment_id, c.kind, c.change_time FROM payments AS p
        {reference} changes AS c ON p.card_id = c.card_id AND p.event_time >= c.change_time"""
    mine = ours(sql, files)
    agree(mine, theirs(their_words, files))
    assert any(row["kind"] for row in mine)
    assert [row["payment_id"] for row in mine] == sorted(row["payment_id"] for row in mine), "as the left rows stand"


RATES: list[Row] = [
    {"currency": "EUR", "rate": 1.1, "valid_from": "2026-05-01T00:00:00Z"},
    {"currency": "EUR", "rate": 1.2, "valid_from": "2026-05-01T01:00:00Z"},
    {"currency": "EUR", "rate": 1.3, "valid_from": "2026-05-01T01:00:00Z"},
]


def test_at_the_moment_itself_and_the_last_of_two(tmp_path: Path) -> None:
    orders: list[Row] = [
        {"id": "before", "currency": "EUR", "event_time": "2026-04-30T23:59:59.999Z"},
        {"id": "at", "currency": "EUR", "event_time": "2026-05-01T00:00:00Z"},
        {"id": "until", "currency": "EUR", "event_time": "2026-05-01T00:59:59.999Z"},
        {"id": "tie", "currency": "EUR", "event_time": "2026-05-01T01:00:00Z"},
        {"id": "none", "currency": "USD", "event_time": "2026-05-01T01:00:00Z"},
        {"id": "null", "currency": None, "event_time": "2026-05-01T01:00:00Z"},
    ]
    files = {"orders": write(tmp_path, "orders", orders), "rates": write(tmp_path, "rates", RATES)}
    sql = """SELECT o.id, r.rate FROM orders AS o
        LEFT JOIN rates FOR SYSTEM_TIME AS OF o.event_time AS r ON r.currency = o.currency"""
    assert [(row["id"], row["rate"]) for row in ours(sql, files)] == [
        ("before", None),
        ("at", 1.1),
        ("until", 1.1),
        ("tie", 1.3),
        ("none", None),
        ("null", None),
    ]


def test_a_look_up(tmp_path: Path) -> None:
    """A table without an event time, or asked as of now, is looked up as its file is."""
    cards = [{"id": "c1", "owner": "ann"}, {"id": "c2", "owner": "bob"}]
    files = {"payments": write(tmp_path, "payments", payments()), "cards": write(tmp_path, "cards", cards)}
    plain = "SELECT p.payment_id, c.owner FROM payments AS p LEFT JOIN cards{} AS c ON p.card_id = c.id"
    expected = theirs(plain.format(""), files)
    agree(ours(plain.format(" FOR SYSTEM_TIME AS OF p.event_time"), files), expected)
    declared = """CREATE TABLE payments (payment_id STRING, card_id STRING, event_time TIMESTAMP(3),
        proc_time AS PROCTIME(), WATERMARK FOR event_time AS event_time);"""
    agree(ours(declared + plain.format(" FOR SYSTEM_TIME AS OF p.proc_time"), files), expected)


def test_pairs_come_when_the_later_one_is_there(tmp_path: Path) -> None:
    files = {"payments": write(tmp_path, "payments", payments()), "changes": write(tmp_path, "changes", changes())}
    sql = """SELECT greatest(p.event_time, c.change_time) AS later FROM payments p
        JOIN changes c ON p.card_id = c.card_id"""
    times = [row["later"] for row in ours(sql, files)]
    assert times == sorted(times)


def test_windows_are_joined(tmp_path: Path) -> None:
    files = {"payments": write(tmp_path, "payments", payments()), "changes": write(tmp_path, "changes", changes())}
    sql = """WITH p AS (SELECT card_id, window_start, window_end, COUNT(*) AS n FROM TABLE(
            TUMBLE(TABLE payments, DESCRIPTOR(event_time), INTERVAL '20' MINUTE))
            GROUP BY window_start, window_end, card_id),
        c AS (SELECT card_id, window_start, window_end, COUNT(*) AS m FROM TABLE(
            TUMBLE(TABLE changes, DESCRIPTOR(change_time), INTERVAL '20' MINUTE))
            GROUP BY window_start, window_end, card_id)
        SELECT p.window_start AS ws, p.card_id, n, m FROM p JOIN c
            ON p.card_id = c.card_id AND p.window_start = c.window_start AND p.window_end = c.window_end"""
    bucket = "time_bucket(INTERVAL '20 minutes', {})"
    reference = f"""WITH
        p AS (SELECT card_id, {bucket.format("event_time")} AS ws, COUNT(*) AS n FROM payments GROUP BY ALL),
        c AS (SELECT card_id, {bucket.format("change_time")} AS ws, COUNT(*) AS m FROM changes GROUP BY ALL)
        SELECT p.ws, p.card_id, n, m FROM p JOIN c ON p.card_id = c.card_id AND p.ws = c.ws"""
    mine = ours(sql, files)
    agree(mine, theirs(reference, files))
    assert mine


HINT = "(narrow ON (without ON: WHERE), or GROUP BY in a query before the JOIN)"
MANY = {
    "equal keys": ("x a JOIN x b ON a.k = b.k JOIN x c ON b.k = c.k", "1:58: the JOIN makes 250,000,000 pairs of rows"),
    "no keys": ("x a JOIN x b ON a.k = b.k CROSS JOIN x c", "1:64: the JOIN makes 500,000,000 pairs of rows"),
    "a comma": ("x a JOIN x b ON a.k = b.k, x c", "1:54: the JOIN makes 500,000,000 pairs of rows"),
    "outer": ("x a JOIN x b ON a.k = b.k FULL JOIN x c ON b.k = c.k", "1:63: the JOIN makes 250,000,000 pairs of rows"),
}


@pytest.fixture
def two_keys(tmp_path: Path) -> dict[str, Path]:
    return {"x": write(tmp_path, "x", [{"id": n, "k": f"k{n % 2}"} for n in range(1_000)])}


@pytest.mark.parametrize(("tables", "said"), MANY.values(), ids=MANY)
def test_pairs_that_would_fill_the_memory_are_refused(tables: str, said: str, two_keys: dict[str, Path]) -> None:
    found = refusal(f"SELECT COUNT(*) AS n FROM {tables}", two_keys)
    assert found.startswith(f"q.sql:{said}; at most ")
    assert found.endswith(f" are kept {HINT}")


def test_only_pairs_that_are_kept_fill_the_memory(two_keys: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs, "_JOINED_BYTES_MAX", 1 << 20)
    monkeypatch.setattr(pairs, "_AT_ONCE_MAX", 1 << 12)
    sql = "SELECT COUNT(*) AS n FROM x a JOIN x b ON a.k = b.k AND a.id < b.id"
    assert ours(f"{sql} AND b.id < 100", two_keys) == [{"n": 2450}]
    said = "q.sql:1:36: the JOIN makes more than 9,362 pairs of rows, the most that are kept"
    assert refusal(sql, two_keys) == f"{said} {HINT}"


def test_as_many_pairs_as_rows_are_always_kept(two_keys: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs, "_JOINED_BYTES_MAX", 0)
    assert ours("SELECT COUNT(*) AS n FROM x a JOIN x b ON a.id = b.id", two_keys) == [{"n": 1000}]


def test_a_condition_is_not_asked_of_pairs_without_end(
    two_keys: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pairs, "_TRIED_MAX", 999_999)
    said = "q.sql:1:36: the JOIN asks its condition of 1,000,000 pairs of rows, more than 999,999"
    assert refusal("SELECT COUNT(*) AS n FROM x a JOIN x b ON a.id < b.id", two_keys) == f"{said} {HINT}"


def test_where_memory_ends_is_said(two_keys: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(import_module("streamproc.sql.run"), "in_order", full)
    said = "q.sql:1:36: memory is not enough for the rows that this makes (fewer rows or columns, in a query before it)"
    assert refusal("SELECT COUNT(*) AS n FROM x a JOIN x b ON a.id = b.id", two_keys) == said
