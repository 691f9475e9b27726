"""What the log does, in SQL. One `Store` belongs to one thread; its methods block, and raise sqlite3.Error as it is."""

from __future__ import annotations

__all__ = ["GroupMembership", "Member", "Store", "Transaction"]

import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec

from state.errors import ConfigError, EventLogError, FencedError, TaskMigratedError
from streamproc.eventlog.contract import Chunk, CommittedOffset, Headers, TopicPartition, TopicSpec
from streamproc.eventlog.embedded.codec import PackedChunk, damaged, unpack
from streamproc.eventlog.embedded.file import TURN_S, connect, is_busy
from streamproc.eventlog.places import checked_base

_OFFSET_BITS = 40
_OFFSET_MASK = (1 << _OFFSET_BITS) - 1


class GroupMembership(NamedTuple):
    """See `contract.Membership`; generations of a group rise with every join of any member."""

    group: str
    instance: str
    generation: int


class Member(NamedTuple):
    """Who joins a group: `worker` of `workers` takes the partitions with `p % workers == worker` of all `topics`."""

    group: str
    instance: str
    topics: tuple[str, ...]
    worker: int
    workers: int


class Transaction(msgspec.Struct):
    """All of one transaction: what `Store.commit` does at once. Without `transactional_id`: a plain append."""

    transactional_id: str | None = None
    epoch: int = 0
    outputs: list[tuple[TopicPartition, list[PackedChunk]]] = []
    bases: dict[TopicPartition, int] = {}
    offsets: dict[GroupMembership, dict[TopicPartition, CommittedOffset]] = {}


class Store:
    """The tables of one log file."""

    def __init__(self, path: Path, busy_timeout_s: float) -> None:
        self._busy_timeout_s = busy_timeout_s
        self._db = connect(path, busy_timeout_s)
        self._db.execute("PRAGMA busy_timeout = 0")
        self._ids: dict[TopicPartition, int] = {}

    def close(self) -> None:
        """Close the file; the last to close it folds the WAL into it."""
        self._db.close()

    def data_version(self) -> int:
        """Changes when another connection, of any process, has committed."""
        return int(self._db.execute("PRAGMA data_version").fetchone()[0])

    # -- topics

    def ensure_topics(self, specs: Sequence[TopicSpec]) -> None:
        """Create the missing ones."""
        with self._writing():
            for spec in specs:
                if spec.partitions < 1:
                    raise ConfigError(f"topic {spec.name} needs at least one partition")
                new = self._db.execute(
                    "INSERT INTO topics VALUES (?, ?, ?) ON CONFLICT DO NOTHING RETURNING name",
                    (spec.name, spec.partitions, msgspec.json.encode(spec.config).decode()),
                ).fetchall()
                if new:
                    rows = [(spec.name, partition) for partition in range(spec.partitions)]
                    self._db.executemany("INSERT INTO partitions (topic, partition) VALUES (?, ?)", rows)

    def partitions(self, topic: str) -> int:
        """Number of partitions; 0 if there is no such topic."""
        row = self._db.execute("SELECT partitions FROM topics WHERE name = ?", (topic,)).fetchone()
        return int(row[0]) if row else 0

    def bounds(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, tuple[int, int]]:
        """First offset and end offset of each."""
        with self._reading():
            return {tp: self._bounds(self._id(tp)) for tp in partitions}

    # -- ownership

    def claim_writer(self, transactional_id: str) -> int:
        """Take over the id: a new epoch, durable."""
        with self._writing():
            row = self._db.execute(
                "INSERT INTO writers VALUES (?, 1) ON CONFLICT DO UPDATE SET epoch = epoch + 1 RETURNING epoch",
                (transactional_id,),
            ).fetchall()[0]
        return int(row[0])

    def join(self, member: Member) -> tuple[GroupMembership, frozenset[TopicPartition]]:
        """Claim the member's share, under a new generation.

        Raises:
            ConfigError: a topic is missing.
        """
        group, instance, topics, worker, workers = member
        with self._writing():
            ((generation,),) = self._db.execute(
                "INSERT INTO groups VALUES (?, 1) ON CONFLICT DO UPDATE SET generation = generation + 1 "
                "RETURNING generation",
                (group,),
            ).fetchall()
            self._db.execute(
                "INSERT INTO members VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET generation = excluded.generation",
                (group, instance, generation),
            )
            ours = [TopicPartition(topic, p) for topic in topics for p in range(worker, self._existing(topic), workers)]
            self._db.executemany(
                "INSERT INTO group_partitions (group_name, partition_id, owner_generation) VALUES (?, ?, ?) "
                "ON CONFLICT DO UPDATE SET owner_generation = excluded.owner_generation",
                [(group, self._id(tp), generation) for tp in ours],
            )
        return GroupMembership(group, instance, generation), frozenset(ours)

    def leave(self, membership: GroupMembership) -> None:
        """Give up what `join` claimed; nothing happens if a successor has it already."""
        group, instance, generation = membership
        with self._writing():
            self._db.execute(
                "DELETE FROM members WHERE group_name = ? AND instance = ? AND generation = ?",
                (group, instance, generation),
            )
            self._db.execute(
                "UPDATE group_partitions SET owner_generation = NULL WHERE group_name = ? AND owner_generation = ?",
                (group, generation),
            )

    def share(self, membership: GroupMembership, known: frozenset[TopicPartition]) -> frozenset[TopicPartition]:
        """What is left to the member of `known`, what it was last known to own: others' joins take partitions away.

        Raises:
            FencedError, TaskMigratedError: see `check_member`.
        """
        self.check_member(membership)
        group, _, generation = membership
        owned = {
            row[0]
            for row in self._db.execute(
                "SELECT partition_id FROM group_partitions WHERE group_name = ? AND owner_generation = ?",
                (group, generation),
            )
        }
        return known if len(owned) == len(known) else frozenset(tp for tp in known if self._id(tp) in owned)

    def check_member(self, membership: GroupMembership) -> None:
        """Nothing, if it is the current one.

        Raises:
            FencedError: another process has joined in our place.
            TaskMigratedError: nobody has our place, it was given up.
        """
        group, instance, generation = membership
        row = self._db.execute(
            "SELECT generation FROM members WHERE group_name = ? AND instance = ?", (group, instance)
        ).fetchone()
        if row is None:
            raise TaskMigratedError(f"member {instance} of group {group} has left it")
        if row[0] != generation:
            raise FencedError(
                f"member {instance} of group {group}: another process has joined in our place (stop it, or give one of "
                "the two another --instance)"
            )

    # -- offsets and commit

    def committed(self, group: str, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, CommittedOffset]:
        """The group's offsets; partitions without one are absent."""
        found: dict[TopicPartition, CommittedOffset] = {}
        with self._reading():
            for tp in partitions:
                row = self._db.execute(
                    "SELECT next_offset, metadata FROM group_partitions "
                    "WHERE group_name = ? AND partition_id = ? AND next_offset IS NOT NULL",
                    (group, self._id(tp)),
                ).fetchone()
                if row is not None:
                    found[tp] = CommittedOffset(*row)
        return found

    def commit(self, transaction: Transaction) -> dict[TopicPartition, int]:
        """All of it or nothing; the offset of the last record of each partition.

        Raises:
            FencedError: writer or membership is superseded.
            TaskMigratedError: a partition was handed to another member.
            EventLogError: an unknown partition, or records would lie elsewhere than they must.
        """
        with self._writing():
            if transaction.transactional_id is not None:
                self._check_writer(transaction.transactional_id, transaction.epoch)
            for membership, offsets in transaction.offsets.items():
                self.check_member(membership)
                self._commit_offsets(membership, offsets)
            for tp, base in transaction.bases.items():
                checked_base(tp, base, self._bounds(self._id(tp))[1])
            return {tp: self._append(self._id(tp), chunks) for tp, chunks in transaction.outputs}

    def _check_writer(self, transactional_id: str, epoch: int) -> None:
        row = self._db.execute("SELECT epoch FROM writers WHERE transactional_id = ?", (transactional_id,)).fetchone()
        if row is None or row[0] != epoch:
            raise FencedError(f"writer {transactional_id}: another process has taken over")

    def _commit_offsets(self, membership: GroupMembership, offsets: Mapping[TopicPartition, CommittedOffset]) -> None:
        group, instance, generation = membership
        for tp, (offset, metadata) in offsets.items():
            updated = self._db.execute(
                "UPDATE group_partitions SET next_offset = ?, metadata = ? "
                "WHERE group_name = ? AND partition_id = ? AND owner_generation = ?",
                (offset, metadata, group, self._id(tp), generation),
            ).rowcount
            if updated != 1:
                where = f"{tp.topic}-{tp.partition}"
                raise TaskMigratedError(f"member {instance} of group {group}: {where} was handed to another member")

    def _append(self, partition_id: int, chunks: Sequence[PackedChunk]) -> int:
        ((base,),) = self._db.execute("SELECT next_offset FROM partitions WHERE id = ?", (partition_id,)).fetchall()
        for count, payload in chunks:
            self._db.execute(
                "INSERT INTO chunks VALUES (?, ?, ?)", (partition_id << _OFFSET_BITS | base, count, payload)
            )
            base += count
        self._db.execute("UPDATE partitions SET next_offset = ? WHERE id = ?", (base, partition_id))
        return int(base) - 1

    # -- reading

    def read(
        self, positions: Mapping[TopicPartition, int], bytes_max: int, ends: dict[TopicPartition, int] | None = None
    ) -> list[Chunk]:
        """What follows each position: at most `bytes_max` of each partition, but one stored chunk if there is one.

        `ends` is told where each partition ends now.

        Raises:
            EventLogError: an unknown partition, or a position before its begin.
        """
        with self._reading():
            chunks = []
            for tp, position in positions.items():
                partition_id = self._id(tp)
                begin, end = self._bounds(partition_id)
                if ends is not None:
                    ends[tp] = end
                if position < begin:
                    raise EventLogError(f"{tp.topic}-{tp.partition} begins at {begin}, {position} is gone")
                if position < end:
                    chunks.append(self._read_partition(tp, partition_id, position, bytes_max))
            return chunks

    def _read_partition(self, tp: TopicPartition, partition_id: int, position: int, bytes_max: int) -> Chunk:
        first = partition_id << _OFFSET_BITS
        (start,) = self._db.execute(
            "SELECT max(id) FROM chunks WHERE id BETWEEN ? AND ?", (first, first | position)
        ).fetchone()
        rows = self._db.execute(
            "SELECT id & ?, count, payload FROM chunks WHERE id BETWEEN ? AND ? ORDER BY id",
            (_OFFSET_MASK, start, first | _OFFSET_MASK),
        )
        keys: list[bytes | None] = []
        values: list[bytes | None] = []
        timestamps: list[int] = []
        headers: dict[int, Sequence[Headers]] = {}
        budget = bytes_max
        for base, count, payload in rows:
            records = unpack(payload)
            skip = position + len(keys) - base
            if len(records.keys) != count or not (0 <= skip < count if not keys else skip == 0):
                raise damaged()  # a chunk is missing, or is another one
            if records.headers is not None:
                headers[len(keys)] = records.headers[skip:]
            keys += records.keys[skip:]
            values += records.values[skip:]
            timestamps += [records.timestamp_ms] * (count - skip)
            budget -= len(payload)
            if budget <= 0:
                break
        rows.close()
        if not keys:
            raise damaged()
        end = position + len(keys)
        return Chunk(tp, range(position, end), keys, values, timestamps, end, _spread(headers, len(keys)))

    # -- common

    def _id(self, tp: TopicPartition) -> int:
        known = self._ids.get(tp)
        if known is None:
            row = self._db.execute("SELECT id FROM partitions WHERE topic = ? AND partition = ?", tp).fetchone()
            if row is None:
                raise EventLogError(f"the event log has no topic {tp.topic} with a partition {tp.partition}")
            known = self._ids[tp] = int(row[0])
        return known

    def _existing(self, topic: str) -> int:
        count = self.partitions(topic)
        if count == 0:
            raise ConfigError(f"the event log has no topic {topic}", hint="create it first")
        return count

    def _bounds(self, partition_id: int) -> tuple[int, int]:
        row = self._db.execute(
            "SELECT begin_offset, next_offset FROM partitions WHERE id = ?", (partition_id,)
        ).fetchone()
        return (int(row[0]), int(row[1]))

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """One snapshot for several statements."""
        self._db.execute("BEGIN")
        try:
            yield
        finally:
            self._db.execute("COMMIT")

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """The one write transaction of all processes; durable when the block has ended."""
        self._begin_in_turn()
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    def _begin_in_turn(self) -> None:
        deadline = time.monotonic() + self._busy_timeout_s
        while True:
            try:
                self._db.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if not is_busy(error) or time.monotonic() > deadline:
                    raise
            else:
                return
            time.sleep(TURN_S)


def _spread(headers: Mapping[int, Sequence[Headers]], count: int) -> list[Headers] | None:
    """The headers of `count` records, from runs that begin at some of them."""
    if not headers:
        return None
    spread: list[Headers] = [[] for _ in range(count)]
    for start, run in headers.items():
        spread[start : start + len(run)] = run
    return spread
