"""Groups without a window, DISTINCT, ORDER BY, LIMIT and UNION over whole tables, against DuckDB; views and INSERT."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.sql.support import agree, changes, ours, payments, theirs, write

AGGREGATES = """COUNT(*) AS n, COUNT(amount) AS known, SUM(amount) AS total, AVG(items) AS mean, MIN(amount) AS low,
    MAX(payment_id) AS last, COUNT(DISTINCT merchant_country) AS countries, MAX(event_time) AS latest"""
UNORDERED = {
    "groups": f"SELECT card_id, {AGGREGATES} FROM payments GROUP BY card_id",
    "groups of expressions": """SELECT items > 9 AS many, online, SUM(items) AS s FROM payments
        GROUP BY items > 9, online""",
    "having": "SELECT card_id, SUM(items) AS s FROM payments GROUP BY card_id HAVING COUNT(*) > 40 AND SUM(items) > 9",
    "one group": f"SELECT {AGGREGATES} FROM payments WHERE online",
    "one group of no rows": f"SELECT {AGGREGATES} FROM payments WHERE items > 1000",
    "no group": "SELECT card_id, COUNT(*) AS n FROM payments WHERE items > 1000 GROUP BY card_id",
    "having without groups": "SELECT COUNT(*) AS n FROM payments HAVING COUNT(*) > 1000",
    "empty brackets": "SELECT COUNT(*) + 1 AS n FROM payments GROUP BY ()",
    "groups of groups": """SELECT MAX(n) AS most, COUNT(*) AS cards FROM
        (SELECT card_id, merchant_country, COUNT(*) AS n FROM payments GROUP BY card_id, merchant_country)""",
    "joined groups": """WITH p AS (SELECT card_id, COUNT(*) AS n FROM payments GROUP BY card_id),
        c AS (SELECT card_id, COUNT(*) AS m FROM changes GROUP BY card_id)
        SELECT p.card_id, n, m FROM p FULL JOIN c ON p.card_id = c.card_id""",
    "distinct": "SELECT DISTINCT card_id, merchant_country FROM payments",
    "distinct groups": "SELECT DISTINCT COUNT(*) > 40 AS many FROM payments GROUP BY card_id",
    "union all": "SELECT card_id, items FROM payments UNION ALL SELECT card_id, level FROM changes",
    "union": "SELECT card_id FROM payments UNION SELECT card_id FROM changes",
    "union of types": """SELECT items AS x FROM payments UNION ALL SELECT amount FROM payments
        UNION ALL SELECT 2.50 FROM changes""",
    "unions": """SELECT card_id FROM payments UNION ALL SELECT kind FROM changes
        UNION SELECT merchant_country FROM payments UNION ALL SELECT card_id FROM changes""",
    "a union in FROM": """SELECT card_id, COUNT(*) AS n FROM
        (SELECT card_id FROM payments UNION ALL (SELECT card_id FROM changes)) AS u GROUP BY card_id""",
    "a union behind WITH": """WITH de AS (SELECT items FROM payments WHERE merchant_country = 'DE')
        SELECT items FROM de WHERE items < 9 UNION SELECT items * 2 FROM de""",
}
ORDERED = {
    "a column": "SELECT payment_id, amount FROM payments ORDER BY amount DESC, payment_id",
    "a hidden column": "SELECT payment_id FROM payments ORDER BY merchant_country, items DESC, payment_id DESC",
    "a place": "SELECT card_id, payment_id FROM payments ORDER BY 1, 2 DESC",
    "an alias": "SELECT -items AS items, payment_id FROM payments ORDER BY items, payment_id",
    "an alias in an expression": "SELECT items + 1 AS x, payment_id FROM payments ORDER BY -x, payment_id",
    "nulls last": "SELECT payment_id, card_id FROM payments ORDER BY card_id NULLS LAST, payment_id",
    "nulls first": "SELECT payment_id, online FROM payments ORDER BY online DESC NULLS FIRST, payment_id",
    "limit": "SELECT payment_id FROM payments ORDER BY event_time, payment_id LIMIT 7",
    "offset": "SELECT payment_id FROM payments ORDER BY event_time, payment_id LIMIT 7 OFFSET 5",
    "fetch": "SELECT payment_id FROM payments ORDER BY payment_id OFFSET 190 ROWS FETCH NEXT 20 ROWS ONLY",
    "beyond the end": "SELECT payment_id FROM payments ORDER BY payment_id LIMIT 5 OFFSET 1000",
    "none": "SELECT payment_id FROM payments ORDER BY payment_id LIMIT 0",
    "an aggregate": "SELECT card_id, COUNT(*) AS n FROM payments GROUP BY card_id ORDER BY SUM(items) DESC, n LIMIT 3",
    "distinct": "SELECT DISTINCT card_id FROM payments ORDER BY card_id DESC",
    "a union": "SELECT card_id AS c FROM payments UNION SELECT kind FROM changes ORDER BY c DESC LIMIT 4",
    "a part of a union": """(SELECT payment_id FROM payments ORDER BY payment_id LIMIT 2) UNION ALL
        (SELECT payment_id FROM payments ORDER BY payment_id DESC LIMIT 2) ORDER BY payment_id""",
    "over rows": """SELECT payment_id, SUM(items) OVER (PARTITION BY card_id ORDER BY event_time) AS s
        FROM payments ORDER BY s DESC, payment_id LIMIT 9""",
}


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    return {"payments": write(tmp_path, "payments", payments()), "changes": write(tmp_path, "changes", changes())}


@pytest.mark.parametrize("sql", UNORDERED.values(), ids=UNORDERED)
def test_duckdb_says_the_same(sql: str, files: dict[str, Path]) -> None:
    mine = ours(sql, files)
    agree(mine, theirs(sql, files))
    assert mine or "1000" in sql


@pytest.mark.parametrize("sql", ORDERED.values(), ids=ORDERED)
def test_duckdb_says_the_same_in_the_same_order(sql: str, files: dict[str, Path]) -> None:
    # Flink's NULLs are the smallest values; DuckDB's come last.
    flinks = "SET default_null_order = 'nulls_first_on_asc_last_on_desc'"
    mine = ours(sql, files)
    expected = theirs(sql, files, flinks)
    assert [list(row.values()) for row in mine] == [list(row.values()) for row in expected]


def test_groups_come_as_they_began(files: dict[str, Path]) -> None:
    found = [row["card_id"] for row in ours("SELECT card_id, COUNT(*) AS n FROM payments GROUP BY card_id", files)]
    assert found == list(dict.fromkeys(row["card_id"] for row in payments()))


def test_views(files: dict[str, Path]) -> None:
    sql = """
        CREATE TEMPORARY VIEW IF NOT EXISTS german (id, card) COMMENT 'at home' AS
            SELECT payment_id, card_id FROM payments WHERE merchant_country = 'DE';
        CREATE OR REPLACE VIEW busy AS SELECT card, COUNT(*) AS n FROM german GROUP BY card;
        SELECT g.id, b.n FROM german AS g JOIN busy AS b ON g.card = b.card;
        SELECT card FROM busy WHERE n > 9"""
    reference = """WITH
        german AS (SELECT payment_id AS id, card_id AS card FROM payments WHERE merchant_country = 'DE'),
        busy AS (SELECT card, COUNT(*) AS n FROM german GROUP BY card)"""
    mine = ours(sql, files)
    pairs = [row for row in mine if "id" in row]
    agree(pairs, theirs(f"{reference} SELECT g.id, b.n FROM german g JOIN busy b ON g.card = b.card", files))
    agree(mine[len(pairs) :], theirs(f"{reference} SELECT card FROM busy WHERE n > 9", files))


def test_a_view_keeps_its_event_time(files: dict[str, Path]) -> None:
    sql = """CREATE VIEW german (id, at_time) AS
            SELECT payment_id, event_time FROM payments WHERE merchant_country = 'DE';
        SELECT id, ROW_NUMBER() OVER (ORDER BY at_time) AS n FROM german"""
    reference = """SELECT payment_id AS id, ROW_NUMBER() OVER (ORDER BY event_time) AS n FROM payments
        WHERE merchant_country = 'DE'"""
    agree(ours(sql, files), theirs(reference, files))


def test_inserted_rows_have_the_tables_columns(files: dict[str, Path]) -> None:
    sql = """
        CREATE TABLE alerts (payment STRING, risk STRING, sum_of DOUBLE) WITH ('connector' = 'print');
        INSERT INTO alerts SELECT payment_id, 'high', items FROM payments WHERE items > 40;
        INSERT INTO alerts (risk, payment) SELECT 'low', payment_id FROM payments WHERE items < 3;
        INSERT INTO others SELECT payment_id FROM payments WHERE items = 7"""
    mine = ours(sql, files)
    high = theirs("SELECT payment_id AS payment, 'high' AS risk, items AS sum_of FROM payments WHERE items > 40", files)
    low = theirs("SELECT 'low' AS risk, payment_id AS payment FROM payments WHERE items < 3", files)
    agree(mine[: len(high)], high)
    agree(mine[len(high) : len(high) + len(low)], low)
    agree(mine[len(high) + len(low) :], theirs("SELECT payment_id FROM payments WHERE items = 7", files))
