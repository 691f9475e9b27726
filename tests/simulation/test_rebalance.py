"""Workers that join, are cut off past their session and come back: what comes out equals the oracle all the same."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from operators.plan import Plan
from state.memory import MemoryDisk
from streamproc.eventlog.simulated import Faults, SimulatedEventLog, VirtualTimeLoop
from streamproc.language import compile_pipeline, load_pipeline
from streamproc.runtime.partition_task import Phase
from streamproc.runtime.worker import Worker
from tests.simulation.traffic import traffic
from tests.simulation.world import World

PIPELINE = Path(__file__).parents[2] / "configs" / "bench_v1" / "pipeline.yaml"
SEEDS = 25
PATIENCE_S = 600.0  # virtual
SESSION_S = 10.0
FORGOTTEN = 30


Scenario = Callable[["Pods", random.Random], Awaitable[None]]


@pytest.fixture(scope="module")
def plan() -> Plan:
    return compile_pipeline(load_pipeline(PIPELINE))


class Pods(World):
    """Keeps its processes' connections, to cut them off."""

    logs: list[SimulatedEventLog]
    workers: list[Worker]

    def client(self) -> SimulatedEventLog:
        log = super().client()
        self.logs = [*getattr(self, "logs", []), log]
        return log

    def _worker(self, *given: Any) -> tuple[Worker, asyncio.Future[None]]:
        made = super()._worker(*given)
        self.workers = [*getattr(self, "workers", []), made[0]]
        return made


async def _joined(world: Pods, rng: random.Random) -> None:
    """A second worker comes while the first is at work."""
    first = asyncio.ensure_future(world.work(instance="one", batch_rows_max=rng.choice((3, 20))))
    await asyncio.sleep(rng.uniform(0, 1.5))
    assert await world.work(instance="two", batch_rows_max=rng.choice((3, 20)))
    assert await first


async def _two_pods(world: Pods, rng: random.Random) -> tuple[SimulatedEventLog, list[asyncio.Future[bool]]]:
    """Workers with disks of their own; the first one's connection."""
    works: list[asyncio.Future[bool]] = []
    before = len(world.logs)
    for name in ("one", "two"):
        works.append(asyncio.ensure_future(world.work(instance=name, batch_rows_max=rng.choice((3, 20)))))
        await asyncio.sleep(0)
        world.disk = MemoryDisk(rng)
    return world.logs[before], works


async def _forgotten(world: Pods, rng: random.Random) -> None:
    """The group takes one of two for dead, again and again, which learns it in the middle of a transaction.

    Then it is left in peace: who is thrown out sooner than a restore takes never comes to one.
    """
    log, works = await _two_pods(world, rng)
    for _ in range(FORGOTTEN):
        await asyncio.sleep(rng.uniform(0.05, 1.0))
        log.forget()
    assert all(await asyncio.gather(*works))


async def _cut_off(world: Pods, rng: random.Random) -> None:
    """One of two loses the network until its session and its transaction are over, and goes on afterwards."""
    log, works = await _two_pods(world, rng)
    await asyncio.sleep(rng.uniform(0.05, 1.0))
    log.cut_off()
    await asyncio.sleep(SESSION_S + rng.uniform(1, 10))
    log.heal()
    assert all(await asyncio.gather(*works))


@pytest.mark.timeout(180)
@pytest.mark.parametrize("scenario", [_joined, _forgotten, _cut_off])
def test_a_changed_group_changes_no_decision(plan: Plan, scenario: Scenario) -> None:
    async def run(seed: int) -> None:
        rng = random.Random(seed)
        world = Pods(plan, rng, Faults(rng, latency_s=(0.0, 0.01), timeout_s=0.5))
        await world.feed(traffic(rng, 300, 12))
        async with asyncio.timeout(PATIENCE_S):
            await scenario(world, rng)
        verdict = await world.judge()
        assert not verdict.wrong, f"seed {seed}: {verdict.wrong[:3]}"

    for seed in range(SEEDS):
        with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
            runner.run(run(seed))


async def _come(world: Pods, rng: random.Random) -> tuple[asyncio.Future[bool], bool]:
    """A pod without a disk: until it replays a journal; False if others have decided everything before it could."""
    before = len(world.workers)
    world.disk = MemoryDisk(rng)
    work = asyncio.ensure_future(world.work(instance=f"pod-{before}", batch_rows_max=10))
    while not work.done():
        if any(task.phase is Phase.RESTORING for worker in world.workers[before:] for task in worker.tasks):
            return work, True
        await asyncio.sleep(0.001)
    return work, False


@pytest.mark.timeout(180)
def test_pods_come_and_one_is_lost_while_others_restore(plan: Plan) -> None:
    async def run(seed: int) -> int:
        """How many came while another restored."""
        rng = random.Random(seed)
        world = Pods(plan, rng, Faults(rng, latency_s=(0.0, 0.01), timeout_s=0.5))
        records = traffic(rng, 300, 12)
        async with asyncio.timeout(PATIENCE_S):
            await world.feed(records[:200])
            assert await world.work(instance="first", batch_rows_max=5, flush_rows=1)
            await world.feed(records[200:])
            one, restoring = await _come(world, rng)
            two, too = await _come(world, rng)
            lost = world.logs[-1]
            three, also = await _come(world, rng)
            lost.forget()  # the group takes the second for dead
            assert all(await asyncio.gather(one, two, three))
        verdict = await world.judge()
        assert not verdict.wrong, f"seed {seed}: {verdict.wrong[:3]}"
        return (restoring and too) + (too and also)

    met = []
    for seed in range(SEEDS):
        with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
            met.append(runner.run(run(seed)))
    assert sum(met) > SEEDS / 2, met
