"""How far rows of today are from those that a model learned from: population stability, and what is missing."""

from __future__ import annotations

__all__ = ["SHIFTED", "Drift", "bins_of", "counts_of", "drift_of", "drift_of_counts", "shares_of", "stability"]

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from models.manifest import Bins

Column = npt.NDArray[np.floating[Any]]
SHIFTED = 0.25
"""The usual reading of the index: below 0.1 nothing, above 0.25 another population."""
_PARTS = np.arange(0.1, 0.95, 0.1)


class Drift(msgspec.Struct, frozen=True):
    """One column, then and now; `noise`: the index that so few rows would have if nothing had changed."""

    name: str
    index: float
    noise: float
    missing_then: float
    missing: float

    @property
    def shifted(self) -> bool:
        """Whether it is another population, and not one of few rows."""
        return self.index > max(SHIFTED, 3 * self.noise)


def bins_of(column: Column) -> Bins:
    """Ten bins that hold about as much each, fewer where many values are the same; and one of what is missing."""
    known = column[np.isfinite(column)]
    edges = np.unique(np.quantile(known, _PARTS, method="lower")) if len(known) else np.empty(0)
    found = tuple(edges.astype(np.float64).tolist())
    return Bins(found, shares_of(column, found), len(column))


def counts_of(column: Column, edges: Sequence[float]) -> npt.NDArray[np.int64]:
    """Rows up to each edge, above the last one, and (last) missing: int64 (edges + 2,)."""
    missing = np.isnan(column)
    places = np.searchsorted(np.array(edges, np.float64), column[~missing].astype(np.float64), side="left")
    return np.append(np.bincount(places, minlength=len(edges) + 1), missing.sum()).astype(np.int64)


def shares_of(column: Column, edges: Sequence[float]) -> tuple[float, ...]:
    """The same as shares of the rows."""
    return _shares(counts_of(column, edges).tolist())


def _shares(counts: Sequence[int]) -> tuple[float, ...]:
    rows = max(sum(counts), 1)
    return tuple(count / rows for count in counts)


def stability(then: Sequence[float], now: Sequence[float], rows_then: int, rows_now: int) -> float:
    """The population stability index. Each share counts half a row more, so that an empty bin is none of infinity; one
    that is empty in both is none.

    >>> round(stability([0.5, 0.5], [0.9, 0.1], 10**9, 10**9), 4)
    0.8789
    """
    before, after = (
        (np.array(shares) * rows + 0.5) / (rows + 0.5 * len(shares))
        for shares, rows in ((then, rows_then), (now, rows_now))
    )
    held = (np.array(then) > 0) | (np.array(now) > 0)
    return float(((after - before) * np.log(after / before))[held].sum())


def drift_of(name: str, then: Bins, column: Column) -> Drift:
    """A column of today against what was learned from."""
    return drift_of_counts(name, then, counts_of(column, then.edges).tolist())


def drift_of_counts(name: str, then: Bins, counts: Sequence[int]) -> Drift:
    """The same of rows that were counted by the bins' edges, as `counts_of` does."""
    now, rows = _shares(counts), sum(counts)
    noise = (len(now) - 1) * (1 / max(then.rows, 1) + 1 / max(rows, 1))
    return Drift(
        name,
        round(stability(then.shares, now, then.rows, rows), 6),
        round(noise, 6),
        then.shares[-1],
        round(now[-1], 6),
    )
