"""`/ready` says yes only while the worker decides all that is assigned to it."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest

from operators.plan import Plan
from streamproc.eventlog.simulated import Faults, VirtualTimeLoop
from streamproc.language import compile_pipeline, load_pipeline
from streamproc.runtime.worker import Worker
from tests.simulation.traffic import traffic
from tests.simulation.world import World

PIPELINE = Path(__file__).parents[2] / "configs" / "bench_v1" / "pipeline.yaml"


class Watched(World):
    worker: Worker | None = None

    def _worker(self, *arguments: Any) -> Any:
        made = super()._worker(*arguments)
        self.worker = made[0]
        return made


@pytest.fixture(scope="module")
def plan() -> Plan:
    return compile_pipeline(load_pipeline(PIPELINE))


def test_not_while_it_asks_where_its_new_partitions_stand(plan: Plan) -> None:
    async def run() -> list[int]:
        rng = random.Random(1)
        world = Watched(plan, rng, Faults(rng, latency_s=(0.005, 0.01)))
        await world.feed(traffic(rng, 100, 12))
        working = asyncio.ensure_future(world.work())
        decided_by: list[int] = []
        while not working.done():
            await asyncio.sleep(0.001)
            if world.worker is not None and world.worker.ready:
                decided_by.append(len(list(world.worker.tasks)))
        assert await working
        return decided_by

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        assert set(runner.run(run())) == {2}
