"""A PartitionTask: partition p of all input topics of a stage, with its position and its journal.

  assigned          restored           undone, lost or failed
----------> RESTORING ----------> RUNNING ----------> CLOSED
                 |                                      ^
                 +--------------------------------------+
"""

from __future__ import annotations

__all__ = ["PartitionTask", "Phase", "TaskHead"]

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

from state.errors import StateCorruptedError
from streamproc.eventlog.contract import NO_OFFSET, CommittedOffset, TopicPartition
from streamproc.runtime.journal import CHAIN_START, JournalHead, RangeOfInput


class Phase(StrEnum):
    """What a task may do."""

    RESTORING = "restoring"
    RUNNING = "running"
    CLOSED = "closed"


_LEGAL = {Phase.RESTORING: {Phase.RUNNING, Phase.CLOSED}, Phase.RUNNING: {Phase.CLOSED}, Phase.CLOSED: set[Phase]()}


class TaskHead(NamedTuple):
    """How far a task has come: the next input offset, and the last journal record's sequence and chain head.

    `others`: the next offsets of its other inputs, if it has some.
    """

    position: int
    sequence: int
    chain: bytes
    others: tuple[int, ...] = ()


class PartitionTask:
    """One unit of ownership; plain bookkeeping, no I/O.

    `source` is the input that is decided, `others` are those that only bring state forward. `position` is the next
    offset of `source` to decide, `positions` those of all inputs, `sequence` and `chain` the journal's end,
    `journal_offset` the offset of its last record: all as of the last published transaction. `computed` is ahead of
    that by what is computed and not yet published. `flushed` is the sequence of the last flush that this owner has
    written, -1: none.
    """

    def __init__(self, task: int, source: TopicPartition, others: tuple[TopicPartition, ...] = ()) -> None:
        self.task = task
        self.source = source
        self.inputs = (source, *others)
        self.phase = Phase.RESTORING
        self.position = 0
        self._others = (0,) * len(others)
        self.sequence = -1
        self.chain = CHAIN_START
        self.journal_offset = NO_OFFSET
        self.computed = TaskHead(0, -1, CHAIN_START, self._others)
        self.flushed = -1

    @property
    def positions(self) -> tuple[int, ...]:
        """The next offset of each of `inputs`."""
        return (self.position, *self._others)

    def position_of(self, tp: TopicPartition) -> int:
        """The next offset of one of `inputs`."""
        return self.position if tp == self.source else self._others[self.inputs.index(tp) - 1]

    def begin_at(self, positions: Sequence[int]) -> None:
        """Nothing is decided yet; `positions`: the first offset of each of `inputs`."""
        self.position, *others = positions
        self._others = tuple(others)

    @property
    def named(self) -> dict[str, object]:
        """How the log names it: stages have tasks of one number."""
        return {"topic": self.source.topic, "task": self.task}

    @property
    def in_flight(self) -> bool:
        """Whether something is computed and not yet published."""
        return self.computed.sequence > self.sequence

    def enter(self, phase: Phase) -> None:
        """Change phase; an illegal transition is a bug and crashes."""
        assert phase in _LEGAL[self.phase], f"{self.phase} -> {phase}"
        self.phase = phase
        self.fall_back()

    def expect(self, tp: TopicPartition, offset: int) -> None:
        """Assert that a batch does not begin before the position in `tp`: a record must never be decided twice.

        Raises:
            StateCorruptedError: reader and task disagree.
        """
        ahead = self.computed
        position = ahead.position if tp == self.source else ahead.others[self.inputs.index(tp) - 1]
        if offset < position:
            raise StateCorruptedError(f"task {self.task}: read offset {offset} again, position is {position}")

    def commits_of(self, head: TaskHead, time: int = -1, partitions: int = 0) -> dict[TopicPartition, CommittedOffset]:
        """The offset commits of `head`: each names its journal record, the next to be written, and the one before it.

        All inputs are committed each time, so that what stands beside any of them is of the same moment. `time`,
        `partitions`: see `JournalHead`.
        """
        named = JournalHead(head.sequence, head.chain, self.journal_offset, time, partitions).text()
        offsets = (head.position, *head.others)
        return {tp: CommittedOffset(offset, named) for tp, offset in zip(self.inputs, offsets, strict=True)}

    def head_after(self, ranges: Sequence[RangeOfInput], sequence: int, chain: bytes) -> TaskHead:
        """Where it stands once `ranges` are decided on top of what is computed."""
        if not self._others:
            return TaskHead(ranges[-1].stop, sequence, chain)
        ahead = self.computed
        stops = {topic: stop for topic, _, stop in ranges}
        position, *others = (
            stops.get(tp.topic, offset) for tp, offset in zip(self.inputs, (ahead.position, *ahead.others), strict=True)
        )
        return TaskHead(position, sequence, chain, tuple(others))

    def advance(self, head: TaskHead, journal_offset: int) -> None:
        """A transaction was published."""
        self.position, self.sequence, self.chain, self._others = head
        self.journal_offset = journal_offset
        if self.computed.sequence < head.sequence:
            self.computed = head

    def fall_back(self) -> None:
        """What was computed is undone."""
        self.computed = TaskHead(self.position, self.sequence, self.chain, self._others)
