"""The topics get more partitions: keys move away from their state, so a worker decides nothing any more."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import msgspec
import pytest

from operators.plan import Plan
from state.errors import ConfigError, PartitionsChangedError
from state.hashing import partition_of
from state.memory import MemoryDisk, MemoryRowStores
from streamproc.eventlog.contract import OutputRecords, TopicPartition, TopicSpec
from streamproc.eventlog.simulated import Faults, VirtualTimeLoop
from streamproc.language import compile_pipeline, load_pipeline
from streamproc.runtime.settings import WorkerSettings
from streamproc.runtime.topics import prepare_topics
from tests.simulation.traffic import Record, traffic
from tests.simulation.world import World

PIPELINE = Path(__file__).parents[2] / "configs" / "bench_v1" / "pipeline.yaml"


@pytest.fixture(scope="module")
def plan() -> Plan:
    return compile_pipeline(load_pipeline(PIPELINE))


def grow(world: World) -> None:
    """Four partitions of each topic, instead of two."""
    cluster = world.cluster
    for topic in list(cluster._topics):
        old = {tp: partition for tp, partition in cluster._partitions.items() if tp.topic == topic}
        del cluster._topics[topic]
        cluster.ensure_topics([TopicSpec(topic, 4)])
        cluster._partitions.update(old)


async def feed(world: World, records: list[Record], partitions: int) -> None:
    """As a producer that sees so many partitions."""
    appender = world.client().appender()
    for record in records:
        tp = TopicPartition(world.plan.stream.topic, partition_of(record.card.encode(), partitions))
        await appender.append([OutputRecords(tp, [record.card.encode()], [record.value], world.clock.now_ms())])
    await appender.close()


async def run(plan: Plan, *, meanwhile: bool, disk_lost: bool) -> tuple[str, int]:
    """Why a worker ends, and how many records the new partitions have decided or refused; it is stopped after 60 s."""
    world = World(plan, random.Random(3), Faults(random.Random(3)))
    records = traffic(random.Random(3), 300, 40)
    await world.feed(records[:150])
    if not meanwhile:
        assert await world.work()
        await asyncio.sleep(100)  # its session is over: the next assignment is a new one
        grow(world)
    if disk_lost:
        world.disk = MemoryDisk(world.rng)
    stores = MemoryRowStores(world.disk, sync=False)
    worker, watch = world._worker(world.client(), stores, lambda: True, lambda _: None, WorkerSettings())
    running = asyncio.ensure_future(worker.run())
    if meanwhile:
        await asyncio.sleep(5)
        grow(world)
        other = world.client().reader("bench_v1", [plan.stream.topic], Silent(), instance="other", index=0, count=1)
        await other.start()  # makes the group assign anew
        await other.close(leave=True)
    await feed(world, records[150:], 4)
    await asyncio.wait([running], timeout=60)
    watch.cancel()
    worker.stop()
    ended = ""
    try:
        await running
    except ConfigError as error:
        ended = str(error)
    topics = (plan.topics.decisions, plan.topics.dead_letters)
    return ended, sum([len(await world.read(topic, partition)) for topic in topics for partition in (2, 3)])


class Silent:
    """Listens to no assignment."""

    async def on_revoked(self, partitions: object) -> None: ...
    async def on_assigned(self, partitions: object, membership: object) -> None: ...


def test_a_pod_that_would_have_only_new_partitions_ends_too(plan: Plan) -> None:
    """The others have the old ones, and it has neither state nor a journal of its own to see it by."""

    async def scenario() -> None:
        world = World(plan, random.Random(3), Faults(random.Random(3)))
        records = traffic(random.Random(3), 300, 40)
        await world.feed(records[:150])
        assert await world.work()
        grow(world)
        await feed(world, records[150:], 4)
        with pytest.raises(PartitionsChangedError, match="has 4 partitions, and had 2"):
            await prepare_topics(world.client(), world.plan, replay_horizon_ms=0)
        world.plan = msgspec.structs.replace(world.plan, topic_partitions=4)
        assert await prepare_topics(world.client(), world.plan) == 4, "who restores nothing need not care"

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(scenario())


@pytest.mark.parametrize(("meanwhile", "disk_lost"), [(False, False), (False, True), (True, False)])
def test_more_partitions_than_before_end_the_worker(plan: Plan, meanwhile: bool, disk_lost: bool) -> None:
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        ended, decided = runner.run(run(plan, meanwhile=meanwhile, disk_lost=disk_lost))
    assert "see `streamproc repartition`" in ended
    assert decided == 0
