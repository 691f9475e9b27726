"""Several streams merged by workers that join, are taken for dead, or are cut off and come back."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from operators.plan import Plan
from streamproc.eventlog.simulated import Faults, VirtualTimeLoop
from streamproc.language import compile_pipeline, read_pipeline
from streamproc.runtime import merging_reader
from tests.bank import PIPELINE, traffic
from tests.simulation.streams_world import StreamsWorld, slow_partitions
from tests.simulation.test_rebalance import PATIENCE_S, Pods, Scenario, _cut_off, _forgotten, _joined
from tests.simulation.test_streams import INCLUDE

SEEDS = 12


@pytest.fixture(scope="module")
def plan() -> Plan:
    return compile_pipeline(read_pipeline(PIPELINE + INCLUDE, str(Path(__file__).parent / "bank.yaml")))


class StreamPods(Pods, StreamsWorld):
    """A deployment of several streams whose processes' connections can be cut off."""


@pytest.mark.timeout(240)
@pytest.mark.parametrize("scenario", [_joined, _forgotten, _cut_off])
def test_a_changed_group_changes_no_decision(plan: Plan, scenario: Scenario, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run(seed: int) -> None:
        rng = random.Random(seed)
        monkeypatch.setattr(merging_reader, "_HELD_ROWS_MAX", rng.choice((4, 12, 50_000)))
        world = StreamPods(plan, rng, Faults(rng, latency_s=(0.0, 0.01), timeout_s=0.5))
        world.cluster._poll_bytes_max = rng.choice((300, 2_000, 1 << 20))
        world.memory_bytes = seed % 2
        await world.feed_streams(traffic(seed, 120))
        async with asyncio.timeout(PATIENCE_S):
            await scenario(world, rng)
        assert await world.wrongs(in_order=False) == [], f"seed {seed}"

    for seed in range(SEEDS):
        with (
            slow_partitions(random.Random(f"slow {seed}"), 0.5),
            asyncio.Runner(loop_factory=VirtualTimeLoop) as runner,
        ):
            runner.run(run(seed))
