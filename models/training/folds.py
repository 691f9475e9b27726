"""Prequential folds, as in the Fraud Detection Handbook (chapter 5): learn, wait for the labels, judge; then later.

    |<- train ->|<- delay ->|<- test ->|                 a fold; the next one lies one `test` later
                                       the end of the data is that of the last fold; of labels that are still
                                       coming in (`open_ended`), the end of those that all are in

What is judged is never before the day on which the labels learned from are known. Cards that are known as compromised
on that day are left out of it: a bank has blocked them.
"""

from __future__ import annotations

__all__ = ["Fold", "Span", "Window", "folds", "last_window", "learned_from", "matured_until", "rows_to_judge", "within"]

import sys

import msgspec
import numpy as np
import numpy.typing as npt

from models.training.history import DAY_MS, History
from state.errors import ConfigError

Indices = npt.NDArray[np.intp]


class Window(msgspec.Struct, frozen=True):
    """How many days; `delay_ms`: from a payment to its label. `folds`: to choose on; the test is one more."""

    train_days: int
    test_days: int
    delay_ms: int
    folds: int

    @property
    def needed_days(self) -> int:
        """From the first fold's begin to the last one's end."""
        return self.train_days - (-self.delay_ms // DAY_MS) + (self.folds + 1) * self.test_days


class Span(msgspec.Struct, frozen=True):
    """From `start` until before `stop`, ms."""

    start: int
    stop: int


class Fold(msgspec.Struct, frozen=True):
    """What is learned from, and what is judged."""

    train: Span
    test: Span


def _bounds(history: History) -> Span:
    """Whole days around all payments."""
    return Span(int(history.times.min()) // DAY_MS * DAY_MS, (int(history.times.max()) // DAY_MS + 1) * DAY_MS)


def _labelled_until(history: History) -> int:
    """Where who has no label is legitimate: the end of the day of the last label; of payments near it, frauds lack."""
    if history.known is None or not history.open_ended:
        return sys.maxsize
    return (int(history.known.max()) // DAY_MS + 1) * DAY_MS


def matured_until(history: History, delay_ms: int) -> int:
    """Payments since then (ms, a day's begin) are legitimate, if nobody says otherwise, only for want of time."""
    return (_labelled_until(history) - delay_ms) // DAY_MS * DAY_MS


def folds(history: History, window: Window) -> list[Fold]:
    """In time order; the last one is the test's. None judges payments that are legitimate only for want of time.

    Raises:
        ConfigError: the history is too short.
    """
    bounds = _bounds(history)
    end = min(bounds.stop, matured_until(history, window.delay_ms))
    days = (end - bounds.start) // DAY_MS
    if days < window.needed_days:
        delay = -(-window.delay_ms // DAY_MS)
        unripe = f", but for {(bounds.stop - end) // DAY_MS} whose labels are not in yet" if end < bounds.stop else ""
        raise ConfigError(
            f"the files cover {max(days, 0)} days{unripe}, {window.needed_days} are needed: {window.train_days} to "
            f"learn from, {delay} until labels are known, {window.folds} folds and a test of {window.test_days} days",
            hint="give more files, or fewer --train-days, --test-days or --folds",
        )
    found = []
    for back in range(window.folds, -1, -1):
        stop = end - back * window.test_days * DAY_MS
        start = stop - window.test_days * DAY_MS
        known = start - window.delay_ms
        found.append(Fold(Span(known - window.train_days * DAY_MS, known), Span(start, stop)))
    return found


def last_window(history: History, window: Window) -> Span:
    """The newest days whose labels are known when the data ends: what the model that is shipped learns from."""
    known = min(_bounds(history).stop, _labelled_until(history)) - window.delay_ms
    return Span(known - window.train_days * DAY_MS, known)


def learned_from(history: History, span: Span, at: int) -> History:
    """The payments of a span with the labels that they had at a moment (ms), both kinds.

    Raises:
        ConfigError: there are none of one kind.
    """
    then = history.known_by(at)
    return then.take(within(then, span))


def within(history: History, span: Span) -> Indices:
    """Labelled payments of a span, both kinds.

    Raises:
        ConfigError: there are none of one kind.
    """
    rows = np.flatnonzero((history.times >= span.start) & (history.times < span.stop) & (history.labels >= 0))
    _need_both(history, rows, span)
    return rows


def rows_to_judge(history: History, fold: Fold, delay_ms: int) -> Indices:
    """The payments that a fold is judged on: without those of cards known as compromised by that day.

    Raises:
        ConfigError: there are none of one kind.
    """
    rows = within(history, fold.test)
    frauds = np.flatnonzero((history.labels == 1) & (history.times >= fold.train.start))
    known = history.times[frauds] + delay_ms if history.known is None else history.known[frauds]
    first = np.full(int(history.cards.max()) + 1, np.iinfo(np.int64).max)
    np.minimum.at(first, history.cards[frauds], known)
    rows = rows[first[history.cards[rows]] >= history.times[rows] // DAY_MS * DAY_MS]
    _need_both(history, rows, fold.test)
    return rows


def _need_both(history: History, rows: Indices, span: Span) -> None:
    frauds = int((history.labels[rows] == 1).sum())
    if 0 < frauds < len(rows):
        return
    first, last = (str(np.datetime64(at, "ms").astype("datetime64[D]")) for at in (span.start, span.stop - 1))
    kind = "frauds" if not frauds else "legitimate payments"
    raise ConfigError(
        f"there are no {kind} among the {len(rows):,} labelled payments from {first} to {last}",
        hint="give more files, or more --train-days and --test-days",
    )
