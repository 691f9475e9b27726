"""A log that delivers a record again, against its contract: it must not be decided twice."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from operators.plan import Plan
from state.errors import StateCorruptedError
from streamproc.eventlog.contract import Chunk
from streamproc.eventlog.simulated import Faults, VirtualTimeLoop
from streamproc.eventlog.simulated.reader import SimulatedReader
from streamproc.language import compile_pipeline, load_pipeline
from tests.simulation.traffic import traffic
from tests.simulation.world import World

PIPELINE = Path(__file__).parents[2] / "configs" / "bench_v1" / "pipeline.yaml"


@pytest.fixture(scope="module")
def plan() -> Plan:
    return compile_pipeline(load_pipeline(PIPELINE))


def test_a_record_delivered_again_ends_the_worker_and_is_not_decided_again(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = SimulatedReader.poll
    delivered: list[Chunk] = []

    async def poll(self: SimulatedReader, timeout_ms: int) -> list[Chunk]:
        if delivered:
            again = list(delivered)
            delivered.clear()
            return again
        delivered[:] = await real(self, timeout_ms)
        return list(delivered)

    async def run() -> None:
        rng = random.Random(4)
        world = World(plan, rng, Faults(rng, latency_s=(0.0, 0.01)))
        await world.feed(traffic(rng, 100, 12))
        with monkeypatch.context() as patched:
            patched.setattr(SimulatedReader, "poll", poll)
            with pytest.raises(StateCorruptedError, match=r"read offset \d+ again, position is"):
                await world.work()
        assert await world.work()
        verdict = await world.judge()
        assert not verdict.wrong, verdict.wrong[:3]

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(run())
