"""Groups: static members, rebalances with whole tasks, stable offsets, fencing."""

from __future__ import annotations

import asyncio
import sys
import time

import pytest

from state.errors import EventLogError, FencedError
from streamproc.eventlog.contract import CommittedOffset, Membership, TopicPartition, TopicSpec
from streamproc.eventlog.kafka import KafkaLog
from streamproc.eventlog.kafka.reader import KafkaReader
from tests.eventlog.kafka.kit import Told, append, join, opened, polling, records, unique

pytestmark = pytest.mark.kafka

SESSION_S = 10.0  # the default


async def two_topics(log: KafkaLog, partitions: int = 4) -> list[str]:
    topics = [unique("pay"), unique("login")]
    await log.admin().ensure_topics([TopicSpec(name, partitions) for name in topics])
    return topics


def tasks(told: Told, topics: list[str]) -> set[int]:
    """The assigned tasks; each with all topics."""
    numbers = {tp.partition for tp in told.partitions}
    assert told.partitions == {TopicPartition(topic, number) for topic in topics for number in numbers}
    return numbers


async def until(told: list[Told], *counts: int, timeout_s: float = 20.0) -> None:
    async with asyncio.timeout(timeout_s):
        while [len(one.partitions) for one in told] != list(counts):  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def poll_on(reader: KafkaReader) -> None:
    async with asyncio.timeout(10):
        while True:
            await reader.poll(100)


async def test_two_members_share_whole_tasks(log: KafkaLog) -> None:
    topics, group = await two_topics(log), unique("group")
    first, first_told = await join(log, group, topics, "w1")
    assert tasks(first_told, topics) == {0, 1, 2, 3}
    second, second_told = log.reader(group, topics, told := Told(), instance="w2", index=0, count=1), told
    await second.start()
    async with polling(first, second):
        await until([first_told, second_told], 4, 4)
        assert tasks(first_told, topics) == {0, 1}  # kept, not swapped
        assert tasks(second_told, topics) == {2, 3}
    everything = first_told.events[0][1]
    assert [word for word, _ in first_told.events[:3]] == ["assigned", "revoked", "assigned"]
    assert first_told.events[1][1] == everything
    assert first_told.member.generation == second_told.member.generation
    # A member that leaves gives its tasks back at once, not after the session time-out.
    begun = time.monotonic()
    await second.close(leave=True)
    async with polling(first):
        await until([first_told], 8)
    assert time.monotonic() - begun < SESSION_S / 2
    await first.close(leave=True)


@pytest.mark.parametrize("known", [False, True])
async def test_a_member_leaves_although_its_join_is_not_answered(
    log: KafkaLog, topic: str, monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    """The group waits for somebody else, who does not poll; `known`: it was a member before, with an id of its own."""
    monkeypatch.setattr("streamproc.eventlog.kafka.reader._CLOSE_S", 0.5)
    group = unique("group")
    first, first_told = await join(log, group, [topic], "w1")
    second = log.reader(group, [topic], told := Told(), instance="w2", index=0, count=1)
    await second.start()
    if known:
        async with polling(first, second):
            await until([first_told, told], 1, 1)
        third = log.reader(group, [topic], Told(), instance="w3", index=0, count=1)
        await third.start()
        async with polling(second):
            await asyncio.sleep(1.5)  # a heartbeat tells it of the third, and it joins again
        await third.close(leave=True)
    else:
        await asyncio.sleep(0.5)
    await second.close(leave=True)
    begun = time.monotonic()
    async with polling(first):
        await until([first_told], 2)
    assert time.monotonic() - begun < SESSION_S / 2
    await first.close(leave=True)


async def test_a_revocation_is_awaited(log: KafkaLog, topic: str) -> None:
    """The end of an open transaction: the newcomer gets nothing before."""
    order: list[str] = []

    class Slow(Told):
        async def on_revoked(self, partitions: frozenset[TopicPartition]) -> None:
            order.append("revoking")
            await asyncio.sleep(1)
            order.append("revoked")
            await super().on_revoked(partitions)

    class Newcomer(Told):
        async def on_assigned(self, partitions: frozenset[TopicPartition], membership: Membership) -> None:
            order.append("assigned")
            await super().on_assigned(partitions, membership)

    group = unique("group")
    slow, newcomer = Slow(), Newcomer()
    first = log.reader(group, [topic], slow, instance="w1", index=0, count=1)
    second = log.reader(group, [topic], newcomer, instance="w2", index=0, count=1)
    await first.start()
    async with polling(first):
        await until([slow], 2)
        await second.start()
        async with polling(second):
            await until([slow, newcomer], 1, 1)
    assert order == ["revoking", "revoked", "assigned"]
    await first.close(leave=True)
    await second.close(leave=True)


async def test_a_cancelled_poll_still_tells_everything(log: KafkaLog, topic: str) -> None:
    reader = log.reader(unique("group"), [topic], told := Told(), instance="w1", index=0, count=1)
    await reader.start()
    async with asyncio.timeout(10):
        while told.membership is None:
            poll = asyncio.create_task(reader.poll(1000))
            await asyncio.sleep(0.001)
            poll.cancel()
            await asyncio.wait([poll])
    assert [word for word, _ in told.events] == ["assigned"]
    await reader.close(leave=True)


async def test_a_restart_keeps_the_partitions(log: KafkaLog, topic: str) -> None:
    group = unique("group")
    reader, told = await join(log, group, [topic])
    await reader.close()
    begun = time.monotonic()
    reader, again = await join(log, group, [topic])
    assert time.monotonic() - begun < SESSION_S / 4
    assert again.partitions == told.partitions
    await reader.close(leave=True)


@pytest.mark.slow
async def test_a_killed_member_is_back_before_its_session_ends(log: KafkaLog, topic: str) -> None:
    group = unique("group")
    arguments = [sys.executable, "-m", "tests.eventlog.kafka.member", log.url.removeprefix("kafka://"), group, topic]
    process = await asyncio.create_subprocess_exec(*arguments, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    assert (await asyncio.wait_for(process.stdout.readline(), 20)).strip() == b"assigned 2"
    process.kill()
    await process.wait()
    begun = time.monotonic()
    reader, told = await join(log, group, [topic])
    took = time.monotonic() - begun
    assert len(told.partitions) == 2
    assert took < SESSION_S / 4, took
    await reader.close(leave=True)
    process._transport.close()  # type: ignore[attr-defined]  # asyncio leaves the pipe of a killed child open


async def test_a_replaced_member_is_fenced_and_stays_out(log: KafkaLog, topic: str, tp: TopicPartition) -> None:
    """It must not join again: it would take the place back in the middle of its successor's transaction."""
    group = unique("group")
    zombie, zombie_told = await join(log, group, [topic])
    successor, told = await join(log, group, [topic])
    async with polling(successor):
        with pytest.raises(FencedError):
            await poll_on(zombie)
        with pytest.raises(FencedError):
            await zombie.poll(100)
        writer = await opened(log, unique("tx"))
        await writer.begin()
        with pytest.raises(FencedError):
            await writer.offsets({tp: CommittedOffset(5, "")}, zombie_told.member)
        await writer.abandon()
        await asyncio.sleep(1.5)
        assert [word for word, _ in told.events] == ["assigned"]
    writer = await opened(log, unique("tx"))
    await writer.begin()
    await writer.offsets({tp: CommittedOffset(5, "")}, told.member)
    await writer.commit()
    await writer.abandon()
    assert (await successor.committed([tp]))[tp].offset == 5
    await zombie.close()
    await successor.close(leave=True)


async def test_a_stable_fetch_waits_for_pending_offsets(log: KafkaLog, topic: str, tp: TopicPartition) -> None:
    group = unique("group")
    reader, told = await join(log, group, [topic])
    writer = await opened(log, unique("tx"))
    for offset in (3, 8):
        await writer.begin()
        await writer.offsets({tp: CommittedOffset(offset, f"at {offset}")}, told.member)
        fetches = [
            asyncio.create_task(reader.committed([tp])),
            asyncio.create_task(log.admin().committed(group, [tp])),
        ]
        done, _ = await asyncio.wait(fetches, timeout=0.5)
        assert not done
        await writer.commit()
        assert await asyncio.gather(*fetches) == [{tp: CommittedOffset(offset, f"at {offset}")}] * 2
    await writer.abandon()
    await reader.close(leave=True)


async def test_a_stable_fetch_is_bounded(kafka_bootstrap: str, topic: str, tp: TopicPartition) -> None:
    log = KafkaLog(kafka_bootstrap, call_timeout_ms=1_000)
    reader, told = await join(log, unique("group"), [topic])
    writer = await opened(log, unique("tx"))
    await writer.begin()
    await writer.offsets({tp: CommittedOffset(3, "")}, told.member)
    with pytest.raises(EventLogError) as caught:
        await reader.committed([tp])
    assert caught.value.retriable
    await writer.abort()
    assert await reader.committed([tp]) == {}
    await writer.abandon()
    await reader.close(leave=True)


async def test_a_fresh_assignment_is_paused(log: KafkaLog) -> None:
    """Also what was resumed in the assignment before."""
    topics, group = await two_topics(log, 2), unique("group")
    zero = TopicPartition(topics[0], 0)
    await append(log, records(zero, b"a"))
    first, told = await join(log, group, topics, "w1")
    first.resume(zero, 0)
    async with asyncio.timeout(10):
        while not await first.poll(200):
            pass
    second = log.reader(group, topics, other := Told(), instance="w2", index=0, count=1)
    await second.start()
    async with polling(second):
        async with asyncio.timeout(20):
            while len(told.events) < 3:
                await first.poll(100)
        await append(log, records(zero, b"b"))
        assert await first.poll(300) == []
        first.resume(zero, 1)
        async with asyncio.timeout(10):
            while not (chunks := await first.poll(200)):
                pass
        assert chunks[0].values == [b"b"]
    assert other.partitions
    await first.close(leave=True)
    await second.close(leave=True)


async def test_a_resume_meant_for_the_assignment_before_does_nothing(log: KafkaLog, topic: str) -> None:
    """The broker has assigned anew, the listener does not know yet."""
    group, zero = unique("group"), TopicPartition(topic, 0)
    await append(log, records(zero, b"a"))
    first, told = await join(log, group, [topic], "w1")
    second = log.reader(group, [topic], other := Told(), instance="w2", index=0, count=1)
    await second.start()
    async with polling(second), asyncio.timeout(20):
        while len(told.events) < 2:
            await first.poll(100)
        await until([other], 1)
        await asyncio.sleep(0.3)
        first.resume(zero, 0)
        assert [word for word, _ in told.events] == ["assigned", "revoked"]
        assert await first.poll(1000) == []
        assert [word for word, _ in told.events] == ["assigned", "revoked", "assigned"]
        assert await first.poll(300) == []
        first.resume(zero, 0)
        assert [chunk.values for chunk in await first.poll(5000)] == [[b"a"]]
    await first.close(leave=True)
    await second.close(leave=True)


async def test_no_such_topic(log: KafkaLog) -> None:
    reader = log.reader(unique("group"), [unique("missing")], Told(), instance="w", index=0, count=1)
    with pytest.raises(EventLogError, match="no topic missing"):
        await reader.start()
    with pytest.raises(EventLogError, match="not started"):
        await reader.poll(10)
