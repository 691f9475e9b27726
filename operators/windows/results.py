"""From the result matrix to columns: NULLs, means, standard deviations, types."""

from __future__ import annotations

__all__ = ["Reader", "readers"]

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from operators.batch import Column
from operators.schema import DataType, Kind
from operators.windows.frame import I64, unordered
from operators.windows.layout import FeaturePlan, Layout
from operators.windows.spec import Aggregate

Mask = npt.NDArray[np.bool_]
Reader = Callable[[I64], Column]
"""A feature's column from the result matrix (result rows, rows), which is in the batch's row order."""
_DIRECT = float(1 << 61)


def readers(layout: Layout) -> tuple[tuple[str, Reader], ...]:
    """Name and reader of each feature."""
    found = [(plan.feature.name, _reader(plan)) for plan in layout.plans]
    for feature, i in zip(layout.previous, layout.previous_rows, strict=True):
        found.append((feature.name, _earlier(feature.type, layout.previous_at + i, layout.valid_at + i)))
    return tuple(found)


def _earlier(type_: DataType, at: int, valid_at: int) -> Reader:
    def read(result: I64) -> Column:
        values, valid = _typed(result[at], type_), _unless_all(result[valid_at].astype(np.bool_))
        if valid is not None:
            values = np.where(valid, values, np.zeros(1, values.dtype))
        return Column(type_, values, valid)

    return read


def _unless_all(valid: Mask) -> Mask | None:
    """`valid` if some row is NULL; counting is several times faster than `all` for few rows."""
    return valid if np.count_nonzero(valid) < len(valid) else None


def _typed(values: I64, type_: DataType) -> npt.NDArray[np.generic]:
    if type_.kind is Kind.FLOAT64:
        return values.view(np.float64)
    return values.astype(np.bool_) if type_.kind is Kind.BOOL else values


def _reader(plan: FeaturePlan) -> Reader:
    at, type_ = plan.value, plan.type
    match plan.feature.aggregate:
        case Aggregate.COUNT | Aggregate.DISTINCT:
            return lambda result: Column(type_, result[at])
        case Aggregate.FIRST_SEEN:
            return lambda result: Column(type_, result[at].astype(np.bool_))
        case Aggregate.SUM:
            return lambda result: Column(type_, result[at], _counted(plan, result))
        case Aggregate.MEAN:
            return lambda result: _mean(plan, result)
        case Aggregate.STDDEV:
            return lambda result: _stddev(plan, result)
    return lambda result: _extreme(plan, result)


def _counted(plan: FeaturePlan, result: I64, more_than: int = 0) -> Mask | None:
    """Rows with enough values; None: all."""
    return None if plan.counted < 0 else _unless_all(result[plan.counted] > more_than)


def _extreme(plan: FeaturePlan, result: I64) -> Column:
    largest, type_ = plan.feature.aggregate is Aggregate.MAX, plan.type
    values, valid = result[plan.value], _counted(plan, result)
    values = values if valid is None else np.where(valid, values, -largest)
    values = ~values if largest else values
    values = unordered(values) if type_.kind is Kind.FLOAT64 else values
    return Column(type_, _typed(np.ascontiguousarray(values), type_), valid)


def _scale(plan: FeaturePlan) -> float:
    assert plan.feature.type is not None
    return 10.0**plan.feature.type.scale


def _mean(plan: FeaturePlan, result: I64) -> Column:
    values = result[plan.value] / np.maximum(result[plan.counted], 1) / _scale(plan)
    return Column(plan.type, values, _counted(plan, result))


def _stddev(plan: FeaturePlan, result: I64) -> Column:
    valid = _counted(plan, result, more_than=1)
    count, total, high, low = (result[at] for at in (plan.counted, plan.value, plan.high, plan.low))
    deviation = _deviation(count, total, high, low) / _scale(plan)
    return Column(plan.type, deviation if valid is None else np.where(valid, deviation, 0.0), valid)


def _deviation(count: I64, total: I64, high: I64, low: I64) -> npt.NDArray[np.float64]:
    """Sample standard deviation from count n, sum S and the squares' limbs: sqrt((n Q - S S) / (n (n - 1))).

    n Q - S S is computed exactly: in int64 where it fits, else in Python's ints.
    """
    n = np.maximum(count, 2)
    squares = (high << 32) + low  # may wrap; then the float below says so
    size = n * (high * 4294967296.0 + low)
    spread = np.zeros(len(n))
    fits = (size < _DIRECT) & (np.abs(total) < 1 << 30)
    np.copyto(spread, n * squares - total * total, where=fits, casting="unsafe")
    for i in np.flatnonzero(~fits).tolist():
        exact = int(n[i]) * ((int(high[i]) << 32) + int(low[i])) - int(total[i]) ** 2
        spread[i] = float(exact)
    deviation: npt.NDArray[np.float64] = np.sqrt(spread / (n * (n - 1)))
    return deviation
