"""How many rows make a batch, and how many must wait for it to be computed while the one before is committed.

A batch is full when its rows are about so much work as settings say. A full one is computed ahead: the loop would stand
still while a backlog waits. One that is not had better wait for the commit, else its rows wait for two (decision 2);
unless computing is the longer part of a transaction: what is computed during the commit then keeps nobody waiting who
comes after it. So it is computed ahead once what waits is half as much work as a commit lasts.

Who waits for a full batch need not wait long. Where the log takes longer to commit it they wait for the log: larger
batches cost them little then, and share its round trips among more rows (decision 17). Where all that waits is far
behind nobody waits for one batch: it may have twice the rows.

Pure: it is told what was measured.
"""

from __future__ import annotations

__all__ = ["Pace"]

import math

from state.errors import StreamprocError
from streamproc.runtime.results import BatchTooBadError, BatchTooLargeError

_ROWS_FIRST = 1024
_ROWS_MIN = 1024  # for each stage: below, a batch of it and its share of a transaction cost more than its rows
_ROWS_TELLING = 64
_ROWS_WHEN_BAD = 16
_SMOOTHING = 0.2
_SHARE = 0.5
_TIMES_MAX = 5
_TIMES_ROWS_MAX = 2


class Pace:
    """Of one worker with so many `stages`. `work_ms`: of a full batch; `rows_max`: its rows at most, but for those that
    are far behind.
    """

    def __init__(self, work_ms: float, rows_max: int, stages: int) -> None:
        self._work_s, self._stages = work_ms / 1000, stages
        self._rows_max = rows_max
        self._max = self._cap = _TIMES_ROWS_MAX * rows_max
        self._row_s = self._batch_rows = self._batch_s = self._commit_s = self._waited_s = 0.0

    def computed(self, rows: int, seconds: float) -> None:
        """Rows of all stages were computed in so much processor time; small batches say little of a full one's rows."""
        self._cap = min(2 * self._cap, self._max)
        if rows >= _ROWS_TELLING:
            self._row_s = _smooth(self._row_s, seconds / rows)
        self._batch_rows, self._batch_s = _smooth(self._batch_rows, rows), _smooth(self._batch_s, seconds)

    def failed(self, error: StreamprocError) -> None:
        """A batch could not be computed: smaller ones are next; where its rows were too many, for good. Of one that had
        more rows than are usual these are tried first, if so many can be expected to fit.
        """
        if isinstance(error, BatchTooBadError):
            self._cap = _ROWS_WHEN_BAD if self._cap > _ROWS_WHEN_BAD else 1
        elif isinstance(error, BatchTooLargeError):
            is_usual = error.rows < self._rows_max <= _TIMES_ROWS_MAX * error.rows and self._max > self._rows_max
            self._max = self._cap = self._rows_max if is_usual else error.rows

    def committed(self, seconds: float, *, busy: float, at_most: bool) -> None:
        """A transaction took so long, or so long `at_most`: nobody looked before; `busy`: computing the next batch."""
        self._waited_s = _smooth(self._waited_s, seconds - busy)
        if not at_most or seconds < self._commit_s:
            self._commit_s = _smooth(self._commit_s, seconds)

    def full(self, *, through_all: bool) -> int:
        """Rows of a full batch; `through_all`: each goes through all stages in it."""
        return self._rows(self._work_s, self._rows_max, through_all=through_all)

    def largest(self, *, through_all: bool, is_far_behind: bool) -> int:
        """Rows that a batch may take: of so much work as transactions are waited for, five times a full one at most;
        of what `is_far_behind` so many in any case, and up to twice `rows_max`.
        """
        most_s = _TIMES_MAX * self._work_s
        if is_far_behind:
            return self._rows(most_s, self._max, through_all=through_all)
        work_s = min(max(self._work_s, self._waited_s), most_s)
        return self._rows(work_s, self._rows_max, through_all=through_all)

    def _rows(self, work_s: float, most: int, *, through_all: bool) -> int:
        rows = max(_ROWS_MIN * self._stages, int(work_s / self._row_s)) if self._row_s else _ROWS_FIRST
        return min(self._cap, most, rows // self._stages if through_all else rows)

    def ahead(self, *, through_all: bool) -> int:
        """How many rows must wait to be computed ahead, once a commit is on its way: those of a full batch at most."""
        full = self.full(through_all=through_all)
        if not self._batch_s or not self._commit_s:
            return full
        rows = _SHARE * self._commit_s * self._batch_rows / self._batch_s
        return min(full, max(1, math.ceil(rows / self._stages if through_all else rows)))


def _smooth(old: float, new: float) -> float:
    return old + _SMOOTHING * (new - old) if old else new
