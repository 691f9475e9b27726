"""What writer and appender share: an idempotent producer put together from aiokafka's parts, and batches for it."""

from __future__ import annotations

__all__ = ["Delivery", "Producer", "confirm"]

import asyncio
import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from state.errors import EventLogError
from streamproc.eventlog.contract import OutputRecords, TopicPartition
from streamproc.eventlog.kafka._aiokafka import INTEGER_MAX_VALUE, ConnectionGroup, CoordinationType, MessageAccumulator
from streamproc.eventlog.kafka._aiokafka import errors as theirs
from streamproc.eventlog.kafka.client import Client
from streamproc.eventlog.kafka.errors import to_ours
from streamproc.eventlog.kafka.kip447 import FencedSender, Transactions, leave
from streamproc.eventlog.kafka.settings import Settings
from streamproc.eventlog.kafka.wire import FENCED_INSTANCE_ID, Membership, static_heartbeat

_NO_COMPRESSION = 0
_ALL_REPLICAS = -1
_KILL_S = 1.0
_NOT_REPLACED = frozenset(
    {
        theirs.IllegalGenerationError.errno,
        theirs.UnknownMemberIdError.errno,
        theirs.RebalanceInProgressError.errno,
    }
)


class Delivery(NamedTuple):
    """One record batch on its way."""

    tp: TopicPartition
    records: int
    future: asyncio.Future[Any]


class Producer:
    """One producer id; transactional if `transactional_id` is given. Make it on the running loop."""

    def __init__(self, bootstrap: str, settings: Settings, transactional_id: str | None = None) -> None:
        self._settings = settings
        self.client = Client(bootstrap, settings, transactional_id or "streamproc-appender")
        timeout_ms = INTEGER_MAX_VALUE if transactional_id is None else settings.transaction_timeout_ms
        self.transactions = Transactions(transactional_id, timeout_ms)
        self._queue = MessageAccumulator(
            self.client.cluster,
            settings.max_batch_size,
            _NO_COMPRESSION,
            settings.call_timeout_ms / 1000,
            txn_manager=self.transactions,
        )
        self.sender = FencedSender(
            self.client,
            acks=_ALL_REPLICAS,
            txn_manager=self.transactions,
            message_accumulator=self._queue,
            retry_backoff_ms=settings.retry_backoff_ms,
            request_timeout_ms=settings.request_timeout_ms,
        )

    async def start(self) -> None:
        """Connect and get the producer id; with a transactional id this settles and fences the former owner."""
        await self.client.connect()
        await self.sender.start()

    async def send(self, outputs: Sequence[OutputRecords]) -> list[Delivery]:
        """Queue records, whole batches at a time; the deliveries end when the log has them.

        Raises:
            EventLogError: a topic or partition does not exist.
        """
        await self.client.demand(output.tp.topic for output in outputs)
        for output in outputs:
            self._require(output.tp)
            self.transactions.maybe_add_partition_to_txn(output.tp)  # all partitions in one request
        deliveries = []
        timeout_s = self._settings.call_timeout_ms / 1000
        for output in outputs:
            for batch in self._batches(output):
                future = await self._queue.add_batch(batch, output.tp, timeout_s)
                future.add_done_callback(_seen)
                deliveries.append(Delivery(output.tp, batch.record_count(), future))
        return deliveries

    def next_departure(self) -> asyncio.Future[None]:
        """Done once records that are queued from now on leave for the broker, or the transaction has failed."""
        departure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.sender.departures.append(departure)
        self.transactions.wait_for_transaction_end().add_done_callback(lambda _: leave(departure))
        return departure

    async def replaced(self, member: Membership) -> bool:
        """Whether another process has joined the group in the member's place.

        Raises:
            KafkaError: the group's coordinator cannot be asked.
        """
        coordinator = await self.client.coordinator_lookup(CoordinationType.GROUP, member.group)
        answer = await self.client.send(coordinator, static_heartbeat(member), group=ConnectionGroup.COORDINATION)
        if answer.error_code not in {0, *_NOT_REPLACED, FENCED_INSTANCE_ID}:
            raise theirs.for_code(answer.error_code)
        return bool(answer.error_code == FENCED_INSTANCE_ID)

    async def kill(self) -> None:
        """End everything now, settle nothing. Never raises, takes a second at most."""
        self.client.severed = True
        gone = theirs.ProducerClosed()
        with contextlib.suppress(Exception):
            tasks = self.sender.tasks
            for task in tasks:
                task.cancel()
            if tasks:
                await asyncio.wait(tasks, timeout=_KILL_S)
            self.transactions.fatal_error(gone)
            self.transactions.retrieve_waiter()
        with contextlib.suppress(Exception):
            self._fail_queued(gone)
        with contextlib.suppress(Exception):
            await asyncio.wait_for(self.client.sever(), _KILL_S)

    def _fail_queued(self, error: BaseException) -> None:
        queued = [batch for batches in self._queue._batches.values() for batch in batches]
        waiting = [*queued, *self._queue._pending_batches]
        self._queue.fail_all(error)
        for batch in waiting:  # nobody need wait for them
            _seen(batch.future)
            _seen(batch._drain_waiter)

    def _require(self, tp: TopicPartition) -> None:
        if tp.partition not in (self.client.cluster.partitions_for_topic(tp.topic) or ()):
            raise EventLogError(f"Kafka: topic {tp.topic} has no partition {tp.partition}")

    def _batches(self, output: OutputRecords) -> Iterator[Any]:
        """Record batches of at most `max_batch_size`; a bigger record travels alone, and the broker judges it."""
        batch = self._queue.create_builder()
        append, timestamp = batch.append, output.timestamp_ms
        headers = output.headers if output.headers is not None else [[]] * len(output.keys)
        for key, value, extra in zip(output.keys, output.values, headers, strict=True):
            if append(timestamp=timestamp, key=key, value=value, headers=extra) is None:
                batch.close()
                yield batch
                batch = self._queue.create_builder()
                append = batch.append
                append(timestamp=timestamp, key=key, value=value, headers=extra)
        if batch.record_count():
            batch.close()
            yield batch


def _seen(future: asyncio.Future[Any]) -> None:
    """A failure is told by whoever checks the delivery; asyncio need not complain about it as well."""
    if future.done() and not future.cancelled():
        future.exception()


async def confirm(deliveries: Sequence[Delivery]) -> dict[TopicPartition, int]:
    """Wait for all; the offset of the last record of each partition.

    Raises:
        EventLogError: any batch was refused or lost.
    """
    last: dict[TopicPartition, int] = {}
    for tp, records, future in deliveries:
        try:
            base = (await future).offset
        except theirs.KafkaError as error:
            raise to_ours(error, f"appending {records} records to {tp.topic}/{tp.partition}") from error
        if base < 0:  # a repeated batch that the broker has, at an offset it no longer knows
            raise EventLogError(f"Kafka: appending to {tp.topic}/{tp.partition}: offset unknown", retriable=True)
        last[tp] = max(last.get(tp, -1), base + records - 1)
    return last
