"""SQL statements in a worker that crashes and restores: each row of each statement's topic comes once, and is what the
records say, judged without any of our SQL.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import json
from collections import Counter
from decimal import Decimal
from typing import Any

import pytest

from operators.plan import Plan
from operators.timed.spec import TimedAggregate, WindowKind, WindowSpec
from streamproc.eventlog.simulated import VirtualTimeLoop
from streamproc.language import compile_pipeline
from streamproc.language.load import read_pipeline
from streamproc.sql.stream import compile_entry
from tests.oracle.timed import say
from tests.simulation.test_timed import lived
from tests.simulation.world import World

PIPELINE = """
pipeline: timed
streams:
  payments:
    id: id
    event_time: at
    deduplicate: 1d
    fields: {id: string, card: string, amount: decimal(2), login: bool, at: timestamp}
partition_by: card
ttl: 10m
watermark: {disorder: 2s}
sql:
  large: |
    SELECT id, card AS c, amount * 2 AS twice FROM payments WHERE amount > 70 AND NOT login
  spent: |
    SELECT card, COUNT(*) AS n, SUM(amount) AS total, MAX(amount) AS most, TUMBLE_START(at, INTERVAL '5' SECOND) AS s
    FROM payments WHERE NOT login GROUP BY card, TUMBLE(at, INTERVAL '5' SECOND) HAVING COUNT(*) > 1
  visits: |
    SELECT window_start AS s, window_end AS e, card, COUNT(amount) AS known, COUNT(DISTINCT amount) AS amounts
    FROM TABLE(SESSION(TABLE payments PARTITION BY card, DESCRIPTOR(at), INTERVAL '4' SECOND))
    GROUP BY card, window_start, window_end
  kinds: |
    SELECT card, COUNT(DISTINCT amount) AS kinds, COUNT(DISTINCT login) FILTER (WHERE amount > 20) AS ways
    FROM payments GROUP BY card, HOP(at, INTERVAL '3' SECOND, INTERVAL '6' SECOND)
  both: |
    SELECT id, 'login' AS why FROM payments WHERE login UNION ALL SELECT id, 'large' FROM payments WHERE amount > 70
  once: |
    SELECT card, amount FROM payments WHERE login UNION SELECT card, amount - 1 FROM payments WHERE amount < 3
  before: |
    SELECT id, COUNT(*) OVER w AS n, SUM(amount) OVER w AS total, MAX(amount) OVER w AS most,
      COUNT(DISTINCT login) OVER w AS ways, amount - LAG(amount) OVER (PARTITION BY card ORDER BY at) AS step,
      MIN(amount) OVER (PARTITION BY card ORDER BY at ROWS BETWEEN 2 PRECEDING AND CURRENT ROW) AS low,
      SUM(amount) OVER (PARTITION BY card ORDER BY at) AS spent
    FROM payments
    WINDOW w AS (PARTITION BY card ORDER BY at RANGE BETWEEN INTERVAL '5' SECOND PRECEDING AND CURRENT ROW)
  tested: |
    SELECT card, a, c - 1 AS c FROM payments MATCH_RECOGNIZE (
      PARTITION BY card ORDER BY at MEASURES A.id AS a, C.amount AS c
      PATTERN (A B C) WITHIN INTERVAL '1' MINUTE DEFINE A AS amount < 60, B AS amount < 60, C AS amount > A.amount)
  pairs: |
    SELECT p.id, l.id AS login, p.amount FROM payments p JOIN payments l ON p.card = l.card AND l.login AND NOT p.login
    WHERE p.amount > 30
  either: |
    SELECT p.id, l.id AS login FROM payments p LEFT JOIN payments l
      ON p.card = l.card AND p.amount = l.amount AND l.login
"""
TTL = 600_000
SEEDS = 12
COUNTED = WindowSpec(WindowKind.TUMBLE, 5000, (TimedAggregate.COUNT,))
TUMBLE = WindowSpec(WindowKind.TUMBLE, 5000, (TimedAggregate.SUM, TimedAggregate.MAX), of="amount")
HOP = WindowSpec(WindowKind.HOP, 6000, (TimedAggregate.COUNT,), every=3000)
SESSION = WindowSpec(WindowKind.SESSION, 4000, (TimedAggregate.COUNT,), of="amount")
DIFFERENT = WindowSpec(WindowKind.SESSION, 4000, (TimedAggregate.COUNT,), of="amount", different=True)


@pytest.fixture(scope="module")
def plans() -> list[Plan]:
    """Statements alone, and with decisions beside them."""
    texts = [PIPELINE, PIPELINE + "decision: {severity: [decline, approve], otherwise: approve}\n"]
    return [compile_pipeline(read_pipeline(text, "timed.yaml"), statements=compile_entry) for text in texts]


def cents(record: dict[str, Any]) -> int | None:
    return None if record["amount"] is None else round(record["amount"] * 100)


def money(value: int | None) -> Any:
    return None if value is None else Decimal(value).scaleb(-2)


def stamp(ms: int) -> str:
    return dt.datetime.fromtimestamp(ms / 1000, dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{ms % 1000:03}Z"


def windows(rule: WindowSpec, records: list[dict[str, Any]], where: bool) -> list[tuple[Any, ...]]:
    """(card, start, end, values) as the oracle tells them."""
    rows = [
        {
            "key": one["card"],
            "time": one["at"],
            "value": cents(one),
            "where": not (where and one["login"]),
            "after": False,
            "without": False,
            "id": one["id"],
        }
        for one in records
    ]
    return [(key, *rest[:3]) for _, key, what, *rest in say(rule, 2000, rows) if what not in ("missed", "absent")]


def kinds(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The windows that the oracle tells, with the different values of the rows in them that did not come too late."""
    found = []
    taken: list[dict[str, Any]] = []
    newest = 0
    for one in records:
        taken.append(one | {"watermark": newest - 2000})
        newest = max(newest, one["at"])
    for card, start, end, _ in windows(HOP, records, where=False):
        mine = [one for one in taken if one["card"] == card and start <= one["at"] < end and one["watermark"] < end]
        amounts = {one["amount"] for one in mine if one["amount"] is not None}
        ways = {one["login"] for one in mine if (cents(one) or 0) > 2000}
        found.append({"card": card, "kinds": len(amounts), "ways": len(ways)})
    return found


def in_time(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows in the order of telling: those that are not behind the watermark, once it is past their time."""
    waiting: list[dict[str, Any]] = []
    told: list[dict[str, Any]] = []
    newest = 0
    for one in records:
        if one["at"] >= newest - 2000:
            waiting.append(one)
        newest = max(newest, one["at"])
        ready = [other for other in waiting if other["at"] < newest - 2000]
        waiting = [other for other in waiting if other["at"] >= newest - 2000]
        told += sorted(ready, key=lambda other: (other["at"], other["card"]))
    return told


def before(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What each row sees of those of its card."""
    rows, found = in_time(records), []
    for place, one in enumerate(rows):
        mine = [other for other in rows[: place + 1] if other["card"] == one["card"]]
        peers = [other for other in rows[place + 1 :] if (other["card"], other["at"]) == (one["card"], one["at"])]
        near = [other for other in mine + peers if other["at"] >= one["at"] - 5000]
        amounts = [value for other in near if (value := cents(other)) is not None]
        last = cents(mine[-2]) if len(mine) > 1 else None
        own = cents(one)
        low = [value for other in mine[-3:] if (value := cents(other)) is not None]
        spent = [value for other in mine + peers if (value := cents(other)) is not None]
        found.append(
            {
                "id": one["id"],
                "n": len(near),
                "total": money(sum(amounts) if amounts else None),
                "most": money(max(amounts, default=None)),
                "ways": len({other["login"] for other in near}),
                "step": money(None if last is None or own is None else own - last),
                "low": money(min(low, default=None)),
                "spent": money(sum(spent) if spent else None),
            }
        )
    return found


def sequences(records: list[dict[str, Any]]) -> list[tuple[int, dict[str, Any]]]:
    """(place of the last row, match) of all cards."""
    found = []
    for card in {one["card"] for one in records}:
        mine = [(place, one) for place, one in enumerate(records) if one["card"] == card]
        at = 0
        while at + 2 < len(mine):
            (_, a), (_, b), (last, c) = mine[at : at + 3]
            first, second, third = (cents(one) for one in (a, b, c))
            begins = first is not None and second is not None and first < 6000 and second < 6000
            if begins and third is not None and third > (first or 0) and max(b["at"], c["at"]) - a["at"] < 60_000:
                found.append((last, {"card": card, "a": a["id"], "c": money(third - 100)}))
                at += 3
            else:
                at += 1
    return sorted(found, key=lambda one: one[0])


def paired(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each row with those of its card that came before and are newer than TTL behind all rows' newest time."""
    found, newest = [], 0
    for place, one in enumerate(records):
        newest = max(newest, one["at"])
        others = [other for other in records[:place] if other["card"] == one["card"] and other["at"] > newest - TTL]
        for other in others:
            payment, login = (other, one) if one["login"] else (one, other)
            if login["login"] and not payment["login"] and (cents(payment) or 0) > 3000:
                found.append({"id": payment["id"], "login": login["id"], "amount": money(cents(payment))})
    return found


def once(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The first of equal rows, and the first behind TTL without one."""
    found, seen = [], dict[tuple[str, int | None], int]()
    newest = 0
    for one in records:
        newest = max(newest, one["at"])
        amount = cents(one)
        for fits, value in ((one["login"], amount), ((amount or 300) < 300, (amount or 0) - 100)):
            if fits and newest - seen.get((one["card"], value), 0) >= TTL:
                found.append({"card": one["card"], "amount": money(value)})
            if fits:
                seen[one["card"], value] = newest
    return found


def either(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each row with the logins of its card and amount, itself too, as the later one comes; alone without an amount."""
    found = []
    for place, one in enumerate(records):
        if one["amount"] is None:
            found.append({"id": one["id"], "login": None})
            continue
        like = [other for other in records[:place] if (other["card"], cents(other)) == (one["card"], cents(one))]
        found += [{"id": one["id"], "login": other["id"]} for other in like if other["login"]]
        found += [{"id": other["id"], "login": one["id"]} for other in [*like, one] if one["login"]]
    return found


async def judge(world: World) -> Counter[str]:
    seen: Counter[str] = Counter()
    topics = {one.name: one.topic for one in world.plan.statements}
    for partition in range(world.partitions):
        records = [json.loads(value) for _, value, _ in await world.read(world.plan.stream.topic, partition)]
        told = {
            name: [json.loads(value, parse_float=Decimal) for _, value, _ in await world.read(topic, partition)]
            for name, topic in topics.items()
        }
        assert told["large"] == [
            {"id": one["id"], "c": one["card"], "twice": money(2 * (cents(one) or 0))}
            for one in records
            if (cents(one) or 0) > 7000 and not one["login"]
        ]
        assert told["before"] == before(records)
        assert told["kinds"] == kinds(records)
        assert told["both"] == [
            {"id": one["id"], "why": why}
            for one in records
            for why, fits in (("login", one["login"]), ("large", (cents(one) or 0) > 7000))
            if fits
        ]
        assert told["once"] == once(records)
        assert told["tested"] == [match for _, match in sequences(records)]
        assert told["pairs"] == paired(records)
        assert told["either"] == either(records)
        rows = windows(COUNTED, records, where=True)
        sums = windows(TUMBLE, records, where=True)
        assert told["spent"] == [
            {"card": card, "n": n, "total": money(total), "most": money(most), "s": stamp(start)}
            for (card, start, _, (n,)), (_, _, _, (total, most)) in zip(rows, sums, strict=True)
            if n > 1
        ]
        for name, rule in (("known", SESSION), ("amounts", DIFFERENT)):
            sessions = [(one["card"], one[name]) for one in told["visits"]]
            assert sessions == [(card, values[0]) for card, _, _, values in windows(rule, records, where=False)]
        blocks = {value != b"" for _, value, _ in await world.read(world.plan.topics.journal, partition)}
        if world.plan.is_silent:
            assert blocks == {False}
        else:
            assert len(await world.read(world.plan.topics.decisions, partition)) == len(records)
            assert True in blocks
        seen.update({name: len(rows) for name, rows in told.items()})
    return seen


@pytest.mark.timeout(400)
def test_rows_of_statements_come_once_whatever_fails(plans: list[Plan]) -> None:
    seen: Counter[str] = Counter()
    for seed in range(SEEDS):
        with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
            seen += runner.run(lived(plans[seed % 2], seed, judge))
    assert seen["crashes"] >= 5
    assert min(seen[one.name] for one in plans[0].statements) > 50, seen
