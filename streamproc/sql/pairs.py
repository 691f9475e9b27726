"""Which rows of two tables go together, as pairs of their places."""

from __future__ import annotations

__all__ = [
    "NEVER",
    "Pairs",
    "concatenated",
    "equal_pairs",
    "in_order",
    "latest_pairs",
    "pairs_max",
    "taken",
    "with_unpaired",
]

from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from operators.batch import Column
from operators.schema import Kind
from state.errors import ConfigError
from streamproc.sql.codes import Ints

NEVER: Final = np.iinfo(np.int64).min
"""A time before all others: that of a row without one."""
_AT_ONCE_MAX: Final = 1 << 20
"""So many pairs are looked at at once: those that the condition refuses are never all in memory."""
_TRIED_MAX: Final = 10**10
"""Pairs that a condition is asked about: minutes, if it compares numbers."""
_JOINED_BYTES_MAX: Final = 2 << 30
"""All pairs of one JOIN, as they are reckoned; queries were seen to take four fifths of it."""
_PLACES_BYTES: Final = 80
"""Places and times of one pair while pairs are put in order."""


class Pairs(NamedTuple):
    """Places of rows; -1: none."""

    left: Ints
    right: Ints

    def take(self, kept: npt.NDArray[np.bool_]) -> Pairs:
        """Those that are kept."""
        return Pairs(self.left[kept], self.right[kept])


def concatenated(first: Column, second: Column) -> Column:
    """Two columns of one type, one behind the other."""
    valid = None
    if first.valid is not None or second.valid is not None:
        parts = [np.ones(len(one.values), np.bool_) if one.valid is None else one.valid for one in (first, second)]
        valid = np.concatenate(parts)
    return Column(first.type, np.concatenate([first.values, second.values]), valid)


def pairs_max(columns: Iterable[Column], rows: int) -> int:
    """How many pairs of rows with these columns fit in memory; as many as there are `rows` of both sides always do."""
    width = _PLACES_BYTES + sum(one.values.itemsize + (one.valid is not None) for one in columns)
    return max(rows, _JOINED_BYTES_MAX // width)


def equal_pairs(keys: tuple[Ints, Ints], kept: Callable[[Pairs], npt.NDArray[np.bool_]] | None, most: int) -> Pairs:
    """Pairs with equal keys (-1 is equal to none) that `kept` (None: all) keeps; by left row, then by right row.

    Raises:
        ConfigError: more than `most` are kept, or there are too many to ask about each.
    """
    left, right = keys
    order = np.argsort(right, kind="stable")
    laid = right[order]
    start, stop = np.searchsorted(laid, left, "left"), np.searchsorted(laid, left, "right")
    counts = np.where(left < 0, 0, stop - start)
    ends = np.cumsum(counts)
    asked = int(counts.sum())
    _refuse(kept is None and asked > most, f"the JOIN makes {asked:,} pairs of rows; at most {most:,} are kept")
    _refuse(asked > _TRIED_MAX, f"the JOIN asks its condition of {asked:,} pairs of rows, more than {_TRIED_MAX:,}")
    found: list[Pairs] = []
    row = size = 0
    while row < len(left):
        before = int(ends[row - 1]) if row else 0
        upto = max(int(np.searchsorted(ends, before + _AT_ONCE_MAX, "right")), row + 1)
        some = counts[row:upto]
        lefts = np.repeat(np.arange(row, upto), some)
        within = np.arange(len(lefts)) - np.repeat(ends[row:upto] - some - before, some)
        pairs = Pairs(lefts, order[np.repeat(start[row:upto], some) + within])
        found.append(pairs if kept is None else pairs.take(kept(pairs)))
        size += len(found[-1].left)
        _refuse(size > most, f"the JOIN makes more than {most:,} pairs of rows, the most that are kept")
        row = upto
    none = np.zeros(0, np.int64)
    return Pairs(
        np.concatenate([none, *(one.left for one in found)]), np.concatenate([none, *(one.right for one in found)])
    )


def _refuse(wrong: bool, message: str) -> None:
    if wrong:
        raise ConfigError(message, hint="narrow ON (without ON: WHERE), or GROUP BY in a query before the JOIN")


def latest_pairs(keys: tuple[Ints, Ints], times: Ints, right_times: Ints) -> Pairs:
    """Each left row with the right row of its key whose time is the latest at or before its own, if there is one."""
    left, right = keys
    order = np.lexsort((np.arange(len(right)), right_times, right))
    moments, place = np.unique(right_times, return_inverse=True)
    width = len(moments) + 1
    laid = right[order] * width + place[order]
    upto = np.searchsorted(moments, times, "right") - 1  # -1: before all of them
    at = np.searchsorted(laid, left * width + upto, "right") - 1
    fits = (at >= 0) & (left >= 0) & (upto >= 0)
    if len(order):
        fits &= right[order[np.maximum(at, 0)]] == left
    rows = np.flatnonzero(fits)
    return Pairs(rows, order[at[rows]] if len(order) else rows)


def with_unpaired(pairs: Pairs, left: int, right: int, kind: str) -> Pairs:
    """The pairs, and rows that are in none where `kind` says so; of the left ones each where it stands."""
    if kind in {"left", "full"}:
        alone = np.setdiff1d(np.arange(left), pairs.left)
        lefts = np.concatenate([pairs.left, alone])
        order = np.argsort(lefts, kind="stable")
        pairs = Pairs(lefts[order], np.concatenate([pairs.right, np.full(len(alone), -1)])[order])
    if kind in {"right", "full"}:
        alone = np.setdiff1d(np.arange(right), pairs.right)
        pairs = Pairs(np.concatenate([pairs.left, np.full(len(alone), -1)]), np.concatenate([pairs.right, alone]))
    return pairs


def in_order(pairs: Pairs, left: Ints | None, right: Ints | None) -> Pairs:
    """In order of the later one's time, if both have times; else as they are."""
    if left is None or right is None:
        return pairs
    times = np.maximum(_times(left, pairs.left), _times(right, pairs.right))
    order = np.argsort(times, kind="stable")
    return Pairs(pairs.left[order], pairs.right[order])


def _times(times: Ints, places: Ints) -> Ints:
    return np.where(places < 0, NEVER, times[places]) if len(times) else np.full(len(places), NEVER)


def taken(column: Column, places: Ints) -> Column:
    """The column at these places, NULL at -1."""
    if not (places < 0).any():
        return column.take(places)
    if not len(column.values):
        blank: Any = "" if column.type.kind is Kind.STRING else 0
        return Column(
            column.type, np.full(len(places), blank, dtype=column.type.dtype), np.zeros(len(places), np.bool_)
        )
    found = column.take(np.maximum(places, 0))
    there = places >= 0
    if column.type.kind is Kind.STRING:
        found = found._replace(values=np.where(there, found.values, ""))
    return found._replace(valid=there if found.valid is None else there & found.valid)
