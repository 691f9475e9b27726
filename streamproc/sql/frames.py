"""Functions over the rows before: each row's frame is a run of rows of its key in order of time.

Rows are laid out by key, within it by time; the frame of row i is lo[i]..hi[i], both included, and neither ever goes
back within a key. Sums of floats are added up anew for each frame, unless that would take minutes.
"""

from __future__ import annotations

__all__ = ["Bounds", "bounds_of", "framed", "places"]

from collections import Counter, deque
from itertools import pairwise
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from operators.batch import Column
from operators.schema import DataType, Kind
from state.errors import ConfigError
from streamproc.sql.aggregate import finite
from streamproc.sql.codes import Ints, ranks, value_codes
from streamproc.sql.plan import Frame, OverFunction

_ADDED_MAX: Final = 10**9
_EXACT: Final = 2**62
Bools = npt.NDArray[np.bool_]


class Bounds(NamedTuple):
    """`order`: rows by key and time; `first`: where the key of each begins; `lo`, `hi`: its frame."""

    order: Ints
    first: Ints
    lo: Ints
    hi: Ints
    running: bool

    def back(self, column: Column) -> Column:
        """A column in that order, as the rows stand."""
        values = np.empty_like(column.values)
        values[self.order] = column.values
        if column.valid is None:
            return Column(column.type, values)
        valid = np.empty_like(column.valid)
        valid[self.order] = column.valid
        return Column(column.type, values, valid)


def bounds_of(frame: Frame, codes: Ints, times: Ints) -> Bounds:
    """The frames of rows that stand in order of time; `codes`: equal for rows of one key."""
    order = np.argsort(codes, kind="stable")
    keys, size = codes[order], len(codes)
    here = np.arange(size)
    begins = np.ones(size, np.bool_)
    begins[1:] = keys[1:] != keys[:-1]
    first = np.maximum.accumulate(np.where(begins, here, 0)) if size else here
    lo = first
    if frame.kind == "rows":
        if frame.preceding is not None:
            lo = np.maximum(first, here - frame.preceding)
        return Bounds(order, first, lo, here, frame.preceding is None)
    moments, place = np.unique(times[order], return_inverse=True)
    every = keys * (len(moments) + 1)
    laid = every + place
    if frame.preceding is not None:
        earliest = np.searchsorted(moments, times[order] - frame.preceding, "left")
        lo = np.searchsorted(laid, every + earliest, "left")
    return Bounds(order, first, lo, np.searchsorted(laid, laid, "right") - 1, frame.preceding is None)


def places(order: Ints, codes: Ints) -> Ints:
    """The place of each row, from 1, among those of its code; `order`: the rows by code, then in their own order."""
    keys, here = codes[order], np.arange(len(codes))
    begins = np.ones(len(codes), np.bool_)
    begins[1:] = keys[1:] != keys[:-1]
    found = np.empty(len(codes), np.int64)
    found[order] = here - np.maximum.accumulate(np.where(begins, here, 0)) + 1 if len(codes) else here
    return found


def framed(one: OverFunction, argument: Column | None, default: Column | None, bounds: Bounds) -> Column:
    """The function's value for each row.

    Raises:
        ConfigError: an exact sum is beyond int64.
    """
    here = np.arange(len(bounds.order))
    if one.function == "row_number":
        return bounds.back(Column(one.type, here - bounds.first + 1))
    if argument is None:
        return bounds.back(Column(one.type, bounds.hi - bounds.lo + 1))
    laid = argument.take(bounds.order)
    known = np.ones(len(here), np.bool_) if laid.valid is None else laid.valid
    if one.function in {"first_value", "last_value"}:
        return bounds.back(laid.take(bounds.lo if one.function == "first_value" else bounds.hi))
    if one.function == "lag":
        return bounds.back(_lag(laid, default and default.take(bounds.order), here - one.offset, bounds.first))
    if one.function == "distinct":
        return bounds.back(Column(one.type, _distinct(value_codes(laid.values), known, bounds)))
    sums = np.append(0, np.cumsum(known))
    counts = sums[bounds.hi + 1] - sums[bounds.lo]
    if one.function == "count":
        return bounds.back(Column(one.type, counts))
    valid = None if counts.all() else counts > 0
    if one.function in {"min", "max"}:
        return bounds.back(Column(one.type, _extreme(one, laid, known, bounds), valid))
    return bounds.back(_sum(one, laid, known, bounds, counts))


def _lag(laid: Column, default: Column | None, at: Ints, first: Ints) -> Column:
    there = at >= first
    found = laid.take(np.where(there, at, 0))
    valid = there if found.valid is None else there & found.valid
    if default is None:
        return Column(laid.type, found.values, valid)
    other = np.ones(len(at), np.bool_) if default.valid is None else default.valid
    return Column(laid.type, np.where(there, found.values, default.values), np.where(there, valid, other))


def _sum(one: OverFunction, laid: Column, known: Bools, bounds: Bounds, counts: Ints) -> Column:
    values = np.where(known, laid.values, 0)
    valid = None if counts.all() else counts > 0
    if laid.type.kind is not Kind.FLOAT64:
        if np.abs(values.astype(np.float64)).sum() > _EXACT:
            raise ConfigError("a SUM is beyond int64", hint="CAST its argument to DOUBLE")
        sums = np.append(0, np.cumsum(values))
        totals = sums[bounds.hi + 1] - sums[bounds.lo]
    else:
        totals = _float_sums(values, bounds)
    if one.function == "avg":
        return finite(one.type, totals / (np.maximum(counts, 1) * 10.0**laid.type.scale), valid)
    return finite(one.type, totals, valid) if one.type.kind is Kind.FLOAT64 else Column(one.type, totals, valid)


def _float_sums(values: npt.NDArray[np.float64], bounds: Bounds) -> npt.NDArray[np.float64]:
    size = len(values)
    if bounds.running:
        edges = [*np.unique(bounds.first).tolist(), size]
        parts = [np.cumsum(values[start:stop]) for start, stop in pairwise(edges)]
        return np.concatenate([*parts, np.zeros(0)])[bounds.hi]
    if int((bounds.hi - bounds.lo).sum()) > _ADDED_MAX:
        sums = np.append(np.longdouble(0), np.cumsum(values, dtype=np.longdouble))
        return (sums[bounds.hi + 1] - sums[bounds.lo]).astype(np.float64)
    ends = np.stack([bounds.lo, bounds.hi + 1], axis=1).ravel()
    return np.add.reduceat(np.append(values, 0.0), ends)[::2] if size else values


def _extreme(one: OverFunction, laid: Column, known: Bools, bounds: Bounds) -> npt.NDArray[Any]:
    """The least or greatest of each frame; places of candidates, the best first, wait in a queue."""
    places, values = ranks(laid)
    if one.function == "max":
        places = -places
    place, fine = places.tolist(), known.tolist()
    best = np.zeros(len(place), np.int64)
    waiting: deque[int] = deque()
    taken = 0
    for row, (low, high) in enumerate(zip(bounds.lo.tolist(), bounds.hi.tolist(), strict=True)):
        for new in range(max(taken, low), high + 1):
            if fine[new]:
                while waiting and place[waiting[-1]] >= place[new]:
                    waiting.pop()
                waiting.append(new)
        taken = max(taken, high + 1)
        while waiting and waiting[0] < low:
            waiting.popleft()
        best[row] = abs(place[waiting[0]]) if waiting else 0
    return values[best] if len(values) else _blank(one.type, len(best))


def _blank(kind: DataType, size: int) -> npt.NDArray[Any]:
    blank: Any = "" if kind.kind is Kind.STRING else 0
    return np.full(size, blank, dtype=kind.dtype)


def _distinct(codes: Ints, known: Bools, bounds: Bounds) -> Ints:
    """How many different values each frame has."""
    code, fine = codes.tolist(), known.tolist()
    counts = np.zeros(len(code), np.int64)
    inside: Counter[int] = Counter()
    left = right = 0
    for row, (low, high) in enumerate(zip(bounds.lo.tolist(), bounds.hi.tolist(), strict=True)):
        for new in range(right, high + 1):
            if fine[new]:
                inside[code[new]] += 1
        right = max(right, high + 1)
        for old in range(left, low):
            if fine[old]:
                inside[code[old]] -= 1
                if not inside[code[old]]:
                    del inside[code[old]]
        left = max(left, low)
        counts[row] = len(inside)
    return counts
