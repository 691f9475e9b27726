"""What statements of a pipeline keep: rows are DuckDB's, row by row or all at once, and a restore changes nothing."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.sql.streaming import HEAD, in_batches, pipeline
from tests.sql.support import Row, agree, stamp, theirs, write

WAYS = pytest.mark.parametrize(("size", "restore"), [(1, True), (0, False), (7, True)])


def rows(seed: int, size: int = 90) -> list[Row]:
    """Payments of three cards, some equal but for their ids and times; NULLs; out of order by less than two minutes."""
    pick = random.Random(seed)
    return [
        {
            "payment_id": f"p{n:03}",
            "card_id": pick.choice(["c1", "c2", "c3"]),
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
