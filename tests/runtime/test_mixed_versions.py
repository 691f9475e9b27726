"""Workers of two releases, or of two versions of a pipeline, on one log: an older one that meets what it does not know
decides nothing, and the newer one goes on from where it was.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

from operators.plan import Plan
from state import rowformat
from state.errors import ConfigError, StateCorruptedError
from state.memory import MemoryDisk
from streamproc.eventlog.simulated import Faults, VirtualTimeLoop
from streamproc.language import compile_pipeline, load_pipeline
from streamproc.runtime import journal, outputs
from tests.simulation.traffic import traffic
from tests.simulation.world import World

PIPELINE = Path(__file__).parents[2] / "configs" / "bench_v1" / "pipeline.yaml"
Release = Callable[[pytest.MonkeyPatch], None]


@pytest.fixture(scope="module")
def plan() -> Plan:
    return compile_pipeline(load_pipeline(PIPELINE))


def with_another_journal(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(journal, "_VERSION", 2)
    patch.setattr(outputs, "_JOURNAL_VERSION", 2)


def with_other_rows(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(rowformat, "_VERSION", b"\x02")


def run(work: Awaitable[None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(600):  # virtual
            await work

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(bounded())


async def half_decided(plan: Plan, release: Release) -> World:
    """By another release; the other half waits."""
    rng = random.Random(4)
    world, records = World(plan, rng, Faults(rng)), traffic(rng, 300, 12)
    await world.feed(records[:150])
    with pytest.MonkeyPatch.context() as patch:
        release(patch)
        assert await world.work(batch_rows_max=20, flush_rows=1)
    await world.feed(records[150:])
    return world


async def judged(world: World) -> None:
    verdict = await world.judge()
    assert not verdict.wrong, verdict.wrong[:3]


async def decided(world: World) -> int:
    return sum([len(await world.read(world.plan.topics.decisions, partition)) for partition in range(2)])


@pytest.mark.parametrize(
    ("release", "disk_lost", "said"),
    [
        (with_another_journal, False, "were not written by this program's workers"),
        (with_another_journal, True, "were not written by this program's workers"),
        (with_other_rows, False, "changed since this state was written"),
    ],
)
def test_what_another_release_wrote_is_refused_and_that_one_goes_on(
    plan: Plan, release: Release, disk_lost: bool, said: str
) -> None:
    """After a rollback, or an upgrade over a change of format."""

    async def play() -> None:
        world = await half_decided(plan, release)
        if disk_lost:
            world.disk = MemoryDisk(world.rng)
        before = await decided(world)
        with pytest.raises((StateCorruptedError, ConfigError), match=said):
            await world.work()
        assert await decided(world) == before > 0
        with pytest.MonkeyPatch.context() as patch:
            release(patch)
            assert await world.work()
        await judged(world)

    run(play())


def test_a_worker_of_a_changed_pipeline_beside_one_of_the_old(plan: Plan) -> None:
    """A rolling update of what cannot be rolled: the new one is refused, the old one goes on with all partitions."""

    async def play() -> None:
        rng = random.Random(5)
        world = World(plan, rng, Faults(rng, latency_s=(0.0, 0.01), timeout_s=0.5))
        records = traffic(rng, 300, 12)
        await world.feed(records[:150])
        assert await world.work(instance="old", batch_rows_max=5, flush_rows=1)
        await world.feed(records[150:])
        old = asyncio.ensure_future(world.work(instance="old", batch_rows_max=3))
        await asyncio.sleep(0.05)
        kept, world.plan = world.plan, msgspec.structs.replace(world.plan, state_fingerprint="another")
        world.disk, disk = MemoryDisk(rng), world.disk
        with pytest.raises(ConfigError, match="changed since this state was written"):
            await world.work(instance="new", batch_rows_max=3)
        world.plan, world.disk = kept, disk
        assert await old
        await judged(world)

    run(play())
