"""Aggregates of groups: one value a group, over the values of its rows in their order."""

from __future__ import annotations

__all__ = ["aggregated"]

from typing import Any

import numpy as np
import numpy.typing as npt

from operators.batch import Column
from operators.expressions.text import TEXT_MAX
from operators.schema import DataType, Kind
from state.errors import ConfigError
from streamproc.sql.codes import Ints, ranks, value_codes
from streamproc.sql.names import SPREADS
from streamproc.sql.plan import Aggregate

_EXACT = 2**62  # beyond, an int64's sum is checked value by value


def aggregated(one: Aggregate, argument: Column | None, codes: Ints, groups: int) -> Column:
    """The aggregate of each group.

    Args:
        one: which it is.
        argument: the values; None: all rows count.
        codes: the group of each row.
        groups: how many there are.

    Raises:
        ConfigError: an exact sum is beyond int64, or a text too long.
    """
    function, kind = one.function, one.type
    if argument is not None and argument.valid is not None:
        rows = np.flatnonzero(argument.valid)
        argument, codes = argument.take(rows), codes[rows]
    if argument is not None and one.distinct:
        pairs = codes * (len(codes) + 1) + value_codes(argument.values)
        rows = np.sort(np.unique(pairs, return_index=True)[1])
        argument, codes = argument.take(rows), codes[rows]
    counts = np.bincount(codes, minlength=groups)
    if argument is None or function == "count":
        return Column(kind, counts.astype(np.int64))
    valid = None if counts.all() else counts > 0
    if function in {"min", "max"}:
        return Column(kind, _extreme(function, argument, codes, groups, kind), valid)
    if function in {"first_value", "last_value"}:
        return Column(kind, _end(function, argument, codes, groups), valid)
    if function == "listagg":
        return Column(kind, _joined(argument, codes, groups, one.separator), valid)
    if function in SPREADS:
        return _spread(function, argument, codes, counts)
    sums = _sums(argument, codes, groups)
    if function == "avg":
        means = sums / (np.maximum(counts, 1) * 10.0**argument.type.scale)
        return finite(kind, means.astype(np.float64), valid)
    if kind.kind is Kind.FLOAT64:
        return finite(kind, sums, valid)
    return Column(kind, sums, valid)


def _spread(function: str, argument: Column, codes: Ints, counts: Ints) -> Column:
    """Variances and their roots: the squares of what lies between values and their mean, added up."""
    groups, taken = len(counts), 1 if function.endswith("samp") else 0
    values, size = argument.values / 10.0**argument.type.scale, np.maximum(counts, 1)
    away = values - (np.bincount(codes, values, groups) / size)[codes]
    squares = np.bincount(codes, away * away, groups) - np.bincount(codes, away, groups) ** 2 / size
    found = np.maximum(squares, 0) / np.maximum(counts - taken, 1)
    made = np.sqrt(found) if function.startswith("stddev") else found
    return finite(DataType(Kind.FLOAT64), made, None if (counts > taken).all() else counts > taken)


def _end(function: str, argument: Column, codes: Ints, groups: int) -> npt.NDArray[Any]:
    """The value of each group's first row, or of its last one."""
    rows = np.arange(len(codes))
    if not len(rows):
        return _blank(argument.type, groups)
    place = np.zeros(groups, np.int64)
    if function == "first_value":
        rows = rows[::-1]
    place[codes[rows]] = rows  # the last one of equal codes stays
    return argument.values[place]


def _joined(argument: Column, codes: Ints, groups: int, separator: str) -> npt.NDArray[Any]:
    """The texts of each group, in order of its rows."""
    texts: list[list[str]] = [[] for _ in range(groups)]
    for code, text in zip(codes.tolist(), argument.values.tolist(), strict=True):
        texts[code].append(text)
    made = np.empty(groups, np.object_)
    for n, some in enumerate(texts):
        if sum(map(len, some)) + len(separator) * len(some) > TEXT_MAX:
            raise ConfigError(f"a LISTAGG has more than {TEXT_MAX} characters")
        made[n] = separator.join(some)
    return made


def _blank(kind: DataType, size: int) -> npt.NDArray[Any]:
    blank: Any = "" if kind.kind is Kind.STRING else 0
    return np.full(size, blank, dtype=kind.dtype)


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
        return _blank(kind, groups)
    best = np.full(groups, len(values) if function == "min" else -1, np.int64)
    (np.minimum if function == "min" else np.maximum).at(best, codes, places)
    return values[np.clip(best, 0, len(values) - 1)]
