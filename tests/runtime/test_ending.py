"""`until_end` ends where nothing is left to decide, though the last offsets are of records that nobody will see."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest

from operators.plan import Plan
from streamproc.eventlog.contract import OutputRecords, TopicPartition, TransactionalWriter
from streamproc.eventlog.simulated import Faults, VirtualTimeLoop
from streamproc.language import compile_pipeline, load_pipeline
from tests.simulation.traffic import traffic
from tests.simulation.world import World

PIPELINE = Path(__file__).parents[2] / "configs" / "bench_v1" / "pipeline.yaml"
PATIENCE_S = 300.0  # virtual


@pytest.fixture(scope="module")
def plan() -> Plan:
    return compile_pipeline(load_pipeline(PIPELINE))


async def foreign(world: World, partitions: Sequence[int] = (0, 1), name: str = "foreign") -> TransactionalWriter:
    """Another producer's open transaction on the input."""
    writer = world.client().writer(name)
    await writer.open()
    await writer.begin()
    topic = world.plan.stream.topic
    await writer.append([OutputRecords(TopicPartition(topic, p), [b"c1"], [b"{}"], 0) for p in partitions])
    return writer


def simulated(plan: Plan, scenario: Callable[[World], Awaitable[None]]) -> None:
    async def run() -> None:
        rng = random.Random(5)
        world = World(plan, rng, Faults(rng))
        await world.feed(traffic(rng, 200, 12))
        async with asyncio.timeout(PATIENCE_S):
            await scenario(world)
        verdict = await world.judge()
        assert not verdict.wrong, verdict.wrong[:3]

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(run())


def test_an_aborted_transaction_comes_last(plan: Plan) -> None:
    async def scenario(world: World) -> None:
        for attempt in ("first", "second", "third"):
            assert await world.work()
            await (await foreign(world, name=attempt)).abort()
        assert await world.work()

    simulated(plan, scenario)


def test_two_workers_do_not_wait_for_each_other(plan: Plan) -> None:
    async def scenario(world: World) -> None:
        assert await world.work()
        await (await foreign(world)).abort()
        assert all(await asyncio.gather(world.work(instance="one"), world.work(instance="two")))

    simulated(plan, scenario)


@pytest.mark.parametrize("partition", [0, 1])
def test_the_others_records_are_waited_for(plan: Plan, partition: int) -> None:
    """Whoever is done first ends only when the other has decided what was there."""

    async def scenario(world: World) -> None:
        assert await world.work()
        await (await foreign(world, [partition])).abort()
        await world.feed(traffic(world.rng, 60, 12))
        await (await foreign(world, [1 - partition], "another")).abort()
        assert all(
            await asyncio.gather(
                world.work(instance="one", batch_rows_max=1), world.work(instance="two", batch_rows_max=200)
            )
        )

    simulated(plan, scenario)


def test_an_open_transaction_is_waited_for(plan: Plan) -> None:
    async def scenario(world: World) -> None:
        writer = await foreign(world)
        work = asyncio.ensure_future(world.work())
        await asyncio.sleep(5)
        assert not work.done()
        await writer.commit()
        assert await work

    simulated(plan, scenario)
