"""Where a task ends by what its group has committed."""

from __future__ import annotations

__all__ = ["End", "positions_after"]

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from state.errors import StateCorruptedError
from streamproc.eventlog.contract import CommittedOffset, TopicPartition
from streamproc.runtime.journal import JournalHead, RangeOfInput
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


def positions_after(task: PartitionTask, ranges: Iterable[RangeOfInput]) -> list[int]:
    """The positions behind `ranges`."""
    stops = {topic: stop for topic, _, stop in ranges}
    return [stops.get(tp.topic, at) for tp, at in zip(task.inputs, task.positions, strict=True)]
