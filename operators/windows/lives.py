"""Lives of keys within a batch, for tables with a ttl: a row that finds its key expired begins a new one.

A row finds its key expired if its stream time is `ttl` or more past the newest event time of the key's rows before it.
Rows of lives that are over do not change that: stream time never falls, so once it is so far past them it stays so.
Lives share nothing. Only a key's first and last one in the batch meet its stored state; those between begin and end
here, so all of them are computed at once, as keys of their own. However late a key's rows come, that is three passes.
"""

from __future__ import annotations

__all__ = ["Lives", "lives"]

from typing import NamedTuple

import numpy as np

from operators.windows.frame import I64
from operators.windows.late import running_max


class Lives(NamedTuple):
    """Indices of rows, those of a key in row order: of each key's first life, its last one, and those between.

    `number`: which life each row of `between` is of; numbers of one batch, unique over its keys.
    """

    first: I64
    last: I64
    between: I64
    number: I64


def lives(slots: I64, times: I64, stream: I64, known: I64, *, ttl_ms: int) -> Lives | None:
    """None: each key has one life.

    By slot, event time and stream time of each row, and the newest event time of its key before the batch (all ms).
    """
    order = np.argsort(slots, kind="stable")
    same = slots[order[1:]] == slots[order[:-1]]
    if not (same & (stream[order[1:]] - times[order[:-1]] >= ttl_ms)).any():
        return None
    begins = np.concatenate(([True], ~same))
    group = np.cumsum(begins) - 1
    newest = running_max(np.maximum(times, known)[order], group)
    expired = np.concatenate(([False], same & (stream[order[1:]] - newest[:-1] >= ttl_ms)))
    if not expired.any():
        return None
    life = np.cumsum(begins | expired) - 1
    first = np.flatnonzero(begins)
    is_first = life == life[first][group]
    is_last = (life == life[np.append(first[1:], len(order)) - 1][group]) & ~is_first
    between = ~is_first & ~is_last
    return Lives(order[is_first], order[is_last], order[between], life[between])
