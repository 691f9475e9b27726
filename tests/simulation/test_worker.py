"""Abort and crash at each of the transaction's steps, over many seeds: what comes out equals the oracle."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from pathlib import Path

import pytest

from operators.plan import Plan
from streamproc.eventlog.simulated import Fault, Faults, VirtualTimeLoop
from streamproc.language import compile_pipeline, load_pipeline
from tests.simulation.traffic import traffic
from tests.simulation.world import World

SEEDS = 200
STEPS = range(1, 9)
CALLS = ("open", "begin", "append", "offsets", "delivered", "commit", "poll", "committed")
PIPELINE = Path(__file__).parents[2] / "configs" / "bench_v1" / "pipeline.yaml"


@pytest.fixture(scope="module")
def plan() -> Plan:
    return compile_pipeline(load_pipeline(PIPELINE))


def simulate(plan: Plan, seed: int) -> World:
    """One seed: some attempts end by a crash or fail calls; then all heals and a last worker goes to the end."""
    rng = random.Random(seed)
    faults = Faults(rng, latency_s=(0.0, 0.01), timeout_s=0.5)
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(_campaign(plan, rng, faults, seed))


async def _campaign(plan: Plan, rng: random.Random, faults: Faults, seed: int) -> World:
    world = World(plan, rng, faults)
    world.memory_bytes = seed % 2  # odd: whatever may leave memory leaves it
    await world.feed(traffic(rng, 300, 12))
    for attempt in range(3):
        step = STEPS[(seed + attempt) % len(STEPS)]
        crash = (step, rng.randrange(1, 6)) if rng.random() < 0.7 else None
        for _ in range(rng.randrange(3)):
            call = rng.choice(CALLS)
            fault = rng.choice([Fault.LOST_REQUEST, Fault.LOST_REPLY, *([Fault.TORN] if call == "append" else [])])
            faults.plan(call, fault, skip=rng.randrange(6))
        await world.work(crash, batch_rows_max=rng.choice((7, 40)), flush_rows=rng.choice((1, 50)))
    faults.heal()
    assert await world.work(batch_rows_max=64)
    verdict = await world.judge()
    assert not verdict.wrong, f"seed {seed}: {verdict.wrong[:3]}"
    return world


@pytest.mark.parametrize("block", range(8))
def test_decisions_equal_the_oracle_whatever_fails(plan: Plan, block: int) -> None:
    crashes: Counter[int] = Counter()
    ahead = failed = evicted = 0.0
    for seed in range(block * SEEDS // 8, (block + 1) * SEEDS // 8):
        world = simulate(plan, seed)
        crashes += world.crashes
        ahead += world.count("batches_ahead")
        failed += world.count("failed_transactions")
        evicted += world.evicted
    assert min(ahead, failed) >= 10, "too few batches computed ahead, or transactions that failed under them"
    assert evicted > 0
    assert set(crashes) == set(STEPS), f"steps that never crashed: {set(STEPS) - set(crashes)}"
