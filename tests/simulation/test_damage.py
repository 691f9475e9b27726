"""Stored rows that turn out damaged while a worker is at work: the task is restored, and nothing is lost."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from operators.plan import Plan
from state.rowformat import LAYOUT_KEY, META_KEY
from streamproc.eventlog.simulated import Faults, VirtualTimeLoop
from streamproc.language import compile_pipeline, load_pipeline
from tests.simulation.traffic import Record, traffic
from tests.simulation.world import World

PIPELINE = Path(__file__).parents[2] / "configs" / "bench_v1" / "pipeline.yaml"
SEEDS = 12


@pytest.fixture(scope="module")
def plan() -> Plan:
    return compile_pipeline(load_pipeline(PIPELINE))


def damage_rows(world: World) -> int:
    """Every stored row of a key; what a restore reads first stays whole."""
    count = 0
    for volume in world.disk.volumes.values():
        for key in [key for key in volume.rows if key[:1] != b"d" and key not in {META_KEY, LAYOUT_KEY}]:
            value, checksum = volume.rows[key]
            volume.rows[key] = volume.synced[key] = (value, checksum ^ 1)
            count += 1
    return count


async def trickle(world: World, records: list[Record]) -> None:
    for start in range(0, len(records), 7):
        await world.feed(records[start : start + 7])
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_task_is_restored_under_its_own_traffic(plan: Plan, seed: int) -> None:
    async def run() -> None:
        rng = random.Random(seed)
        world = World(plan, rng, Faults(rng, latency_s=(0.0, 0.01), timeout_s=0.5))
        records = traffic(rng, 300, 12)
        await world.feed(records[:120])
        assert await world.work(batch_rows_max=20)
        assert damage_rows(world)
        feeding = asyncio.ensure_future(trickle(world, records[120:]))
        await asyncio.sleep(0.1)
        assert await world.work(batch_rows_max=20)
        await feeding
        assert await world.work(batch_rows_max=20)
        verdict = await world.judge()
        assert not verdict.wrong, verdict.wrong[:3]

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(run())
