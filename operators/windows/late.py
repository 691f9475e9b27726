"""Late rows (to come)."""

from __future__ import annotations

__all__ = ["late"]

from operators.windows.frame import I64, Frame
from state.table import KeyedTable


def late(table: KeyedTable, frame: Frame, result: I64) -> None:
    """Process keys with late rows."""
    raise NotImplementedError
