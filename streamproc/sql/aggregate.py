"""Aggregates of groups: one value a group, over the values of its rows in their order."""

from __future__ import annotations

__all__ = ["aggregated"]

from typing import Any

import numpy as np
import numpy.typing as npt

from operators.batch import Column
from operators.schema import DataType, Kind
from state.errors import ConfigError
from streamproc.sql.codes import Ints, ranks, value_codes

_EXACT = 2**62  # beyond, an int64's sum is checked value by value


def aggregated(function: str, argument: Column | None, kind: DataType, codes: Ints, groups: int) -> Column:
    """The aggregate of each group.

    Args:
        function: count, distinct, sum, avg, min or max.
        argument: the values; None: all rows count.
        kind: the type of the result.
        codes: the group of each row.
        groups: how many there are.

    Raises:
        ConfigError: an exact sum is beyond int64.
    """
    if argument is not None and argument.valid is not None:
        rows = np.flatnonzero(argument.valid)
        argument, codes = argument.take(rows), codes[rows]
    counts = np.bincount(codes, minlength=groups)
    if argument is None or function == "count":
        return Column(kind, counts.astype(np.int64))
    if function == "distinct":
        pairs = np.unique(codes * (len(codes) + 1) + value_codes(argument.values))
        return Column(kind, np.bincount(pairs // (len(codes) + 1), minlength=groups).astype(np.int64))
    valid = None if counts.all() else counts > 0
    if function in {"min", "max"}:
        return Column(kind, _extreme(function, argument, codes, groups, kind), valid)
    sums = _sums(argument, codes, groups)
    if function == "avg":
        means = sums / (np.maximum(counts, 1) * 10.0**argument.type.scale)
        return finite(kind, means.astype(np.float64), valid)
    if kind.kind is Kind.FLOAT64:
        return finite(kind, sums, valid)
    return Column(kind, sums, valid)


def finite(kind: DataType, values: npt.NDArray[Any], valid: npt.NDArray[np.bool_] | None) -> Column:
    """The column; what is no finite number is NULL."""
    good = np.isfinite(values)
    if good.all():
        return Column(kind, values, valid)
    return Column(kind, np.where(good, values, 0.0), good if valid is None else good & valid)


def _sums(argument: Column, codes: Ints, groups: int) -> npt.NDArray[Any]:
    floats = np.bincount(codes, weights=argument.values.astype(np.float64), minlength=groups)
    if argument.type.kind is Kind.FLOAT64:
        return floats
    if len(floats) and np.abs(floats).max() > _EXACT:
        raise ConfigError("a SUM is beyond int64", hint="CAST its argument to DOUBLE")
    sums = np.zeros(groups, np.int64)
    np.add.at(sums, codes, argument.values)
    return sums


def _extreme(function: str, argument: Column, codes: Ints, groups: int, kind: DataType) -> npt.NDArray[Any]:
    places, values = ranks(argument)
    if not len(values):
        blank: Any = "" if kind.kind is Kind.STRING else 0
        return np.full(groups, blank, dtype=kind.dtype)
    best = np.full(groups, len(values) if function == "min" else -1, np.int64)
    (np.minimum if function == "min" else np.maximum).at(best, codes, places)
    return values[np.clip(best, 0, len(values) - 1)]
