"""Keeps the newest days, and says which of them something new can be said of."""

from __future__ import annotations

__all__ = ["DayReport", "Settings", "Watch"]

from collections.abc import Callable
from datetime import UTC, datetime

import msgspec
import numpy as np

from models.watching.days import DAY_MS, Day, Ints, Known, Rows
from models.watching.figures import Figures, Labelled, figures
from models.watching.labels import UNKNOWN, Kinds, Labels, LabelTable

COMPARED_DAYS = 7
DAYS_LEAST = 2


class Settings(msgspec.Struct, frozen=True):
    """`label_delay_ms`: after that a label should be known. `others_legitimate`: a payment without a label is
    legitimate from then on. Kept are the newest `days` that have payments, as long as they have `payments` at most
    together; two always.
    """

    label_delay_ms: int
    others_legitimate: bool = False
    days: int = 35
    payments: int = 5_000_000


class DayReport(msgspec.Struct, frozen=True):
    """Of one day (UTC, of event time). `labels_until`: labels that became known before that count.

    `matured`: that is the label delay after the day's end; else it is the day's end.
    """

    pipeline: str
    model: str
    day: str
    labels_until: str
    matured: bool
    figures: Figures


class Watch:
    """What is known of one model of a pipeline, from committed payments and labels, in whatever order they are read.

    What is said depends on these alone, not on when they were read. `older` counts payments of days that are not kept,
    `changes` how often something was added.
    """

    def __init__(self, pipeline: str, model: str, settings: Settings, known: Callable[[int], Known]) -> None:
        """`known`: asked once of each version."""
        self._pipeline, self._model, self._settings, self._ask = pipeline, model, settings, known
        self._known: dict[int, Known] = {}
        self._days: dict[int, Day] = {}
        self._gone = -(2**62)
        self._labels = LabelTable(settings.payments)
        self._changed: set[int] = set()
        self._labels_from: int | None = None
        self._said: dict[int, int] = {}
        self.stream_ms = -(2**62)
        self.older = self.changes = 0

    @property
    def empty(self) -> bool:
        """Whether no payment was seen."""
        return not self._days

    def add(self, rows: Rows) -> None:
        """Payments, of any days."""
        if not len(rows.ids):
            return
        self.changes += 1
        for version in {*np.unique(rows.versions[rows.versions > 0]).tolist(), *rows.shadows}:
            if version not in self._known:
                self._known[version] = self._ask(version)
        self.stream_ms = max(self.stream_ms, int(rows.times.max()))
        days = rows.times // DAY_MS
        for number in np.unique(days).tolist():
            mine = days == number
            if number <= self._gone:
                self.older += int(mine.sum())
                continue
            day = self._days.setdefault(number, Day(number))
            day.add(rows if mine.all() else rows.take(mine), self._known)
            self._changed.add(number)
        self._let_go()

    def label(self, ids: Ints, times: Ints, kinds: Kinds) -> None:
        """More labels, as of `LabelTable.add`."""
        if len(ids):
            self._labels.add(ids, times, kinds)
            self.changes += 1
            first = int(times.min())
            self._labels_from = first if self._labels_from is None else min(first, self._labels_from)

    def replace_labels(self, ids: Ints, times: Ints, kinds: Kinds) -> None:
        """These are all labels that there are."""
        self._labels.replace(ids, times, kinds)
        self.changes += 1
        self._labels_from = -(2**62)

    def due(self) -> list[int]:
        """The days that are over, and of which something else can be said than when they were last due."""
        found = []
        for number, day in sorted(self._days.items()):
            until, _ = self._until(day)
            window = range(number - COMPARED_DAYS + 1, number + 1)
            fresh = not self._changed.isdisjoint(window)
            labelled = self._labels_from is not None and self._labels_from < until
            if day.end_ms <= self.stream_ms and (fresh or labelled or self._said.get(number) != until):
                self._said[number] = until
                found.append(number)
        self._changed.clear()
        self._labels_from = None
        return found

    def report(self, number: int) -> DayReport:
        """Of a day that is kept."""
        day = self._days[number]
        until, matured = self._until(day)
        window = [self._days[at] for at in range(number - COMPARED_DAYS + 1, number + 1) if at in self._days]
        labels = self._labels.before(until)
        labelled = [self._labelled(one, labels, until) for one in window]
        said = figures(labelled[-1:], [day], labelled, self._known, until - self._settings.label_delay_ms)
        date = datetime.fromtimestamp(number * DAY_MS / 1000, UTC).date().isoformat()
        as_of = datetime.fromtimestamp(until / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return DayReport(self._pipeline, self._model, date, as_of, matured, said)

    def standing(self) -> Figures:
        """Of all days that are kept, by all labels that are known now; drift: of the newest day that is over."""
        days = [day for _, day in sorted(self._days.items())]
        labels = self._labels.before(None)
        labelled = [self._labelled(day, labels, self.stream_ms) for day in days]
        over = [day for day in days if day.end_ms <= self.stream_ms] or days
        overdue = self.stream_ms - self._settings.label_delay_ms
        return figures(labelled, over[-1:], labelled, self._known, overdue)

    def _until(self, day: Day) -> tuple[int, bool]:
        matured = day.end_ms + self._settings.label_delay_ms
        return (matured, True) if matured <= self.stream_ms else (day.end_ms, False)

    def _labelled(self, day: Day, labels: Labels, now_ms: int) -> Labelled:
        kinds = labels.of(day.ids)
        if self._settings.others_legitimate:
            kinds[(kinds == UNKNOWN) & (day.times < now_ms - self._settings.label_delay_ms)] = 0
        return Labelled.of(day, kinds)

    def _let_go(self) -> None:
        """Of the oldest days, and of labels that none of the payments that are kept can have."""
        rows, gone = sum(day.rows for day in self._days.values()), False
        for number in sorted(self._days)[:-DAYS_LEAST]:
            if len(self._days) <= self._settings.days and rows <= self._settings.payments:
                break
            rows -= self._days.pop(number).rows
            self._said.pop(number, None)
            self._gone, gone = number, True
        if gone:
            self._labels.forget(min(self._days) * DAY_MS)
