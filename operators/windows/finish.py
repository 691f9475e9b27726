"""From the result matrix to what columns hold, by a loop: what results.py says feature by feature, in one call."""

from __future__ import annotations

__all__ = ["HELPERS", "Outputs", "finish"]

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from operators.batch import Column, column_of
from operators.schema import Kind
from operators.windows.frame import I64, NOTHING
from operators.windows.layout import FeaturePlan, Layout
from operators.windows.results import readers
from operators.windows.spec import NEVER_NULL, Aggregate

F64 = npt.NDArray[np.float64]
Truths = npt.NDArray[np.bool_]
_PLAIN, _EARLIER, _TRUTH, _MEAN, _DEVIATION, _LEAST, _LARGEST, _LEAST_FLOAT, _LARGEST_FLOAT = range(9)  # kinds
_DIRECT = float(1 << 61)


class Outputs:
    """The columns of a layout's features.

    `asked` (features, 6): kind, rows of the result matrix (value, what counts values, high and low limb; -1: none), and
    how many values make it known. `scales`: by which means and deviations are divided.
    """

    def __init__(self, layout: Layout) -> None:
        asked = [self._asked(plan) for plan in layout.plans]
        types = [plan.type for plan in layout.plans]
        names = [plan.feature.name for plan in layout.plans]
        for feature, i in zip(layout.previous, layout.previous_rows, strict=True):
            kind = _TRUTH if feature.type.kind is Kind.BOOL else _EARLIER
            asked.append((kind, layout.previous_at + i, layout.valid_at + i, -1, -1, 0))
            types.append(feature.type)
            names.append(feature.name)
        self.asked: I64 = np.array(asked, np.int64).reshape(-1, 6)
        self.scales: F64 = np.array(
            [10.0 ** (f.feature.type.scale if f.feature.type else 0) for f in layout.plans]
            + [1.0] * len(layout.previous)
        )
        self.incomplete_at = layout.incomplete_at
        many = len(names)
        self._names, self._types = names, types
        homes = [{Kind.FLOAT64: 1, Kind.BOOL: 3}.get(type_.kind, 0) for type_ in types]
        self._home = [home * many + i for i, home in enumerate(homes)]
        self._nullable = [plan.feature.aggregate not in NEVER_NULL for plan in layout.plans]
        self._nullable += [True] * len(layout.previous)
        kept = dict(readers(layout))
        self._deviations = [
            (i, kept[plan.feature.name])
            for i, plan in enumerate(layout.plans)
            if plan.feature.aggregate is Aggregate.STDDEV
        ]

    def _asked(self, plan: FeaturePlan) -> tuple[int, ...]:
        is_float = plan.type.kind is Kind.FLOAT64
        kind = {
            Aggregate.FIRST_SEEN: _TRUTH, Aggregate.MEAN: _MEAN, Aggregate.STDDEV: _DEVIATION,
            Aggregate.MIN: _LEAST_FLOAT if is_float else _LEAST,
            Aggregate.MAX: _LARGEST_FLOAT if is_float else _LARGEST,
        }.get(plan.feature.aggregate, _PLAIN)  # fmt: skip
        return kind, plan.value, plan.counted, plan.high, plan.low, int(kind == _DEVIATION)

    def room(self, size: int) -> tuple[I64, Truths, I64]:
        """Values (features, rows), truths (2 features + 1, rows) and `missing` (features + 1), for `finish`."""
        many = len(self._names)
        return np.empty((many, size), np.int64), np.empty((2 * many + 1, size), np.bool_), np.empty(many + 1, np.int64)

    def columns(self, values: I64, truths: Truths, missing: list[int], result: I64) -> Iterator[tuple[str, Column]]:
        """Names and columns of what `finish` made: views of its matrices."""
        floats = values.view(np.float64)
        if missing[-1]:
            for i, read in self._deviations:
                floats[i] = read(result).values
        bools = list(truths)
        rows = [*values, *floats, *bools]
        held = map(rows.__getitem__, self._home)
        known = [
            valid if is_nullable and nulls else None
            for valid, is_nullable, nulls in zip(bools, self._nullable, missing, strict=False)
        ]
        return zip(self._names, map(column_of, zip(self._types, held, known, strict=True)), strict=True)


def finish(
    asked: I64, scales: F64, incomplete_at: int, rows: tuple[I64, I64], out: tuple[I64, F64, Truths, I64]
) -> None:
    """What features' columns hold, from the result matrix.

    Args:
        asked: see `Outputs`.
        scales: see `Outputs`.
        incomplete_at: result row that says which rows are incomplete.
        rows: the slot of each, -1 of one without a key: all of it is NULL; the result matrix (result rows, rows).
        out: to be filled: values (features, rows) as ints and as floats, in one memory; truths (2 features + 1, rows):
            validity of each feature, those that are bools, incomplete; missing (features + 1): NULLs of each feature,
            and how many deviations int64 does not hold: they are left.
    """
    slots, result = rows
    values, floats, truths, missing = out
    many = len(asked)
    missing[:] = 0
    for i in range(many):
        kind, counted, least = asked[i, 0], asked[i, 2], asked[i, 5]
        for row in range(len(slots)):
            is_known = slots[row] >= 0 and (counted < 0 or result[counted, row] > least)
            truths[i, row] = is_known
            missing[i] += not is_known
            value = result[asked[i, 1], row]
            if kind == _PLAIN:
                values[i, row] = value
            elif kind == _MEAN:
                floats[i, row] = value / max(result[counted, row], 1) / scales[i]
            elif kind == _DEVIATION:
                high, low = result[asked[i, 3], row], result[asked[i, 4], row]
                count = max(result[counted, row], 2)
                is_exact = count * (high * 4294967296.0 + low) < _DIRECT and abs(value) < 1 << 30
                missing[many] += not is_exact
                floats[i, row] = 0.0
                if is_known and is_exact:
                    spread = float(count * ((high << 32) + low) - value * value)
                    floats[i, row] = math.sqrt(spread / (count * (count - 1))) / scales[i]
            else:
                value = taken_out(kind, value) if is_known else 0
                values[i, row] = value
                truths[many + i, row] = value != 0
    for row in range(len(slots)):
        truths[2 * many, row] = result[incomplete_at, row] != 0


def taken_out(kind: int, value: int) -> int:
    """A value as it was before it was put into a form whose order is that of ints (frame.py)."""
    if kind in (_LARGEST, _LARGEST_FLOAT):
        value = ~value
    if kind in (_LEAST_FLOAT, _LARGEST_FLOAT):
        value ^= value >> 63 & NOTHING
    return value


HELPERS = (taken_out,)
