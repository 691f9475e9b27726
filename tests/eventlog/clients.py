"""What contract tests do with a log: join a group, run transactions, read until something is there, all bounded."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

from streamproc.eventlog.contract import (
    AssignmentListener,
    Chunk,
    CommittedOffset,
    EventLog,
    GroupReader,
    Headers,
    Membership,
    OutputRecords,
    Scanner,
    TopicPartition,
    TopicSpec,
    TransactionalWriter,
)

PATIENCE_S = 20.0
TIME_MS = 1_700_000_000_123


class Recorder(AssignmentListener):
    """Keeps what it was told."""

    def __init__(self) -> None:
        self.assigned: frozenset[TopicPartition] = frozenset()
        self.membership: Membership | None = None

    async def on_revoked(self, partitions: frozenset[TopicPartition]) -> None:
        self.assigned -= partitions

    async def on_assigned(self, partitions: frozenset[TopicPartition], membership: Membership) -> None:
        assert not self.assigned, "what was there must have been revoked"
        self.assigned = partitions
        self.membership = membership


class Member:
    """A reader that has its partitions."""

    def __init__(self, reader: GroupReader, recorder: Recorder, membership: Membership) -> None:
        self.reader = reader
        self.recorder = recorder
        self.membership = membership


class Clients:
    """Clients of one log, with names unique to the test, closed at its end."""

    def __init__(self, connect: Callable[[], EventLog], unique: str) -> None:
        self._connect = connect
        self._logs: list[EventLog] = []
        self._readers: list[GroupReader] = []
        self._scanners: list[Scanner] = []
        self._writers: list[TransactionalWriter] = []
        self._unique = unique
        self.log = self.another()

    def another(self) -> EventLog:
        log = self._connect()
        self._logs.append(log)
        return log

    def name(self, name: str) -> str:
        return f"{name}-{self._unique}"

    async def topic(self, name: str, partitions: int = 1) -> str:
        topic = self.name(name)
        await self.log.admin().ensure_topics([TopicSpec(topic, partitions)])
        return topic

    async def partition(self, name: str) -> TopicPartition:
        return TopicPartition(await self.topic(name), 0)

    async def writer(self, name: str = "writer", log: EventLog | None = None) -> TransactionalWriter:
        writer = (log or self.log).writer(self.name(name))
        self._writers.append(writer)
        await writer.open()
        return writer

    async def member(
        self, topics: Sequence[str], *, group: str = "group", instance: str = "i0", log: EventLog | None = None
    ) -> Member:
        """A member to whom all partitions of `topics` are assigned."""
        recorder = Recorder()
        reader = (log or self.log).reader(
            self.name(group), topics, recorder, instance=self.name(instance), index=0, count=1
        )
        self._readers.append(reader)
        await reader.start()
        expected = {TopicPartition(t, p) for t in topics for p in range(await self.log.admin().partitions(t))}
        async with asyncio.timeout(PATIENCE_S):
            while recorder.assigned != expected:
                assert await reader.poll(50) == [], "a partition is paused until resume"
        assert recorder.membership is not None
        return Member(reader, recorder, recorder.membership)

    async def sharing(self, first: Member, topic: str, *, instance: str = "i1") -> Member:
        """Another member of the group of `first`, which had both partitions of `topic`: now each has one."""
        recorder = Recorder()
        reader = self.another().reader(
            first.membership.group, [topic], recorder, instance=self.name(instance), index=1, count=2
        )
        self._readers.append(reader)
        await reader.start()
        async with asyncio.timeout(PATIENCE_S):
            while len(recorder.assigned) != 1 or len(first.recorder.assigned) != 1:
                await asyncio.gather(reader.poll(50), first.reader.poll(50))
        assert recorder.membership is not None
        return Member(reader, recorder, recorder.membership)

    def scanner(self, *partitions: TopicPartition, log: EventLog | None = None) -> Scanner:
        scanner = (log or self.log).scanner()
        self._scanners.append(scanner)
        for tp in partitions:
            scanner.seek(tp, 0)
        return scanner

    async def values(self, tp: TopicPartition, log: EventLog | None = None) -> list[bytes | None]:
        """All that is committed, to the partition's end."""
        scanner = self.scanner(tp, log=log)
        end = (await self.log.admin().end_offsets([tp]))[tp]
        return [value for chunk in await until(scanner, lambda: scanner.position(tp) >= end) for value in chunk.values]

    async def close(self) -> None:
        for writer in self._writers:
            await writer.abandon()
        for scanner in self._scanners:
            await scanner.close()
        for reader in self._readers:
            await reader.close(leave=True)
        for log in self._logs:
            await log.close()


def out(
    tp: TopicPartition,
    *values: bytes | None,
    keys: Sequence[bytes | None] | None = None,
    headers: Sequence[Headers] | None = None,
) -> OutputRecords:
    return OutputRecords(tp, keys or [b"k"] * len(values), list(values), TIME_MS, headers)


async def transact(
    writer: TransactionalWriter,
    *outputs: OutputRecords,
    offsets: Mapping[TopicPartition, CommittedOffset] | None = None,
    membership: Membership | None = None,
) -> Mapping[TopicPartition, int]:
    """One whole transaction; where its last records are."""
    await writer.begin()
    await writer.append(outputs)
    if offsets is not None:
        assert membership is not None
        await writer.offsets(offsets, membership)
    ends = await writer.delivered()
    await writer.commit()
    return ends


async def until(source: Scanner | GroupReader, enough: Callable[[], bool]) -> list[Chunk]:
    """Poll until `enough`, within bounds."""
    chunks: list[Chunk] = []
    async with asyncio.timeout(PATIENCE_S):
        while not enough():
            chunks += await source.poll(50)
    return chunks


async def records(source: Scanner | GroupReader, count: int) -> list[Chunk]:
    """Poll until `count` records have come; more is an error."""
    chunks: list[Chunk] = []
    async with asyncio.timeout(PATIENCE_S):
        while sum(len(chunk.offsets) for chunk in chunks) < count:
            chunks += await source.poll(50)
    assert sum(len(chunk.offsets) for chunk in chunks) == count
    return chunks


async def nothing(source: Scanner | GroupReader, seconds: float = 0.15) -> None:
    """Poll for a while and see no record."""
    deadline = asyncio.get_running_loop().time() + seconds
    while asyncio.get_running_loop().time() < deadline:
        assert await source.poll(20) == []


def flat(chunks: Sequence[Chunk], tp: TopicPartition | None = None) -> list[bytes | None]:
    return [value for chunk in chunks if tp in {None, chunk.tp} for value in chunk.values]
