"""Chunks: what is in them, what is not, and where reading goes on."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from state.errors import EventLogError
from streamproc.eventlog.contract import Chunk, TopicPartition, TopicSpec
from streamproc.eventlog.kafka import KafkaLog
from streamproc.eventlog.kafka._aiokafka import DefaultRecordBatchBuilder
from streamproc.eventlog.kafka.fetch import _read_chunk
from tests.eventlog.kafka.kit import append, join, opened, read, read_values, records, transact, unique

TP = TopicPartition("t", 0)


class Batches:
    """Raw record batches, as the broker sends them."""

    def __init__(self, start: int, *batches: bytes) -> None:
        from aiokafka.consumer.fetcher import PartitionRecords
        from aiokafka.record.memory_records import MemoryRecords

        self.fetched: Any = PartitionRecords(TP, MemoryRecords(b"".join(batches)), [], start, None, None, True, 1)

    def read(self) -> Chunk | None:
        return _read_chunk(TP, self.fetched)


def batch(base: int, *deltas: int) -> bytes:
    """A batch whose records stand at base + delta: what compaction leaves."""
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 100_000)
    for delta in deltas:
        builder.append(delta, 1000 + delta, b"k%d" % delta, b"v%d" % (base + delta), [])
    raw = bytearray(builder.build())
    raw[:8] = base.to_bytes(8, "big")  # outside the checksum
    return bytes(raw)


def test_gaps_of_compaction() -> None:
    chunk = Batches(10, batch(10, 0, 3, 7), batch(30, 0, 1)).read()
    assert chunk is not None
    assert list(chunk.offsets) == [10, 13, 17, 30, 31]
    assert list(chunk.values) == [b"v10", b"v13", b"v17", b"v30", b"v31"]
    assert list(chunk.keys) == [b"k0", b"k3", b"k7", b"k0", b"k1"]
    assert list(chunk.timestamps) == [1000, 1003, 1007, 1000, 1001]
    assert chunk.next_offset == 32
    assert chunk.headers is None


def test_a_position_within_a_batch() -> None:
    chunk = Batches(13, batch(10, 0, 3, 7)).read()
    assert chunk is not None
    assert list(chunk.offsets) == [13, 17]


def test_a_damaged_batch_is_not_delivered() -> None:
    raw = bytearray(batch(0, 0, 1))
    raw[-1] ^= 1
    from aiokafka.errors import CorruptRecordException

    with pytest.raises(CorruptRecordException):
        Batches(0, bytes(raw)).read()


@pytest.mark.kafka
async def test_aborted_and_control_records_are_skipped(log: KafkaLog, tp: TopicPartition) -> None:
    writer = await opened(log, unique("tx"))
    await transact(writer, records(tp, b"one", b"two"))  # 0, 1, marker 2
    await writer.begin()
    await writer.append([records(tp, b"dropped")])  # 3, marker 4
    await writer.abort()
    await transact(writer, records(tp, b"three"))  # 5, marker 6
    await writer.abandon()
    chunks = await read(log, tp)
    assert [offset for chunk in chunks for offset in chunk.offsets] == [0, 1, 5]
    assert [value for chunk in chunks for value in chunk.values] == [b"one", b"two", b"three"]
    assert chunks[-1].next_offset == 7


@pytest.mark.kafka
async def test_two_writers_one_aborts(log: KafkaLog, tp: TopicPartition) -> None:
    kept, dropped = await opened(log, unique("tx")), await opened(log, unique("tx"))
    for writer in (kept, dropped):
        await writer.begin()
    for number in range(3):
        for writer, word in ((kept, b"kept %d"), (dropped, b"dropped %d")):
            await writer.append([records(tp, word % number)])
            await writer.delivered()
    await dropped.abort()
    await kept.commit()
    assert await read_values(log, tp) == [b"kept 0", b"kept 1", b"kept 2"]
    await kept.abandon()
    await dropped.abandon()


@pytest.mark.kafka
async def test_an_open_transaction_is_not_seen(log: KafkaLog, tp: TopicPartition) -> None:
    writer = await opened(log, unique("tx"))
    await writer.begin()
    await writer.append([records(tp, b"open")])
    await writer.delivered()
    scanner = log.scanner()
    scanner.seek(tp, 0)
    assert await scanner.poll(300) == []
    assert scanner.position(tp) == 0
    assert await log.admin().end_offsets([tp]) == {tp: 1}  # the high watermark
    await writer.commit()
    async with asyncio.timeout(5):
        while scanner.position(tp) < 2:
            await scanner.poll(200)
    await scanner.close()
    await writer.abandon()


@pytest.mark.kafka
async def test_a_position_passes_a_trailing_control_record(log: KafkaLog, tp: TopicPartition) -> None:
    writer = await opened(log, unique("tx"))
    await writer.begin()
    await writer.append([records(tp, b"dropped")])
    await writer.abort()
    await writer.abandon()
    async with asyncio.timeout(5):
        while await log.admin().end_offsets([tp]) != {tp: 2}:  # noqa: ASYNC110  # markers are written after EndTxn was answered
            await asyncio.sleep(0.01)
    assert await read(log, tp) == []


@pytest.mark.kafka
async def test_a_scanner_takes_partitions_one_by_one(log: KafkaLog, topic: str) -> None:
    zero, one = TopicPartition(topic, 0), TopicPartition(topic, 1)
    await append(log, records(zero, b"a", b"b", b"c"), records(one, b"x"))
    scanner = log.scanner()
    seen: list[bytes | None] = []

    async def until(tp: TopicPartition, end: int) -> None:
        async with asyncio.timeout(5):
            while scanner.position(tp) < end:
                for chunk in await scanner.poll(200):
                    seen.extend(chunk.values)

    scanner.seek(zero, 1)
    await until(zero, 3)
    scanner.seek(one, 0)
    await until(one, 1)
    scanner.seek(zero, 2)
    await until(zero, 3)
    assert seen == [b"b", b"c", b"x", b"c"]
    await scanner.close()


@pytest.mark.kafka
async def test_a_position_that_is_gone(log: KafkaLog, topic: str, tp: TopicPartition) -> None:
    scanner = log.scanner()
    scanner.seek(tp, 1000)
    with pytest.raises(EventLogError, match=f"{topic}/0 from 1000: OFFSET_OUT_OF_RANGE") as caught:
        await scanner.poll(5000)
    assert not caught.value.retriable
    await scanner.close()


@pytest.mark.kafka
async def test_no_such_topic(log: KafkaLog) -> None:
    scanner = log.scanner()
    scanner.seek(TopicPartition(unique("missing"), 0), 0)
    with pytest.raises(EventLogError, match="no topic missing"):
        await scanner.poll(200)
    await scanner.close()


@pytest.mark.kafka
async def test_a_poll_is_bounded(kafka_bootstrap: str, topic: str, tp: TopicPartition) -> None:
    log = KafkaLog(kafka_bootstrap, scan_part_bytes=100_000, poll_bytes=50_000, part_bytes=100_000)
    value = b"x" * 1000
    appender = log.appender()
    for _ in range(20):
        await appender.append([records(TopicPartition(topic, number), *[value] * 50) for number in (0, 1)])
    await appender.close()
    chunks = await read(log, tp, TopicPartition(topic, 1))
    assert sum(len(chunk.offsets) for chunk in chunks) == 2000
    assert max(len(chunk.offsets) for chunk in chunks) <= 150  # 100 KB, and never less than a batch
    await log.close()


@pytest.mark.kafka
async def test_pause_resume_and_cancelled_polls_lose_nothing(log: KafkaLog, topic: str, tp: TopicPartition) -> None:
    reader, _ = await join(log, unique("group"), [topic])
    await append(log, *(records(tp, b"%d" % number) for number in range(10)))
    assert await reader.poll(300) == []  # paused until placed
    reader.resume(tp, 0)
    seen: list[bytes | None] = []

    async def collect(count: int) -> None:
        async with asyncio.timeout(10):
            while len(seen) < count:
                poll = asyncio.create_task(reader.poll(1000))
                await asyncio.sleep(0.002)
                if not poll.done():
                    poll.cancel()
                await asyncio.wait([poll])
                if not poll.cancelled():
                    seen.extend(value for chunk in poll.result() for value in chunk.values)

    await collect(10)
    reader.pause(tp)
    await append(log, records(tp, b"10"))
    assert await reader.poll(300) == []
    reader.resume(tp, 10)
    await collect(11)
    assert seen == [b"%d" % number for number in range(11)]
    await reader.close(leave=True)


@pytest.mark.kafka
async def test_topics_are_kept_for_ever_and_left_as_they_are(log: KafkaLog) -> None:
    from aiokafka.admin import AIOKafkaAdminClient
    from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

    name, other = unique("kept"), unique("short")
    await log.admin().ensure_topics([TopicSpec(name, 3), TopicSpec(other, 1, {"retention.ms": "1000"})])
    await log.admin().ensure_topics([TopicSpec(name, 5)])
    assert await log.admin().partitions(name) == 3
    client = AIOKafkaAdminClient(bootstrap_servers=log.url.removeprefix("kafka://"))
    await client.start()
    resources = [ConfigResource(ConfigResourceType.TOPIC, topic, {"retention.ms": ""}) for topic in (name, other)]
    (answer,) = await client.describe_configs(resources)
    assert [entries[0][1] for *_, entries in answer.resources] == ["-1", "1000"]
    await client.close()


@pytest.mark.kafka
async def test_a_topic_the_broker_refuses(log: KafkaLog) -> None:
    with pytest.raises(EventLogError, match=r"creating topic bad!: INVALID_TOPIC"):
        await log.admin().ensure_topics([TopicSpec("bad!", 1)])


@pytest.mark.kafka
async def test_a_seek_while_a_poll_waits(log: KafkaLog, topic: str) -> None:
    zero, one = TopicPartition(topic, 0), TopicPartition(topic, 1)
    await append(log, records(zero, b"a", b"b"), records(one, b"x", b"y"))
    scanner = log.scanner()
    scanner.seek(zero, 2)
    poll = asyncio.create_task(scanner.poll(300))
    await asyncio.sleep(0.1)
    scanner.seek(one, 1)
    scanner.seek(zero, 1)
    await poll
    assert (scanner.position(zero), scanner.position(one)) == (1, 1)
    seen: set[bytes | None] = set()
    async with asyncio.timeout(5):
        while len(seen) < 2:
            seen.update(value for chunk in await scanner.poll(200) for value in chunk.values)
    assert seen == {b"b", b"y"}
    await scanner.close()
