"""Functions over the rows before, of one key: a row waits until the watermark is past its time, then it sees its frame.

    row -> waiting, by event time -> the watermark is past it: all rows of that time together -> their frames, told
        -> history: the rows that a later frame may still hold

So rows are told in order of time, however they came; one that comes when the watermark is past its time does not count.
Frames that begin at the first row keep a total of it instead of its rows.
"""

from __future__ import annotations

__all__ = ["ROWS_MAX", "Framed", "FramesLogic", "OverFunction", "OverRow"]

from bisect import bisect_left, insort
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from operators.timed.logic import INT64_MAX, Missed, Said, Told

ROWS_MAX = 10_000
"""Rows of one key that wait, and that are kept for frames."""
_LIMB = 2**62

Values = list[Any]


class OverFunction(msgspec.Struct, frozen=True):
    """`function` (count, distinct, sum, avg, min, max, first_value, last_value, row_number, lag) over a frame.

    Args:
        function: its name.
        argument: place of its argument among those of a row; -1: it is of rows.
        rows: whether the frame counts rows, not time; its end is the row itself then, else the last of its time.
        preceding: so many rows, or ms, before the own one; None: from the first on.
        offset: of LAG.
        default: of LAG: place of the argument that stands for a row that is not there; -1: NULL.
        scale: decimals of the argument.
    """

    function: str
    argument: int
    rows: bool
    preceding: int | None
    offset: int = 1
    default: int = -1
    scale: int = 0

    @property
    def runs(self) -> bool:
        """Whether a total is kept, not rows."""
        return self.preceding is None and self.function not in ("lag", "row_number")

    @property
    def held(self) -> int:
        """How many rows before its own it looks back at, counted."""
        if self.function == "lag":
            return self.offset
        return (self.preceding or 0) if self.rows else 0


class OverRow(NamedTuple):
    """`values` are told with the functions' results; `arguments` are what these are of."""

    time: int
    values: Values
    arguments: Values


class Framed(msgspec.Struct, array_like=True):
    """Of one key: rows that wait and rows that frames may hold, by time; `told`: how many were, the last at `last`.

    `totals`: one a function that runs: values, their sum in two limbs, least, greatest, [first]; as far as wanted.
    """

    waiting: list[tuple[int, Values, Values]] = []
    rows: list[tuple[int, Values]] = []
    told: int = 0
    last: int = 0
    totals: list[Values] = []


class FramesLogic:
    """See `KeyLogic`. `kept`: ms without a row after which a key counts as new, longer than the frames of time."""

    def __init__(self, functions: Sequence[OverFunction], kept: int) -> None:
        self._functions, self._kept = tuple(functions), kept
        self._running = [one for one in functions if one.runs]
        self._ms = max((one.preceding or 0 for one in functions if not one.rows), default=0)
        self._held = max((one.held for one in functions), default=0)
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(Framed).decode

    def new(self) -> Framed:
        """Without rows."""
        return Framed()

    def load(self, stored: bytes) -> Framed:
        """From bytes."""
        return self._decode(stored)

    def store(self, state: Framed) -> bytes:
        """As bytes."""
        return self._encode(state) if state.waiting or state.told else b""

    def row(self, state: Framed, row: OverRow, watermark: int) -> tuple[Sequence[Said], int | None]:
        """The row waits, unless its time is over."""
        if row.time < watermark:
            return [Missed(1, 1)], None
        if len(state.waiting) >= ROWS_MAX:
            return [Missed(1, 1, "pending")], None
        insort(state.waiting, (row.time, row.values, row.arguments), key=lambda one: one[0])
        return (), row.time + 1

    def fire(self, state: Framed, due: int) -> Sequence[Said]:
        """The rows of the time before."""
        ready = 0
        while ready < len(state.waiting) and state.waiting[ready][0] < due:
            ready += 1
        if not ready:
            return ()
        group, state.waiting = state.waiting[:ready], state.waiting[ready:]
        time = group[0][0]
        if state.told and time - state.last >= self._kept:
            state.rows, state.told, state.totals = [], 0, []
        results = self._results(state, time, [arguments for _, _, arguments in group])
        self._forget(state, time)
        return [Told((*values, *found)) for (_, values, _), found in zip(group, results, strict=True)]

    def due(self, state: Framed, watermark: int) -> int | None:
        """When the first row that waits is told."""
        return state.waiting[0][0] + 1 if state.waiting else None

    def closes(self, state: Framed) -> int:
        """When no frame holds the newest row any more."""
        return (state.waiting[-1][0] if state.waiting else state.last) + self._kept

    def _forget(self, state: Framed, time: int) -> None:
        """Rows that no later frame holds."""
        state.last = time
        seen = len(state.rows) - self._held
        if self._ms:
            seen = min(seen, bisect_left(state.rows, time - self._ms, key=lambda one: one[0]))
        del state.rows[: max(seen, len(state.rows) - ROWS_MAX, 0)]

    def _results(self, state: Framed, time: int, group: list[Values]) -> list[Values]:
        """The functions' values for each of the rows of one time, which join the others."""
        base = len(state.rows)
        state.rows += [(time, arguments) for arguments in group]
        if not state.totals:
            state.totals = [[0, 0, 0, None, None, []] for _ in self._running]
        found: list[Values] = [[] for _ in group]
        totals = iter(state.totals)
        for one in self._functions:
            if one.runs:
                column = _ran(one, next(totals), group)
            elif one.function == "row_number":
                column = [state.told + n + 1 for n in range(len(group))]
            elif one.function == "lag":
                column = [_lagged(one, state.rows, base + n) for n in range(len(group))]
            else:
                column = self._framed(one, state.rows, base, time)
            for values, value in zip(found, column, strict=True):
                values.append(value)
        state.told += len(group)
        return found

    def _framed(self, one: OverFunction, rows: list[tuple[int, Values]], base: int, time: int) -> Values:
        preceding = one.preceding or 0
        if one.rows:
            return [_value(one, rows[max(0, n - preceding) : n + 1]) for n in range(base, len(rows))]
        begin = bisect_left(rows, time - preceding, key=lambda row: row[0])
        return [_value(one, rows[begin:])] * (len(rows) - base)


def _lagged(one: OverFunction, rows: list[tuple[int, Values]], at: int) -> Any:
    if at >= one.offset:
        return rows[at - one.offset][1][one.argument]
    return None if one.default < 0 else rows[at][1][one.default]


def _value(one: OverFunction, frame: Sequence[tuple[int, Values]]) -> Any:
    """Of the rows of a frame, its own among them."""
    if one.argument < 0:
        return len(frame)
    if one.function in ("first_value", "last_value"):
        return frame[0 if one.function == "first_value" else -1][1][one.argument]
    known = [value for _, arguments in frame if (value := arguments[one.argument]) is not None]
    if one.function == "count":
        return len(known)
    if one.function == "distinct":
        return len(set(known))
    if not known:
        return None
    if one.function in ("min", "max"):
        return min(known) if one.function == "min" else max(known)
    return _summed(one, sum(known), len(known))


def _summed(one: OverFunction, total: int, count: int) -> Any:
    """A sum that leaves 64 bits is NULL."""
    if one.function == "avg":
        return total / (count * 10**one.scale)
    return total if -INT64_MAX <= total <= INT64_MAX else None


def _ran(one: OverFunction, total: Values, group: list[Values]) -> Values:
    """Of all rows up to each of the group; of a frame of time up to the last."""
    found = []
    for arguments in group:
        value = 1 if one.argument < 0 else arguments[one.argument]
        if one.function == "first_value" and not total[5]:
            total[5] = [value]
        if value is not None:
            _add(one.function, total, value)
        found.append(value if one.function == "last_value" else _running(one, total))
    return found if one.rows else found[-1:] * len(group)


def _add(function: str, total: Values, value: Any) -> None:
    total[0] += 1
    if function in ("sum", "avg"):
        total[1], total[2] = divmod(total[1] * _LIMB + total[2] + value, _LIMB)
    elif function in ("min", "max"):
        total[3] = value if total[3] is None else min(total[3], value)
        total[4] = value if total[4] is None else max(total[4], value)


def _running(one: OverFunction, total: Values) -> Any:
    if one.function == "count":
        return total[0]
    if one.function == "first_value":
        return total[5][0]
    if one.function in ("min", "max"):
        return total[3 if one.function == "min" else 4]
    return _summed(one, total[1] * _LIMB + total[2], total[0]) if total[0] else None
