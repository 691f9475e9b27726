"""What the brokers know: partitions, transactions, offsets, groups. All of it changes in single steps."""

from __future__ import annotations

__all__ = ["SimulatedCluster", "Timeouts", "Without"]

import asyncio
import heapq
import itertools
import random as randomness
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from typing import TYPE_CHECKING

import msgspec

from state.errors import EventLogError, FencedError
from streamproc.clock import Clock
from streamproc.eventlog.contract import (
    Chunk,
    CommittedOffset,
    Headers,
    OutputRecords,
    Retention,
    TopicPartition,
    TopicSpec,
    retention_of,
)
from streamproc.eventlog.simulated.faults import Faults
from streamproc.eventlog.simulated.group import Group, SimulatedMembership

if TYPE_CHECKING:
    from streamproc.eventlog.simulated.client import SimulatedEventLog

RECORD_BYTES_MAX = 8 << 20


class Timeouts(msgspec.Struct, frozen=True):
    """Seconds: of an open transaction, of a member that is gone, of a rebalance, of a stable offset fetch."""

    transaction_s: float = 10.0
    session_s: float = 10.0
    rebalance_s: float = 10.0
    call_s: float = 30.0


class Without(Enum):
    """Ablations: a mechanism taken away, to prove that a checker notices."""

    WRITER_FENCING = "epochs are not checked"
    MEMBERSHIP_FENCING = "generations are not checked"
    READ_COMMITTED = "readers see open and aborted records"
    STABLE_OFFSETS = "pending offsets are not waited for"


class _Ending(Enum):
    OPEN = "open"
    COMMITTED = "committed"
    ABORTED = "aborted"


class _Transaction(msgspec.Struct, eq=False):
    ending: _Ending = _Ending.OPEN
    first: dict[TopicPartition, int] = {}
    offsets: dict[str, dict[TopicPartition, CommittedOffset]] = {}


class _Producer(msgspec.Struct, eq=False):
    epoch: int = 0
    transaction: _Transaction | None = None
    timed_out: bool = False


class _Batch(msgspec.Struct, eq=False):
    """Records with one append; a marker is a batch of one offset and no records."""

    base: int
    records: OutputRecords | None
    transaction: _Transaction | None = None

    @property
    def end(self) -> int:
        return self.base + (1 if self.records is None else len(self.records.keys))


class _Partition(msgspec.Struct, eq=False):
    begin: int = 0
    batches: list[_Batch] = []
    open: list[_Transaction] = []

    @property
    def end(self) -> int:
        return self.batches[-1].end if self.batches else self.begin

    def append(self, records: OutputRecords | None, transaction: _Transaction | None) -> int:
        """The offset of the last record."""
        self.batches.append(_Batch(self.end, records, transaction))
        return self.end - 1


class SimulatedCluster:
    """One log for several clients; `client` makes one.

    Args:
        clock: all time there is.
        random: draws what is not in `faults`, e.g. who gets which partition.
        faults: none by default.
        poll_bytes_max: what one poll brings of a partition, roughly.
        without: mechanisms to take away.
    """

    def __init__(
        self,
        clock: Clock,
        random: randomness.Random,
        faults: Faults | None = None,
        *,
        timeouts: Timeouts | None = None,
        poll_bytes_max: int = 1 << 20,
        without: frozenset[Without] = frozenset(),
    ) -> None:
        self.clock = clock
        self.faults = faults or Faults(random)
        self.timeouts = timeouts or Timeouts()
        self.without = without
        self._random = random
        self._poll_bytes_max = poll_bytes_max
        self._topics: dict[str, int] = {}
        self._retention: dict[str, Retention] = {}
        self._partitions: dict[TopicPartition, _Partition] = {}
        self._producers: dict[str, _Producer] = {}
        self._groups: dict[str, Group] = {}
        self._later: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._waiters: set[asyncio.Future[None]] = set()

    def client(self, name: str) -> SimulatedEventLog:
        """A new process's connection."""
        from streamproc.eventlog.simulated.client import SimulatedEventLog

        return SimulatedEventLog(self, name)

    # -- time

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        """Let `action` happen then."""
        heapq.heappush(self._later, (self.clock.monotonic() + seconds, next(self._order), action))

    def tick(self) -> None:
        """Do what is due."""
        while self._later and self._later[0][0] <= self.clock.monotonic():
            heapq.heappop(self._later)[2]()

    def changed(self) -> None:
        """Wake whoever waits."""
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def wait(self, seconds: float) -> None:
        """Until something changes, or is due, or `seconds` are over."""
        if self._later:
            seconds = min(seconds, max(0.0, self._later[0][0] - self.clock.monotonic()))
        waiter = asyncio.get_running_loop().create_future()
        sleeper = asyncio.ensure_future(self.clock.sleep(seconds))
        self._waiters.add(waiter)
        try:
            await asyncio.wait({waiter, sleeper}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._waiters.discard(waiter)
            sleeper.cancel()
        self.tick()

    # -- topics

    def ensure_topics(self, specs: Sequence[TopicSpec]) -> None:
        """Create the missing ones."""
        for spec in specs:
            if spec.name not in self._topics:
                self._topics[spec.name] = spec.partitions
                self._retention[spec.name] = retention_of(spec.config)
                for number in range(spec.partitions):
                    self._partitions[TopicPartition(spec.name, number)] = _Partition(0, [], [])

    def partitions(self, topic: str) -> int:
        """0 if there is no such topic."""
        return self._topics.get(topic, 0)

    def retention(self, topic: str) -> Retention:
        """As it was created; nothing removes records by it, `truncate` does."""
        return self._retention[topic]

    def begin_offset(self, tp: TopicPartition) -> int:
        """The first offset that is still there."""
        return self._partition(tp).begin

    def end_offset(self, tp: TopicPartition) -> int:
        """One past the last offset, whoever wrote it."""
        return self._partition(tp).end

    def truncate(self, tp: TopicPartition, offset: int) -> None:
        """Retention: records before `offset` are gone."""
        partition = self._partition(tp)
        partition.begin = max(partition.begin, min(offset, partition.end))

    # -- producers

    def claim(self, transactional_id: str) -> int:
        """InitProducerId: abort what is open, begin a new epoch."""
        producer = self._producers.setdefault(transactional_id, _Producer())
        self._end(producer, _Ending.ABORTED)
        producer.epoch += 1
        producer.timed_out = False
        return producer.epoch

    def append(self, outputs: Sequence[OutputRecords], owner: tuple[str, int] | None) -> dict[TopicPartition, int]:
        """Write, as the owner's open transaction or at once; the last offset of each partition."""
        transaction = None if owner is None else self._transaction(*owner)
        ends: dict[TopicPartition, int] = {}
        for output in outputs:
            partition = self._partition(output.tp)
            if not output.keys:
                continue
            if transaction is not None and output.tp not in transaction.first:
                transaction.first[output.tp] = partition.end
                partition.open.append(transaction)
            for piece in _pieces(output, self._poll_bytes_max):
                ends[output.tp] = partition.append(piece, transaction)
        self.changed()
        return ends

    def add_offsets(
        self,
        owner: tuple[str, int],
        offsets: dict[TopicPartition, CommittedOffset],
        membership: SimulatedMembership,
    ) -> None:
        """TxnOffsetCommit: pending until the transaction ends."""
        transaction = self._transaction(*owner)
        if Without.MEMBERSHIP_FENCING not in self.without:
            self.group(membership.group).check(membership)
        transaction.offsets.setdefault(membership.group, {}).update(offsets)

    def check_writer(self, transactional_id: str, epoch: int) -> _Producer:
        """Raise FencedError if another owner has come, EventLogError if the transaction has timed out."""
        producer = self._producers[transactional_id]
        if producer.epoch != epoch and Without.WRITER_FENCING not in self.without:
            raise FencedError(f"writer {transactional_id}: another process has taken over")
        if producer.timed_out:
            raise EventLogError(f"writer {transactional_id}: the transaction has timed out", retriable=True)
        return producer

    def end(self, transactional_id: str, epoch: int, *, commit: bool) -> None:
        """EndTxn: whatever transaction is open in this epoch, be it the one that was meant or a later one."""
        producer = self.check_writer(transactional_id, epoch)
        self._end(producer, _Ending.COMMITTED if commit else _Ending.ABORTED)

    def end_late(self, transactional_id: str, epoch: int, *, commit: bool) -> None:
        """A delayed EndTxn arrives; nobody waits for its answer."""
        try:
            self.end(transactional_id, epoch, commit=commit)
        except EventLogError:
            return

    def _transaction(self, transactional_id: str, epoch: int) -> _Transaction:
        producer = self.check_writer(transactional_id, epoch)
        if producer.transaction is None:
            begun = producer.transaction = _Transaction(first={}, offsets={})
            self.after(self.timeouts.transaction_s, lambda: self._time_out(producer, begun))
        return producer.transaction

    def _time_out(self, producer: _Producer, transaction: _Transaction) -> None:
        if producer.transaction is transaction:
            self._end(producer, _Ending.ABORTED)
            producer.timed_out = True

    def _end(self, producer: _Producer, ending: _Ending) -> None:
        transaction, producer.transaction = producer.transaction, None
        if transaction is None:
            return
        transaction.ending = ending
        for tp in transaction.first:
            partition = self._partition(tp)
            partition.open.remove(transaction)
            partition.append(None, None)
        if ending is _Ending.COMMITTED:
            for group, offsets in transaction.offsets.items():
                self.group(group).offsets.update(offsets)
        self.changed()

    # -- groups

    def group(self, name: str) -> Group:
        """The group, made if new."""
        if name not in self._groups:
            self._groups[name] = Group(
                name,
                self._topics,
                self._random,
                lambda action: self.after(self.timeouts.rebalance_s, action),
                self.changed,
            )
        return self._groups[name]

    def pending(self, group: str, partitions: Sequence[TopicPartition]) -> bool:
        """Whether an open transaction may still change one of these offsets."""
        if Without.STABLE_OFFSETS in self.without:
            return False
        return any(
            tp in producer.transaction.offsets.get(group, {})
            for producer in self._producers.values()
            if producer.transaction is not None
            for tp in partitions
        )

    def committed(self, group: str, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, CommittedOffset]:
        """Partitions without one are absent."""
        offsets = self.group(group).offsets
        return {tp: offsets[tp] for tp in partitions if tp in offsets}

    # -- reading

    def read(self, tp: TopicPartition, position: int) -> tuple[Chunk | None, int]:
        """What is visible from `position` on, and where reading goes on.

        Raises:
            EventLogError: the position is gone, or there is no such partition.
        """
        partition = self._partition(tp)
        if position < partition.begin:
            raise EventLogError(f"{tp.topic}-{tp.partition} begins at {partition.begin}, {position} is gone")
        dirty = Without.READ_COMMITTED in self.without
        stable = partition.end if dirty else min((t.first[tp] for t in partition.open), default=partition.end)
        visible: list[_Batch] = []
        budget, following = self._poll_bytes_max, position
        start = max(0, bisect_right(partition.batches, position, key=lambda batch: batch.base) - 1)
        for batch in itertools.islice(partition.batches, start, None):
            if batch.base >= stable or budget <= 0:
                break
            if batch.end <= position:
                continue
            following = batch.end
            seen = batch.transaction is None or dirty or batch.transaction.ending is _Ending.COMMITTED
            if batch.records is not None and seen:
                visible.append(batch)
                budget -= _size(batch.records)
        return (_chunk(tp, visible, position, following) if visible else None), following

    def _partition(self, tp: TopicPartition) -> _Partition:
        found = self._partitions.get(tp)
        if found is None:
            raise EventLogError(f"the event log has no topic {tp.topic} with a partition {tp.partition}")
        return found


def _size(records: OutputRecords) -> int:
    """Bytes of keys and values."""
    return sum(len(key or b"") + len(value or b"") for key, value in zip(records.keys, records.values, strict=True))


def _pieces(records: OutputRecords, bytes_max: int) -> Iterator[OutputRecords]:
    """The same records, in pieces that one poll may bring."""
    half = len(records.keys) // 2
    if half == 0 or _size(records) <= bytes_max:
        yield records
        return
    for part in (slice(0, half), slice(half, None)):
        headers = records.headers and records.headers[part]
        piece = OutputRecords(records.tp, records.keys[part], records.values[part], records.timestamp_ms, headers)
        yield from _pieces(piece, bytes_max)


def _chunk(tp: TopicPartition, batches: Sequence[_Batch], position: int, following: int) -> Chunk:
    """The batches' records from `position` on."""
    offsets: list[int] = []
    keys: list[bytes | None] = []
    values: list[bytes | None] = []
    timestamps: list[int] = []
    headers: list[Headers] = []
    for batch in batches:
        records = batch.records
        assert records is not None
        skip = max(0, position - batch.base)
        offsets += range(batch.base + skip, batch.end)
        keys += records.keys[skip:]
        values += records.values[skip:]
        timestamps += [records.timestamp_ms] * (len(records.keys) - skip)
        headers += [[] for _ in records.keys[skip:]] if records.headers is None else records.headers[skip:]
    return Chunk(tp, offsets, keys, values, timestamps, following, headers if any(headers) else None)
