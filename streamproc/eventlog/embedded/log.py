"""EmbeddedEventLog and its clients on the event loop: each hands its work to the log's one thread."""

from __future__ import annotations

__all__ = ["EmbeddedEventLog"]

from collections.abc import Sequence
from pathlib import Path

from state.errors import ConfigError, EventLogError
from streamproc.eventlog.contract import (
    NO_OFFSET,
    AssignmentListener,
    Chunk,
    CommittedOffset,
    OutputRecords,
    Retention,
    TopicPartition,
    TopicSpec,
)
from streamproc.eventlog.embedded.codec import pack
from streamproc.eventlog.embedded.file import FILE_NAME
from streamproc.eventlog.embedded.store import GroupMembership, Member, Store, Transaction
from streamproc.eventlog.embedded.thread import StoreThread
from streamproc.eventlog.embedded.writer import EmbeddedWriter

_SCHEME = "file:"


class EmbeddedEventLog:
    """The log in `directory`, made on first use; belongs to one event loop. See `contract.EventLog`.

    Args:
        directory: on a local disk; nothing else should be in it.
        poll_bytes_max: what one poll brings of a partition, at most (but one stored chunk, of at most 512 KiB
            or one record, always comes whole).
        busy_timeout_s: how long a write waits for its turn before it fails with a retriable EventLogError.
    """

    def __init__(self, directory: Path, *, poll_bytes_max: int = 1 << 20, busy_timeout_s: float = 5.0) -> None:
        self._directory = directory
        self._poll_bytes_max = poll_bytes_max
        self._thread = StoreThread(directory / FILE_NAME, busy_timeout_s)

    @classmethod
    def from_url(cls, url: str) -> EmbeddedEventLog:
        """The log of `file:DIRECTORY`.

        Raises:
            ConfigError: another scheme, or no directory.
        """
        if not url.startswith(_SCHEME) or url == _SCHEME:
            raise ConfigError(f"no embedded event log: {url}", hint="write file:DIRECTORY")
        return cls(Path(url.removeprefix(_SCHEME)))

    @property
    def url(self) -> str:
        return f"{_SCHEME}{self._directory}"

    def reader(
        self, group: str, topics: Sequence[str], listener: AssignmentListener, *, instance: str, index: int, count: int
    ) -> EmbeddedReader:
        if not 0 <= index < count:
            raise ConfigError(f"worker {index} of {count}", hint="workers count from 0")
        member = Member(group, instance, tuple(topics), index, count)
        return EmbeddedReader(self._thread, self._poll_bytes_max, member, listener)

    def writer(self, transactional_id: str) -> EmbeddedWriter:
        return EmbeddedWriter(self._thread, transactional_id)

    def appender(self) -> EmbeddedAppender:
        return EmbeddedAppender(self._thread)

    def scanner(self) -> EmbeddedScanner:
        return EmbeddedScanner(self._thread, self._poll_bytes_max)

    def admin(self) -> EmbeddedAdmin:
        return EmbeddedAdmin(self._thread)

    async def close(self) -> None:
        await self._thread.close()


class EmbeddedScanner:
    """See `contract.Scanner`."""

    def __init__(self, thread: StoreThread, bytes_max: int) -> None:
        self._thread = thread
        self._bytes_max = bytes_max
        self._positions: dict[TopicPartition, int] = {}
        self._ends: dict[TopicPartition, int] = {}

    async def poll(self, timeout_ms: int) -> list[Chunk]:
        """As `GroupReader.poll`; two pollers at once share the records.

        Raises:
            EventLogError: see `retriable`; no such topic or partition.
        """
        return self.accept(await self._thread.wait(self.read, timeout_ms / 1000))

    def seek(self, tp: TopicPartition, offset: int) -> None:
        self._positions[tp] = offset
        self._ends.pop(tp, None)
        self._thread.poke()

    def position(self, tp: TopicPartition) -> int:
        return self._positions[tp]

    async def close(self) -> None:
        self._positions = {}

    def where(self, tp: TopicPartition) -> int:
        """The position, or NO_OFFSET if it is not read."""
        return self._positions.get(tp, NO_OFFSET)

    def stop(self, tp: TopicPartition) -> None:
        """Read it no more."""
        self._positions.pop(tp, None)

    def read(self, store: Store) -> list[Chunk] | None:
        """In the log's thread; the copy is one step of the interpreter, so the loop may change positions."""
        ends: dict[TopicPartition, int] = {}
        chunks = store.read(self._positions.copy(), self._bytes_max, ends)
        self._ends = ends
        return chunks or None

    def caught_up(self, tp: TopicPartition) -> bool:
        """Whether it is read, and was at its end when it was read last."""
        return tp in self._ends and self._positions.get(tp, NO_OFFSET) >= self._ends[tp]

    def accept(self, chunks: list[Chunk] | None) -> list[Chunk]:
        """Move on past what was read, and only now: a cancelled poll has moved nothing."""
        return [chunk for chunk in chunks or () if self._advance(chunk)]

    def _advance(self, chunk: Chunk) -> bool:
        """False: a seek, a pause or another poller was faster."""
        if self._positions.get(chunk.tp) != chunk.offsets[0]:
            return False
        self._positions[chunk.tp] = chunk.next_offset
        return True


class EmbeddedReader:
    """See `contract.GroupReader`. The share is `partition % count == index` of every topic, and nobody balances: a
    member that joins takes its share from whoever has it, and that one is told of a smaller assignment."""

    def __init__(self, thread: StoreThread, bytes_max: int, member: Member, listener: AssignmentListener) -> None:
        self._thread = thread
        self._scanner = EmbeddedScanner(thread, bytes_max)
        self._member = member
        self._listener = listener
        self._membership: GroupMembership | None = None
        self._assigned: frozenset[TopicPartition] = frozenset()
        self._told: frozenset[TopicPartition] | None = None

    async def start(self) -> None:
        """Claim our share; an earlier owner's offsets are refused from now on.

        Raises:
            ConfigError: a topic is missing.
            EventLogError: retriable if the log is busy.
        """
        self._membership, self._assigned = await self._thread.run(lambda store: store.join(self._member), changes=True)

    async def poll(self, timeout_ms: int) -> list[Chunk]:
        membership, assigned = self._joined(), self._assigned
        if self._told != assigned:
            await self._tell(assigned, membership)

        def read(store: Store) -> tuple[frozenset[TopicPartition], list[Chunk] | None] | None:
            share = store.share(membership, assigned)
            chunks = self._scanner.read(store) if share == assigned else None
            return None if share == assigned and chunks is None else (share, chunks)

        share, chunks = await self._thread.wait(read, timeout_ms / 1000) or (assigned, None)
        if share == assigned:
            return self._scanner.accept(chunks)
        self._assigned = share
        await self._tell(share, membership)
        return []

    async def _tell(self, assigned: frozenset[TopicPartition], membership: GroupMembership) -> None:
        """Cancelled, it is told again at the next poll."""
        if self._told:
            await self._listener.on_revoked(self._told)
        await self._scanner.close()  # a `resume` since then was meant for the assignment before
        await self._listener.on_assigned(assigned, membership)
        self._told = assigned

    async def committed(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, CommittedOffset]:
        group = self._member.group
        return await self._thread.run(lambda store: store.committed(group, partitions))

    def resume(self, tp: TopicPartition, offset: int) -> None:
        if tp in self._assigned:
            self._scanner.seek(tp, offset)

    def pause(self, tp: TopicPartition) -> None:
        self._scanner.stop(tp)

    def position(self, tp: TopicPartition) -> int:
        return self._scanner.where(tp)

    def caught_up(self, tp: TopicPartition) -> bool:
        return self._scanner.caught_up(tp)

    async def close(self, *, leave: bool = False) -> None:
        await self._scanner.close()
        membership, self._membership = self._membership, None
        if leave and membership is not None:
            await self._thread.run(lambda store: store.leave(membership), changes=True)

    def _joined(self) -> GroupMembership:
        if self._membership is None:
            raise EventLogError("the reader is not started")
        return self._membership


class EmbeddedAppender:
    """See `contract.Appender`: each append is one durable SQLite transaction."""

    def __init__(self, thread: StoreThread) -> None:
        self._thread = thread

    async def append(self, outputs: Sequence[OutputRecords]) -> None:
        """All outputs, or none.

        Raises:
            EventLogError: an unknown partition, a record of more than 8 MiB, or see `retriable`.
        """
        packed = [(output.tp, chunks) for output in outputs if (chunks := pack(output))]
        if packed:
            transaction = Transaction(outputs=packed)
            await self._thread.run(lambda store: store.commit(transaction), changes=True)

    async def close(self) -> None:
        """Nothing is held."""


class EmbeddedAdmin:
    """See `contract.Admin`."""

    def __init__(self, thread: StoreThread) -> None:
        self._thread = thread

    async def ensure_topics(self, specs: Sequence[TopicSpec]) -> None:
        await self._thread.run(lambda store: store.ensure_topics(specs), changes=True)

    async def partitions(self, topic: str) -> int:
        return await self._thread.run(lambda store: store.partitions(topic))

    async def retention(self, topics: Sequence[str]) -> dict[str, Retention]:
        return {topic: Retention() for topic in topics}  # nothing is ever removed

    async def begin_offsets(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        bounds = await self._thread.run(lambda store: store.bounds(partitions))
        return {tp: begin for tp, (begin, _) in bounds.items()}

    async def end_offsets(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        bounds = await self._thread.run(lambda store: store.bounds(partitions))
        return {tp: end for tp, (_, end) in bounds.items()}

    async def committed(
        self, group: str, partitions: Sequence[TopicPartition]
    ) -> dict[TopicPartition, CommittedOffset]:
        return await self._thread.run(lambda store: store.committed(group, partitions))
