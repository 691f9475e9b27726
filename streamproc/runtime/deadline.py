"""Which rows are past their deadline: another has answered for them by now, so they are decided without the model.

A row is judged once, by its log time and the worker's clock, when its batch is taken. The journal keeps what was found:
whoever computes the transaction again obeys it, and never asks a clock.
"""

from __future__ import annotations

__all__ = ["late_rows", "packed", "unpacked"]

import numpy as np
import numpy.typing as npt

from operators.plan import ARRIVED, Plan
from streamproc.runtime.rows import Rows

Flags = npt.NDArray[np.bool_]


def late_rows(plan: Plan, rows: Rows, now_ms: int) -> Flags | None:
    """Bool (rows,): the rows that are late at `now_ms`, of those that are decided; None if none is.

    A row that another stage handed on goes by the time at which it first came to the log.
    """
    if not plan.decision.deadline_ms:
        return None
    came = rows.timestamps
    if (told := rows.columns.get(ARRIVED)) is not None:
        came = told.values if told.valid is None else np.where(told.valid, told.values, came)
    late: Flags = came + plan.decision.deadline_ms < now_ms
    if rows.streams is not None:
        late &= rows.streams == 0
    return late if late.any() else None


def packed(late: Flags | None, start: int, stop: int) -> bytes:
    """Rows start..stop (exclusive) as the journal keeps them: a bit each, or nothing if none is late.

    >>> unpacked(packed(np.array([True, False, True]), 1, 3), 2)
    array([False,  True])
    """
    if late is None or not late[start:stop].any():
        return b""
    return np.packbits(late[start:stop], bitorder="little").tobytes()


def unpacked(bits: bytes, rows: int) -> Flags | None:
    """What `packed` gave for so many rows."""
    if not bits:
        return None
    return np.unpackbits(np.frombuffer(bits, np.uint8), count=rows, bitorder="little").astype(np.bool_)
