"""A store of checkpoints that lists, but gives no file: local state is used if a replay can go on from it."""

from __future__ import annotations

import asyncio
import copy
import random
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from operators.plan import Plan
from state.errors import BlobStoreError
from streamproc.eventlog.contract import TopicPartition
from streamproc.eventlog.simulated import VirtualTimeLoop
from streamproc.runtime import candidates
from tests.runtime.test_checkpointing import expire_log, lose_disk, plan, world_of
from tests.simulation.traffic import traffic
from tests.simulation.world import World

__all__ = ["plan"]
pytestmark = pytest.mark.blocking
FROM_LOCAL = "the checkpoints' store does not answer, going on from local state"


async def behind_a_checkpoint(plan: Plan, directory: Path) -> World:
    """A world whose disk is behind its checkpoints, with 100 records to come."""
    world = world_of(plan, directory, 2)
    records = traffic(random.Random(2), 400, 12)
    await world.feed(records[:80])
    assert await world.work(batch_rows_max=10)
    behind = copy.deepcopy(world.disk.volumes)
    await world.feed(records[80:300])
    assert await world.work(batch_rows_max=5, flush_rows=1)
    world.disk.volumes = behind
    await world.feed(records[300:])
    return world


def give_nothing(world: World, *, retriable: bool) -> None:
    assert world.blobs is not None

    def refuse(verb: str, name: str) -> None:
        if verb == "get" and "/files/" in name:
            raise BlobStoreError("simulated: no answer", retriable=retriable)

    world.blobs.before = refuse


def answer(world: World) -> None:
    assert world.blobs is not None
    world.blobs.before = lambda verb, name: None


@pytest.mark.parametrize("retriable", [True, False])
def test_local_state_is_replayed_where_no_checkpoint_can_be_fetched(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, retriable: bool
) -> None:
    monkeypatch.setattr(candidates, "_NEAR_ROWS", 0)

    async def run() -> None:
        world = await behind_a_checkpoint(plan, tmp_path)
        give_nothing(world, retriable=retriable)
        with capture_logs() as logs:
            assert await world.work()
        assert [entry["event"] for entry in logs].count(FROM_LOCAL) == world.partitions
        verdict = await world.judge()
        assert not verdict.wrong

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(run())


def lose_journal(world: World) -> None:
    for partition in range(world.partitions):
        tp = TopicPartition(world.plan.topics.journal, partition)
        world.cluster.truncate(tp, 30)


def lose_input(world: World) -> None:
    for partition in range(world.partitions):
        world.cluster.truncate(TopicPartition(world.plan.stream.topic, partition), 70)


@pytest.mark.parametrize("lose", [lose_journal, lose_input, lose_disk])
def test_without_it_the_tasks_wait_for_the_store(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lose: object
) -> None:
    """Nothing is thrown away meanwhile: once the store answers, its checkpoints are taken."""
    monkeypatch.setattr(candidates, "_NEAR_ROWS", 0)

    async def run() -> None:
        world = await behind_a_checkpoint(plan, tmp_path)
        assert callable(lose)
        lose(world)
        if lose is lose_disk:
            expire_log(world)
        give_nothing(world, retriable=True)
        with capture_logs() as logs, pytest.raises(BlobStoreError, match="no answer"):
            await world.work()
        said = {entry["event"] for entry in logs}
        assert "no answer, trying again" in said
        assert FROM_LOCAL not in said
        answer(world)
        assert await world.work()
        assert world.metrics[-1].registry.get_sample_value("streamproc_failed_tasks_total") == 0
        if lose is not lose_input:  # who judges reads it all
            verdict = await world.judge()
            assert not verdict.wrong

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(run())


def test_a_store_that_lists_no_more_costs_no_local_state(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Local state that the input does not lead on from is no candidate, and no reason to begin from nothing."""
    monkeypatch.setattr(candidates, "_NEAR_ROWS", 0)

    async def run() -> None:
        world = await behind_a_checkpoint(plan, tmp_path)
        lose_journal(world)
        assert world.blobs is not None

        def refuse(verb: str, _: str) -> None:
            if verb == "list":
                raise BlobStoreError("simulated: no answer", retriable=True)

        world.blobs.before = refuse
        with capture_logs() as logs, pytest.raises(BlobStoreError, match="no answer"):
            await world.work()
        assert "local state discarded" not in {entry["event"] for entry in logs}
        answer(world)
        assert await world.work()
        verdict = await world.judge()
        assert not verdict.wrong

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(run())
