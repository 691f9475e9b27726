"""Where a transactional writer's next records will lie, if nobody else writes to a partition: for what is decided in
the transaction that writes it (runtime/shortcut.py).

A transaction's end takes offsets too, where the log marks it in each partition that was written or announced.
"""

from __future__ import annotations

__all__ = ["Places", "checked_base"]

from collections.abc import Iterable, Mapping, Sequence

from state.errors import EventLogError
from streamproc.eventlog.contract import ANY_OFFSET, OutputRecords, Place, TopicPartition


class Places:
    """What one writer knows of the partitions it has written to. `marks`: offsets that a transaction's end takes."""

    def __init__(self, marks: int) -> None:
        self._marks = marks
        self._known: dict[TopicPartition, Place] = {}
        self._bases: dict[TopicPartition, tuple[int, int]] = {}
        self._announced: set[TopicPartition] = set()
        self._marked: set[TopicPartition] = set()

    def of(self, tp: TopicPartition) -> Place | None:
        """See `TransactionalWriter.place`."""
        return self._known.get(tp)

    def begin(self, announced: Iterable[TopicPartition] = ()) -> None:
        """A transaction, whose end will be marked in what was `announced`, written or not."""
        self._announced = set(announced)
        self._bases, self._marked = {}, set()

    def append(self, outputs: Sequence[OutputRecords]) -> None:
        """These are sent."""
        self._bases |= {out.tp: (out.base, len(out.keys)) for out in outputs if out.base != ANY_OFFSET}
        counts = dict.fromkeys(self._announced, 0)
        for out in outputs:
            counts[out.tp] = counts.get(out.tp, 0) + len(out.keys)
        for tp, count in counts.items():
            if tp in self._known:
                self._known[tp] = self._after(tp, count)
        self._announced, self._marked = set(), self._marked | counts.keys()

    def _after(self, tp: TopicPartition, count: int) -> Place:
        end, base = self._known[tp]
        if tp not in self._marked:
            return Place(base + count if count else end, base + count + self._marks)
        return Place(base - self._marks + count if count else end, base + count)

    def delivered(self, ends: Mapping[TopicPartition, int]) -> None:
        """The last offsets of what was sent.

        Raises:
            EventLogError: some records do not lie where they must; nothing may be committed.
        """
        for tp, (base, count) in self._bases.items():
            if tp in ends:
                checked_base(tp, base, ends[tp] - count + 1)
        self._known |= {tp: Place(end + 1, end + 1 + self._marks) for tp, end in ends.items()}


def checked_base(tp: TopicPartition, wanted: int, found: int) -> None:
    """Nothing, if records lie where they must.

    Raises:
        EventLogError: they do not; the same again may succeed.
    """
    if wanted not in {ANY_OFFSET, found}:
        raise EventLogError(
            f"{tp.topic}[{tp.partition}]: records begin at {found}, not at {wanted}: somebody else has written there",
            retriable=True,
        )
