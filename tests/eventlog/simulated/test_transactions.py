"""Transactions as brokers have them: held back, with gaps, pending, timed out, ended late."""

from __future__ import annotations

import asyncio

import pytest

from state.errors import EventLogError, FencedError
from streamproc.eventlog.contract import CommittedOffset
from streamproc.eventlog.simulated import Fault, Without
from tests.eventlog.clients import transact
from tests.eventlog.simulated.world import IN, OTHER, OUT, Worker, World, one, settle


async def test_an_open_transaction_holds_later_commits_back() -> None:
    world = World()
    slow, quick = await world.writer("slow"), await world.writer("quick")
    await slow.begin()
    await slow.append([one(OUT, b"slow")])
    await transact(quick, one(OUT, b"quick"))
    assert await world.seen() == []
    await slow.commit()
    assert await world.seen() == [b"slow", b"quick"]


async def test_markers_and_aborted_records_leave_gaps() -> None:
    world = World()
    writer = await world.writer()
    await transact(writer, one(OUT, b"1"))
    await writer.begin()
    await writer.append([one(OUT, b"aborted")])
    await writer.abort()
    await transact(writer, one(OUT, b"2"))
    scanner = world.client.scanner()
    scanner.seek(OUT, 0)
    (chunk,) = await scanner.poll(0)
    assert (list(chunk.offsets), chunk.values) == ([0, 4], [b"1", b"2"])
    assert chunk.next_offset == scanner.position(OUT) == 6
    assert await world.client.admin().end_offsets([OUT]) == {OUT: 6}


async def test_an_abandoned_transaction_ends_by_its_time_out() -> None:
    world = World()
    worker = Worker(world, "i0")
    await worker.reader.start()
    await settle(worker)
    writer = await world.writer()
    await writer.begin()
    await writer.append([one(OUT, b"orphan")])
    await writer.offsets({IN: CommittedOffset(5, "")}, worker.membership)
    await writer.abandon()
    await transact(await world.writer("other"), one(OUT, b"other"))
    assert await world.seen() == []
    stable = asyncio.create_task(worker.reader.committed([IN]))
    await world.clock.advance(4.9)
    assert not stable.done()
    await world.clock.advance(0.2)
    assert await stable == {}
    assert await world.seen() == [b"other"]


async def test_a_stable_fetch_gives_what_the_transaction_became() -> None:
    world = World()
    worker = Worker(world, "i0")
    await worker.reader.start()
    await settle(worker)
    writer = await world.writer()
    await writer.begin()
    await writer.offsets({IN: CommittedOffset(5, "five")}, worker.membership)
    stable = asyncio.create_task(worker.reader.committed([IN]))
    await world.clock.advance(1)
    assert not stable.done()
    await writer.commit()
    assert await stable == {IN: CommittedOffset(5, "five")}


async def test_a_transaction_that_took_too_long_cannot_commit() -> None:
    world = World()
    writer = await world.writer()
    await writer.begin()
    await writer.append([one(OUT, b"slow")])
    await world.clock.advance(6)
    with pytest.raises(EventLogError, match="timed out") as late:
        await writer.commit()
    assert late.value.retriable
    assert await world.seen() == []
    await transact(await world.writer(), one(OUT, b"next"))
    assert await world.seen() == [b"next"]


async def test_a_late_commit_is_refused_by_the_new_epoch() -> None:
    world = World()
    world.faults.plan("commit", Fault.DELAYED)
    first = await world.writer()
    with pytest.raises(EventLogError):
        await transact(first, one(OUT, b"first"))
    second = await world.writer()
    await second.begin()
    await second.append([one(OUT, b"half of it")])
    await world.clock.advance(3)
    assert await world.seen() == []
    await second.append([one(OTHER, b"the other half")])
    await second.commit()
    assert (await world.seen(), await world.seen(OTHER)) == ([b"half of it"], [b"the other half"])


async def test_a_late_commit_without_fencing_tears_the_next_transaction() -> None:
    world = World(Without.WRITER_FENCING)
    world.faults.plan("commit", Fault.DELAYED)
    with pytest.raises(EventLogError):
        await transact(await world.writer(), one(OUT, b"first"))
    second = await world.writer()
    await second.begin()
    await second.append([one(OUT, b"half of it")])
    await world.clock.advance(3)
    assert await world.seen() == [b"half of it"]
    assert await world.seen(OTHER) == []


async def test_a_late_commit_may_still_come_in_time() -> None:
    world = World()
    world.faults.plan("commit", Fault.DELAYED)
    with pytest.raises(EventLogError):
        await transact(await world.writer(), one(OUT, b"late"))
    assert await world.seen() == []
    await world.clock.advance(3)
    assert await world.seen() == [b"late"]


async def test_without_read_committed_all_is_seen() -> None:
    world = World(Without.READ_COMMITTED)
    writer = await world.writer()
    await writer.begin()
    await writer.append([one(OUT, b"open")])
    assert await world.seen() == [b"open"]


async def test_without_stable_offsets_a_fetch_does_not_wait() -> None:
    world = World(Without.STABLE_OFFSETS)
    worker = Worker(world, "i0")
    await worker.reader.start()
    await settle(worker)
    writer = await world.writer()
    await writer.begin()
    await writer.offsets({IN: CommittedOffset(5, "")}, worker.membership)
    assert await worker.reader.committed([IN]) == {}


@pytest.mark.parametrize("without", [(), (Without.MEMBERSHIP_FENCING,)])
async def test_only_without_fencing_a_zombie_member_commits(without: tuple[Without, ...]) -> None:
    world = World(*without)
    zombie, heir = Worker(world, "i0"), Worker(world, "i0")
    await zombie.reader.start()
    await settle(zombie)
    await heir.reader.start()
    await settle(heir)
    writer = await world.writer()
    work = transact(writer, offsets={IN: CommittedOffset(9, "")}, membership=zombie.recorder.membership)
    if without:
        await work
        assert await heir.reader.committed([IN]) == {IN: CommittedOffset(9, "")}
    else:
        with pytest.raises(FencedError):
            await work
        await writer.abandon()
        await world.writer()
        assert await heir.reader.committed([IN]) == {}


async def test_what_retention_took_is_refused() -> None:
    world = World()
    await world.client.appender().append([one(OUT, b"%d" % n) for n in range(5)])
    world.cluster.truncate(OUT, 3)
    assert await world.client.admin().begin_offsets([OUT]) == {OUT: 3}
    scanner = world.client.scanner()
    scanner.seek(OUT, 2)
    with pytest.raises(EventLogError, match="is gone"):
        await scanner.poll(0)
    scanner.seek(OUT, 3)
    assert [list(chunk.values) for chunk in await scanner.poll(0)] == [[b"3", b"4"]]
