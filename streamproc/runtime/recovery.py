"""Restore a task: bring its state to exactly what the committed offsets say, without emitting anything.

1. the stable offset fetch names the journal's last record (its sequence and chain head)
2. candidates (candidates.py): the local state and the checkpoints, the freshest first; one whose (sequence, chain
   head) does not stand in the journal, or that is ahead of the committed position, is foreign: left behind, loudly, and
   the next older one is taken. A checkpoint is judged before it takes the local state's place. The last candidate is
   the empty state, if journal and input still begin at the first needed record
3. silent replay of the input in the journal's order, many journal records joined into one batch
4. the last transaction alone: its `exact` digest must come out equal (`output` is only reported on: replay.py)
5. the caller seeks the reader to the position and goes live
"""

from __future__ import annotations

__all__ = ["Recovery", "Replayer"]

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Protocol

import structlog

from state.errors import (
    ConfigError,
    InputGoneError,
    StateCorruptedError,
)
from streamproc.eventlog.contract import Chunk, CommittedOffset, EventLog, Scanner, TopicPartition
from streamproc.runtime.candidates import Candidates, ForeignTaskError, barrier
from streamproc.runtime.journal import (
    CHAIN_START,
    JournalEntry,
    JournalHead,
    Rejected,
    chain_after,
    rejected_of,
)
from streamproc.runtime.journal_end import End, begins_of, end_by_journal, positions_after
from streamproc.runtime.journal_reading import Found, journal_records
from streamproc.runtime.partition_task import PartitionTask, Phase
from streamproc.runtime.reading import MergedFeed, portions, ticked
from streamproc.runtime.stored_state import LocalMeta, LocalStates, NoCheckpoints, TaskCheckpoints

_REPLAY_ROWS = 8192
"""Rows replayed at once, in about 20 ms: live tasks wait no longer. More at once is not faster."""


class Replayer(Protocol):
    """The engine's silent half: changes state, emits nothing. Each call ends published."""

    def coded(self, entry: JournalEntry, block: bytes) -> JournalEntry:
        """A journal record's entry with its actions by the codes that there are now."""
        ...

    def replay(self, task: int, chunks: list[Chunk], rejected: Rejected, actions: bytes, tick: int | None) -> None: ...
    def replay_last(self, task: int, chunks: list[Chunk], entry: JournalEntry) -> bool:
        """Also recompute the entry's `exact` digest; whether it is equal."""
        ...


class _StoppedError(Exception):
    """The process is asked to end."""


class Recovery:
    """Restores tasks one after the other; `busy` keeps replay slices apart from transactions.

    `stopping` is asked between slices, and while a checkpoint is fetched: whoever stops a restore waits for it.
    """

    def __init__(
        self, log: EventLog, replayer: Replayer, states: LocalStates, busy: asyncio.Lock, *,
        group: str, journal_topic: str, state_fingerprint: str, partitions: int = 0,
        checkpoints: TaskCheckpoints | None = None,
    ) -> None:  # fmt: skip
        self._log = log
        self._replayer = replayer
        self._states = states
        self._journal_topic = journal_topic
        self._fingerprint = state_fingerprint
        self._candidates = Candidates(
            log, states, checkpoints or NoCheckpoints(), group=group, journal_topic=journal_topic,
            state_fingerprint=state_fingerprint, go_on=self._go_on,
        )  # fmt: skip
        self.partitions = partitions
        self._busy = busy
        self.stopping: Callable[[], bool] = lambda: False
        self._logger = structlog.get_logger("recovery")

    @property
    def partitions(self) -> int:
        """How many the input has."""
        return self._candidates.partitions

    @partitions.setter
    def partitions(self, count: int) -> None:
        self._candidates.partitions = count

    async def restore(self, task: PartitionTask, committed: Mapping[TopicPartition, CommittedOffset]) -> bool:
        """Steps 2-4; afterwards the task's positions, sequence and chain are those committed.

        False: it was stopped, or another worker has had the task since. The task is still RESTORING: its state in
        memory is of no use and must not be flushed.

        Raises:
            ConfigError: nothing can be restored from; says what to do.
            StateCorruptedError: even a full replay does not reproduce the journal.
        """
        try:
            await self._restore(task, End.of(task, committed))
        except (_StoppedError, ForeignTaskError):
            return False
        task.enter(Phase.RUNNING)
        return True

    async def _restore(self, task: PartitionTask, end: End | None) -> None:
        if end is None:
            end = await self._end_by_journal(task)
        if end is None:
            await self._begin(task)
        else:
            await self._from_candidates(task, end)

    async def _from_candidates(self, task: PartitionTask, end: End) -> None:
        """Steps 3-4 from the freshest candidate that leads to the journal's end.

        Retention may take input in the midst of a replay: a checkpoint may need less of it, the empty state never does.
        """
        gone: InputGoneError | None = None
        async for candidate in self._candidates.of(task, end):
            if candidate is None and gone is not None:
                raise gone
            try:
                await self._replay_from(task, candidate, end)
                return
            except InputGoneError as error:
                if candidate is None:
                    raise
                gone = error
                self._logger.error("the log has no longer what a replay needs", **task.named, reason=str(error))
            except StateCorruptedError as error:
                if candidate is None:
                    raise
                await self._candidates.discard(task, str(error))

    async def _end_by_journal(self, task: PartitionTask) -> End | None:
        """Where the group stood, from the journal's last record: brokers forget the offsets of a group that rests."""
        end = await end_by_journal(self._log, TopicPartition(self._journal_topic, task.task), task, self._go_on)
        if end is not None:
            self._logger.warning("the group's offset is gone, going on where the journal ends", **task.named)
        return end

    async def _begin(self, task: PartitionTask) -> None:
        """A partition of which nothing was ever decided."""
        journal = TopicPartition(self._journal_topic, task.task)
        begins = await begins_of(self._log, task)
        if (await self._log.admin().begin_offsets([journal])).get(journal, 0) > 0:
            raise ConfigError(
                f"task {task.task} has decided records, but the group's offset and the journal's records are gone",
                hint="nobody knows where it stood: restore both from a copy, or start under a new pipeline name",
            )
        if self._states.local_meta(task.task) is not None:
            await self._candidates.discard(
                task, "local state exists, but the group has no committed offset for this partition"
            )
        task.begin_at(begins)

    async def _replay_from(self, task: PartitionTask, local: LocalMeta | None, end: End) -> None:
        head = end.head
        if local is not None and (local.sequence, local.chain) == (head.sequence, head.chain):
            task.advance(end.task_head, local.journal_offset)
            return  # nothing to replay: of a partition that rested, the log may hold nothing any more
        scanner = self._log.scanner()
        try:
            journal = TopicPartition(self._journal_topic, task.task)
            entries = self._journal(scanner, journal, local, head)
            if local is not None:
                first = await anext(entries)
                if (first.entry.sequence, first.chain) != (local.sequence, local.chain):
                    raise StateCorruptedError("the state belongs to another history than the journal")
            if local is not None:
                task.begin_at((local.position, *local.others))
            else:
                task.begin_at(await begins_of(self._log, task) if len(task.inputs) > 1 else (0,))
            last = await self._replay(task, entries)
            assert last is not None
            if any(at > committed for at, committed in zip(task.positions, end.positions, strict=True)):
                raise StateCorruptedError("the journal reaches beyond the committed offset")
            task.advance(end.task_head, last.offset)
        finally:
            await scanner.close()

    async def _journal(
        self, scanner: Scanner, tp: TopicPartition, local: LocalMeta | None, head: JournalHead
    ) -> AsyncIterator[Found]:
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

    def _records(self, scanner: Scanner, tp: TopicPartition, start: int) -> AsyncIterator[Found]:
        return journal_records(self._log, scanner, tp, start, self._go_on)

    def _check_link(self, found: Found, sequence: int, chain: bytes) -> None:
        entry = found.entry
        if sequence == -1 and chain == CHAIN_START and entry.sequence != 0:
            raise ConfigError(
                f"state of task {entry.task} is missing and its journal no longer begins at the first record",
                hint="restore the state directory from a copy, give --checkpoints, or start under a new pipeline name",
            )
        if entry.sequence != sequence + 1:
            raise StateCorruptedError(f"journal record {entry.sequence} follows {sequence}")
        if chain and found.chain != chain_after(chain, found.body):
            raise StateCorruptedError(f"the journal's chain breaks at record {entry.sequence}")
        if entry.state_fingerprint != self._fingerprint:
            raise barrier()

    async def _replay(self, task: PartitionTask, entries: AsyncIterator[Found]) -> Found | None:
        """Step 3 for all but the last entry, step 4 for the last; the task's positions advance."""
        feed = MergedFeed(self._log, task.task)
        held: Found | None = None
        pending: list[Found] = []
        rows = 0
        try:
            async for found in entries:
                if held is not None:
                    pending.append(held)
                    rows += sum(wanted.stop - wanted.start for wanted in held.entry.ranges)
                held = found._replace(entry=self._replayer.coded(found.entry, found.block), block=b"")
                if rows >= _REPLAY_ROWS or (pending and pending[-1].entry.tick is not None):
                    self._go_on()
                    await self._slice(task, feed, pending)
                    pending, rows = [], 0
            self._go_on()
            await self._slice(task, feed, pending)
            if held is not None:
                await self._last(task, feed, held.entry)
        finally:
            await feed.close()
        return held

    def _go_on(self) -> None:
        if self.stopping():
            raise _StoppedError

    async def _slice(self, task: PartitionTask, feed: MergedFeed, pending: list[Found]) -> None:
        if not pending:
            return
        rejected = rejected_of(found.entry for found in pending)
        actions = b"".join(found.entry.actions for found in pending)
        ranges = [wanted for found in pending for wanted in found.entry.ranges]
        chunks = await feed.read(ranges)
        for part, decided, tick in ticked(portions(chunks, rejected, actions, _REPLAY_ROWS), pending[-1].entry.tick):
            async with self._busy:
                self._replayer.replay(task.task, part, rejected, decided, tick)
            await asyncio.sleep(0)  # live tasks have their turn
        task.begin_at(positions_after(task, ranges))
        await self._relieve(task, pending[-1])

    async def _relieve(self, task: PartitionTask, last: Found) -> None:
        """What is replayed is committed: it may be written, so that a long replay needs no more memory than a short."""
        entry = last.entry
        if entry.ranges:
            position, *others = task.positions
            at = (entry.sequence, last.chain, last.offset, position, self._fingerprint, self.partitions, tuple(others))
            async with self._busy:
                writing = self._states.relief(task.task, LocalMeta(*at))
            if writing is not None:
                await writing

    async def _last(self, task: PartitionTask, feed: MergedFeed, entry: JournalEntry) -> None:
        chunks = await feed.read(entry.ranges)
        async with self._busy:
            equal = self._replayer.replay_last(task.task, chunks, entry)
        task.begin_at(positions_after(task, entry.ranges))
        if not equal:
            raise StateCorruptedError(
                "replaying the last transaction gave another exact digest than its journal record"
            )
