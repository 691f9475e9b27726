# mypy: allow-subclassing-any
"""KIP-447 for aiokafka: offsets in a transaction are fenced by the group's generation, and five repairs.

1. TxnOffsetCommit v3 carries generation, member and instance id; the broker's refusal (22, 25: the membership is
   over; 82: a newer owner of the instance) ends the transaction as abortable instead of killing the sender.
2. {AddPartitions, AddOffsets} -> Produce -> TxnOffsetCommit -> EndTxn: four round trips, the first one sent before the
   batch is computed (`announce`). TxnOffsetCommit waits for the produce: the broker verifies both, and of two
   verifications of one producer waiting in its queue the older fails (19 to the produce, 14 to the commit), which cost
   100 ms in 7 % of the transactions.
3. Markers of the last transaction are written after its EndTxn was answered. Until then the broker says 51 (and 14 to
   a TxnOffsetCommit below v5): asked again after 1, 2, 4 .. 64 ms, not after 20 or 100.
4. An abort after an abortable error sends EndTxn. aiokafka forgets the transaction's partitions at the error, takes
   the transaction for empty, and the producer's next commit would publish what was "aborted".
5. An EndTxn or TxnOffsetCommit that was sent and not answered is not sent again: the producer has failed. The first one
   may arrive when the second was answered, in the midst of the next transaction of the same epoch, and end that.
"""

from __future__ import annotations

__all__ = ["FencedSender", "Transactions", "leave"]

import asyncio
from collections.abc import Iterable
from typing import Any

from streamproc.eventlog.kafka._aiokafka import (
    AddOffsetsToTxnHandler,
    AddPartitionsToTxnHandler,
    CoordinationType,
    EndTxnHandler,
    InitPIDHandler,
    Sender,
    TransactionManager,
    TransactionState,
    TxnOffsetCommitHandler,
)
from streamproc.eventlog.kafka._aiokafka import errors as theirs
from streamproc.eventlog.kafka.errors import FencedInstanceError, MembershipOverError
from streamproc.eventlog.kafka.wire import FENCED_INSTANCE_ID, Membership, fenced_commit

_MEMBERSHIP_OVER = frozenset({theirs.IllegalGenerationError.errno, theirs.UnknownMemberIdError.errno})
_NOT_YET = frozenset({theirs.ConcurrentTransactions.errno, theirs.GroupLoadInProgressError.errno})
_QUICK_S = 0.0005
_DOUBLINGS_MAX = 7


class Transactions(TransactionManager):
    """aiokafka's transaction states, which know after an error that there is something to abort."""

    _touched = False
    _announced: str | None = None
    _transaction_waiter: asyncio.Future[None] | None

    def announce(self, partitions: Iterable[Any], group: str | None) -> None:
        """These will be written, and offsets of `group` committed: known in advance, both are one round trip that
        passes while something else is done.
        """
        self._announced = group
        for tp in partitions:
            self.maybe_add_partition_to_txn(tp)
        self.notify_task_waiter()

    def consumer_group_to_add(self) -> str | None:
        group: str | None = super().consumer_group_to_add()
        return group if group is not None or self._txn_consumer_group is not None else self._announced

    def error_transaction(self, exc: BaseException) -> None:
        if self.state in (TransactionState.ABORTABLE_ERROR, TransactionState.FATAL_ERROR):
            return  # the first error counts; its waiter is already set
        self._touched = self._touched or not self.is_empty_transaction()
        self._announced = None
        futures = self._open_futures()
        super().error_transaction(exc)
        _retrieve(futures)

    def fatal_error(self, exc: BaseException) -> None:
        if self._transaction_waiter is None:  # it failed before the first transaction
            self._transaction_waiter = asyncio.get_running_loop().create_future()
        self._announced = None
        futures = self._open_futures()
        super().fatal_error(exc)
        _retrieve(futures)

    def is_empty_transaction(self) -> bool:
        return not self._touched and bool(super().is_empty_transaction())

    def complete_transaction(self) -> None:
        self._touched = False
        self._announced = None
        super().complete_transaction()

    def failure(self) -> BaseException | None:
        """Why this producer cannot go on, if it cannot."""
        waiter = self._transaction_waiter
        if self.state not in (TransactionState.ABORTABLE_ERROR, TransactionState.FATAL_ERROR):
            return None
        return waiter.exception() if waiter is not None and waiter.done() else None

    def _open_futures(self) -> list[asyncio.Future[None]]:
        return [future for _, _, future in self._pending_txn_offsets]

    def retrieve_waiter(self) -> None:
        """Nobody may be waiting for the transaction's end: that is no reason for a complaint in the log."""
        if self._transaction_waiter is not None:
            _retrieve([self._transaction_waiter])


def _retrieve(futures: Iterable[asyncio.Future[Any]]) -> None:
    """Mark exceptions as seen; whoever does wait still gets them."""
    for future in futures:
        if future.done() and not future.cancelled():
            future.exception()


def leave(departure: asyncio.Future[None]) -> None:
    """It is time, once."""
    if not departure.done():
        departure.set_result(None)


class _QuickRetry:
    """Repair 3, over any of aiokafka's handlers."""

    _sender: Any

    def handle_response(self, response: Any) -> float | None:
        backoff: float | None = super().handle_response(response)  # type: ignore[misc]
        if backoff is None:
            self._sender.doublings = 0
            return None
        if not _NOT_YET.intersection(_codes(response)):
            return backoff
        self._sender.doublings = min(self._sender.doublings + 1, _DOUBLINGS_MAX)
        return float(min(backoff, _QUICK_S * 2**self._sender.doublings))


def _codes(response: Any) -> set[int]:
    if hasattr(response, "error_code"):
        return {response.error_code}
    return {code for _, partitions, *_ in response.errors for _, code, *_ in partitions}


class _Once:
    """Repair 5, over any of aiokafka's handlers."""

    _sender: Any
    group: Any

    async def do(self, node_id: Any) -> bool:
        handler: Any = self
        try:
            response = await self._sender.client.send(node_id, handler.create_request(), group=self.group)
        except theirs.NodeNotReadyError:  # it was not sent
            await asyncio.sleep(handler.handle_error())
            return False
        except theirs.KafkaError as error:
            self._sender._txn_manager.fatal_error(error)
            return False
        backoff = handler.handle_response(response)
        if backoff is not None:
            await asyncio.sleep(backoff)
        return backoff is None


class _InitProducer(_QuickRetry, InitPIDHandler):
    pass


class _AddPartitions(_QuickRetry, AddPartitionsToTxnHandler):
    pass


class _AddOffsets(_QuickRetry, AddOffsetsToTxnHandler):
    pass


class _Version0:
    """A v3 answer in the shape that aiokafka's handler reads."""

    def __init__(self, response: Any) -> None:
        self.errors = [(topic, [(number, code) for number, code, _ in part]) for topic, part, _ in response.errors]


class _FencedOffsets(TxnOffsetCommitHandler):
    """Repair 1."""

    def __init__(self, sender: Any, offsets: Any, member: Membership) -> None:
        super().__init__(sender, offsets, member.group)
        self._member = member

    def create_request(self) -> Any:
        manager = self._sender._txn_manager
        producer = (manager.producer_id, manager.producer_epoch)
        return fenced_commit(manager.transactional_id, producer, self._member, self._offsets)

    def handle_response(self, response: Any) -> float | None:
        codes = _codes(response)
        if FENCED_INSTANCE_ID in codes:
            self._sender._txn_manager.error_transaction(FencedInstanceError())
            return None
        if _MEMBERSHIP_OVER & codes:
            self._sender._txn_manager.error_transaction(MembershipOverError())
            return None
        backoff: float | None = super().handle_response(_Version0(response))
        return backoff


class _CommitOffsets(_Once, _QuickRetry, _FencedOffsets):
    pass


class _EndTransaction(_Once, EndTxnHandler):
    pass


class FencedSender(Sender):
    """aiokafka's sender with the handlers above; its tasks are known, so that they can be ended."""

    member: Membership | None = None
    doublings = 0

    def __init__(self, client: Any, **settings: Any) -> None:
        super().__init__(client, **settings)
        self._children: set[asyncio.Task[Any]] = set()
        self.departures: list[asyncio.Future[None]] = []
        """Done by whoever sends records next."""

    @property
    def tasks(self) -> set[asyncio.Task[Any]]:
        """All that still runs."""
        own = {self._sender_task} if self._sender_task is not None else set()
        return {task for task in own | self._children if not task.done()}

    def _fail_all(self, task: asyncio.Task[None]) -> None:
        super()._fail_all(task)
        if isinstance(self._txn_manager, Transactions):
            self._txn_manager.retrieve_waiter()

    def _maybe_do_transactional_request(self) -> Any:
        task = super()._maybe_do_transactional_request()
        if task is not None:
            self._own(task)
        return task

    async def _send_produce_req(self, node_id: Any, batches: Any) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._own(task)
        while self.departures:
            leave(self.departures.pop())
        await super()._send_produce_req(node_id, batches)

    def _own(self, task: asyncio.Task[Any]) -> None:
        self._children.add(task)
        task.add_done_callback(self._children.discard)

    async def _do_init_pid(self, node_id: Any) -> Any:
        return await _InitProducer(self).do(node_id)

    async def _do_add_partitions_to_txn(self, tps: Any) -> Any:
        """The group along with them, if it is known: the broker takes one after the other from the connection."""
        coordinator = await self._transaction_coordinator()
        group = self._txn_manager.consumer_group_to_add()
        also = [] if group is None else [_AddOffsets(self, group).do(coordinator)]
        await asyncio.gather(_AddPartitions(self, tps).do(coordinator), *also)

    async def _do_add_offsets_to_txn(self, group_id: str) -> Any:
        return await _AddOffsets(self, group_id).do(await self._transaction_coordinator())

    async def _do_txn_offset_commit(self, offsets: Any, group_id: str) -> None:
        await self._message_accumulator.flush_for_commit()  # repair 2
        member = self.member
        if member is None or member.generation < 0 or not member.member_id:
            self._txn_manager.error_transaction(MembershipOverError())  # (-1, "") would be taken unfenced
            return
        try:
            node = await self._find_coordinator(CoordinationType.GROUP, group_id)
        except theirs.GroupAuthorizationFailedError as error:
            self._txn_manager.error_transaction(error)
            return
        await _CommitOffsets(self, offsets, member).do(node)

    async def _do_txn_commit(self, commit_result: Any) -> None:
        await self._message_accumulator.flush_for_commit()
        if self._txn_manager.is_empty_transaction():
            self._txn_manager.complete_transaction()
            return
        await _EndTransaction(self, commit_result).do(await self._transaction_coordinator())

    async def _transaction_coordinator(self) -> Any:
        return await self._find_coordinator(CoordinationType.TRANSACTION, self._txn_manager.transactional_id)
