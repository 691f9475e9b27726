"""Stages in step: two workers, one much slower than the other, after an outage; and the end of what was there."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections.abc import Sequence
from itertools import accumulate, pairwise

import pytest

from state.hashing import partition_of
from streamproc.eventlog.contract import TopicPartition
from streamproc.eventlog.simulated import Fault
from tests.simulation.committed import committed_records
from tests.simulation.fleet import Fleet, dealt_out_apart, run_fleet
from tests.simulation.loop import SeededLoop
from tests.simulation.traffic import Record, staged_traffic
from tests.simulation.variants import simulated_plans

pytestmark = [pytest.mark.blocking, pytest.mark.timeout(240)]
APART_MS = 2_000
COUNT = 600
SEEDS = 3
ENDINGS, LIVE = 4, 100
SETTLED_S = 6.0  # virtual
OUTAGE_S = 3_600.0
PATIENCE_S = 0.3  # virtual
HOP_MS = 250  # virtual: the transaction under way and its own; each takes the slow worker about 120
START_MS = 1_600_000_000_000


def steady(rng: random.Random, count: int, *, devices: int = 40, apart_ms: int = APART_MS) -> list[Record]:
    """A payment every so often, of any device: none is late."""
    records = []
    for number in range(count):
        device, card = f"d{rng.randrange(devices)}", f"c{rng.randrange(40)}"
        event = {
            "transaction_id": f"t{number}", "device_id": device, "card_id": card, "terminal_id": f"t{number % 7}",
            "amount": 1.5, "lat": 48.85, "lon": 2.35, "event_time": START_MS + number * apart_ms, "ts": 1,
        }  # fmt: skip
        records.append(Record(device, json.dumps(event).encode()))
    return records


def decided_at(fleet: Fleet) -> dict[str, int]:
    """When a decision was made, ms, by its id."""
    topic = fleet.shared.plans[-1].topics.decisions
    tps = [TopicPartition(topic, partition) for partition in range(fleet.shared.scenario.partitions)]
    found = [record for tp in tps for record in committed_records(fleet.shared.cluster, tp)]
    return {json.loads(record.value)["transaction_id"]: record.timestamp for record in found}


@pytest.mark.parametrize("apart", [False, True], ids=["whole", "apart"])
@pytest.mark.parametrize("stages", [2, 3])
def test_nobody_is_waited_for_in_a_live_flow(stages: int, apart: bool) -> None:
    """Whatever leaps its event times make, and with partitions that have nothing for long: two devices are all."""
    plans, seed = simulated_plans()[stages], stages

    async def play(loop: SeededLoop) -> None:
        fleet = Fleet(plans, seed, loop, settings={"batch_rows_max": 40})
        fleet.feed([])
        for slow_s in (0.0, 0.01, 0.02):
            fleet.start(slow_s=slow_s)
        await asyncio.sleep(SETTLED_S)
        rng, fed = random.Random(seed), dict[str, int]()
        for record in steady(rng, LIVE, devices=2, apart_ms=600_000):
            fed[json.loads(record.value)["transaction_id"]] = fleet.shared.cluster.clock.now_ms()
            fleet.feed([record])
            await asyncio.sleep(rng.expovariate(20))
        await asyncio.sleep(SETTLED_S)
        fleet.stop()
        assert await fleet.ended() == ["stopped"] * 3
        assert fleet.judge() == []
        assert fleet.shared.reached["out of step"] == 0
        at = decided_at(fleet)
        assert len(at) == LIVE
        assert max(at[name] - fed[name] for name in fed) < stages * HOP_MS

    with dealt_out_apart(seed) if apart else contextlib.nullcontext():
        run_fleet(play, seed)


def test_a_live_payment_does_not_wait_for_the_backlog_of_another_partition() -> None:
    """For longer than it is to be patient: some partitions have an hour of records to decide."""
    plans = simulated_plans()[2]

    async def play(loop: SeededLoop) -> None:
        fleet = Fleet(plans, 1, loop, settings={"batch_rows_max": 20, "in_step_seconds": PATIENCE_S})
        rng = random.Random(1)
        partitions = fleet.shared.scenario.partitions
        records = steady(rng, 4_000)
        backlog = [record for record in records if partition_of(record.card.encode(), partitions) < 2]
        live = [record for record in records[-200:] if partition_of(record.card.encode(), partitions) >= 2][:30]
        fleet.feed(backlog, ago_s=OUTAGE_S)
        fleet.start(slow_s=0.01)
        await asyncio.sleep(2.0)  # it has begun
        fed = dict[str, int]()
        for record in live:
            fed[json.loads(record.value)["transaction_id"]] = fleet.shared.cluster.clock.now_ms()
            fleet.feed([record])
            await asyncio.sleep(0.02)
        await asyncio.sleep(2 * SETTLED_S)
        fleet.stop()
        assert await fleet.ended() == ["stopped"]
        assert fleet.judge() == []
        at = decided_at(fleet)
        assert max(at.values()) > max(fed.values()) + 1_000, "the backlog took longer"
        assert max(at[name] - fed[name] for name in fed) < PATIENCE_S * 1_000 + 2 * HOP_MS

    run_fleet(play, 1)


def times_of(fleet: Fleet, topic: str) -> list[list[int]]:
    """Event times, ms, of each partition's rows, in their order."""
    tps = [TopicPartition(topic, partition) for partition in range(fleet.shared.scenario.partitions)]
    found = [committed_records(fleet.shared.cluster, tp) for tp in tps]
    return [[json.loads(record.value)["event_time"] for record in records] for records in found]


def out_of_step_ms(times: Sequence[int]) -> int:
    """By how much, at most, a row's event time lies behind that of a row before it."""
    newest = accumulate(times, max)
    return max((before - time for before, time in zip(newest, times, strict=True)), default=0)


def widest_ms(times: Sequence[int]) -> int:
    """The longest time without a row."""
    return max((later - earlier for earlier, later in pairwise(sorted(times))), default=0)


@pytest.mark.parametrize(("stages", "rows_max"), [(2, 10), (2, 200), (3, 10)])
@pytest.mark.parametrize("seed", range(SEEDS))
def test_what_a_fast_and_a_slow_worker_hand_on_is_in_step(stages: int, rows_max: int, seed: int) -> None:
    """A row may be as far ahead of another partition's as the slack, and the way to the next row of its own: one goes
    alone where nobody has said how far its partition is.
    """
    plans = simulated_plans()[stages]

    async def play(loop: SeededLoop) -> None:
        fleet = Fleet(plans, seed, loop, settings={"batch_rows_max": rows_max, "until_end": True})
        fleet.feed(steady(random.Random(seed), COUNT), ago_s=OUTAGE_S)
        fleet.start()
        fleet.start(slow_s=0.02)
        assert await fleet.ended() == ["stopped", "stopped"]
        assert fleet.judge() == []
        assert fleet.shared.reached["out of step"] == 0, "nobody is waited for in vain"
        allowed = 0
        for plan in plans[:-1]:
            assert plan.handoff is not None
            allowed += plan.handoff.in_step_ms + max(map(widest_ms, times_of(fleet, plan.stream.topic)))
            assert max(map(out_of_step_ms, times_of(fleet, plan.handoff.topic))) <= allowed

    run_fleet(play, seed)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_backlog_goes_through_all_stages_of_one_worker_in_step(seed: int) -> None:
    """Faster than anybody looks how far all have come; a poll brings what was handed on to some partitions only."""
    plans = simulated_plans()[3]

    async def play(loop: SeededLoop) -> None:
        fleet = Fleet(plans, seed, loop, settings={"batch_rows_max": 300, "until_end": True})
        fleet.feed(steady(random.Random(seed), 4 * COUNT), ago_s=OUTAGE_S)
        fleet.start()
        assert await fleet.ended() == ["stopped"]
        assert fleet.judge() == []
        for plan in plans[:-1]:
            assert plan.handoff is not None
            assert max(map(out_of_step_ms, times_of(fleet, plan.handoff.topic))) <= 2 * plan.handoff.in_step_ms

    run_fleet(play, seed)


CALLS = {
    Fault.LOST_REPLY: 0.02, Fault.TORN: 0.04, Fault.UNDELIVERED: 0.04, Fault.DELAYED: 0.04, Fault.MARKERS_LAG: 0.4,
}  # fmt: skip


@pytest.mark.parametrize("apart", [False, True], ids=["whole", "apart"])
@pytest.mark.parametrize("stages", [2, 3])
def test_the_end_is_that_of_the_last_stage(stages: int, apart: bool) -> None:
    """With `until_end`; also if the topics between stages end with what was aborted, which nobody ever commits."""
    plans = simulated_plans()[stages]

    async def play(loop: SeededLoop) -> None:
        rng = random.Random(f"until end {seed}")
        fleet = Fleet(plans, seed, loop, calls=CALLS, settings={"batch_rows_max": 15, "until_end": True})
        for _ in range(2):
            fleet.feed(staged_traffic(rng, 50, 12, START_MS))
            for _ in range(1 + seed % 3):
                fleet.start()
            assert set(await fleet.ended()) == {"stopped"}
            assert fleet.judge() == [], f"seed {seed}"
            fleet.abort([plan.stream.topic for plan in plans[1:]])

    for seed in range(ENDINGS):
        with dealt_out_apart(seed) if apart else contextlib.nullcontext():
            run_fleet(play, seed)
