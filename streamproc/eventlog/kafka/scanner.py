"""Reading given partitions from given offsets, outside any group."""

from __future__ import annotations

__all__ = ["KafkaScanner"]

import asyncio
from typing import Any, NamedTuple

from state.errors import EventLogError
from streamproc.eventlog.contract import Chunk, TopicPartition
from streamproc.eventlog.kafka._aiokafka import SubscriptionState
from streamproc.eventlog.kafka.client import Client, bounded
from streamproc.eventlog.kafka.fetch import ChunkFetcher
from streamproc.eventlog.kafka.settings import Settings


class _Link(NamedTuple):
    client: Client
    subscription: Any
    fetcher: ChunkFetcher


class KafkaScanner:
    """Keeps the contract's `Scanner`. Connects at its first poll."""

    def __init__(self, bootstrap: str, settings: Settings) -> None:
        self._bootstrap = bootstrap
        self._settings = settings
        self._positions: dict[TopicPartition, int] = {}
        self._sought: set[TopicPartition] = set()  # not yet told to the fetcher
        self._closed = False
        self._connecting: asyncio.Task[_Link] | None = None
        self._placing = asyncio.Lock()

    async def poll(self, timeout_ms: int) -> list[Chunk]:
        """What is there from the positions on, at most `timeout_ms` later.

        Raises:
            EventLogError: the log cannot be reached, there is no such topic, or the position is gone.
        """
        if self._closed:
            raise EventLogError("Kafka: the scanner is closed")
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_ms / 1000
        link = await self._connected()
        while True:
            await self._place(link)
            chunks = link.fetcher.drain()
            moved = self._read_positions(link.fetcher)
            left = deadline - loop.time()
            if chunks or moved or left <= 0:  # to have passed control records alone is worth telling
                return chunks
            waiter = link.fetcher.waiter()
            try:
                await asyncio.wait((waiter,), timeout=left)
            finally:
                waiter.cancel()

    def seek(self, tp: TopicPartition, offset: int) -> None:
        self._positions[tp] = offset
        self._sought.add(tp)

    def position(self, tp: TopicPartition) -> int:
        return self._positions[tp]

    async def close(self) -> None:
        self._closed = True
        if self._connecting is None:
            return
        await asyncio.wait((self._connecting,))
        if self._connecting.exception() is None:
            link = self._connecting.result()
            await link.fetcher.close()
            await link.client.sever()

    def _read_positions(self, fetcher: ChunkFetcher) -> bool:
        """True if any has moved."""
        before = dict(self._positions)
        for tp in self._positions.keys() - self._sought:
            position = fetcher.position(tp)
            if position is not None:
                self._positions[tp] = position
        return self._positions != before

    async def _connected(self) -> _Link:
        if self._connecting is None:
            self._connecting = asyncio.create_task(self._connect())
        try:
            # Shielded: a cancelled poll leaves no half-open connection behind.
            return await asyncio.shield(self._connecting)
        except EventLogError:
            self._connecting = None  # the next poll tries again
            raise

    async def _connect(self) -> _Link:
        client = Client(self._bootstrap, self._settings, "streamproc-scanner")
        await client.connect()
        subscription = SubscriptionState()
        return _Link(
            client, subscription, ChunkFetcher(client, subscription, self._settings, self._settings.scan_part_bytes)
        )

    async def _place(self, link: _Link) -> None:
        """Tell the fetcher what was sought."""
        if not self._sought:
            return
        async with self._placing:
            if any(link.fetcher.position(tp) is None for tp in self._sought):
                topics = {tp.topic for tp in self._positions}
                await bounded(link.client.demand(topics), self._settings.call_timeout_ms, "looking up topics")
                # No incremental assignment in aiokafka: all anew, and every partition put where it was.
                link.client.set_topics(topics)
                link.subscription.assign_from_user(list(self._positions))
                self._sought = set(self._positions)
            for tp in self._sought:
                link.fetcher.place(tp, self._positions[tp])
            self._sought = set()
