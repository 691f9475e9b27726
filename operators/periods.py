"""Which row of a key holds at a time: from its `valid_from` on, until before its `expires`."""

from __future__ import annotations

__all__ = ["EXPIRES", "VALID_FROM", "Periods", "Times", "bounds", "overlap"]

from collections.abc import Iterable, Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from operators.prefixes import NONE, Numbers

Times = npt.NDArray[np.int64]

VALID_FROM: Final = "valid_from"
EXPIRES: Final = "expires"
ALWAYS: Final = -(2**63)
"""The `valid_from` of a row that has none (ms)."""
NEVER: Final = 2**63 - 1
"""The `expires` of a row that has none (ms)."""


def bounds(rows: Iterable[Mapping[str, Any]]) -> tuple[Times, Times]:
    """Rows' `valid_from` and `expires` (ms); ALWAYS and NEVER where they are NULL or absent."""
    times = [(row.get(VALID_FROM), row.get(EXPIRES)) for row in rows]
    return (
        np.array([ALWAYS if start is None else start for start, _ in times], np.int64),
        np.array([NEVER if stop is None else stop for _, stop in times], np.int64),
    )


def overlap(keys: Numbers, valid_from: Times, expires: Times) -> tuple[int, int] | None:
    """Two rows (the later one in the table first) of one key that hold at one time; None if there are none."""
    order = np.lexsort((valid_from, keys))
    same = keys[order[1:]] == keys[order[:-1]]
    clash = np.flatnonzero(same & (valid_from[order[1:]] < expires[order[:-1]]))
    if not len(clash):
        return None
    pairs = np.sort(np.stack((order[clash], order[clash + 1])), axis=0)
    first = int(np.argmin(pairs[1]))
    return int(pairs[1][first]), int(pairs[0][first])


class Periods:
    """Rows by key and time; the rows of one key do not overlap.

    Args:
        keys: the number of each row's key, from 0 on.
        valid_from: ms, or ALWAYS.
        expires: ms, or NEVER.
    """

    def __init__(self, keys: Numbers, valid_from: Times, expires: Times) -> None:
        order = np.lexsort((valid_from, keys))
        self._times = np.unique(valid_from)
        # A row before all others, of no key and of no time, so that every search finds one.
        self._rows = np.concatenate(([NONE], order))
        self._keys = np.concatenate(([NONE - 1], keys[order]))
        self._expires = np.concatenate(([ALWAYS], expires[order]))
        self._starts = self._at(keys[order], valid_from[order])

    def _at(self, keys: Numbers, times: Times) -> npt.NDArray[np.int64]:
        """A number that is ordered as (key, time) is, as far as the rows' times tell."""
        return keys.astype(np.int64) * (len(self._times) + 1) + self._times.searchsorted(times, "right")

    def find(self, keys: Numbers, times: Times) -> Numbers:
        """The row of each key that holds at each time; NONE if there is none."""
        place = self._starts.searchsorted(self._at(keys, times), "right")
        holds = (self._keys[place] == keys) & (times < self._expires[place])
        return np.where(holds, self._rows[place], NONE)
