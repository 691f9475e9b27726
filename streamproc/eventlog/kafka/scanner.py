"""Reading given partitions from given offsets, outside any group."""

from __future__ import annotations

__all__ = ["KafkaScanner"]

import asyncio

from state.errors import EventLogError
from streamproc.eventlog.contract import Chunk, TopicPartition
from streamproc.eventlog.kafka._aiokafka import SubscriptionState
from streamproc.eventlog.kafka.client import Client, bounded
from streamproc.eventlog.kafka.fetch import ChunkFetcher
from streamproc.eventlog.kafka.settings import Settings


class KafkaScanner:
    """Keeps the contract's `Scanner`. Connects at its first poll."""

    def __init__(self, bootstrap: str, settings: Settings) -> None:
        self._bootstrap = bootstrap
        self._settings = settings
        self._positions: dict[TopicPartition, int] = {}
        self._added = False
        self._closed = False
        self._client: Client | None = None
        self._subscription: SubscriptionState | None = None
        self._fetcher: ChunkFetcher | None = None

    async def poll(self, timeout_ms: int) -> list[Chunk]:
        """What is there from the positions on, at most `timeout_ms` later.

        Raises:
            EventLogError: the log cannot be reached, there is no such topic, or the position is gone.
        """
        if self._closed:
            raise EventLogError("Kafka: the scanner is closed")
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_ms / 1000
        fetcher = await self._ready()
        if not self._positions:
            await asyncio.sleep(timeout_ms / 1000)
            return []
        while True:
            before = dict(self._positions)
            chunks = fetcher.drain()
            for tp in self._positions:
                self._positions[tp] = fetcher.position(tp) or 0
            left = deadline - loop.time()
            if chunks or left <= 0 or before != self._positions:  # past control records alone: worth telling
                return chunks
            waiter = fetcher.waiter()
            try:
                await asyncio.wait((waiter,), timeout=left)
            finally:
                waiter.cancel()

    def seek(self, tp: TopicPartition, offset: int) -> None:
        self._added = self._added or tp not in self._positions
        self._positions[tp] = offset
        if self._fetcher is not None and not self._added:
            self._fetcher.place(tp, offset)

    def position(self, tp: TopicPartition) -> int:
        return self._positions[tp]

    async def close(self) -> None:
        self._closed = True
        if self._fetcher is not None:
            await self._fetcher.close()
        if self._client is not None:
            await self._client.sever()

    async def _ready(self) -> ChunkFetcher:
        if self._client is None:
            client = Client(self._bootstrap, self._settings, "streamproc-scanner")
            await client.connect()
            self._client = client
            self._subscription = SubscriptionState()
            self._fetcher = ChunkFetcher(client, self._subscription, self._settings, self._settings.scan_part_bytes)
        assert self._fetcher is not None
        if self._added:
            topics = {tp.topic for tp in self._positions}
            await bounded(self._client.demand(topics), self._settings.call_timeout_ms, "looking up topics")
            # aiokafka has no incremental assignment: all anew, and every partition put where it was.
            self._client.set_topics(topics)
            self._subscription.assign_from_user(list(self._positions))  # type: ignore[union-attr]
            for tp, offset in self._positions.items():
                self._fetcher.place(tp, offset)
            self._added = False
        return self._fetcher
