"""Care after crashes: where batches must be small, so that the record that kills a process is found and set aside."""

from __future__ import annotations

__all__ = ["Care"]

from collections.abc import Mapping

from streamproc.eventlog.contract import TopicPartition
from streamproc.runtime.collector import Queue
from streamproc.runtime.notes import Orders
from streamproc.runtime.partition_task import PartitionTask


class Care:
    """True while records that a crashed batch held are still to be decided."""

    def __init__(self, orders: Orders) -> None:
        self._singly = {TopicPartition(*source): stop for source, stop in orders.singly.items()}

    def __bool__(self) -> bool:
        return bool(self._singly)

    def rows(self, queue: Queue, rows: int, tasks: Mapping[TopicPartition, PartitionTask]) -> int:
        """How many to take: one record alone up to the end of the batch that crashed, no others with it in a batch."""
        if not self._singly:
            return rows
        left = {tp: stop for tp, stop in self._singly.items() if tp in tasks and tasks[tp].position_of(tp) < stop}
        self._singly = left
        if not left or (head := queue.head) is None:
            return rows
        return 1 if head.offsets[0] < self._singly.get(head.tp, 0) else min(rows, len(head.offsets))
