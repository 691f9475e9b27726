"""A partition with a backlog beside live ones, in virtual time: who pays in the live ones does not wait for it."""

from __future__ import annotations

import asyncio
import json
import random
from unittest import mock

import pytest

from state.hashing import partition_of
from streamproc.runtime.collector import InArrivalOrder
from streamproc.runtime.stage import Stage
from tests.simulation.fleet import Fleet, run_fleet
from tests.simulation.loop import SeededLoop
from tests.simulation.test_in_step import decided_at
from tests.simulation.traffic import START_MS, Record
from tests.simulation.variants import DEADLINE_MS, deadline_plans

pytestmark = [pytest.mark.blocking, pytest.mark.timeout(240)]
PARTITIONS, BACKLOGGED = 4, 2
BACKLOG, LIVE = 3_000, 40
OUTAGE_S, SETTLED_S = 3_600.0, 6.0  # virtual
BATCH = 20


def payments(seed: int, count: int, *, backlogged: bool) -> list[Record]:
    """A payment a second, none late, of cards in partitions with, or without a backlog."""
    rng, name = random.Random(f"fresh {seed} {backlogged}"), "b" if backlogged else "f"
    cards = [card for card in (f"c{n}" for n in range(200)) if is_backlogged(card) is backlogged]
    records = []
    for number in range(count):
        event = {
            "transaction_id": f"{name}{number}", "card_id": rng.choice(cards), "amount": rng.choice((1.5, 250.0)),
            "lat": 48.85, "lon": 2.35, "event_time": START_MS + number * 1_000, "ts": 1,
        }  # fmt: skip
        records.append(Record(str(event["card_id"]), json.dumps(event).encode()))
    return records


def is_backlogged(card: str) -> bool:
    return partition_of(card.encode(), PARTITIONS) < BACKLOGGED


def delays(seed: int, backlog: int) -> list[int]:
    """ms from a live payment's coming to its decision, of all; everything is judged."""
    plans = deadline_plans()[1]

    async def play(loop: SeededLoop) -> list[int]:
        fleet = Fleet(plans, seed, loop, partitions=PARTITIONS, settings={"batch_rows_max": BATCH})
        fleet.feed(payments(seed, backlog, backlogged=True), ago_s=OUTAGE_S)
        fleet.start()
        await asyncio.sleep(0.5)  # it has begun
        rng, fed = random.Random(seed), dict[bytes, int]()
        for record in payments(seed, LIVE, backlogged=False):
            fed[record.value] = fleet.shared.cluster.clock.now_ms()
            fleet.feed([record])
            await asyncio.sleep(rng.expovariate(50))
        live_over = fleet.shared.cluster.clock.now_ms()
        await asyncio.sleep(2 * SETTLED_S)
        fleet.stop()
        assert await fleet.ended() == ["stopped"]
        assert fleet.judge() == []
        at = decided_at(fleet)
        assert not backlog or max(at.values()) > live_over, "the backlog took longer"
        return [at[json.loads(value)["transaction_id"]] - came for value, came in fed.items()]

    return run_fleet(play, seed)


@pytest.mark.parametrize("seed", range(2))
def test_live_payments_beside_a_backlog_are_decided_within_their_deadline(seed: int) -> None:
    """Alone the longest takes one transaction's time; beside a backlog three: in flight, computed ahead, its own."""
    assert max(delays(seed, 0)) < DEADLINE_MS / 4
    assert max(delays(seed, BACKLOG)) < DEADLINE_MS / 2


def test_where_the_first_that_came_is_taken_first_they_are_not() -> None:
    with mock.patch.object(Stage, "alone", return_value=InArrivalOrder()):
        assert max(delays(0, BACKLOG)) > DEADLINE_MS
