"""What follows from the deaths of worker processes. Pure: no process, no clock.

    exit 0                                  it is done
    exit 1 or 2                             it said why: the run ends (configuration, event log, fenced)
    anything else                           started again, later and later, until it has died too often in vain

Only a crash (an uncaught error, SIGSEGV, SIGBUS, SIGILL, SIGABRT) while a batch was being computed counts against
that batch's positions; SIGKILL never does:

    3 crashes at one position               from there one record at a time, to the end of that batch
    a crash at a record that was alone      the record is refused: a dead letter, and journaled as one
"""

from __future__ import annotations

__all__ = ["CRASHED", "Death", "Ledger", "Patience"]

import signal
from collections import Counter
from typing import NamedTuple

from streamproc.runtime.notes import Orders, Portion, Source

CRASHED = 70
"""Exit code of a worker that an unexpected error ended; of the whole run it becomes 1."""
_SAID = (1, 2)
_CRASHES = (signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGABRT)
_CRASHES_MAX = 3
_IN_VAIN_MAX = 10
_SETTLED_SECONDS = 60.0
_PAUSE_FIRST_SECONDS = 0.1
_PAUSE_MAX_SECONDS = 5.0


class Death(NamedTuple):
    """How a worker ended: `code` is its exit code or minus a signal's number, `lived` its age in seconds, `batch` the
    last that it began and `computing` whether it was still at it.
    """

    code: int
    lived: float
    batch: tuple[Portion, ...]
    computing: bool

    @property
    def said(self) -> bool:
        """Whether the worker itself said what was wrong, and a new start would only say it again."""
        return self.code in _SAID

    @property
    def crash(self) -> bool:
        """Whether it may have been the batch's doing."""
        return self.code == CRASHED or -self.code in _CRASHES

    @property
    def exit_code(self) -> int:
        """As a shell shows it."""
        if self.code < 0:
            return 128 - self.code
        return 1 if self.code == CRASHED else self.code

    def __str__(self) -> str:
        if self.code == CRASHED:
            return "an unexpected error"
        return f"exit code {self.code}" if self.code >= 0 else signal.Signals(-self.code).name


class Ledger:
    """Crashes by position, of all workers of a run: a partition may have moved between them."""

    def __init__(self) -> None:
        self._crashes: Counter[tuple[Source, int]] = Counter()
        self._singly: dict[Source, int] = {}
        self._refused: set[tuple[Source, int]] = set()
        self._furthest: dict[Source, int] = {}

    @property
    def orders(self) -> Orders:
        """For any worker that starts now."""
        return Orders(dict(self._singly), frozenset(self._refused))

    def enter(self, death: Death) -> bool:
        """Draw the conclusions; whether anything had been committed since the death before."""
        progress = [self._reached(portion) for portion in death.batch]
        if death.crash and death.computing:
            if self._alone(death.batch):
                self._refused.add((death.batch[0].source, death.batch[0].first))
            else:
                self._count(death.batch)
        return any(progress)

    def _reached(self, portion: Portion) -> bool:
        """What lies before a batch is committed: nothing of it matters any more."""
        source, first = portion.source, portion.first
        if first <= self._furthest.get(source, -1):
            return False
        self._furthest[source] = first
        if self._singly.get(source, first + 1) <= first:
            del self._singly[source]
        self._refused = {(of, offset) for of, offset in self._refused if of != source or offset >= first}
        for key in [key for key in self._crashes if key[0] == source and key[1] < first]:
            del self._crashes[key]
        return True

    def _alone(self, batch: tuple[Portion, ...]) -> bool:
        return len(batch) == 1 and batch[0].rows == 1 and batch[0].first < self._singly.get(batch[0].source, 0)

    def _count(self, batch: tuple[Portion, ...]) -> None:
        for portion in batch:
            self._crashes[portion.source, portion.first] += 1
            if self._crashes[portion.source, portion.first] >= _CRASHES_MAX:
                self._singly[portion.source] = portion.stop


class Patience:
    """How long to wait before one worker is started again."""

    def __init__(self) -> None:
        self._worked = False
        self.in_vain = 0

    def pause(self, death: Death, progress: bool) -> float | None:
        """Seconds; None: it is of no use."""
        settled = death.lived >= _SETTLED_SECONDS
        self._worked = self._worked or settled or bool(death.batch)
        if death.said or (death.code == CRASHED and not self._worked):
            return None  # it said why, or an error keeps it from ever starting
        self.in_vain = 1 if progress or settled else self.in_vain + 1
        if self.in_vain >= _IN_VAIN_MAX:
            return None
        pause: float = _PAUSE_FIRST_SECONDS * 2 ** (self.in_vain - 1)
        return min(pause, _PAUSE_MAX_SECONDS)
