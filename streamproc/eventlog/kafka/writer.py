"""The transactional writer: one transaction at a time, and of no use after its first error."""

from __future__ import annotations

__all__ = ["KafkaWriter"]

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from state.errors import EventLogError, FencedError
from streamproc.eventlog.contract import CommittedOffset, OutputRecords, Place, TopicPartition
from streamproc.eventlog.contract import Membership as AnyMembership
from streamproc.eventlog.kafka._aiokafka import OffsetAndMetadata, TransactionState
from streamproc.eventlog.kafka.client import bounded
from streamproc.eventlog.kafka.errors import to_ours, translated
from streamproc.eventlog.kafka.producer import Delivery, Producer, confirm
from streamproc.eventlog.kafka.settings import Settings
from streamproc.eventlog.kafka.wire import Membership
from streamproc.eventlog.places import Places

T = TypeVar("T")
_Transition = Callable[[], None]

_TURNS_TO_SEND = 4
"""Turns of the loop until the sender has written a request to its socket."""
_MARKS = 1
"""Offsets that the end of a transaction takes in each of its partitions."""
_ABORTABLE = (TransactionState.IN_TRANSACTION, TransactionState.ABORTABLE_ERROR)


class KafkaWriter:
    """Keeps the contract's `TransactionalWriter`.

    A failed append is not an error of Kafka's transaction: a commit would publish the rest. So `commit` confirms what
    `delivered` was not asked for. And once any call has failed, or was cancelled, all but `abort` and `abandon`
    refuse: the producer's sequence numbers, or the outcome, are unknown.

    A new epoch need not be a newer owner's: the broker ends a transaction that is open for too long by one (we were
    stopped, or the machine slept), and our own request to open comes late. Who is meant is settled by the group, where
    a newer owner of our place is known.
    """

    def __init__(self, bootstrap: str, settings: Settings, transactional_id: str) -> None:
        self._bootstrap = bootstrap
        self._settings = settings
        self._id = transactional_id
        self._producer: Producer | None = None
        self._broken = False
        self._open: list[Delivery] = []
        self._last: dict[TopicPartition, int] = {}
        self._places = Places(_MARKS)

    async def open(self) -> None:
        """Take over the transactional id."""
        if self._producer is not None or self._broken:
            raise EventLogError(f"Kafka: writer {self._id} was opened before: make a new one")
        self._producer = Producer(self._bootstrap, self._settings, self._id)
        await self._guarded(self._producer.start(), "opening")

    async def begin(self, expected: Iterable[TopicPartition] = (), membership: AnyMembership | None = None) -> None:
        """Open a transaction; what is expected is announced to the broker, whose answer is not waited for."""
        producer, expected = self._usable("beginning"), list(expected)
        self._open, self._last = [], {}
        self._places.begin(expected)
        if isinstance(membership, Membership):
            producer.sender.member = membership
        with translated(f"beginning ({self._id})"):
            producer.transactions.begin_transaction()
            producer.transactions.announce(expected, membership.group if isinstance(membership, Membership) else None)
        if membership is not None:
            await _until_written()

    async def append(self, outputs: Sequence[OutputRecords]) -> None:
        producer = self._usable("appending")
        await self._require_transaction(producer, "appending")
        departure = producer.next_departure()
        self._open += await self._guarded(producer.send(outputs), "appending")
        self._places.append(outputs)
        if any(output.keys for output in outputs):
            await self._guarded(_written_after(departure), "appending")

    def place(self, tp: TopicPartition) -> Place | None:
        return self._places.of(tp)

    async def offsets(self, offsets: Mapping[TopicPartition, CommittedOffset], membership: AnyMembership) -> None:
        producer = self._usable("adding offsets")
        if not isinstance(membership, Membership):
            raise TypeError(f"a Kafka membership is needed, not {type(membership).__name__}")
        producer.sender.member = membership
        await self._require_transaction(producer, "adding offsets")
        if not offsets:
            return
        theirs = {tp: OffsetAndMetadata(*committed) for tp, committed in offsets.items()}
        done = producer.transactions.add_offsets_to_txn(theirs, membership.group)
        await self._guarded(asyncio.shield(done), "adding offsets")

    async def delivered(self) -> dict[TopicPartition, int]:
        self._usable("confirming")
        return dict(await self._guarded(self._confirm(), "confirming"))

    async def commit(self) -> None:
        producer = self._usable("committing")
        await self._require_transaction(producer, "committing")
        await self._guarded(self._confirm(), "confirming")
        await self._guarded(self._end(producer.transactions.committing_transaction), "committing")

    async def abort(self) -> None:
        """Drop the open transaction; also the one thing to do after an error, if the outcome is not open."""
        producer = self._producer
        if producer is None or producer.client.severed or producer.transactions.state not in _ABORTABLE:
            raise EventLogError(f"Kafka: writer {self._id} has no transaction to abort", retriable=True)
        await self._guarded(self._end(producer.transactions.aborting_transaction), "aborting")

    async def abandon(self) -> None:
        self._broken = True
        if self._producer is not None:
            await self._producer.kill()

    async def _confirm(self) -> dict[TopicPartition, int]:
        last = await confirm(self._open)
        self._open = []
        for tp, offset in last.items():
            self._last[tp] = max(offset, self._last.get(tp, -1))
        self._places.delivered(self._last)
        return self._last

    async def _end(self, transition: _Transition) -> None:
        assert self._producer is not None
        transition()
        await asyncio.shield(self._producer.transactions.wait_for_transaction_end())

    def _usable(self, doing: str) -> Producer:
        if self._producer is None or self._broken:
            raise EventLogError(f"Kafka: {doing}: writer {self._id} is not open, or has failed", retriable=True)
        return self._producer

    async def _require_transaction(self, producer: Producer, doing: str) -> None:
        if (failure := producer.transactions.failure()) is not None:
            self._broken = True
            raise await self._judged(to_ours(failure, f"{doing} ({self._id})"), producer) from failure
        if not producer.transactions.is_in_transaction():
            raise EventLogError(f"Kafka: {doing}: writer {self._id} has no open transaction")

    async def _guarded(self, work: Awaitable[T], doing: str) -> T:
        """Within the time, or broken for good."""
        was_broken, self._broken = self._broken, True
        try:
            result = await bounded(work, self._settings.call_timeout_ms, f"{doing} ({self._id})")
        except EventLogError as error:
            assert self._producer is not None
            failure = self._producer.transactions.failure()
            if failure is not None and error.__cause__ is not failure:
                error = to_ours(failure, f"{doing} ({self._id})")  # the root, not what followed from it
            raise await self._judged(error, self._producer) from (failure or error.__cause__)
        assert self._producer is not None
        self._broken = was_broken or self._producer.client.severed  # abandoned meanwhile
        return result

    async def _judged(self, error: EventLogError, producer: Producer) -> EventLogError:
        """The same error, unless our identity in the group is still ours."""
        member = producer.sender.member
        if not isinstance(error, FencedError) or member is None:
            return error
        try:
            replaced = await bounded(producer.replaced(member), self._settings.call_timeout_ms, "asking the group")
        except EventLogError:
            return error
        if replaced:
            return error
        return EventLogError(
            f"Kafka: {self._id}: its epoch is over, the group knows no newer owner: the transaction was open for too "
            "long, or opening came late",
            retriable=True,
        )


async def _written_after(departure: asyncio.Future[None]) -> None:
    await departure
    await _until_written()


async def _until_written() -> None:
    for _ in range(_TURNS_TO_SEND):
        await asyncio.sleep(0)
