"""Stream time of the tasks of a table with a ttl: what decides when a key has expired.

Stream time is the running maximum of event time over the rows of a task, row by row, the asking row included. A key
has expired for a row if the row's stream time is `ttl_ms` or more past the key's `last_seen`. That depends on row
order only; and once a key has expired for one row it has for every later one, until it is seen again. So whoever
removes expired keys, when and where, cannot be told from the results.
"""

from __future__ import annotations

__all__ = ["LAST_SEEN", "NEVER", "StreamTimes"]

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

I64 = npt.NDArray[np.int64]
NEVER = -(1 << 62)
"""Stream time of a task without rows, ms."""

LAST_SEEN = ("last_seen", "newest")
"""Names a field may have that holds the newest event time of a key's rows."""

_FEW = 64  # up to so many rows, to go row by row is faster


class TaskSpan(Protocol):
    """Rows start..stop belong to `task` (operators.batch.TaskRows)."""

    @property
    def task(self) -> int: ...
    @property
    def start(self) -> int: ...
    @property
    def stop(self) -> int: ...


class StreamTimes:
    """Stream time of each task, ms; undone and published with the table's batches. `gone_on`: by how much they went on
    (ms), of each batch the most that one did: time goes on although another task is ahead.
    """

    def __init__(self) -> None:
        self.gone_on = 0
        self._now: dict[int, int] = {}
        self._before: dict[int, int] = {}
        self._sealed: dict[int, int] = {}

    def of(self, task: int) -> int:
        """Present stream time of a task."""
        return self._now.get(task, NEVER)

    def before(self, task: int) -> int:
        """Stream time of a task before the newest batch: what has expired by then has for all its rows."""
        return self._before.get(task, self.of(task))

    def put(self, task: int, time: int) -> None:
        """What the store says of a task that is taken over."""
        self._now[task] = time

    def drop(self, task: int) -> None:
        """Forget a task."""
        for times in (self._now, self._before, self._sealed):
            times.pop(task, None)

    def advance(self, tasks: Sequence[TaskSpan], event_times: I64) -> I64:
        """Stream time of each row of the batch, int64 (rows,), ms; call it once a batch."""
        if len(event_times) <= _FEW:
            return self._by_row(tasks, event_times.tolist())
        parts, most = [], 0
        for span in tasks:
            if span.stop > span.start:
                now = self._now.get(span.task, NEVER)
                self._before.setdefault(span.task, now)
                mine: I64 = np.maximum.accumulate(event_times[span.start : span.stop])
                if mine.item(0) < now:
                    np.maximum(mine, now, out=mine)
                self._now[span.task] = last = mine.item(-1)
                most = max(most, last - now)
                parts.append(mine)
        self.gone_on += most
        return parts[0] if len(parts) == 1 else np.concatenate([*parts, np.empty(0, np.int64)])

    def _by_row(self, tasks: Sequence[TaskSpan], event_times: list[int]) -> I64:
        """`advance` of few rows, for which columns are not worth their price."""
        found, most = list[int](), 0
        for span in tasks:
            if span.stop > span.start:
                now = begin = self._now.get(span.task, NEVER)
                self._before.setdefault(span.task, now)
                for time in event_times[span.start : span.stop]:
                    if time <= now:
                        found.append(now)
                    else:
                        found.append(time)
                        now = time
                self._now[span.task] = now
                most = max(most, now - begin)
        self.gone_on += most
        return np.array(found, np.int64)

    def seal(self) -> None:
        """The batch is in flight."""
        self._sealed, self._before = self._before, {}

    def unseal(self) -> None:
        """The sealed batch is the newest one again."""
        self._before, self._sealed = self._sealed, {}

    def publish(self, *, sealed: bool) -> None:
        """The oldest open batch is final: the `sealed` one, or the only one."""
        if not sealed:
            self._before = {}
        self._sealed = {}

    def undo(self) -> None:
        """Back to before the newest batch."""
        self._now.update(self._before)
        self._before = {}
