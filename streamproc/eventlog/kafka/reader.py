# mypy: allow-subclassing-any
"""The group reader: aiokafka's background tasks on one side, `poll` on the other, and nothing lost between."""

from __future__ import annotations

__all__ = ["KafkaReader"]

import asyncio
import contextlib
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

from state.errors import EventLogError
from streamproc.eventlog.contract import NO_OFFSET, AssignmentListener, Chunk, CommittedOffset, TopicPartition
from streamproc.eventlog.kafka._aiokafka import ConsumerRebalanceListener, SubscriptionState
from streamproc.eventlog.kafka.client import Client, bounded
from streamproc.eventlog.kafka.errors import translated
from streamproc.eventlog.kafka.fetch import ChunkFetcher
from streamproc.eventlog.kafka.member import StaticMember
from streamproc.eventlog.kafka.settings import Settings
from streamproc.eventlog.kafka.wire import Membership

_CLOSE_S = 5.0


class _Change:
    """Partitions taken (no membership) or given, on the way from aiokafka's task to the listener."""

    def __init__(self, partitions: frozenset[TopicPartition], membership: Membership | None) -> None:
        self.partitions = partitions
        self.membership = membership
        self.delivery: asyncio.Task[None] | None = None
        self.done = asyncio.Event()


class _Recorder(ConsumerRebalanceListener):
    """aiokafka calls it from its own task: it records, and holds a revocation until `poll` has told of it."""

    def __init__(self, reader: KafkaReader) -> None:
        self._reader = reader

    async def on_partitions_revoked(self, revoked: Iterable[Any]) -> None:
        if change := self._reader.record(revoked, None):
            await change.done.wait()  # heartbeats go on; the group waits for us, at most rebalance_timeout_ms

    async def on_partitions_assigned(self, assigned: Iterable[Any]) -> None:
        self._reader.record_assignment(assigned)  # without heartbeats: must not wait


class KafkaReader:
    """Keeps the contract's `GroupReader`."""

    def __init__(
        self,
        bootstrap: str,
        settings: Settings,
        group: str,
        topics: Sequence[str],
        listener: AssignmentListener,
        *,
        instance: str,
    ) -> None:
        self._bootstrap = bootstrap
        self._settings = settings
        self._group = group
        self._topics = frozenset(topics)
        self._listener = listener
        self._instance = instance
        self._changes: deque[_Change] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._client: Client | None = None
        self._member: StaticMember | None = None
        self._fetcher: ChunkFetcher | None = None

    async def start(self) -> None:
        settings = self._settings
        client = Client(
            self._bootstrap, settings, self._instance, slowest_ms=settings.rebalance_timeout_ms + 5_000
        )  # fmt: skip
        await client.connect()
        self._client = client
        try:
            await bounded(client.demand(self._topics), settings.call_timeout_ms, "looking up topics")
        except BaseException:
            await self.close()
            raise
        subscription = SubscriptionState()
        subscription.subscribe(set(self._topics), listener=_Recorder(self))
        client.set_topics(self._topics)
        self._fetcher = ChunkFetcher(client, subscription, settings, settings.part_bytes)
        self._member = StaticMember(client, subscription, settings, self._group, self._instance, on_fenced=self._wake)

    async def poll(self, timeout_ms: int) -> list[Chunk]:
        member, fetcher = self._started()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_ms / 1000
        while True:
            if await self._tell_changes():
                return []
            with translated(f"reading as {self._instance} of {self._group}"):
                member.check()
            chunks = fetcher.drain()
            left = deadline - loop.time()
            if chunks or left <= 0:
                return chunks
            self._waiter = fetcher.waiter()
            try:
                if not self._changes and not member.fenced:
                    await asyncio.wait((self._waiter,), timeout=left)
            finally:
                _dismiss(self._waiter)
                self._waiter = None

    async def committed(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, CommittedOffset]:
        member, _ = self._started()
        found = await bounded(
            member.fetch_committed_offsets(list(partitions)), self._settings.call_timeout_ms, "fetching offsets"
        )
        return dict(found)

    def resume(self, tp: TopicPartition, offset: int) -> None:
        self._started()[1].place(tp, offset)

    def pause(self, tp: TopicPartition) -> None:
        self._started()[1].hold(tp)

    def position(self, tp: TopicPartition) -> int:
        found = self._started()[1].position(tp)
        return NO_OFFSET if found is None else found

    def caught_up(self, tp: TopicPartition) -> bool:
        return self._started()[1].caught_up(tp)

    async def close(self, *, leave: bool = False) -> None:
        """Bounded to some seconds; without `leave` the partitions stay ours until the session time-out."""
        if self._member is not None:
            self._member.ending, self._member.leaving = True, leave
        for change in self._changes:
            change.done.set()
            if change.delivery is not None:
                change.delivery.cancel()
        self._changes.clear()
        if self._member is not None:
            with contextlib.suppress(Exception):
                await self._end(self._member)
        if self._fetcher is not None:
            await self._fetcher.close()
        if self._client is not None:
            await self._client.sever()
        self._client = self._member = self._fetcher = None

    async def _end(self, member: StaticMember) -> None:
        try:
            await asyncio.wait_for(member.close(), _CLOSE_S)
        except TimeoutError:
            if member.leaving:
                await asyncio.wait_for(member.leave_unanswered(), _CLOSE_S)

    def record(self, partitions: Iterable[Any], membership: Membership | None) -> _Change | None:
        """Keep a change for `poll`; taking nothing is no change, and at the end nobody polls any more."""
        if self._member is not None and self._member.ending:
            return None
        change = _Change(frozenset(TopicPartition(*tp) for tp in partitions), membership)
        if membership is None and not change.partitions:
            return None
        self._changes.append(change)
        self._wake()
        return change

    def record_assignment(self, partitions: Iterable[Any]) -> None:
        """The generation is read here, at the assignment, and never again."""
        if self._member is not None:
            self.record(partitions, self._member.snapshot())

    async def _tell_changes(self) -> bool:
        """Tell the listener what happened, in order; True if there was anything.

        A telling goes on when `poll` is cancelled, and the next `poll` waits for its end.
        """
        told = False
        while self._changes:
            change = self._changes[0]
            if change.delivery is None:
                change.delivery = asyncio.create_task(self._tell(change))
            await asyncio.wait((change.delivery,))
            if self._changes and self._changes[0] is change:
                self._changes.popleft()
            change.done.set()
            told = True
            change.delivery.result()
        return told

    async def _tell(self, change: _Change) -> None:
        if change.membership is None:
            await self._listener.on_revoked(change.partitions)
            return
        if self._fetcher is not None:
            # A `resume` since the assignment was meant for the one before.
            self._fetcher.park(change.partitions)
        await self._listener.on_assigned(change.partitions, change.membership)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _started(self) -> tuple[StaticMember, ChunkFetcher]:
        if self._member is None or self._fetcher is None:
            raise EventLogError("Kafka: the reader is not started, or is closed")
        return self._member, self._fetcher


def _dismiss(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.cancel()
    elif not waiter.cancelled():
        waiter.exception()  # the same error is pending in the member, which is asked next
