"""When the keys of a table want to be looked at though no row of theirs comes: the timers of a task, in order.

A table whose rows have the fields `waits` (0 or 1) and `due` (ms) has timers. Those of its stored rows are read when a
task is taken over; after that the operator that owns the table keeps them, key by key. An entry may be too early,
never too late: whoever takes it looks at the key's state, and puts it back where the time has not come. So what a
batch puts here needs no undoing, only what it takes.
"""

from __future__ import annotations

__all__ = ["DUE", "ENTRY_BYTES", "WAITS", "DueTimes"]

import heapq
from collections.abc import Iterable

DUE, WAITS = "due", "waits"
ENTRY_BYTES = 250
"""Measured: an entry of the heap, its tuple, its int and its place in the dictionary."""


class DueTimes:
    """The earliest time (ms) at which each key waits, by task; undone and published with the table's batches."""

    def __init__(self) -> None:
        self._heaps: dict[int, list[tuple[int, str]]] = {}
        self._queued: dict[int, dict[str, int]] = {}
        self._taken: list[tuple[int, int, str]] = []
        self._sealed: list[tuple[int, int, str]] = []

    def __len__(self) -> int:
        return sum(map(len, self._heaps.values()))

    @property
    def bytes(self) -> int:
        """Memory in use, about."""
        return ENTRY_BYTES * len(self)

    def next(self, task: int) -> int | None:
        """The earliest time of a task; None: nothing waits. It may be earlier than what really is due."""
        heap = self._heaps.get(task)
        if not heap:
            return None
        queued = self._queued[task]
        while heap and queued.get(heap[0][1]) != heap[0][0]:  # an earlier entry of the key took its place
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def put(self, task: int, key: str, due: int) -> None:
        """The key wants to be looked at, at `due` at the latest."""
        queued = self._queued.setdefault(task, {})
        known = queued.get(key)
        if known is None or due < known:
            queued[key] = due
            heapq.heappush(self._heaps.setdefault(task, []), (due, key))

    def take(self, task: int) -> tuple[int, str]:
        """The first entry, by time and key; `next` has just named its time."""
        due, key = heapq.heappop(self._heaps[task])
        del self._queued[task][key]
        self._taken.append((task, due, key))
        return due, key

    def ready(self, task: int, until: int, most: int) -> list[str]:
        """Keys of the first entries, `most` at most, that are due by `until`; they stay."""
        heap = self._heaps[task]
        found: list[tuple[int, str]] = []
        while heap and heap[0][0] <= until and len(found) < most:
            found.append(heapq.heappop(heap))
        for entry in found:
            heapq.heappush(heap, entry)
        return [key for _, key in found]

    def load(self, task: int, entries: Iterable[tuple[int, str]]) -> None:
        """What the store says of a task that is taken over: (due, key)."""
        self._queued[task] = {key: due for due, key in entries}
        heap = [(due, key) for key, due in self._queued[task].items()]
        heapq.heapify(heap)
        self._heaps[task] = heap

    def drop(self, task: int) -> None:
        """Forget a task."""
        self._heaps.pop(task, None)
        self._queued.pop(task, None)
        self._taken = [entry for entry in self._taken if entry[0] != task]
        self._sealed = [entry for entry in self._sealed if entry[0] != task]

    def seal(self) -> None:
        """The batch is in flight."""
        self._sealed, self._taken = self._taken, []

    def unseal(self) -> None:
        """The sealed batch is the newest one again."""
        self._taken, self._sealed = self._sealed, []

    def publish(self, *, sealed: bool) -> None:
        """The oldest open batch is final: the `sealed` one, or the only one."""
        if not sealed:
            self._taken = []
        self._sealed = []

    def undo(self) -> None:
        """What the newest batch took is here again."""
        taken, self._taken = self._taken, []
        for task, due, key in taken:
            self.put(task, key, due)
