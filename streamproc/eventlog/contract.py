"""The event log as the rest of the program sees it: partitioned topics of records, transactions, committed offsets.

Three implementations keep this contract under the same tests: `kafka`, `embedded` (SQLite, one directory) and
`simulated` (in memory, virtual time, faults). Only the composition root chooses one.

Words: a *record* has key, value, timestamp and headers; a *chunk* is a run of records of one partition in offset
order; offsets rise but may have gaps; a *group* owns committed offsets, each with a short text of metadata.
All reads are read_committed: a record of an open or aborted transaction is never seen.
"""

from __future__ import annotations

__all__ = [
    "ANY_OFFSET",
    "NO_OFFSET",
    "Admin",
    "Appender",
    "AssignmentListener",
    "Chunk",
    "CommittedOffset",
    "EventLog",
    "GroupReader",
    "Headers",
    "Membership",
    "OutputRecords",
    "Place",
    "Retention",
    "Scanner",
    "TopicPartition",
    "TopicSpec",
    "TransactionalWriter",
    "masked",
    "retention_of",
]

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

import msgspec

_USER = re.compile(r"(?<=//)[^/]*@")
NO_OFFSET = -1
ANY_OFFSET = -1
Headers = list[tuple[str, bytes]]


class TopicPartition(NamedTuple):
    """One partition of one topic."""

    topic: str
    partition: int


class CommittedOffset(NamedTuple):
    """`offset` is the next one to read."""

    offset: int
    metadata: str


class TopicSpec(msgspec.Struct, frozen=True):
    """A topic to create if it is missing; `config` in Kafka's names (other logs may ignore it)."""

    name: str
    partitions: int
    config: dict[str, str] = {}


class Chunk(msgspec.Struct):
    """Consecutive records of one partition, column by column; all sequences have one length >= 1.

    `timestamps`: ms, the log's record time. `headers`: None when no record has any. `next_offset`: where
    reading goes on; > the last offset + 1 where control records or aborted ones follow.
    """

    tp: TopicPartition
    offsets: Sequence[int]
    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]
    timestamps: Sequence[int]
    next_offset: int
    headers: Sequence[Headers] | None = None


class OutputRecords(msgspec.Struct):
    """Records to append to one partition, in this order; `headers` one list a record, or None.

    `base`: the offset that the first must get, if it is given: a transaction that puts it elsewhere fails.
    """

    tp: TopicPartition
    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]
    timestamp_ms: int
    headers: Sequence[Headers] | None = None
    base: int = ANY_OFFSET


class Place(NamedTuple):
    """Where a writer's records of a partition end (one past the last), and where its next ones begin."""

    end: int
    base: int


class Membership(Protocol):
    """Proof of being a group's current member, taken when partitions were assigned; opaque to its users."""

    @property
    def group(self) -> str: ...
    @property
    def generation(self) -> int: ...


class AssignmentListener(Protocol):
    """Told of assignments from within `GroupReader.poll`, each of which replaces the one before. Implementations only
    record: no I/O, no waiting, but for `on_revoked`, which may await the end of an open transaction."""

    async def on_revoked(self, partitions: frozenset[TopicPartition]) -> None: ...
    async def on_assigned(self, partitions: frozenset[TopicPartition], membership: Membership) -> None: ...


class GroupReader(Protocol):
    """Reads a group's share of the subscribed topics. A newly assigned partition is paused until `resume`."""

    async def start(self) -> None:
        """Join the group.

        Raises:
            EventLogError: retriable if the log cannot be reached.
        """
        ...

    async def poll(self, timeout_ms: int) -> list[Chunk]:
        """What has been committed since, at most `timeout_ms` later; may be empty. Safe to cancel: nothing is lost.

        Raises:
            FencedError: another process has our identity.
            EventLogError: see `retriable`.
        """
        ...

    async def committed(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, CommittedOffset]:
        """Stable committed offsets: waits for pending transactional offsets to be settled. Partitions that
        never had one are absent."""
        ...

    def resume(self, tp: TopicPartition, offset: int) -> None:
        """Deliver the partition's records from `offset` on; nothing happens if it is not ours (any more)."""
        ...

    def pause(self, tp: TopicPartition) -> None:
        """Deliver nothing of it until `resume`."""
        ...

    def position(self, tp: TopicPartition) -> int:
        """Where reading goes on: all records before it were delivered. Reaches the end offset even if control or
        aborted records come last. NO_OFFSET: the partition is paused, or not ours."""
        ...

    def caught_up(self, tp: TopicPartition) -> bool:
        """Whether the log, when it was last read, held no more of the partition than was delivered. False if it was
        not read since `resume`, or not lately: nobody knows then."""
        ...

    async def close(self, *, leave: bool = False) -> None:
        """Stop reading. `leave` gives the partitions up at once; otherwise the membership is kept for a restart."""
        ...


class TransactionalWriter(Protocol):
    """The one transactional producer of a worker. After any error: `abandon` it and open a new one."""

    async def open(self) -> None:
        """Take over the transactional id: settles what an earlier owner left open and fences that owner.

        Raises:
            EventLogError: retriable if the log cannot be reached.
        """
        ...

    async def begin(self, expected: Iterable[TopicPartition] = (), membership: Membership | None = None) -> None:
        """Open a transaction.

        `expected` says what will be appended to, `membership` who will commit offsets: a log that has to be told in
        advance tells it now, without waiting for an answer.
        """
        ...

    async def append(self, outputs: Sequence[OutputRecords]) -> None:
        """Send records, and return when they are on their way; deliveries are checked by `delivered`. Several calls a
        transaction are fine.
        """
        ...

    def place(self, tp: TopicPartition) -> Place | None:
        """Where what is appended next will lie, if the transaction that has appended anything is committed, and if
        nobody else writes to the partition; None: it was not written to by this writer.
        """
        ...

    async def offsets(self, offsets: Mapping[TopicPartition, CommittedOffset], membership: Membership) -> None:
        """Add the group's offsets, fenced by `membership`.

        Raises (some logs only at `commit`):
            TaskMigratedError: the membership is over by a rebalance or a lost session, or a partition was handed to
                another member. Nothing is committed; our identity is ours: abandon this writer, open a new one, undo,
                and go on with the assignment that the reader's next polls bring.
            FencedError: a newer owner of our `instance` is in the group: this process must end.
        """
        ...

    async def delivered(self) -> dict[TopicPartition, int]:
        """Wait for every append; the offset of the last record of each partition.

        A log that takes offsets only at commit fills the mapping then: read it when `commit` has returned.

        Raises (some logs only at `commit`):
            EventLogError: any record was refused or lost, or lies elsewhere than at its `base`.
        """
        ...

    async def commit(self) -> None:
        """Make records and offsets visible together.

        Raises:
            FencedError, TaskMigratedError: a newer owner has opened our transactional id; see also `offsets`.
            EventLogError: the outcome is unknown or it failed: abandon this writer; a new one's `open` settles it.
        """
        ...

    async def abort(self) -> None:
        """Drop the open transaction."""
        ...

    async def abandon(self) -> None:
        """Close without settling anything; never raises."""
        ...


class Appender(Protocol):
    """A plain, idempotent producer, for `feed` and the generator."""

    async def append(self, outputs: Sequence[OutputRecords]) -> None:
        """Append and wait until the log has them."""
        ...

    async def close(self) -> None: ...


class Scanner(Protocol):
    """Reads given partitions from given offsets, outside any group: recovery, tail, verification."""

    async def poll(self, timeout_ms: int) -> list[Chunk]: ...
    def seek(self, tp: TopicPartition, offset: int) -> None:
        """Read `tp` from `offset` (added if new)."""
        ...

    def position(self, tp: TopicPartition) -> int:
        """Where reading goes on; reaches the end offset even if control records come last."""
        ...

    async def close(self) -> None: ...


class Retention(msgspec.Struct, frozen=True):
    """How long a topic keeps records.

    Args:
        time_ms: at least so long by their time; None: for ever.
        size_bytes: of each partition, the newest; None: no bound.
        compacted: of each key only the last record is sure to stay.
    """

    time_ms: int | None = None
    size_bytes: int | None = None
    compacted: bool = False


def masked(address: str) -> str:
    """A log's address for an error: without a user, whose password may stand there.

    >>> masked("kafka://ann:secret@b:9092,ben:secret@c:9092")
    'kafka://c:9092'
    """
    return _USER.sub("", address)


def retention_of(config: Mapping[str, str | None]) -> Retention:
    """From a topic's configuration in Kafka's names.

    >>> retention_of({"retention.ms": "3600000", "retention.bytes": "-1", "cleanup.policy": "delete"})
    Retention(time_ms=3600000, size_bytes=None, compacted=False)
    """
    policies = [policy.strip() for policy in (config.get("cleanup.policy") or "delete").split(",")]
    deletes = "delete" in policies
    time, size = (int(config.get(name) or -1) for name in ("retention.ms", "retention.bytes"))
    return Retention(
        time if time >= 0 and deletes else None, size if size >= 0 and deletes else None, "compact" in policies
    )


class Admin(Protocol):
    """Topics and their bounds."""

    async def ensure_topics(self, specs: Sequence[TopicSpec]) -> None:
        """Create those that are missing; existing ones are left as they are."""
        ...

    async def partitions(self, topic: str) -> int:
        """Number of partitions; 0 if there is no such topic."""
        ...

    async def retention(self, topics: Sequence[str]) -> dict[str, Retention]:
        """Of existing topics; those are absent that this client may not ask about."""
        ...

    async def begin_offsets(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]: ...
    async def end_offsets(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        """High watermarks: one past the last record, committed or not."""
        ...

    async def committed(
        self, group: str, partitions: Sequence[TopicPartition]
    ) -> dict[TopicPartition, CommittedOffset]: ...


class EventLog(Protocol):
    """One log; all parts share its connection settings. `url` is how a user names it."""

    @property
    def url(self) -> str: ...

    def reader(
        self, group: str, topics: Sequence[str], listener: AssignmentListener, *, instance: str, index: int, count: int
    ) -> GroupReader:
        """`instance`: stable member identity. `index` of `count`: this worker among its pod's workers; logs
        without group membership share partitions out by it."""
        ...

    def writer(self, transactional_id: str) -> TransactionalWriter: ...
    def appender(self) -> Appender: ...
    def scanner(self) -> Scanner: ...
    def admin(self) -> Admin: ...
    async def close(self) -> None: ...
