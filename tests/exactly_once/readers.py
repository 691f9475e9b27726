"""A log as the verifier reads it, committed records only, with none of our code: sqlite3 or a Kafka consumer."""

from __future__ import annotations

__all__ = ["LogReader", "Record", "open_reader"]

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

import aiokafka
import msgspec
from aiokafka.admin import AIOKafkaAdminClient

R = TypeVar("R")
_READ_SECONDS_MAX = 120.0


class Record(NamedTuple):
    """One committed record."""

    offset: int
    key: bytes | None
    value: bytes
    timestamp: int
    headers: dict[str, bytes]


class LogReader(Protocol):
    """What the verifier asks a log."""

    def partitions(self, topic: str) -> int: ...
    def read(self, topic: str, partition: int) -> list[Record]: ...
    def committed(self, group: str, topic: str) -> dict[int, tuple[int, str]]:
        """Offset and metadata of each partition."""
        ...

    def unsettled(self, topic: str) -> list[str]:
        """What is still open in it: an idle log has no transaction under way."""
        ...


def open_reader(url: str) -> LogReader:
    """The log named as on the command line."""
    if url.startswith("kafka://"):
        return KafkaReader(url.removeprefix("kafka://"))
    return SqliteReader(Path(url.removeprefix("file:")) / "log.sqlite3")


class SqliteReader:
    """The embedded log's file, opened read-only. `chunks.id` is partition id << 40 | offset of its first record."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)

    def partitions(self, topic: str) -> int:
        return int(self._db.execute("SELECT count(*) FROM partitions WHERE topic = ?", (topic,)).fetchone()[0])

    def read(self, topic: str, partition: int) -> list[Record]:
        begin, end = self._db.execute(
            "SELECT begin_offset, next_offset FROM partitions WHERE topic = ? AND partition = ?", (topic, partition)
        ).fetchone()
        chunks = self._db.execute(
            "SELECT chunks.id & 0xFFFFFFFFFF, count, payload FROM chunks "
            "JOIN partitions ON partitions.id = chunks.id >> 40 WHERE topic = ? AND partition = ? ORDER BY chunks.id",
            (topic, partition),
        )
        records: list[Record] = []
        for base, count, payload in chunks:
            keys, values, timestamp, headers = msgspec.msgpack.decode(payload)
            assert len(keys) == len(values) == count, f"{topic}-{partition}@{base}: count"
            assert base == (records[-1].offset + 1 if records else begin), f"{topic}-{partition}@{base}: a gap"
            for i in range(count):
                named = dict(headers[i]) if headers else {}
                records.append(Record(base + i, keys[i], values[i] or b"", timestamp, named))
        assert (records[-1].offset + 1 if records else begin) == end, f"{topic}-{partition}: end"
        return records

    def committed(self, group: str, topic: str) -> dict[int, tuple[int, str]]:
        rows = self._db.execute(
            "SELECT partition, group_partitions.next_offset, metadata FROM group_partitions "
            "JOIN partitions ON partitions.id = partition_id WHERE group_name = ? AND topic = ? "
            "AND group_partitions.next_offset IS NOT NULL",
            (group, topic),
        )
        return {partition: (offset, metadata) for partition, offset, metadata in rows}

    def unsettled(self, topic: str) -> list[str]:
        """Nothing uncommitted is ever in the file."""
        return []


class KafkaReader:
    """aiokafka's own consumer, read_committed, without a group."""

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap

    def partitions(self, topic: str) -> int:
        return asyncio.run(self._partitions(topic))

    def read(self, topic: str, partition: int) -> list[Record]:
        tp = aiokafka.TopicPartition(topic, partition)

        async def scan(consumer: Any) -> list[Record]:
            consumer.assign([tp])
            await consumer.seek_to_beginning(tp)
            end = (await consumer.end_offsets([tp]))[tp]
            records: list[Record] = []
            while await consumer.position(tp) < end:
                batches = await consumer.getmany(tp, timeout_ms=500)
                for message in batches.get(tp, []):
                    named = dict(message.headers)
                    records.append(Record(message.offset, message.key, message.value or b"", message.timestamp, named))
            return records

        return self._with_consumer(scan)

    def committed(self, group: str, topic: str) -> dict[int, tuple[int, str]]:
        async def fetch() -> dict[int, tuple[int, str]]:
            async with self._admin() as admin:
                found = await admin.list_consumer_group_offsets(group)
            return {tp.partition: (at.offset, at.metadata) for tp, at in found.items() if tp.topic == topic}

        return asyncio.run(fetch())

    def unsettled(self, topic: str) -> list[str]:
        """Partitions whose last stable offset lies before their end."""

        async def compare(consumer: Any) -> list[str]:
            tps = [aiokafka.TopicPartition(topic, p) for p in range(await self._partitions(topic))]
            stable = await consumer.end_offsets(tps)
            ends = await self._within("read_uncommitted", lambda other: other.end_offsets(tps))
            return [
                f"{tp.topic}-{tp.partition}: stable {stable[tp]} of {ends[tp]}" for tp in tps if stable[tp] != ends[tp]
            ]

        return self._with_consumer(compare)

    async def _partitions(self, topic: str) -> int:
        async with self._admin() as admin:
            (found,) = await admin.describe_topics([topic])
        return len(found["partitions"])

    @contextlib.asynccontextmanager
    async def _admin(self) -> AsyncIterator[Any]:
        admin = AIOKafkaAdminClient(bootstrap_servers=self._bootstrap)
        await admin.start()
        try:
            yield admin
        finally:
            await admin.close()

    def _with_consumer(self, work: Callable[[Any], Awaitable[R]]) -> R:
        return asyncio.run(self._within("read_committed", work))

    async def _within(self, isolation: str, work: Callable[[Any], Awaitable[R]]) -> R:
        consumer = aiokafka.AIOKafkaConsumer(
            bootstrap_servers=self._bootstrap, isolation_level=isolation, enable_auto_commit=False,
            max_partition_fetch_bytes=4 << 20, auto_offset_reset="earliest",
        )  # fmt: skip
        await consumer.start()
        try:
            return await asyncio.wait_for(work(consumer), _READ_SECONDS_MAX)
        finally:
            await asyncio.sleep(0.01)  # it cannot stop tasks that have not begun
            await consumer.stop()
