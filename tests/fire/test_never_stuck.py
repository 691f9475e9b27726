"""A log that goes away for good, at every step of a transaction: an end with a reason, within a bound.

The real worker, in virtual time. On a real broker, behind a proxy: test_soak.py.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from operators.plan import Plan
from state.errors import EventLogError
from state.memory import MemoryRowStores
from streamproc.eventlog.simulated import Faults, VirtualTimeLoop
from streamproc.language import compile_pipeline, load_pipeline
from streamproc.runtime.settings import WorkerSettings
from tests.simulation.traffic import traffic
from tests.simulation.world import World

PIPELINE = Path(__file__).parents[2] / "configs" / "bench_v1" / "pipeline.yaml"
BOUND_S = 180.0  # virtual
START = 0
LINES_MAX = 600


async def outage(plan: Plan, step: int, time: int) -> str:
    """Cut off for good when it comes to the step for the n-th time: how it ended."""
    rng = random.Random(step)
    world = World(plan, rng, Faults(rng, latency_s=(0.0, 0.01), timeout_s=0.5))
    await world.feed(traffic(rng, 100, 12))
    log, stores, seen = world.client(), MemoryRowStores(world.disk, sync=False), Counter[int]()

    def probe(at: int) -> None:
        seen[at] += 1
        if (at, seen[at]) == (step, time):
            log.cut_off()

    settings = WorkerSettings(until_end=True, batch_rows_max=7)
    worker, _ = world._worker(log, stores, lambda: True, probe, settings)
    if step == START:
        log.cut_off()
    run = asyncio.ensure_future(worker.run())
    await asyncio.wait([run], timeout=BOUND_S)
    assert log.is_cut_off
    assert run.done(), "neither an end nor progress"
    error = run.exception()
    assert isinstance(error, EventLogError), error
    await log.close()
    stores.kill()
    assert await world.work()
    verdict = await world.judge()
    assert not verdict.wrong, verdict.wrong[:3]
    return str(error)


@pytest.mark.parametrize("time", [2, 8], ids=["while a task is restored", "while all are decided"])
@pytest.mark.parametrize("step", range(START, 9))
def test_a_log_that_goes_away_for_good(step: int, time: int) -> None:
    plan = compile_pipeline(load_pipeline(PIPELINE))
    with capture_logs() as logs, asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        ended = runner.run(outage(plan, step, time))
    assert len(logs) < LINES_MAX
    assert ended == "the network is down: no answer"
