# mypy: allow-subclassing-any
"""One part's connections to the cluster: bounded to open, and cut for good when the part is abandoned."""

from __future__ import annotations

__all__ = ["Client", "bounded"]

import asyncio
import logging
from collections.abc import Awaitable, Iterable
from typing import Any, TypeVar

from state.errors import EventLogError
from streamproc.eventlog.contract import CommittedOffset, TopicPartition
from streamproc.eventlog.kafka import wire
from streamproc.eventlog.kafka._aiokafka import AIOKafkaClient, CloseReason, ConnectionGroup, MetadataRequest, Struct
from streamproc.eventlog.kafka._aiokafka import errors as theirs
from streamproc.eventlog.kafka.errors import to_ours, translated
from streamproc.eventlog.kafka.settings import Settings

T = TypeVar("T")

_UNSTABLE_OFFSET_COMMIT = 88
_LATER = frozenset({14, 15, _UNSTABLE_OFFSET_COMMIT})
_NOT_COORDINATOR = 16
_TIDY_S = 0.3


class _NoPayloads(logging.Filter):
    """aiokafka.conn logs whole requests at DEBUG, records and all: let only their names through."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(type(arg).__name__ if isinstance(arg, Struct) else arg for arg in record.args)
        return True


_no_payloads = _NoPayloads()


async def bounded(work: Awaitable[T], timeout_ms: int, doing: str) -> T:
    """The result of `work`, or one of our errors within the time.

    Raises:
        EventLogError: it failed, or took longer.
    """
    with translated(doing):
        async with asyncio.timeout(timeout_ms / 1000):
            return await work
    raise AssertionError  # translated never swallows


class Client(AIOKafkaClient):
    """aiokafka's client with an end: once severed it opens no connection again, whatever task still asks."""

    _request_timeout_ms: int

    def __init__(self, bootstrap: str, settings: Settings, client_id: str, *, slowest_ms: int = 0) -> None:
        """`slowest_ms`: how long a coordinator may take to answer (a join lasts as long as the rebalance)."""
        self.severed = False
        self._round_at = 0.0
        self._hosts_text = bootstrap
        self._settings = settings
        logging.getLogger("aiokafka.conn").addFilter(_no_payloads)  # the same object: added once
        super().__init__(
            bootstrap_servers=bootstrap.split(","),
            client_id=client_id,
            request_timeout_ms=max(settings.request_timeout_ms, slowest_ms),
            retry_backoff_ms=settings.retry_backoff_ms,
            metadata_max_age_ms=settings.metadata_max_age_ms,
            **settings.security,
        )

    async def connect(self) -> None:
        """Learn the cluster's nodes.

        Raises:
            EventLogError: nobody answers; retriable.
        """
        timeout_ms = self._settings.connect_timeout_ms
        usual, self._request_timeout_ms = self._request_timeout_ms, max(1, timeout_ms // len(self.hosts))
        try:
            async with asyncio.timeout(timeout_ms / 1000 + _TIDY_S):  # aiokafka's own time-outs close what they opened
                await self.bootstrap()
                while not self.cluster.brokers():  # one that has just started, or stood still, knows no node yet
                    await self.force_metadata_update()
        except (theirs.KafkaConnectionError, TimeoutError, OSError) as error:
            await self.sever()
            raise EventLogError(
                f"Kafka: nobody answers at {self._hosts_text} (within {timeout_ms / 1000:g} s): is the broker up,"
                " is the address right, does it speak plain text or TLS as configured?",
                retriable=True,
            ) from error
        except BaseException as error:
            await self.sever()
            if isinstance(error, Exception):
                raise to_ours(error, f"connecting to {self._hosts_text}") from error
            raise
        finally:
            self._request_timeout_ms = usual

    async def sever(self) -> None:
        """Cut every connection now; what stands in a socket's buffer is thrown away. Never raises."""
        self.severed = True
        for connection in self._conns.values():
            if connection._writer is not None:
                connection._writer.transport.abort()
        await self.close()

    async def _get_conn(self, node_id: Any, *, group: Any = ConnectionGroup.DEFAULT, no_hint: bool = False) -> Any:
        if self.severed:
            return None
        try:
            connection = await super()._get_conn(node_id, group=group, no_hint=no_hint)
        except RuntimeError as error:  # as below, in the first write to it
            if isinstance(error, theirs.KafkaError):
                raise
            self.force_metadata_update()
            return None
        if connection is not None and connection._writer is not None and connection._writer.transport.is_closing():
            # aiokafka learns of it some turns of the loop later. A write until then is a RuntimeError on uvloop, which
            # ends aiokafka's tasks: without the one for metadata, every other task waits for it for ever.
            connection.close(reason=CloseReason.CONNECTION_BROKEN)
            return None
        if connection is not None and group == ConnectionGroup.DEFAULT:
            # Only a coordinator may take long; a fetch or produce that does hangs in a dead connection.
            connection._request_timeout = self._settings.request_timeout_ms / 1000
        return connection

    async def _metadata_update(self, cluster_metadata: Any, topics: Any) -> Any:
        """Rounds with a pause between them: aiokafka's tasks ask again at once for what the last has not brought, such
        as a partition's leader while no broker answers, and would take a whole processor.
        """
        clock = asyncio.get_running_loop().time
        await asyncio.sleep(max(0.0, self._round_at - clock()))
        try:
            return await super()._metadata_update(cluster_metadata, topics)
        finally:
            self._round_at = clock() + self._settings.retry_backoff_ms / 1000

    async def ask(self, request: Any, node: Any = None) -> Any:
        """The answer of `node`, or of any."""
        return await self.send(self.get_random_node() if node is None else node, request)

    async def leaders(self, topics: Iterable[str]) -> dict[str, dict[int, int]]:
        """Partition -> leader of each topic that exists. Never creates one, as aiokafka's own look-up may."""
        answer = await self.ask(MetadataRequest(sorted(set(topics)), allow_auto_topic_creation=False))
        return {
            topic: {number: leader for _, number, leader, *_ in partitions}
            for error, topic, _, partitions in answer.topics
            if error in {0, theirs.LeaderNotAvailableError.errno} and partitions
        }

    async def demand(self, topics: Iterable[str]) -> None:
        """Make sure that the topics exist, before a look-up by aiokafka creates them as it likes.

        Raises:
            EventLogError: one does not.
        """
        unknown = sorted({topic for topic in topics if self.cluster.partitions_for_topic(topic) is None})
        if not unknown:
            return
        found = await self.leaders(unknown)
        if missing := [topic for topic in unknown if topic not in found]:
            raise EventLogError(f"Kafka: no topic {', '.join(missing)} at {self._hosts_text}: create it first")
        for topic in unknown:
            await self._wait_on_metadata(topic)

    async def stable_offsets(
        self, group: str, partitions: Iterable[TopicPartition], coordinator: Any
    ) -> dict[TopicPartition, CommittedOffset]:
        """One attempt to fetch committed offsets, none of them pending in an open transaction."""
        wanted = set(partitions)
        answer = await self.send(coordinator, wire.stable_fetch(group, wanted), group=ConnectionGroup.COORDINATION)
        return read_stable(answer, wanted)


def read_stable(answer: Any, wanted: set[TopicPartition]) -> dict[TopicPartition, CommittedOffset]:
    """The offsets in an OffsetFetch answer.

    Errors of the whole request come at its top with no topics at all; aiokafka overlooks them and would read "no
    committed offset", so that a position is reset.
    """
    found = {
        TopicPartition(topic, number): (CommittedOffset(offset, metadata or ""), code)
        for topic, numbers, _ in answer.topics
        for number, offset, _, metadata, code, _ in numbers
    }
    codes = {answer.error_code} | {code for _, code in found.values()}
    if _NOT_COORDINATOR in codes:
        raise theirs.NotCoordinatorForGroupError
    if codes & _LATER:
        raise theirs.GroupLoadInProgressError
    if refused := codes - {0}:
        raise theirs.for_code(min(refused))
    if found.keys() != wanted:
        raise theirs.KafkaProtocolError
    return {tp: committed for tp, (committed, _) in found.items() if committed.offset >= 0}
