"""A prepared log: tombstones are gone, and no failure or cancelled poll of what it waits for loses a record."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence

import pytest
import pytest_asyncio

from state.errors import EventLogError
from streamproc.clock import SystemClock
from streamproc.eventlog.contract import NO_OFFSET, Chunk, EventLog, OutputRecords, Scanner, TopicPartition, TopicSpec
from streamproc.eventlog.prepared import PreparedLog
from streamproc.eventlog.simulated import SimulatedCluster
from tests.eventlog.clients import Clients

TP = TopicPartition("prepared", 0)
OTHER = TopicPartition("other", 0)
VALUES = [b"a", None, b"b", None, None]


class Door:
    """Lets polls wait, or fail."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.open.set()
        self.error: EventLogError | None = None
        self.seen: list[bytes | None] = []

    async def __call__(self, values: Sequence[bytes | None]) -> None:
        self.seen += values
        await self.open.wait()
        if self.error is not None:
            error, self.error = self.error, None
            raise error


@pytest.fixture
def door() -> Door:
    return Door()


@pytest_asyncio.fixture
async def log(door: Door) -> AsyncIterator[EventLog]:
    cluster = SimulatedCluster(SystemClock(), random.Random(1))
    made = PreparedLog(cluster.client("client"), TP.topic, door)
    await made.admin().ensure_topics([TopicSpec(TP.topic, 1), TopicSpec(OTHER.topic, 1)])
    appender = made.appender()
    for tp in (TP, OTHER):
        await appender.append([OutputRecords(tp, [b"k"] * len(VALUES), VALUES, 7)])
    await appender.close()
    yield made
    await made.close()


async def drained(scanner: Scanner, *tps: TopicPartition) -> list[Chunk]:
    """All there is."""
    found: list[Chunk] = []
    async with asyncio.timeout(10):
        while any(scanner.position(tp) < len(VALUES) for tp in tps):
            found += await scanner.poll(10)
    return found


def records(chunks: Sequence[Chunk], tp: TopicPartition) -> list[tuple[int, bytes | None]]:
    mine = [chunk for chunk in chunks if chunk.tp == tp]
    return [pair for chunk in mine for pair in zip(chunk.offsets, chunk.values, strict=True)]


async def test_tombstones_of_its_topic_look_like_control_records(log: EventLog) -> None:
    scanner = log.scanner()
    scanner.seek(TP, 0)
    scanner.seek(OTHER, 0)
    chunks = await drained(scanner, TP, OTHER)
    assert records(chunks, TP) == [(0, b"a"), (2, b"b")]
    assert records(chunks, OTHER) == list(enumerate(VALUES))
    assert max(chunk.next_offset for chunk in chunks if chunk.tp == TP) == len(VALUES)
    assert all(len(chunk.keys) == len(chunk.timestamps) == len(chunk.offsets) > 0 for chunk in chunks)
    scanner.seek(TP, 3)
    assert await drained(scanner, TP) == []
    await scanner.close()


async def test_a_poll_that_is_cancelled_while_it_waits_loses_nothing(log: EventLog, door: Door) -> None:
    scanner = log.scanner()
    scanner.seek(TP, 0)
    door.open.clear()
    for _ in range(3):
        poll = asyncio.ensure_future(scanner.poll(10))
        await asyncio.sleep(0.05)
        assert scanner.position(TP) == 0
        poll.cancel()
        await asyncio.gather(poll, return_exceptions=True)
    door.open.set()
    assert records(await drained(scanner, TP), TP) == [(0, b"a"), (2, b"b")]
    await scanner.close()


async def test_an_error_is_the_polls_and_the_records_come_with_a_later_one(log: EventLog, door: Door) -> None:
    scanner = log.scanner()
    scanner.seek(TP, 0)
    door.error = EventLogError("no answer", retriable=True)
    with pytest.raises(EventLogError, match="no answer"):
        await drained(scanner, TP)
    assert scanner.position(TP) == 0
    assert records(await drained(scanner, TP), TP) == [(0, b"a"), (2, b"b")]
    assert door.seen[: len(VALUES)] == VALUES
    await scanner.close()


async def test_what_is_held_is_forgotten_when_reading_goes_on_elsewhere(log: EventLog, door: Door) -> None:
    scanner = log.scanner()
    scanner.seek(TP, 0)
    door.error = EventLogError("no answer", retriable=True)
    with pytest.raises(EventLogError):
        await drained(scanner, TP)
    scanner.seek(TP, 2)
    assert records(await drained(scanner, TP), TP) == [(2, b"b")]
    await scanner.close()


async def test_a_groups_reader_holds_too(door: Door) -> None:
    cluster = SimulatedCluster(SystemClock(), random.Random(1))
    clients = Clients(lambda: PreparedLog(cluster.client("client"), TP.topic, door), "x")
    await clients.log.admin().ensure_topics([TopicSpec(TP.topic, 1)])
    await clients.log.appender().append([OutputRecords(TP, [b"k"] * len(VALUES), VALUES, 7)])
    reader = (await clients.member([TP.topic])).reader
    assert reader.position(TP) == NO_OFFSET
    reader.resume(TP, 0)
    door.error = EventLogError("no answer", retriable=True)
    async with asyncio.timeout(10):
        while door.error is not None:
            await asyncio.gather(reader.poll(10), return_exceptions=True)
    assert reader.position(TP) == 0
    reader.pause(TP)
    assert reader.position(TP) == NO_OFFSET
    assert await reader.poll(10) == []
    reader.resume(TP, 1)
    found: list[Chunk] = []
    async with asyncio.timeout(10):
        while reader.position(TP) < len(VALUES):
            found += await reader.poll(10)
    assert records(found, TP) == [(2, b"b")]
    await clients.close()
