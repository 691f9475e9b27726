"""CAST and TRY_CAST: exact, or an error of the row (TRY_CAST: NULL). To int64 a fraction is cut off, as in Flink."""

from __future__ import annotations

__all__ = ["cast_kernel", "within_kernel"]

import math
import re
from collections.abc import Callable
from decimal import ROUND_HALF_UP, Context, Decimal
from typing import Any, Final

import numpy as np

from operators.expressions.arithmetic import cut_scaled, multiply_checked, round_away, round_scaled
from operators.expressions.clock import format_timestamp, parse_timestamp
from operators.expressions.registers import CAST, Array, Kernel, Mask, Register, checked, strict
from operators.schema import DataType, Kind

Checked = tuple[Array, Mask | None]

_CONTEXT: Final = Context(prec=100)
_TWO63: Final = 2.0**63
_INT64: Final = range(-(2**63), 2**63)
_NUMBER: Final = re.compile(r"[+-]?(\d{1,400}\.?\d{0,400}|\.\d{1,400})([eE][+-]?\d{1,3})?", re.ASCII)
_BOOLS: Final = {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}


def cast_kernel(source: DataType, target: DataType, try_: bool) -> Kernel:
    """The kernel that casts `source` to `target`; KeyError if there is no such cast."""
    kernel = _exact(source, target)
    if kernel is None:
        kernel = checked(_fallible(source, target), CAST)
        if try_:
            return _null_on_error(kernel)
    return kernel


def within_kernel(low: int, high: int, try_: bool) -> Kernel:
    """The kernel that checks that a number fits a narrower type, from low to high."""
    kernel = checked(lambda v: (v, (v < low) | (v > high)), CAST)
    return _null_on_error(kernel) if try_ else kernel


def _null_on_error(kernel: Kernel) -> Kernel:
    def run(register: Register) -> Register:
        values, valid, errors = kernel((register[0], register[1], None))
        if errors is not None:
            good = errors == 0
            valid = good if valid is None else valid & good
        return values, valid, register[2]

    return run


def _exact(source: DataType, target: DataType) -> Kernel | None:
    """Casts that cannot fail."""
    to, of, scale = target.kind, source.kind, source.scale
    function: Callable[[Array], Array] | None = None
    if to is Kind.FLOAT64 and of is Kind.DECIMAL:
        divisor = np.float64(10.0**scale)
        function = lambda v: np.true_divide(v, divisor)  # noqa: E731
    elif to is Kind.FLOAT64 and of in {Kind.INT64, Kind.BOOL}:
        function = lambda v: v.astype(np.float64)  # noqa: E731
    elif to is Kind.INT64 and of is Kind.BOOL:
        function = lambda v: v.astype(np.int64)  # noqa: E731
    elif to is Kind.BOOL and of in {Kind.INT64, Kind.FLOAT64, Kind.DECIMAL}:
        function = lambda v: v != 0  # noqa: E731
    elif of is Kind.DECIMAL and to is Kind.INT64:
        factor = 10**scale
        function = lambda v: cut_scaled(v, factor)  # noqa: E731
    elif of is Kind.DECIMAL and to is Kind.DECIMAL and target.scale < scale:
        factor = 10 ** (scale - target.scale)
        function = lambda v: round_scaled(v, factor)  # noqa: E731
    elif to is Kind.STRING:
        write = _WRITERS[of](scale)
        function = lambda v: _objects([write(one) for one in v.tolist()])  # noqa: E731
    return None if function is None else strict(function, 1)


def _fallible(source: DataType, target: DataType) -> Callable[[Array], Checked]:
    to, of = target.kind, source.kind
    if of is Kind.STRING:
        return _parsed(_READERS[to](target.scale), target)
    if of is Kind.FLOAT64 and to is Kind.INT64:
        return lambda v: _to_int(np.trunc(v))
    if of is Kind.FLOAT64 and to is Kind.DECIMAL:
        power = 10.0**target.scale
        return lambda v: _to_int(round_away(v * power))
    if of in {Kind.INT64, Kind.DECIMAL, Kind.BOOL} and to is Kind.DECIMAL:
        factor = np.int64(10 ** (target.scale - source.scale))
        return lambda v: multiply_checked(v.astype(np.int64), np.asarray(factor))
    raise KeyError(f"{source} to {target}")


def _to_int(values: Array) -> Checked:
    bad = ~((values >= -_TWO63) & (values < _TWO63))
    return np.where(bad, 0.0, values).astype(np.int64), bad


def _objects(values: list[Any]) -> Array:
    column = np.empty(len(values), np.object_)
    column[:] = values
    return column


def _parsed(read: Callable[[str], Any], target: DataType) -> Callable[[Array], Checked]:
    empty = target.dtype

    def run(values: Array) -> Checked:
        found = [read(text) for text in values.tolist()]
        bad = np.array([one is None for one in found], np.bool_)
        return np.array([0 if one is None else one for one in found], dtype=empty), bad

    return run


def _read_int(_: int) -> Callable[[str], int | None]:
    def read(text: str) -> int | None:
        text = text.strip(" \t")
        if len(text) > 20 or not re.fullmatch(r"[+-]?\d+", text, re.ASCII):
            return None
        value = int(text)
        return value if value in _INT64 else None

    return read


def _read_float(_: int) -> Callable[[str], float | None]:
    def read(text: str) -> float | None:
        text = text.strip(" \t")
        if not _NUMBER.fullmatch(text):
            return None
        value = float(text)
        return value if math.isfinite(value) else None

    return read


def _read_decimal(scale: int) -> Callable[[str], int | None]:
    def read(text: str) -> int | None:
        text = text.strip(" \t")
        if len(text) > 60 or not _NUMBER.fullmatch(text):
            return None
        number = Decimal(text)
        if number.adjusted() > 20:
            return None
        value = int(number.scaleb(scale, _CONTEXT).to_integral_value(ROUND_HALF_UP, _CONTEXT))
        return value if value in _INT64 else None

    return read


_READERS: Final[dict[Kind, Callable[[int], Callable[[str], Any]]]] = {
    Kind.INT64: _read_int,
    Kind.FLOAT64: _read_float,
    Kind.DECIMAL: _read_decimal,
    Kind.BOOL: lambda _: lambda text: _BOOLS.get(text.strip(" \t").lower()),
    Kind.TIMESTAMP: lambda _: parse_timestamp,
}
_WRITERS: Final[dict[Kind, Callable[[int], Callable[[Any], str]]]] = {
    Kind.INT64: lambda _: str,
    Kind.DECIMAL: lambda scale: lambda value: f"{Decimal(value).scaleb(-scale):f}",
    Kind.BOOL: lambda _: lambda value: "true" if value else "false",
    Kind.TIMESTAMP: lambda _: format_timestamp,
}
