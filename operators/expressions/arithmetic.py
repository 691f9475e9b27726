"""Numbers: exact int64 and decimals (int64 minor units) with checked overflow, and float64.

Float kernels may give NaN or infinity; the compiler puts a `finite` after them (x/0, NaN and infinity are NULL) before
anything that could tell.
"""

from __future__ import annotations

__all__ = [
    "CIRCULAR",
    "FLOAT_EXACT",
    "add_checked",
    "ceil_scaled",
    "cut_float",
    "cut_scaled",
    "distance_km",
    "divide",
    "divide_scaled",
    "finite",
    "limited",
    "logarithm",
    "multiply_checked",
    "negate_checked",
    "remainder",
    "round_away",
    "round_float",
    "round_scaled",
    "subtract_checked",
]

import math
from collections.abc import Callable
from typing import Final

import numpy as np

from operators.expressions.registers import OVERFLOW, Array, Kernel, Mask, Register, any_row, both, checked, worst

EARTH_RADIUS_KM: Final = 6371.0
_INT_MIN: Final = -(2**63)
FLOAT_EXACT: Final = 2**53
"""Whole numbers up to it are float64 without loss."""
_SURELY_FITS: Final = 9.223372036854e18  # a float product below it is below 2**63 exactly, whatever the rounding


def finite(register: Register) -> Register:
    """NULL where the value is NaN or infinite, and 0.0 beneath."""
    values, valid, errors = register
    # One pass over the values: the sum of squares is finite if all are, but for huge ones, which the slow way settles.
    if math.isfinite(np.dot(values, values)):
        return register
    good = np.isfinite(values)
    if good.all():
        return register
    return np.where(good, values, 0.0), (good if valid is None else good & valid), errors


def add_checked(a: Array, b: Array) -> tuple[Array, Mask | None]:
    """The sum, and where it leaves int64."""
    total = a + b
    return total, ((a ^ total) & (b ^ total)) < 0


def subtract_checked(a: Array, b: Array) -> tuple[Array, Mask | None]:
    """The difference, and where it leaves int64."""
    total = a - b
    return total, ((a ^ b) & (a ^ total)) < 0


def multiply_checked(a: Array, b: Array) -> tuple[Array, Mask | None]:
    """The product, and where it leaves int64; rows near the edge are settled by Python's integers."""
    product = a * b
    near = np.abs(np.multiply(a, b, dtype=np.float64)) > _SURELY_FITS
    if not any_row(near):
        return product, None
    left, right = np.broadcast_arrays(a, b)
    bad = np.array(near, ndmin=1)
    for row in np.flatnonzero(bad).tolist():
        exact = int(left.flat[row]) * int(right.flat[row])
        bad[row] = not _INT_MIN <= exact < -_INT_MIN
    return product, bad.reshape(near.shape)


def negate_checked(a: Array) -> tuple[Array, Mask | None]:
    """-a, and where it leaves int64."""
    return -a, a == _INT_MIN


def absolute_checked(a: Array) -> tuple[Array, Mask | None]:
    """|a|, and where it leaves int64."""
    return np.abs(a), a == _INT_MIN


def limited(low: int, high: int) -> Kernel:
    """Checks a result that is stored: from low to high, else overflow."""

    def check(a: Array) -> tuple[Array, Mask | None]:
        return a, (a < low) | (a > high)

    return checked(check, OVERFLOW)


def divide(a: Array, b: Array) -> Array:
    """The quotient as float64, correctly rounded for integers below 2**53."""
    quotient: Array = np.true_divide(a, b)
    return quotient


def divide_scaled(up: int, down: int) -> Callable[[Array, Array], Array]:
    """A function that divides a * up by b * down, correctly rounded; what floats cannot hold by Python's integers."""

    def quotients(a: Array, b: Array) -> Array:
        quotient: Array = np.true_divide(a * np.float64(up), b * np.float64(down))
        far = _beyond(a, FLOAT_EXACT // up) | _beyond(b, FLOAT_EXACT // down)
        if any_row(far):
            over, under = np.broadcast_arrays(a, b)
            for row in np.flatnonzero(far & (b != 0)).tolist():
                quotient.flat[row] = int(over.flat[row]) * up / (int(under.flat[row]) * down)
        return quotient

    return quotients


def _beyond(values: Array, limit: int) -> Array:
    result: Array = (values > limit) | (values < -limit)
    return result


def remainder(register: Register, divisor: Register) -> Register:
    """The remainder with the sign of a, for int64 and decimals of one scale; NULL where b is 0."""
    av, am, ae = register
    bv, bm, be = divisor
    zero = bv == 0
    valid, errors = both(am, bm), worst(ae, be)
    safe = bv
    if any_row(zero):
        safe = np.where(zero, 1, bv)
        valid = ~zero if valid is None else valid & ~zero
    return np.fmod(av, np.where(safe == -1, 1, safe)), valid, errors


def round_away(values: Array) -> Array:
    """To the nearest whole float; halves away from zero."""
    whole = np.trunc(values)
    return np.where(np.abs(values - whole) >= 0.5, whole + np.copysign(1.0, values), whole)


def round_float(values: Array, digits: int) -> Array:
    """To `digits` decimals as DuckDB does it: scale, round halves away from zero, scale back."""
    if digits == 0:
        return round_away(values)
    factor = 10.0 ** abs(digits)
    if digits < 0:
        return round_away(values / factor) * factor
    rounded = round_away(values * factor) / factor
    return np.where(np.isfinite(rounded), rounded, values)


def cut_float(values: Array, digits: int) -> Array:
    """To `digits` decimals towards zero as DuckDB does it: scale, cut, scale back."""
    factor = 10.0 ** abs(digits)
    if digits <= 0:
        return np.trunc(values / factor) * factor
    cut = np.trunc(values * factor) / factor
    return np.where(np.isfinite(cut), cut, values)


def round_scaled(values: Array, factor: int) -> Array:
    """Divided by factor, to integers, halves away from zero; cannot overflow."""
    rest = np.fmod(values, factor)
    quotient = (values - rest) // factor
    half = np.abs(rest) * 2 >= factor
    result: Array = quotient + half * np.sign(values)
    return result


def cut_scaled(values: Array, factor: int) -> Array:
    """Divided by factor, to integers, towards zero; cannot overflow."""
    result: Array = (values - np.fmod(values, factor)) // factor
    return result


def ceil_scaled(values: Array, factor: int) -> Array:
    """Divided by factor, to integers, rounded up; cannot overflow."""
    quotient = values // factor
    result: Array = quotient + (quotient * factor != values)
    return result


def logarithm(base: Array, values: Array) -> Array:
    """The logarithm to a positive base."""
    return np.where(base > 0, np.log(values) / np.log(base), np.nan)


CIRCULAR: Final[dict[str, Callable[[Array], Array]]] = {
    "sin": np.sin,
    "cos": np.cos,
    "tan": np.tan,
    "cot": lambda values: 1 / np.tan(values),
    "asin": np.arcsin,
    "acos": np.arccos,
    "atan": np.arctan,
    "sinh": np.sinh,
    "cosh": np.cosh,
    "tanh": np.tanh,
    "degrees": np.degrees,
    "radians": np.radians,
}
"""Functions of angles, in radians, and of the hyperbola."""


def distance_km(lat1: Array, lon1: Array, lat2: Array, lon2: Array) -> Array:
    """Great-circle distance by the haversine formula (R. W. Sinnott, Sky and Telescope 68, 1984); degrees in, km out.

    Radius 6371.0 km; 2 R asin(min(1, sqrt(h))) with h = sin^2(dlat/2) + cos lat1 cos lat2 sin^2(dlon/2).
    """
    phi1, phi2 = np.radians(lat1), np.radians(lat2)
    dlat = np.sin((phi2 - phi1) * 0.5)
    dlon = np.sin(np.radians(lon2 - lon1) * 0.5)
    h = dlat * dlat + np.cos(phi1) * np.cos(phi2) * (dlon * dlon)
    result: Array = 2 * EARTH_RADIUS_KM * np.arcsin(np.minimum(1.0, np.sqrt(h)))
    return result
