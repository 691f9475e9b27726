"""Whether what was in the log at one moment has come through the stages before one, while there is always more.

Under steady load no moment comes at which nothing is on the way. So the ends of the first leg of the way are taken
once; when all of it is past them, the ends of the next leg, which hold what that handed on; and so on. When the last
leg is past its own, nothing that was in the log at the beginning can come any more.
"""

from __future__ import annotations

__all__ = ["Passing"]

from collections.abc import Mapping, Sequence

from streamproc.clock import Clock
from streamproc.eventlog.contract import EventLog, TopicPartition
from streamproc.runtime.ending import Leg, committed_or_begin, ends_now, nothing_between
from streamproc.runtime.partition_task import PartitionTask

_APART_SECONDS = 0.1
_PROGRESS_SECONDS = 0.3


class Passing:
    """Follows what is in the log at `since` (monotonic seconds) through the legs before a stage, a step a look."""

    def __init__(self, log: EventLog, clock: Clock, partitions: int) -> None:
        """`partitions`: how many each topic has."""
        self._log, self._clock, self._partitions = log, clock, partitions
        self.since = clock.monotonic()
        self._done, self._next = 0, 0.0
        self._ends: dict[TopicPartition, int] | None = None
        self._stood: dict[TopicPartition, tuple[int, float]] = {}

    async def through(
        self, legs: Sequence[Leg], tasks: Mapping[TopicPartition, PartitionTask], read: Mapping[TopicPartition, int]
    ) -> bool:
        """Whether all of it is through `legs`; to be asked when nothing is in flight.

        `tasks`: by each of their inputs. `read`: how far the inputs of which nothing was buffered had been polled.

        Raises:
            EventLogError: the log cannot be asked.
        """
        now = self._clock.monotonic()
        if self._done == len(legs):
            return True
        if now < self._next:
            return False
        self._next = now + _APART_SECONDS
        leg = legs[self._done]
        if self._ends is not None:
            left = [tp for tp, end in self._ends.items() if not _past(tp, end, tasks, read)]
            if not await self._others_past(leg, left):
                return False
            self._done += 1
        if self._done < len(legs):
            self._ends = await ends_now(self._log, legs[self._done].topics, self._partitions)
            self._stood = {}
        return self._done == len(legs)

    async def _others_past(self, leg: Leg, left: Sequence[TopicPartition]) -> bool:
        """The same of what others read, by what they have committed."""
        if any(tp in leg.own for tp in left):
            return False
        assert self._ends is not None
        found, now = await committed_or_begin(self._log, leg.group, left), self._clock.monotonic()
        gaps = {tp: (found[tp], self._ends[tp]) for tp in left if found[tp] < self._ends[tp]}
        for tp, (at, _) in gaps.items():
            if self._stood.get(tp, (-1, 0.0))[0] != at:
                self._stood[tp] = at, now
        if any(now - self._stood[tp][1] < _PROGRESS_SECONDS for tp in gaps):
            return False
        return not gaps or await nothing_between(self._log, gaps)


def _past(
    tp: TopicPartition, end: int, tasks: Mapping[TopicPartition, PartitionTask], read: Mapping[TopicPartition, int]
) -> bool:
    """Whether one of our inputs is decided up to `end`; what ends with control records is, once it is polled."""
    return (tp in tasks and tasks[tp].position_of(tp) >= end) or read.get(tp, 0) >= end
