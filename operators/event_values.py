"""Columns to plain Python values and back, for operators that see one event at a time.

int64, timestamp (ms since 1970, UTC)   int
float64                                 float; an int will do as a result; NaN and infinity become NULL
decimal(n)                              decimal.Decimal; an int will do; more than n decimals are refused
string, bool                            str, bool
NULL                                    None
"""

from __future__ import annotations

__all__ = ["UnfitError", "column_of", "physical", "python_values"]

import math
from collections.abc import Callable
from decimal import Context, Decimal
from typing import Any

import numpy as np

from operators.batch import Column
from operators.schema import MINOR_LIMIT, DataType, Kind
from operators.values import TIME_MAX, TIME_MIN

_EXACT = Context(prec=60)  # our own: the thread's may be changed by anyone


class UnfitError(Exception):
    """A value that its column cannot hold; the text says why and never quotes the value."""


def python_values(column: Column) -> list[Any]:
    """The rows of a column as Python values."""
    values: list[Any] = column.values.tolist()
    if column.type.kind is Kind.DECIMAL:
        scale = -column.type.scale
        values = [Decimal(value).scaleb(scale, _EXACT) for value in values]
    if column.valid is not None and not column.valid.all():
        values = [value if valid else None for value, valid in zip(values, column.valid.tolist(), strict=True)]
    return values


def column_of(of_type: DataType, values: list[Any]) -> Column:
    """A column of physical values, as `physical` gives them; None is NULL."""
    valid = None
    if None in values:
        valid = np.array([value is not None for value in values], np.bool_)
        blank = of_type.blank
        values = [blank if value is None else value for value in values]
    array = np.empty(len(values), of_type.dtype)
    array[:] = values
    return Column(of_type, array, valid)


def physical(of_type: DataType) -> Callable[[Any], Any]:
    """The function that turns a Python value into what a column of `of_type` holds; None stays None.

    It raises UnfitError.
    """
    convert = _CONVERT[of_type.kind]

    def checked(value: Any) -> Any:
        if isinstance(value, np.generic):
            value = value.item()
        return None if value is None else convert(value, of_type)

    return checked


def _int64(value: Any, of_type: DataType) -> int:
    number = _whole(value, of_type)
    if not -(2**63) <= number < 2**63:
        raise UnfitError("is too large for int64")
    return number


def _timestamp(value: Any, of_type: DataType) -> int:
    number = _whole(value, of_type)
    if not TIME_MIN <= number <= TIME_MAX:
        raise UnfitError("lies outside the years 1 to 9999 (a timestamp is ms since 1970)")
    return number


def _whole(value: Any, of_type: DataType) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise _other(value, of_type, "an int")
    return value


def _float64(value: Any, of_type: DataType) -> float | None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise _other(value, of_type, "a float")
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _decimal(value: Any, of_type: DataType) -> int:
    if not isinstance(value, int | Decimal) or isinstance(value, bool):
        raise _other(value, of_type, "a Decimal")
    given = Decimal(value)
    if not given.is_finite() or given.adjusted() > 16:
        raise UnfitError(f"is too large for {of_type}, or not a number")
    minor = given.scaleb(of_type.scale, _EXACT)
    number = int(minor)
    if number != minor:
        raise UnfitError(f"has more than {of_type.scale} decimals: round it with quantize()")
    if abs(number) >= MINOR_LIMIT:
        raise UnfitError(f"is too large for {of_type}")
    return number


def _bool(value: Any, of_type: DataType) -> bool:
    if not isinstance(value, bool):
        raise _other(value, of_type, "a bool")
    return value


def _string(value: Any, of_type: DataType) -> str:
    if not isinstance(value, str):
        raise _other(value, of_type, "a str")
    return str(value)


def _other(value: Any, of_type: DataType, wanted: str) -> UnfitError:
    return UnfitError(f"must be {wanted} ({of_type}), not {type(value).__name__}")


_CONVERT: dict[Kind, Callable[[Any, DataType], Any]] = {
    Kind.INT64: _int64,
    Kind.FLOAT64: _float64,
    Kind.DECIMAL: _decimal,
    Kind.STRING: _string,
    Kind.BOOL: _bool,
    Kind.TIMESTAMP: _timestamp,
}
