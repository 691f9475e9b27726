"""The transactional writer: buffers a transaction and hands it over whole at commit."""

from __future__ import annotations

__all__ = ["EmbeddedWriter"]

from collections.abc import Iterable, Mapping, Sequence

from state.errors import EventLogError
from streamproc.eventlog.contract import ANY_OFFSET, CommittedOffset, Membership, OutputRecords, Place, TopicPartition
from streamproc.eventlog.embedded.codec import pack
from streamproc.eventlog.embedded.store import GroupMembership, Store, Transaction
from streamproc.eventlog.embedded.thread import StoreThread
from streamproc.eventlog.places import Places

_MARKS = 0


class EmbeddedWriter:
    """See `contract.TransactionalWriter`. Fencing shows at `commit`, where all checks are made."""

    def __init__(self, thread: StoreThread, transactional_id: str) -> None:
        self._thread = thread
        self._id = transactional_id
        self._epoch: int | None = None
        self._transaction: Transaction | None = None
        self._ends: dict[TopicPartition, int] = {}
        self._places = Places(_MARKS)

    async def open(self) -> None:
        self._epoch = await self._thread.run(lambda store: store.claim_writer(self._id), changes=True)

    async def begin(self, expected: Iterable[TopicPartition] = (), membership: Membership | None = None) -> None:
        if self._epoch is None:
            raise EventLogError(f"writer {self._id} is not open")
        if self._transaction is not None:
            raise EventLogError(f"writer {self._id} has an open transaction")
        self._transaction = Transaction(self._id, self._epoch)
        self._ends = {}
        self._places.begin()

    async def append(self, outputs: Sequence[OutputRecords]) -> None:
        """Buffer records.

        Raises:
            EventLogError: no open transaction, or a record of more than 8 MiB; the transaction is lost.
        """
        transaction = self._open_transaction()
        try:
            packed = [(output.tp, chunks) for output in outputs if (chunks := pack(output))]
        except EventLogError:
            await self.abandon()
            raise
        transaction.outputs += packed
        transaction.bases |= {output.tp: output.base for output in outputs if output.base != ANY_OFFSET}
        self._places.append(outputs)

    def place(self, tp: TopicPartition) -> Place | None:
        return self._places.of(tp)

    async def offsets(self, offsets: Mapping[TopicPartition, CommittedOffset], membership: Membership) -> None:
        if not isinstance(membership, GroupMembership):
            raise TypeError(f"a membership of another event log: {type(membership).__name__}")
        self._open_transaction().offsets.setdefault(membership, {}).update(offsets)

    async def delivered(self) -> dict[TopicPartition, int]:
        """The mapping that `commit` fills: offsets are taken there, not before."""
        self._open_transaction()
        return self._ends

    async def commit(self) -> None:
        transaction = self._open_transaction()
        self._epoch, epoch = None, self._epoch  # whatever happens but success: closed
        self._transaction = None

        def work(store: Store) -> dict[TopicPartition, int]:
            return store.commit(transaction)

        self._ends.update(await self._thread.run(work, changes=True))
        self._places.delivered(self._ends)
        self._epoch = epoch

    async def abort(self) -> None:
        self._open_transaction()
        self._transaction = None
        self._places = Places(_MARKS)

    async def abandon(self) -> None:
        self._transaction = None
        self._epoch = None

    def _open_transaction(self) -> Transaction:
        if self._transaction is None:
            raise EventLogError(f"writer {self._id} has no open transaction")
        return self._transaction
