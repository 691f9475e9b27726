"""Where a task ends by what its group has committed."""

from __future__ import annotations

__all__ = ["End", "begins_of", "end_by_journal", "is_as_committed", "positions_after"]

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from state.errors import StateCorruptedError
from streamproc.eventlog.contract import NO_OFFSET, CommittedOffset, EventLog, TopicPartition
from streamproc.runtime.journal import JournalHead, RangeOfInput
from streamproc.runtime.journal_reading import Found, journal_records
from streamproc.runtime.partition_task import PartitionTask, TaskHead


class End(NamedTuple):
    """Where a task ends by what is committed: the next offset of each of its inputs, and the journal's head."""

    positions: tuple[int, ...]
    head: JournalHead

    @staticmethod
    def of(task: PartitionTask, committed: Mapping[TopicPartition, CommittedOffset]) -> End | None:
        """None: not all of its inputs have an offset.

        Raises:
            StateCorruptedError: another program committed some of them, or not all of them at once.
        """
        found = [committed[tp] for tp in task.inputs if tp in committed]
        if len(found) < len(task.inputs):
            return None
        if len({one.metadata for one in found}) > 1:
            raise StateCorruptedError("the committed offsets of a task's topics are not of one transaction")
        return End(tuple(one.offset for one in found), JournalHead.parse(found[0].metadata))

    @property
    def task_head(self) -> TaskHead:
        """The same for the task."""
        position, *others = self.positions
        return TaskHead(position, self.head.sequence, self.head.chain, tuple(others))


def is_as_committed(task: PartitionTask, committed: Mapping[TopicPartition, CommittedOffset]) -> bool:
    """Whether nobody else has decided anything of a task; the offsets alone do not say so: a clock tick moves none.

    Where the group's offsets are gone nobody has.
    """
    try:
        end = End.of(task, committed)
    except StateCorruptedError:
        return False  # its restore says what is wrong
    return end is None or end.task_head == TaskHead(task.position, task.sequence, task.chain, task.positions[1:])


def positions_after(task: PartitionTask, ranges: Iterable[RangeOfInput]) -> list[int]:
    """The positions behind `ranges`."""
    stops = {topic: stop for topic, _, stop in ranges}
    return [stops.get(tp.topic, at) for tp, at in zip(task.inputs, task.positions, strict=True)]


async def begins_of(log: EventLog, task: PartitionTask) -> list[int]:
    """Where each of its inputs begins."""
    begins = await log.admin().begin_offsets(task.inputs)
    return [begins[tp] for tp in task.inputs]


async def end_by_journal(
    log: EventLog, journal: TopicPartition, task: PartitionTask, go_on: Callable[[], None]
) -> End | None:
    """Where the journal's last record says that the task ends; None: it has no records.

    `go_on`: called between records, may raise.

    Raises:
        EventLogError: the log cannot be read.
    """
    scanner = log.scanner()
    stops: dict[str, int] = {}
    last: Found | None = None
    try:
        begin = (await log.admin().begin_offsets([journal])).get(journal, 0)
        async for found in journal_records(log, scanner, journal, begin, go_on):
            last = found
            stops |= {topic: stop for topic, _, stop in found.entry.ranges}
    finally:
        await scanner.close()
    if last is None:
        return None
    begins = await begins_of(log, task)
    positions = tuple(stops.get(tp.topic, begin) for tp, begin in zip(task.inputs, begins, strict=True))
    return End(positions, JournalHead(last.entry.sequence, last.chain, NO_OFFSET))
