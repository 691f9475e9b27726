"""Eager rebalances, sessions that run out, processes that die or are cut off."""

from __future__ import annotations

import asyncio

import pytest

from state.errors import EventLogError, TaskMigratedError
from streamproc.eventlog.contract import CommittedOffset, TopicPartition
from streamproc.eventlog.simulated import Crash
from tests.eventlog.clients import transact
from tests.eventlog.simulated.world import IN, OUT, Worker, World, one, settle

ALL = {0, 1, 2, 3}


async def joined(world: World, *names: str) -> list[Worker]:
    workers = [Worker(world, name) for name in names]
    for worker in workers:
        await worker.reader.start()
    await settle(*workers)
    return workers


def generation(worker: Worker) -> int:
    assert worker.recorder.membership is not None
    return worker.recorder.membership.generation


async def test_a_join_revokes_all_and_assigns_anew() -> None:
    world = World()
    (one_,) = await joined(world, "a")
    assert one_.share == ALL
    before = generation(one_)
    (two,) = await joined(world, "b")
    assert two.share == set()
    await settle(one_, two)
    assert one_.share | two.share == ALL
    assert len(one_.share) == len(two.share) == 2
    assert generation(one_) == generation(two) > before


async def test_leaving_gives_partitions_up_at_once() -> None:
    world = World()
    first, second = await joined(world, "a", "b")
    await settle(first, second)
    await second.reader.close(leave=True)
    await settle(first)
    assert first.share == ALL


async def test_the_old_generation_may_commit_while_it_is_revoked_and_not_after() -> None:
    world = World()
    (first,) = await joined(world, "a")
    old = first.recorder.membership
    writer = await world.writer()
    second = Worker(world, "b")
    await second.reader.start()
    await transact(writer, offsets={IN: CommittedOffset(1, "")}, membership=old)
    await settle(first, second)
    with pytest.raises(TaskMigratedError):
        await transact(writer, offsets={IN: CommittedOffset(2, "")}, membership=old)


async def test_revocation_waits_for_the_listener_even_if_poll_is_cancelled() -> None:
    world = World()
    (first,) = await joined(world, "a")
    gate, calls = asyncio.Event(), []

    async def on_revoked(partitions: frozenset[TopicPartition]) -> None:
        calls.append(partitions)
        await gate.wait()
        first.recorder.assigned -= partitions

    first.recorder.on_revoked = on_revoked  # type: ignore[method-assign]
    second = Worker(world, "b")
    await second.reader.start()
    poll = asyncio.create_task(first.reader.poll(1000))
    await asyncio.sleep(0.01)
    poll.cancel()
    with pytest.raises(asyncio.CancelledError):
        await poll
    await second.reader.poll(0)
    assert second.share == set()
    gate.set()
    await settle(first, second)
    assert len(calls) == 1
    assert first.share | second.share == ALL


async def test_a_partition_is_paused_after_every_assignment() -> None:
    world = World()
    (first,) = await joined(world, "a")
    await world.client.appender().append([one(TopicPartition("in", p), b"x") for p in range(4)])
    for tp in first.recorder.assigned:
        first.reader.resume(tp, 0)
    assert len(await first.reader.poll(0)) == 4
    (second,) = await joined(world, "b")
    await settle(first, second)
    await world.client.appender().append([one(TopicPartition("in", p), b"y") for p in range(4)])
    assert await first.reader.poll(0) == []
    first.reader.resume(next(iter(second.recorder.assigned)), 0)  # meant for the assignment before
    assert await first.reader.poll(0) == []


async def test_a_dead_process_is_replaced_after_its_session() -> None:
    world = World()
    first, second = await joined(world, "a", "b")
    await settle(first, second)
    waiting = asyncio.create_task(second.reader.poll(60_000))
    await asyncio.sleep(0)
    second.client.crash()
    with pytest.raises(Crash):
        await waiting
    for call in (second.client.admin().partitions("in"), second.client.writer("x").open()):
        with pytest.raises(Crash):
            await call
    await world.clock.advance(9)
    await settle(first)
    assert len(first.share) == 2
    await world.clock.advance(2)
    await settle(first)
    assert first.share == ALL


async def test_a_restart_under_the_same_name_takes_over_without_a_rebalance() -> None:
    world = World()
    first, second = await joined(world, "a", "b")
    await settle(first, second)
    second.client.crash()
    heir = Worker(world, "b", world.cluster.client("b again"))
    await heir.reader.start()
    await settle(heir)
    assert heir.share == second.share
    assert generation(heir) == generation(first)
    await world.clock.advance(20)
    await settle(first, heir)
    assert len(first.share) == len(heir.share) == 2


async def test_who_does_not_rejoin_in_time_loses_its_place_and_comes_back() -> None:
    world = World()
    (slow,) = await joined(world, "slow")
    old = slow.recorder.membership
    (quick,) = await joined(world, "quick")
    await world.clock.advance(5)
    await settle(quick)
    assert quick.share == set()
    await world.clock.advance(2)
    await settle(quick)
    assert quick.share == ALL
    with pytest.raises(TaskMigratedError):
        await transact(await world.writer(), offsets={IN: CommittedOffset(1, "")}, membership=old)
    await settle(slow, quick)
    await settle(slow, quick)
    assert len(slow.share) == len(quick.share) == 2


async def test_a_cut_off_process_fails_polls_nothing_and_is_replaced() -> None:
    world = World()
    first, second = await joined(world, "a", "b")
    await settle(first, second)
    writer = await world.writer("w", second.client)
    second.client.cut_off()
    with pytest.raises(EventLogError) as down:
        await writer.begin()
    assert down.value.retriable
    assert await second.reader.poll(0) == []
    await world.clock.advance(11)
    await settle(first)
    assert first.share == ALL
    second.client.heal()
    await settle(second, first)
    await settle(second, first)
    assert len(first.share) == len(second.share) == 2


async def test_a_short_cut_costs_nothing() -> None:
    world = World()
    first, second = await joined(world, "a", "b")
    await settle(first, second)
    before = generation(first)
    second.client.cut_off()
    await world.clock.advance(6)
    second.client.heal()
    await world.clock.advance(2)
    second.client.cut_off()
    await world.clock.advance(6)
    second.client.heal()
    await world.clock.advance(20)
    await settle(first, second)
    assert generation(first) == before
    await transact(await world.writer(), one(OUT, b"1"))
