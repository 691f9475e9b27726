"""Restore a task: bring its state to exactly what the committed offsets say, without emitting anything.

1. the stable offset fetch names the journal's last record (its sequence and chain head)
2. candidate: the local state, if its (sequence, chain head) stands in the journal; state ahead of the committed
   position, or of another history, is foreign: discarded, loudly; the next candidate is the empty state, if
   journal and input still begin at the first needed record
3. silent replay of the input in the journal's order, many journal records joined into one batch
4. the last transaction alone: its `exact` digest must come out equal
5. the caller seeks the reader to the position and goes live
"""

from __future__ import annotations

__all__ = ["LocalMeta", "LocalStates", "Recovery", "Replayer", "locate"]

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import NamedTuple, Protocol

import msgspec
import structlog

from state.errors import ConfigError, StateCorruptedError
from streamproc.eventlog.contract import NO_OFFSET, Chunk, CommittedOffset, EventLog, Scanner, TopicPartition
from streamproc.runtime.journal import CHAIN_START, JournalEntry, JournalHead, chain_after, decode_entry
from streamproc.runtime.partition_task import PartitionTask, Phase, TaskHead
from streamproc.runtime.reading import POLL_MS, InputFeed, Silence, joined, portions

_REPLAY_ROWS = 8192
"""Rows replayed at once, in about 20 ms: live tasks wait no longer. More at once is not faster."""


class LocalMeta(msgspec.Struct, frozen=True, array_like=True):
    """What a flush stores beside the rows: which transaction they are of."""

    sequence: int
    chain: bytes
    journal_offset: int
    position: int
    state_fingerprint: str
    partitions: int

    def encode(self) -> bytes:
        """The stored bytes."""
        return msgspec.msgpack.encode(self)

    @staticmethod
    def decode(stored: bytes) -> LocalMeta:
        """Read back.

        Raises:
            StateCorruptedError: not ours, or damaged.
        """
        try:
            return msgspec.msgpack.decode(stored, type=LocalMeta)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise StateCorruptedError("the local state's position cannot be read") from error


class Replayer(Protocol):
    """The engine's silent half: changes state, emits nothing. Each call ends published."""

    def replay(self, task: int, chunks: list[Chunk], rejected: frozenset[int], actions: bytes) -> None: ...
    def replay_last(self, task: int, chunks: list[Chunk], entry: JournalEntry) -> bool:
        """Also recompute the entry's `exact` digest; whether it is equal."""
        ...


class LocalStates(Protocol):
    """The tasks' state on disk."""

    def local_meta(self, task: int) -> bytes | None: ...
    async def discard(self, task: int) -> None:
        """Throw the task's local state away, on disk too, and begin empty."""
        ...


class _Found(NamedTuple):
    offset: int
    entry: JournalEntry
    chain: bytes
    body: bytes


class _StoppedError(Exception):
    """The process is asked to end."""


class Recovery:
    """Restores tasks one after the other; `busy` keeps replay slices apart from transactions.

    `stopping` is asked between slices: a restore may last minutes, and a process that is to end has to end.
    """

    def __init__(
        self, log: EventLog, replayer: Replayer, states: LocalStates, busy: asyncio.Lock, *,
        journal_topic: str, state_fingerprint: str, partitions: int = 0,
    ) -> None:  # fmt: skip
        self._log = log
        self._replayer = replayer
        self._states = states
        self._journal_topic = journal_topic
        self._fingerprint = state_fingerprint
        self.partitions = partitions
        self._busy = busy
        self.stopping: Callable[[], bool] = lambda: False
        self._logger = structlog.get_logger("recovery")

    async def restore(self, task: PartitionTask, committed: CommittedOffset | None) -> bool:
        """Steps 2-4; afterwards the task's position, sequence and chain are those committed.

        False: it was stopped. The task is still RESTORING: its state in memory is of no use and must not be flushed.

        Raises:
            ConfigError: nothing can be restored from; says what to do.
            StateCorruptedError: even a full replay does not reproduce the journal.
        """
        try:
            await self._restore(task, committed)
        except _StoppedError:
            return False
        task.enter(Phase.RUNNING)
        return True

    async def _restore(self, task: PartitionTask, committed: CommittedOffset | None) -> None:
        if committed is None:
            committed = await self._committed_by_journal(task)
        if committed is None:
            await self._begin(task)
        else:
            head = JournalHead.parse(committed.metadata)
            local = await self._local(task, head)
            try:
                await self._replay_from(task, local, head, committed)
            except StateCorruptedError as error:
                if local is None:
                    raise
                await self._discard(task, str(error))
                await self._replay_from(task, None, head, committed)

    async def _committed_by_journal(self, task: PartitionTask) -> CommittedOffset | None:
        """Where the group stood, from the journal's last record: brokers forget the offsets of a group that rests."""
        scanner = self._log.scanner()
        try:
            last: _Found | None = None
            tp = TopicPartition(self._journal_topic, task.task)
            async for found in self._records(scanner, tp, (await self._log.admin().begin_offsets([tp])).get(tp, 0)):
                last = found
        finally:
            await scanner.close()
        if last is None:
            return None
        self._logger.warning("the group's offset is gone, going on where the journal ends", task=task.task)
        head = JournalHead(last.entry.sequence, last.chain, NO_OFFSET)
        return CommittedOffset(last.entry.ranges[-1].stop, head.text())

    async def _begin(self, task: PartitionTask) -> None:
        if self._states.local_meta(task.task) is not None:
            await self._discard(task, "local state exists, but the group has no committed offset for this partition")
        begin = await self._log.admin().begin_offsets([task.source])
        task.position = begin[task.source]

    async def _local(self, task: PartitionTask, head: JournalHead) -> LocalMeta | None:
        """Step 2: the local state, unless it is missing or foreign."""
        stored = self._states.local_meta(task.task)
        if stored is None:
            return None
        try:
            local = LocalMeta.decode(stored)
        except StateCorruptedError as error:
            await self._discard(task, str(error))
            return None
        if local.partitions != self.partitions:
            raise ConfigError(
                f"the state of task {task.task} was kept with {local.partitions} partitions, the topic has "
                f"{self.partitions}",
                hint="a key's partition would change: repartition the state offline before you start",
            )
        if local.state_fingerprint != self._fingerprint:
            raise _barrier()
        if local.sequence > head.sequence:
            await self._discard(task, "local state is ahead of the committed offsets")
            return None
        return local

    async def _discard(self, task: PartitionTask, reason: str) -> None:
        self._logger.error("local state discarded", task=task.task, reason=reason)
        await self._states.discard(task.task)

    async def _replay_from(
        self, task: PartitionTask, local: LocalMeta | None, head: JournalHead, committed: CommittedOffset
    ) -> None:
        scanner = self._log.scanner()
        try:
            journal = TopicPartition(self._journal_topic, task.task)
            entries = self._journal(scanner, journal, local, head)
            if local is not None:
                first = await anext(entries)
                if (first.entry.sequence, first.chain) != (local.sequence, local.chain):
                    raise StateCorruptedError("local state belongs to another history than the journal")
                position = local.position
                last = first
            else:
                position = NO_OFFSET
                last = None
            replayed, found = await self._replay(task, entries, position)
            last = found or last
            assert last is not None
            if replayed != NO_OFFSET and replayed > committed.offset:
                raise StateCorruptedError("the journal reaches beyond the committed offset")
            task.advance(TaskHead(committed.offset, head.sequence, head.chain), last.offset)
        finally:
            await scanner.close()

    async def _journal(
        self, scanner: Scanner, tp: TopicPartition, local: LocalMeta | None, head: JournalHead
    ) -> AsyncIterator[_Found]:
        """Journal records from the local state's own (or the first one) to the head, each link of the chain checked."""
        admin = self._log.admin()
        begin = (await admin.begin_offsets([tp])).get(tp, 0)
        start = begin if local is None else local.journal_offset
        if local is not None and start < begin:
            raise StateCorruptedError("local state is older than the journal's retention")
        sequence, chain = (-1, CHAIN_START) if local is None else (local.sequence - 1, b"")
        async for found in self._records(scanner, tp, start):
            self._check_link(found, sequence, chain)
            sequence, chain = found.entry.sequence, found.chain
            yield found
            if sequence == head.sequence:
                if chain != head.chain:
                    raise StateCorruptedError("the journal's end differs from the committed offsets' metadata")
                return
        raise StateCorruptedError("the journal ends before the record that the committed offsets name")

    async def _records(self, scanner: Scanner, tp: TopicPartition, start: int) -> AsyncIterator[_Found]:
        """All journal records from `start` to the end as it is now."""
        end = (await self._log.admin().end_offsets([tp])).get(tp, 0)
        scanner.seek(tp, start)
        silence = Silence(tp)
        while scanner.position(tp) < end:
            self._go_on()
            chunks = await scanner.poll(POLL_MS)
            silence.check(chunks)
            for chunk in chunks:
                for i, offset in enumerate(chunk.offsets):
                    entry, body, after = decode_entry(chunk.headers[i] if chunk.headers else [])
                    yield _Found(offset, entry, after, body)

    def _check_link(self, found: _Found, sequence: int, chain: bytes) -> None:
        entry = found.entry
        if sequence == -1 and chain == CHAIN_START and entry.sequence != 0:
            raise ConfigError(
                f"local state of task {entry.task} is missing and its journal no longer begins at the first record",
                hint="restore the state directory from a copy, or start under a new pipeline name",
            )
        if entry.sequence != sequence + 1:
            raise StateCorruptedError(f"journal record {entry.sequence} follows {sequence}")
        if chain and found.chain != chain_after(chain, found.body):
            raise StateCorruptedError(f"the journal's chain breaks at record {entry.sequence}")
        if entry.state_fingerprint != self._fingerprint:
            raise _barrier()

    async def _replay(
        self, task: PartitionTask, entries: AsyncIterator[_Found], position: int
    ) -> tuple[int, _Found | None]:
        """Step 3 for all but the last entry, step 4 for the last."""
        feed = InputFeed(self._log)
        held: _Found | None = None
        pending: list[_Found] = []
        rows = 0
        try:
            async for found in entries:
                if held is not None:
                    pending.append(held)
                    rows += len(held.entry.actions)
                held = found
                if rows >= _REPLAY_ROWS:
                    self._go_on()
                    await self._slice(task, feed, pending)
                    pending, rows = [], 0
            self._go_on()
            await self._slice(task, feed, pending)
            if held is not None:
                await self._last(task, feed, held.entry)
        finally:
            await feed.close()
        if held is not None and held.entry.ranges:
            position = held.entry.ranges[-1].stop
        return position, held

    def _go_on(self) -> None:
        if self.stopping():
            raise _StoppedError

    async def _slice(self, task: PartitionTask, feed: InputFeed, pending: list[_Found]) -> None:
        if not pending:
            return
        rejected = frozenset(offset for found in pending for _, offset in found.entry.rejected)
        actions = b"".join(found.entry.actions for found in pending)
        chunks: list[Chunk] = []
        for wanted in joined([wanted for found in pending for wanted in found.entry.ranges]):
            chunks += await feed.read(TopicPartition(wanted.topic, task.task), wanted.start, wanted.stop)
        for part, decided in portions(chunks, rejected, actions, _REPLAY_ROWS):
            async with self._busy:
                self._replayer.replay(task.task, part, rejected, decided)
            await asyncio.sleep(0)  # live tasks have their turn

    async def _last(self, task: PartitionTask, feed: InputFeed, entry: JournalEntry) -> None:
        chunks: list[Chunk] = []
        for wanted in entry.ranges:
            chunks += await feed.read(TopicPartition(wanted.topic, task.task), wanted.start, wanted.stop)
        async with self._busy:
            equal = self._replayer.replay_last(task.task, chunks, entry)
        if not equal:
            raise StateCorruptedError(
                "replaying the last transaction gave another exact digest than its journal record"
            )


async def locate(log: EventLog, journal: TopicPartition, start: int, sequence: int) -> int:
    """The offset of the journal record `sequence`, known to be committed, searched from `start` on.

    Raises:
        StateCorruptedError: it is not there.
    """
    scanner = log.scanner()
    try:
        end = (await log.admin().end_offsets([journal]))[journal]
        scanner.seek(journal, max(start, 0))
        silence = Silence(journal)
        while scanner.position(journal) < end:
            chunks = await scanner.poll(POLL_MS)
            silence.check(chunks)
            for chunk in chunks:
                for offset, headers in zip(chunk.offsets, chunk.headers or (), strict=False):
                    if decode_entry(headers)[0].sequence == sequence:
                        return offset
    finally:
        await scanner.close()
    raise StateCorruptedError(f"journal record {sequence} was committed and cannot be found")


def _barrier() -> ConfigError:
    return ConfigError(
        "streams, keys or features changed since this state was written",
        hint="no replay crosses that: run the changed pipeline under a new name, or take the change back",
    )
