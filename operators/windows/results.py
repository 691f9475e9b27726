"""From the result matrix to columns: NULLs, means, standard deviations, types."""

from __future__ import annotations

__all__ = ["columns"]

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from operators.batch import Column
from operators.schema import DataType, Kind
from operators.windows.frame import I64, unordered
from operators.windows.layout import FeaturePlan, Layout
from operators.windows.spec import Aggregate

Mask = npt.NDArray[np.bool_]
_DIRECT = float(1 << 61)


def columns(layout: Layout, result: I64) -> Iterator[tuple[str, Column]]:
    """Name and column of each feature; `result` (result rows, rows) is in the batch's row order."""
    for plan in layout.plans:
        yield plan.feature.name, _feature(plan, result)
    for feature, i in zip(layout.previous, layout.previous_rows, strict=True):
        values = _typed(result[layout.previous_at + i], feature.type)
        valid: Mask | None = _unless_all(result[layout.valid_at + i].astype(np.bool_))
        if valid is not None:
            values = np.where(valid, values, np.zeros(1, values.dtype))
        yield feature.name, Column(feature.type, values, valid)


def _unless_all(valid: Mask) -> Mask | None:
    """`valid` if some row is NULL; counting is several times faster than `all` for few rows."""
    return valid if np.count_nonzero(valid) < len(valid) else None


def _typed(values: I64, type_: DataType) -> npt.NDArray[np.generic]:
    if type_.kind is Kind.FLOAT64:
        return values.view(np.float64)
    return values.astype(np.bool_) if type_.kind is Kind.BOOL else values


def _feature(plan: FeaturePlan, result: I64) -> Column:
    feature, type_, values = plan.feature, plan.type, result[plan.value]
    aggregate = feature.aggregate
    if aggregate in (Aggregate.COUNT, Aggregate.DISTINCT):
        return Column(type_, values)
    if aggregate is Aggregate.FIRST_SEEN:
        return Column(type_, values.astype(np.bool_))
    count = None if plan.counted < 0 else result[plan.counted]
    valid = None if count is None else _unless_all(count > (aggregate is Aggregate.STDDEV))
    if aggregate is Aggregate.SUM:
        return Column(type_, values, valid)
    assert feature.type is not None
    if aggregate in (Aggregate.MIN, Aggregate.MAX):
        values = values if valid is None else np.where(valid, values, -(aggregate is Aggregate.MAX))
        values = ~values if aggregate is Aggregate.MAX else values
        values = unordered(values) if feature.type.kind is Kind.FLOAT64 else values
        return Column(type_, _typed(np.ascontiguousarray(values), feature.type), valid)
    assert count is not None
    if aggregate is Aggregate.MEAN:
        mean = values / np.maximum(count, 1) / 10.0**feature.type.scale
        return Column(type_, mean, valid)
    deviation = _deviation(count, values, result[plan.high], result[plan.low]) / 10.0**feature.type.scale
    return Column(type_, deviation if valid is None else np.where(valid, deviation, 0.0), valid)


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
