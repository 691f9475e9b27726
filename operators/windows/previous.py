"""Earlier rows: `previous(x, n)`.

An entry carries, besides its own value, the values of the rows before it: what it carries are the last rows, in
row order, among those with event time <= its own. So the n-th earlier row of a new row is read from the entry
that it is put behind. Late rows keep this true: a late row is the last in row order for all entries of a higher
clock, so it is shifted into them when it is inserted (merge.py). The entry of a row that a `where` passes over carries
what the one before it carries.

A bit a value says whether there is such a row and its value is not NULL. A row that comes `ttl` or more after the
newest one starts anew.
"""

from __future__ import annotations

__all__ = ["follow"]

import numpy as np
import numpy.typing as npt

from operators.windows.frame import I64, Frame


def follow(frame: Frame, before: I64, known: npt.NDArray[np.bool_], *, entries: I64, result: I64 | None) -> None:
    """Fill entries and, if there is one, result of rows in order.

    Args:
        frame: the rows.
        before: (keys, width): the newest entry of each key.
        known: whether the key has one.
        entries: (rows, width): the carried columns and the flags are written.
        result: (result rows, rows): `previous_at` and `valid_at` parts are written.
    """
    layout = frame.layout
    shift = _Shift(frame, before, known)
    bits = np.zeros(frame.size, np.int64)
    bit = 0
    for k, (_, _, depth, _, passing) in enumerate(layout.carried):
        if passing >= 0:
            bits |= _Filtered(frame, before, known, passing).follow(k, bit, entries=entries, result=result)
            bit += depth
            continue
        value, valid = frame.carried[k], frame.valid[k]
        for n in range(depth):
            entries[:, layout.carried_column + bit] = value
            bits |= valid << bit
            if result is not None:
                out, ok = result[layout.previous_at + bit], result[layout.valid_at + bit]
            else:
                out, ok = np.empty_like(value), np.empty_like(valid)
            if result is not None or n + 1 < depth:  # the last level is for the result alone
                shift.down(bit, value, valid, out, ok)
            value, valid = out, ok
            bit += 1
    if layout.flagged:
        entries[:, layout.flags_column] = bits


class _Shift:
    """From what rows carry at one level to the next: the row before, in the batch or in the ring."""

    def __init__(self, frame: Frame, before: I64, known: npt.NDArray[np.bool_]) -> None:
        layout = frame.layout
        self.first, self.before, self.known = frame.first, before, known
        self.column = layout.carried_column
        self.flags = before[:, layout.flags_column] if layout.flagged else None

    def down(self, bit: int, value: I64, valid: I64, out: I64, ok: I64) -> None:
        """Fill `out` and `ok` from `value` and `valid`, which are those of `bit`."""
        out[1:] = value[:-1]
        ok[1:] = valid[:-1]
        out[self.first] = self.before[:, self.column + bit]
        ok[self.first] = self.known if self.flags is None else (self.flags >> bit & 1) * self.known


class _Filtered:
    """What rows carry of the rows that pass one filter."""

    def __init__(self, frame: Frame, before: I64, known: npt.NDArray[np.bool_], passing: int) -> None:
        self.frame, self.before = frame, before
        self.flags = before[:, frame.layout.flags_column] * known
        passes = frame.passing[passing]
        self.rows = np.flatnonzero(passes)
        self.through = np.cumsum(passes)  # rows that pass, each row itself included
        self.earlier = self.through - passes
        self.own = self.earlier[frame.first][frame.group]  # of the keys before

    def follow(self, k: int, bit: int, *, entries: I64, result: I64 | None) -> I64:
        """Fill carried column `k`, whose first bit is `bit`; the bits that say which values there are."""
        layout = self.frame.layout
        bits = np.zeros(self.frame.size, np.int64)
        for n in range(layout.carried[k].depth):
            value, valid = self._last(k, bit, n, self.through)
            entries[:, layout.carried_column + bit + n] = value
            bits |= valid << (bit + n)
            if result is not None:
                found = self._last(k, bit, n, self.earlier)
                result[layout.previous_at + bit + n], result[layout.valid_at + bit + n] = found
        return bits

    def _last(self, k: int, bit: int, n: int, count: I64) -> tuple[I64, I64]:
        """Value and validity of the n-th last of the key's passing rows, of which `count` stand before it here."""
        frame, layout = self.frame, self.frame.layout
        here = count - self.own
        level = bit + np.maximum(n - here, 0)
        value = self.before[frame.group, layout.carried_column + level]
        valid = self.flags[frame.group] >> level & 1
        mine = np.flatnonzero(here > n)
        rows = self.rows[count[mine] - 1 - n]
        value[mine], valid[mine] = frame.carried[k][rows], frame.valid[k][rows]
        return value, valid
