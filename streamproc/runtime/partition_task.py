"""A PartitionTask: partition p of all input topics of a stage, with its position and its journal.

  assigned          restored           undone, lost or failed
----------> RESTORING ----------> RUNNING ----------> CLOSED
                 |                                      ^
                 +--------------------------------------+
"""

from __future__ import annotations

__all__ = ["PartitionTask", "Phase", "TaskHead"]

from enum import StrEnum
from typing import NamedTuple

from state.errors import StateCorruptedError
from streamproc.eventlog.contract import NO_OFFSET, CommittedOffset, TopicPartition
from streamproc.runtime.journal import CHAIN_START, JournalHead


class Phase(StrEnum):
    """What a task may do."""

    RESTORING = "restoring"
    RUNNING = "running"
    CLOSED = "closed"


_LEGAL = {Phase.RESTORING: {Phase.RUNNING, Phase.CLOSED}, Phase.RUNNING: {Phase.CLOSED}, Phase.CLOSED: set[Phase]()}


class TaskHead(NamedTuple):
    """How far a task has come: the next input offset, and the last journal record's sequence and chain head."""

    position: int
    sequence: int
    chain: bytes


class PartitionTask:
    """One unit of ownership; plain bookkeeping, no I/O.

    `position` is the next input offset to decide, `sequence` and `chain` the journal's end, `journal_offset`
    the offset of its last record: all as of the last published transaction. `computed` is ahead of that by what is
    computed and not yet published. `flushed` is the sequence of the last flush that this owner has written, -1: none.
    """

    def __init__(self, task: int, source: TopicPartition) -> None:
        self.task = task
        self.source = source
        self.phase = Phase.RESTORING
        self.position = 0
        self.sequence = -1
        self.chain = CHAIN_START
        self.journal_offset = NO_OFFSET
        self.computed = TaskHead(0, -1, CHAIN_START)
        self.flushed = -1

    @property
    def in_flight(self) -> bool:
        """Whether something is computed and not yet published."""
        return self.computed.position > self.position

    def enter(self, phase: Phase) -> None:
        """Change phase; an illegal transition is a bug and crashes."""
        assert phase in _LEGAL[self.phase], f"{self.phase} -> {phase}"
        self.phase = phase
        self.fall_back()

    def expect(self, offset: int) -> None:
        """Assert that a batch does not begin before the position: a record must never be decided twice.

        Raises:
            StateCorruptedError: reader and task disagree.
        """
        position = self.computed.position
        if offset < position:
            raise StateCorruptedError(f"task {self.task}: read offset {offset} again, position is {position}")

    def commit_of(self, head: TaskHead, time: int = -1) -> CommittedOffset:
        """The offset commit that names the journal record of `head`, the next to be written, and the one before it.

        `time`: see `JournalHead`.
        """
        named = JournalHead(head.sequence, head.chain, self.journal_offset, time)
        return CommittedOffset(head.position, named.text())

    def advance(self, head: TaskHead, journal_offset: int) -> None:
        """A transaction was published."""
        self.position, self.sequence, self.chain = head
        self.journal_offset = journal_offset
        if self.computed.sequence < head.sequence:
            self.computed = head

    def fall_back(self) -> None:
        """What was computed is undone."""
        self.computed = TaskHead(self.position, self.sequence, self.chain)
