"""A log whose records of one topic are made ready before anyone sees them: for other formats than plain JSON.

Tombstones are left out: to readers they look like control records, so a replay needs to know nothing of them. And
`ready` may fetch what decoding will need, so that decoding itself waits for nothing.
"""

from __future__ import annotations

__all__ = ["PreparedLog", "Ready"]

from collections.abc import Awaitable, Callable, Sequence

from streamproc.eventlog.contract import (
    NO_OFFSET,
    Admin,
    Appender,
    AssignmentListener,
    Chunk,
    CommittedOffset,
    EventLog,
    GroupReader,
    Scanner,
    TopicPartition,
    TransactionalWriter,
)

Ready = Callable[[Sequence[bytes | None]], Awaitable[None]]
"""Waits until records can be decoded. An EventLogError of it is one of the poll; the records come with a later poll."""


async def at_once(values: Sequence[bytes | None]) -> None:
    """Nothing needs to be fetched."""


class PreparedLog:
    """`log`, with the records of `topic` prepared; writers and all else are the log's own."""

    def __init__(self, log: EventLog, topic: str, ready: Ready = at_once) -> None:
        self._log = log
        self._topic = topic
        self._ready = ready

    @property
    def url(self) -> str:
        return self._log.url

    def reader(
        self, group: str, topics: Sequence[str], listener: AssignmentListener, *, instance: str, index: int, count: int
    ) -> GroupReader:
        made = self._log.reader(group, topics, listener, instance=instance, index=index, count=count)
        return _Reader(made, self._topic, self._ready)

    def scanner(self) -> Scanner:
        return _Scanner(self._log.scanner(), self._topic, self._ready)

    def writer(self, transactional_id: str) -> TransactionalWriter:
        return self._log.writer(transactional_id)

    def appender(self) -> Appender:
        return self._log.appender()

    def admin(self) -> Admin:
        return self._log.admin()

    async def close(self) -> None:
        await self._log.close()


class _Held:
    """Chunks that were polled and are not ready yet: an error or a cancelled poll loses none of them."""

    def __init__(self, topic: str, ready: Ready) -> None:
        self._topic = topic
        self._ready = ready
        self._chunks: list[Chunk] = []

    async def poll(self, poll: Callable[[], Awaitable[list[Chunk]]]) -> list[Chunk]:
        if not self._chunks:
            self._chunks = await poll()
        for chunk in [chunk for chunk in self._chunks if chunk.tp.topic == self._topic]:
            await self._ready(chunk.values)
        chunks, self._chunks = self._chunks, []
        return [kept for chunk in chunks if (kept := self._without_tombstones(chunk)) is not None]

    def forget(self, tp: TopicPartition) -> None:
        """Reading goes on elsewhere."""
        self._chunks = [chunk for chunk in self._chunks if chunk.tp != tp]

    def first(self, tp: TopicPartition) -> int | None:
        """The first offset that is held."""
        return next((chunk.offsets[0] for chunk in self._chunks if chunk.tp == tp), None)

    def _without_tombstones(self, chunk: Chunk) -> Chunk | None:
        if chunk.tp.topic != self._topic or all(chunk.values):
            return chunk
        keep = [i for i, value in enumerate(chunk.values) if value]
        if not keep:
            return None
        headers = chunk.headers and [chunk.headers[i] for i in keep]
        offsets, keys = [chunk.offsets[i] for i in keep], [chunk.keys[i] for i in keep]
        values, timestamps = [chunk.values[i] for i in keep], [chunk.timestamps[i] for i in keep]
        return Chunk(chunk.tp, offsets, keys, values, timestamps, chunk.next_offset, headers)


class _Reader:
    """A group's reader."""

    def __init__(self, reader: GroupReader, topic: str, ready: Ready) -> None:
        self._reader = reader
        self._held = _Held(topic, ready)

    async def start(self) -> None:
        await self._reader.start()

    async def poll(self, timeout_ms: int) -> list[Chunk]:
        return await self._held.poll(lambda: self._reader.poll(timeout_ms))

    async def committed(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, CommittedOffset]:
        return await self._reader.committed(partitions)

    def resume(self, tp: TopicPartition, offset: int) -> None:
        self._held.forget(tp)
        self._reader.resume(tp, offset)

    def pause(self, tp: TopicPartition) -> None:
        self._held.forget(tp)
        self._reader.pause(tp)

    def caught_up(self, tp: TopicPartition) -> bool:
        return self._held.first(tp) is None and self._reader.caught_up(tp)

    def position(self, tp: TopicPartition) -> int:
        position, held = self._reader.position(tp), self._held.first(tp)
        return position if held is None or position == NO_OFFSET else held

    async def close(self, *, leave: bool = False) -> None:
        await self._reader.close(leave=leave)


class _Scanner:
    """A scanner."""

    def __init__(self, scanner: Scanner, topic: str, ready: Ready) -> None:
        self._scanner = scanner
        self._held = _Held(topic, ready)

    async def poll(self, timeout_ms: int) -> list[Chunk]:
        return await self._held.poll(lambda: self._scanner.poll(timeout_ms))

    def seek(self, tp: TopicPartition, offset: int) -> None:
        self._held.forget(tp)
        self._scanner.seek(tp, offset)

    def position(self, tp: TopicPartition) -> int:
        held = self._held.first(tp)
        return self._scanner.position(tp) if held is None else held

    async def close(self) -> None:
        await self._scanner.close()
