"""Which days are learned from and judged: the Handbook's prequential folds (chapter 5), and the same on other data.

A fold: seven days to learn from, seven until their labels are known, seven to judge. Of data that covers
the book's test folds these are it; of other data they are the last four that fit, each a week after the one before.
Validation folds end before the first test fold begins, so no test day, and none that a test learns from, is in them.
"""

from __future__ import annotations

__all__ = ["DELAY_MS", "days_of", "final_folds", "validation_folds"]

from collections.abc import Sequence

import numpy as np

from benchmarks.detection.data import DataError
from models.training.folds import Fold, Span
from models.training.history import DAY_MS

TRAIN, DELAY, TEST = 7, 7, 7
DELAY_MS = DELAY * DAY_MS
_LENGTH = TRAIN + DELAY + TEST
_TESTS, _VALIDATIONS = 4, 8
_WARM = 30  # days before a fold, for windows to fill
_BOOK = "2018-07-25"


def days_of(times: np.ndarray) -> tuple[int, int]:
    """The first and the last day of rows (int64, ms), counted from 1970."""
    return int(times.min()) // DAY_MS, int(times.max()) // DAY_MS


def _fold(day: int) -> Fold:
    """The fold that learns from `day` on."""
    at = [offset * DAY_MS for offset in (day, day + TRAIN, day + TRAIN + DELAY, day + _LENGTH)]
    return Fold(Span(at[0], at[1]), Span(at[2], at[3]))


def _starts(first: int, last: int) -> Sequence[int]:
    book = int(np.datetime64(_BOOK).astype("datetime64[D]").astype(np.int64))
    newest = book + 7 * (_TESTS - 1)
    if not (first <= book and newest + _LENGTH - 1 <= last):
        newest = last - _LENGTH + 1
    starts = [newest - 7 * back for back in reversed(range(_TESTS)) if newest - 7 * back >= first]
    if not starts:
        raise DataError(
            f"the files cover {last - first + 1} days; a fold needs {_LENGTH}: {TRAIN} to learn from, {DELAY} until "
            f"labels are known, {TEST} to judge. Give more files"
        )
    return starts


def final_folds(first: int, last: int) -> list[Fold]:
    """In time order, of data that has the days `first` to `last`.

    Raises:
        DataError: there are too few days for one.
    """
    return [_fold(day) for day in _starts(first, last)]


def validation_folds(first: int, last: int) -> list[Fold]:
    """In time order; see above.

    Raises:
        DataError: there are too few days for one.
    """
    newest = _starts(first, last)[0] - _LENGTH
    days = [newest - 7 * back for back in reversed(range(_VALIDATIONS)) if newest - 7 * back >= first + _WARM]
    if not days:
        raise DataError("the files begin too late: no validation fold ends before the first test fold")
    return [_fold(day) for day in days]
