"""Three streams, merged, under crashes, failed calls, lost disks and brokers that answer late: judged by the oracle."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from pathlib import Path
from unittest import mock

import msgspec
import pytest
from structlog.testing import capture_logs

from operators.plan import Plan
from streamproc.eventlog.simulated import Fault, Faults, VirtualTimeLoop
from streamproc.language import compile_pipeline, read_pipeline
from streamproc.runtime import merging_reader, recovery
from streamproc.runtime.merge import Lane, merge_heads
from tests.bank import NAMES, PIPELINE, traffic
from tests.simulation.campaign import NEVER
from tests.simulation.streams_world import StreamsWorld, slow_partitions

SEEDS = 102
BLOCKS = 6
ROWS, ROWS_MIN = 140, 300
RATES = {
    Fault.LOST_REQUEST: 0.01,
    Fault.LOST_REPLY: 0.01,
    Fault.TORN: 0.03,
    Fault.UNDELIVERED: 0.03,
    Fault.DELAYED: 0.03,
    Fault.MARKERS_LAG: 0.1,
    Fault.COORDINATOR_MOVES: 0.01,
    Fault.CRASH_BEFORE: 0.003,
    Fault.CRASH_AFTER: 0.003,
}
"""The chance at each call; each block of seeds must have seen all kinds."""
CALLS = ("open", "begin", "append", "offsets", "delivered", "commit", "poll", "committed")
INCLUDE = f"decision: {{severity: [decline, review, approve], otherwise: approve, include: [{', '.join(NAMES)}]}}\n"
pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def plan() -> Plan:
    return compile_pipeline(read_pipeline(PIPELINE + INCLUDE, str(Path(__file__).parent / "bank.yaml")))


def simulate(plan: Plan, seed: int, *, patient: bool = True) -> tuple[StreamsWorld, list[str]]:
    """One seed, and what is wrong; not `patient`: streams wait for each other a moment only."""
    rng = random.Random(f"streams {seed}")
    faults = Faults(rng, RATES, latency_s=(0.0, 0.01), timeout_s=0.5, delay_s=(0.05, 3.0))
    if not patient:
        streams = [msgspec.structs.replace(stream, wait_ms=rng.choice((0, 15, 40))) for stream in plan.streams]
        plan = msgspec.structs.replace(plan, stream=streams[0], others=tuple(streams[1:]))
    slices = mock.patch.multiple(recovery, _REPLAY_ROWS=rng.choice((5, 30, 8192)))
    with slow_partitions(rng, 0.5), slices, asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(_campaign(plan, rng, faults, seed, patient=patient))


async def _campaign(
    plan: Plan, rng: random.Random, faults: Faults, seed: int, *, patient: bool
) -> tuple[StreamsWorld, list[str]]:
    world = StreamsWorld(plan, rng, faults)
    world.cluster._poll_bytes_max = rng.choice((300, 2_000, 1 << 20))
    world.memory_bytes = seed % 2
    await world.feed_streams(traffic(seed, ROWS))
    assert sum(map(len, world.rows.values())) >= ROWS_MIN
    for attempt in range(3):
        crash = ((seed + attempt) % 8 + 1, rng.randrange(1, 6)) if rng.random() < 0.7 else None
        for _ in range(rng.randrange(3)):
            call = rng.choice(CALLS)
            fault = rng.choice([Fault.LOST_REQUEST, Fault.LOST_REPLY, *([Fault.TORN] if call == "append" else [])])
            faults.plan(call, fault, skip=rng.randrange(6))
        await world.work(crash, batch_rows_max=rng.choice((7, 40)), flush_rows=rng.choice((1, 50)))
        if rng.random() < 0.3:
            world.lose_disk()
    faults.heal()
    assert await world.work(batch_rows_max=rng.choice((16, 64)))
    return world, await world.wrongs(in_order=patient and not world.count("gave_up_waiting"))


@pytest.mark.parametrize("block", range(BLOCKS))
def test_decisions_equal_the_oracle_in_the_order_of_merging(plan: Plan, block: int) -> None:
    crashes: Counter[int] = Counter()
    fired: Counter[Fault] = Counter()
    failed, tired = 0.0, 0
    for seed in range(block, SEEDS, BLOCKS):
        world, wrong = simulate(plan, seed)
        assert not wrong, f"seed {seed}: {wrong[:3]}"
        tired += world.count("gave_up_waiting") > 0
        crashes += world.crashes
        for (_, fault), count in world.faults.fired.items():
            fired[fault] += count
        failed += world.count("failed_transactions")
    assert failed > 0
    assert tired <= 3, "for what lagged longer than its wait the order is not judged"
    assert len(crashes) >= 4
    assert fired.keys() >= RATES.keys()


@pytest.mark.parametrize("block", range(3))
def test_in_whatever_order_they_were_taken_decisions_equal_the_oracle(plan: Plan, block: int) -> None:
    for seed in range(block, SEEDS // 4, 3):
        _, wrong = simulate(plan, seed, patient=False)
        assert not wrong, f"seed {seed}: {wrong[:3]}"


def test_without_waiting_the_judge_sees_another_order(plan: Plan) -> None:
    def never_open(self: object, buffer: object, now: float) -> bool:
        return False

    with mock.patch.object(merging_reader.MergingReader, "_is_open", never_open):
        wrong = [simulate(plan, seed)[1] for seed in range(4)]
    assert any("the order is" in line for lines in wrong for line in lines)


def test_merging_by_stream_alone_is_seen(plan: Plan) -> None:
    real = merge_heads

    def by_stream(lanes: list[Lane]) -> object:
        return real([lane._replace(times=lane.times * 0) for lane in lanes])

    with mock.patch.object(merging_reader, "merge_heads", by_stream):
        wrong = [simulate(plan, seed)[1] for seed in range(2)]
    assert all(lines for lines in wrong)


def test_payments_past_their_deadline_among_other_streams_are_decided_again_as_they_were(plan: Plan) -> None:
    decision = msgspec.structs.replace(plan.decision, deadline_ms=80)
    late = 0.0
    with capture_logs() as logs:
        for seed in range(12):
            world, wrong = simulate(msgspec.structs.replace(plan, decision=decision), seed)
            assert not wrong, f"seed {seed}: {wrong[:3]}"
            late += world.count("late_answers")
    assert late > 0
    assert sum(line["event"] == "task restored" and line["sequence"] >= 0 for line in logs) > 0
    assert not [line for line in logs if line["event"] == NEVER]
