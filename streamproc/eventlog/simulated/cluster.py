"""What the brokers know: partitions, transactions, offsets, groups. All of it changes in single steps."""

from __future__ import annotations

__all__ = ["SimulatedCluster", "Timeouts", "Without"]

import asyncio
import contextlib
import heapq
import itertools
import random as randomness
from bisect import bisect_right
from collections.abc import Callable, Sequence
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from state.errors import EventLogError, FencedError
from streamproc.clock import Clock
from streamproc.eventlog.contract import (
    Chunk,
    CommittedOffset,
    OutputRecords,
    Retention,
    TopicPartition,
    TopicSpec,
    retention_of,
)
from streamproc.eventlog.simulated.faults import Fault, Faults
from streamproc.eventlog.simulated.group import Group, SimulatedMembership
from streamproc.eventlog.simulated.partition import Batch, Ending, Partition, Transaction, chunk_of, pieces, size_of

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


class _Producer(msgspec.Struct, eq=False):
    epoch: int = 0
    transaction: Transaction | None = None
    ended: Transaction | None = None
    timed_out: bool = False


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
        self._partitions: dict[TopicPartition, Partition] = {}
        self._producers: dict[str, _Producer] = {}
        self._groups: dict[str, Group] = {}
        self._later: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._waiters: dict[asyncio.Future[None], None] = {}
        self._moving_until = 0.0

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
        for waiter in list(self._waiters):
            if not waiter.done():
                waiter.set_result(None)

    async def wait(self, seconds: float) -> None:
        """Until something changes, or is due, or `seconds` are over."""
        if self._later:
            seconds = min(seconds, max(0.0, self._later[0][0] - self.clock.monotonic()))
        waiter = asyncio.get_running_loop().create_future()
        sleeper = asyncio.ensure_future(self.clock.sleep(seconds))
        self._waiters[waiter] = None
        try:
            await asyncio.wait({waiter, sleeper}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._waiters.pop(waiter, None)
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
                    self._partitions[TopicPartition(spec.name, number)] = Partition(0, [], [])

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
        self._end(producer, Ending.ABORTED)
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
            for piece in pieces(output, self._poll_bytes_max):
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

    def end(self, transactional_id: str, epoch: int, *, commit: bool, lag: bool = False) -> None:
        """EndTxn: whatever transaction is open in this epoch, be it the one that was meant or a later one."""
        producer = self.check_writer(transactional_id, epoch)
        self._end(producer, Ending.COMMITTED if commit else Ending.ABORTED, lag=lag)

    def end_after(self, seconds: float, transactional_id: str, epoch: int, *, commit: bool) -> None:
        """A delayed EndTxn: it arrives then, and nobody waits for its answer."""
        producer = self._producers[transactional_id]
        meant = producer.transaction

        def arrive() -> None:
            if producer.transaction not in {None, meant}:
                self.faults.fired["commit" if commit else "abort", Fault.DELAYED_INTO_LATER] += 1
            with contextlib.suppress(EventLogError):
                self.end(transactional_id, epoch, commit=commit)

        self.after(seconds, arrive)

    async def markers_written(self, transactional_id: str) -> None:
        """Wait, as a client that is told CONCURRENT_TRANSACTIONS does, until the writer's last end is known to all.

        Raises:
            EventLogError: it took too long.
        """
        producer = self._producers.get(transactional_id)
        deadline = self.clock.monotonic() + self.timeouts.call_s
        while producer is not None and producer.ended is not None and producer.ended.markers:
            left = deadline - self.clock.monotonic()
            if left <= 0:
                raise EventLogError(f"writer {transactional_id}: the last transaction is still ending", retriable=True)
            await self.wait(left)

    def move_coordinator(self) -> None:
        """For a while, nobody coordinates transactions and groups."""
        self._moving_until = self.clock.monotonic() + self.faults.move()

    @property
    def coordinator_moves(self) -> bool:
        """Whether calls to it fail now."""
        return self.clock.monotonic() < self._moving_until

    def _transaction(self, transactional_id: str, epoch: int) -> Transaction:
        producer = self.check_writer(transactional_id, epoch)
        if producer.transaction is None:
            begun = producer.transaction = Transaction(first={}, offsets={})
            self.after(self.timeouts.transaction_s, lambda: self._time_out(producer, begun))
        return producer.transaction

    def _time_out(self, producer: _Producer, transaction: Transaction) -> None:
        if producer.transaction is transaction:
            self._end(producer, Ending.ABORTED)
            producer.timed_out = True

    def _end(self, producer: _Producer, ending: Ending, *, lag: bool = False) -> None:
        transaction, producer.transaction = producer.transaction, None
        if transaction is None:
            return
        transaction.ending = ending
        producer.ended = transaction
        markers = [partial(self._mark, transaction, tp) for tp in transaction.first]
        markers += [partial(self._mark_group, transaction, group) for group in transaction.offsets]
        transaction.markers = len(markers)
        for marker in markers:
            if lag:
                self.after(self.faults.lag(), marker)
            else:
                marker()
        self.changed()

    def _mark(self, transaction: Transaction, tp: TopicPartition) -> None:
        partition = self._partition(tp)
        partition.open.remove(transaction)
        partition.append(None, None)
        transaction.markers -= 1
        self.changed()

    def _mark_group(self, transaction: Transaction, name: str) -> None:
        offsets = transaction.offsets.pop(name)
        if transaction.ending is Ending.COMMITTED:
            self.group(name).offsets.update(offsets)
        transaction.markers -= 1
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
            tp in transaction.offsets.get(group, {})
            for producer in self._producers.values()
            for transaction in (producer.transaction, producer.ended)
            if transaction is not None
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
        visible: list[Batch] = []
        budget, following = self._poll_bytes_max, position
        start = max(0, bisect_right(partition.batches, position, key=lambda batch: batch.base) - 1)
        for batch in itertools.islice(partition.batches, start, None):
            if batch.base >= stable or budget <= 0:
                break
            if batch.end <= position:
                continue
            following = batch.end
            seen = batch.transaction is None or dirty or batch.transaction.ending is Ending.COMMITTED
            if batch.records is not None and seen:
                visible.append(batch)
                budget -= size_of(batch.records)
        return (chunk_of(tp, visible, position, following) if visible else None), following

    def _partition(self, tp: TopicPartition) -> Partition:
        found = self._partitions.get(tp)
        if found is None:
            raise EventLogError(f"the event log has no topic {tp.topic} with a partition {tp.partition}")
        return found
