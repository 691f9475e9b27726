"""Short words for the tests of the Kafka log."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from streamproc.eventlog.contract import Chunk, Headers, Membership, OutputRecords, TopicPartition
from streamproc.eventlog.kafka import KafkaLog
from streamproc.eventlog.kafka.reader import KafkaReader
from streamproc.eventlog.kafka.writer import KafkaWriter

WAIT_S = 20.0


def unique(word: str) -> str:
    """A name nobody else has on the shared broker."""
    return f"{word}-{uuid.uuid4().hex[:10]}"


def records(tp: TopicPartition, *values: bytes, headers: Sequence[Headers] | None = None) -> OutputRecords:
    return OutputRecords(tp, [b"key"] * len(values), list(values), 1_700_000_000_000, headers)


class Told:
    """An assignment listener that keeps everything in order."""

    def __init__(self) -> None:
        self.events: list[tuple[str, frozenset[TopicPartition]]] = []
        self.partitions: frozenset[TopicPartition] = frozenset()
        self.membership: Membership | None = None

    async def on_revoked(self, partitions: frozenset[TopicPartition]) -> None:
        self.events.append(("revoked", partitions))
        self.partitions = frozenset()

    async def on_assigned(self, partitions: frozenset[TopicPartition], membership: Membership) -> None:
        self.events.append(("assigned", partitions))
        self.partitions, self.membership = partitions, membership

    @property
    def member(self) -> Membership:
        assert self.membership is not None
        return self.membership


async def join(
    log: KafkaLog, group: str, topics: Sequence[str], instance: str = "worker-0"
) -> tuple[KafkaReader, Told]:
    """A reader that has its first assignment."""
    told = Told()
    reader = log.reader(group, topics, told, instance=instance, index=0, count=1)
    await reader.start()
    deadline = time.monotonic() + WAIT_S
    while told.membership is None and time.monotonic() < deadline:
        await reader.poll(200)
    assert told.membership is not None
    return reader, told


@asynccontextmanager
async def polling(*readers: KafkaReader) -> AsyncIterator[None]:
    """Poll all of them in the background, as workers do."""

    async def pump(reader: KafkaReader) -> None:
        while True:
            await reader.poll(100)

    tasks = [asyncio.create_task(pump(reader)) for reader in readers]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def read(log: KafkaLog, *partitions: TopicPartition, timeout_s: float = WAIT_S) -> list[Chunk]:
    """All committed records up to the high watermarks of now."""
    ends = await log.admin().end_offsets(partitions)
    scanner = log.scanner()
    chunks: list[Chunk] = []
    try:
        for tp in partitions:
            scanner.seek(tp, 0)
        async with asyncio.timeout(timeout_s):
            while any(scanner.position(tp) < end for tp, end in ends.items()):
                chunks += await scanner.poll(200)
    finally:
        await scanner.close()
    return chunks


async def read_values(log: KafkaLog, *partitions: TopicPartition, timeout_s: float = WAIT_S) -> list[bytes | None]:
    return [value for chunk in await read(log, *partitions, timeout_s=timeout_s) for value in chunk.values]


async def append(log: KafkaLog, *outputs: OutputRecords) -> None:
    appender = log.appender()
    try:
        await appender.append(outputs)
    finally:
        await appender.close()


async def opened(log: KafkaLog, transactional_id: str) -> KafkaWriter:
    writer = log.writer(transactional_id)
    await writer.open()
    return writer


async def transact(writer: KafkaWriter, *outputs: OutputRecords) -> dict[TopicPartition, int]:
    await writer.begin()
    await writer.append(outputs)
    last = await writer.delivered()
    await writer.commit()
    return last
