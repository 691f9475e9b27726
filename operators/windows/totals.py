"""Running totals: exclusive prefixes in the entries, so that a window's total is a difference of two of them.

All in int64, so no result depends on where a batch was cut. A total beyond 2**62 is a RecordError, never a wrap.
The limbs of the squares are kept normal (0 <= low < 2**32), so only the high one grows.
"""

from __future__ import annotations

__all__ = ["TOTAL_MAX", "guard", "normalise", "running"]

import numpy as np

from operators.windows.frame import I64
from operators.windows.layout import Layout
from state.errors import RecordError

TOTAL_MAX = 1 << 62


def running(layout: Layout, values: I64, totals: I64, first: I64, group: I64) -> tuple[I64, I64]:
    """Exclusive and inclusive prefixes (prefixes, rows) of rows in the order of their entries.

    `totals` (prefixes, keys) is what stands before each key's first row.
    """
    through = np.cumsum(values, axis=1)
    exclusive = through - values
    start = totals - exclusive[:, first]
    shift = start[:, group]
    exclusive += shift
    through += shift
    guard(values, totals, through)
    normalise(layout, exclusive)
    normalise(layout, through)
    return exclusive, through


def normalise(layout: Layout, totals: I64) -> None:
    """Bring pairs of limbs (rows of `totals`) into normal form."""
    for i in layout.low_limbs:
        totals[i - 1] += totals[i] >> 32
        totals[i] &= 0xFFFF_FFFF


def guard(values: I64, totals: I64, through: I64) -> None:
    """Refuse totals that are too large.

    Raises:
        RecordError: some total is beyond TOTAL_MAX.
    """
    if not values.size:
        return
    peak = max(int(values.max()), -int(values.min()))
    stored = max(int(totals.max()), -int(totals.min()))
    if peak * values.shape[1] + stored <= TOTAL_MAX:
        return
    # Totals were at most 2**62 before: the first one beyond it is at most 2**63, so it shows even if it wrapped.
    if peak > TOTAL_MAX or int(through.max()) > TOTAL_MAX or int(through.min()) < -TOTAL_MAX:
        raise RecordError("overflow", "a running total exceeds 2**62")
