"""Topics, their bounds, and a group's offsets."""

from __future__ import annotations

__all__ = ["KafkaAdmin"]

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from state.errors import EventLogError
from streamproc.eventlog.contract import CommittedOffset, Retention, TopicPartition, TopicSpec, retention_of
from streamproc.eventlog.kafka._aiokafka import (
    CoordinationType,
    CreateTopicsRequest,
    DescribeConfigsRequest,
    OffsetRequest,
)
from streamproc.eventlog.kafka._aiokafka import errors as theirs
from streamproc.eventlog.kafka.client import Client, bounded
from streamproc.eventlog.kafka.errors import to_ours
from streamproc.eventlog.kafka.settings import Settings

T = TypeVar("T")

_EARLIEST = -2
_LATEST = -1
_CONSUMER = -1
_READ_UNCOMMITTED = 0  # so that "latest" is the high watermark, not the last stable offset
_REPLICAS_USUAL = 3
_TOPIC = 2  # kind of resource
_RETENTION = ("cleanup.policy", "retention.ms", "retention.bytes")
_KEEP_FOR_EVER = {"retention.ms": "-1"}


class KafkaAdmin:
    """Keeps the contract's `Admin`. Connects at its first call; the log closes it."""

    def __init__(self, bootstrap: str, settings: Settings) -> None:
        self._bootstrap = bootstrap
        self._settings = settings
        self._client: Client | None = None
        self._connecting = asyncio.Lock()

    async def ensure_topics(self, specs: Sequence[TopicSpec]) -> None:
        """Create those that are missing, to be kept for ever unless their config says otherwise, and wait for them.

        Raises:
            EventLogError: the broker refuses one; says which and why.
        """
        await self._retried(lambda client: self._create(client, specs), "creating topics")
        wanted = {spec.name for spec in specs}
        await self._retried(lambda client: _led(client, wanted), "waiting for new topics")

    async def partitions(self, topic: str) -> int:
        found = await self._retried(lambda client: client.leaders([topic]), f"looking up {topic}")
        return len(found.get(topic, ()))

    async def retention(self, topics: Sequence[str]) -> dict[str, Retention]:
        return await self._retried(lambda client: _retention(client, topics), "looking up retention")

    async def begin_offsets(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        return await self._retried(lambda client: _offsets(client, partitions, _EARLIEST), "fetching begin offsets")

    async def end_offsets(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        return await self._retried(lambda client: _offsets(client, partitions, _LATEST), "fetching end offsets")

    async def committed(
        self, group: str, partitions: Sequence[TopicPartition]
    ) -> dict[TopicPartition, CommittedOffset]:
        """Stable ones: waits for open transactions, `call_timeout_ms` at most."""

        async def attempt(client: Client) -> dict[TopicPartition, CommittedOffset]:
            coordinator = await client.coordinator_lookup(CoordinationType.GROUP, group)
            return await client.stable_offsets(group, partitions, coordinator)

        return await self._retried(attempt, f"fetching offsets of {group}") if partitions else {}

    async def close(self) -> None:
        """Close the connections; a later call opens new ones."""
        client, self._client = self._client, None
        if client is not None:
            await client.sever()

    async def _create(self, client: Client, specs: Sequence[TopicSpec]) -> None:
        existing = await client.leaders(spec.name for spec in specs)
        missing = [spec for spec in specs if spec.name not in existing]
        if not missing:
            return
        replicas = self._settings.replication_factor or min(_REPLICAS_USUAL, len(client.cluster.brokers()))
        requests: list[Any] = [
            (spec.name, spec.partitions, replicas, [], list((_KEEP_FOR_EVER | spec.config).items())) for spec in missing
        ]
        # Any node will do: a KRaft broker forwards to the controller.
        answer = await client.ask(
            CreateTopicsRequest(
                create_topic_requests=requests, timeout=self._settings.request_timeout_ms, validate_only=False
            )
        )
        for topic, code, *_ in answer.topic_errors:
            error = theirs.for_code(code)
            if error is theirs.TopicAlreadyExistsError or code == 0:
                continue
            if error.retriable:
                raise error
            raise to_ours(error(), f"creating topic {topic}")

    async def _retried(self, attempt: Callable[[Client], Awaitable[T]], doing: str) -> T:
        """Until it succeeds, within `call_timeout_ms`."""

        async def loop() -> T:
            while True:
                client = await self._connected()
                try:
                    return await attempt(client)
                except theirs.KafkaError as error:
                    if not error.retriable:
                        raise
                    if error.invalid_metadata or isinstance(error, theirs.NodeNotReadyError):
                        client.force_metadata_update()
                await asyncio.sleep(self._settings.retry_backoff_ms / 1000)

        return await bounded(loop(), self._settings.call_timeout_ms, doing)

    async def _connected(self) -> Client:
        async with self._connecting:
            if self._client is None:
                client = Client(self._bootstrap, self._settings, "streamproc-admin")
                await client.connect()
                self._client = client
            return self._client


async def _led(client: Client, topics: set[str]) -> None:
    """A node may be named leader a moment before it knows: ask it for something."""
    found = await client.leaders(topics)
    if found.keys() != topics:
        raise theirs.LeaderNotAvailableError
    await _offsets(client, [TopicPartition(topic, number) for topic in found for number in found[topic]], _LATEST)


async def _retention(client: Client, topics: Sequence[str]) -> dict[str, Retention]:
    answer: Any = await client.ask(DescribeConfigsRequest([(_TOPIC, topic, list(_RETENTION)) for topic in topics]))
    found: dict[str, Retention] = {}
    for code, _, _, topic, entries in answer.resources:
        error = theirs.for_code(code)
        if error is theirs.TopicAuthorizationFailedError:
            continue
        if code:
            raise error
        found[topic] = retention_of({entry[0]: entry[1] for entry in entries})
    return found


async def _offsets(client: Client, partitions: Sequence[TopicPartition], which: int) -> dict[TopicPartition, int]:
    leaders = await client.leaders(tp.topic for tp in partitions)
    by_node: dict[int, dict[str, list[tuple[int, int]]]] = defaultdict(lambda: defaultdict(list))
    for topic, number in partitions:
        node = leaders.get(topic, {}).get(number)
        if node is None:
            raise EventLogError(f"Kafka: there is no {topic}/{number}")
        if node < 0:
            raise theirs.LeaderNotAvailableError
        by_node[node][topic].append((number, which))
    found: dict[TopicPartition, int] = {}
    for node, topics in by_node.items():
        answer: Any = await client.ask(OffsetRequest(_CONSUMER, _READ_UNCOMMITTED, list(topics.items())), node)
        for topic, numbers in answer.topics:
            for number, code, _, offset in numbers:
                if code:
                    raise theirs.for_code(code)
                found[TopicPartition(topic, number)] = offset
    return found
