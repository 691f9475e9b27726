"""What a program computes with, and how kernels are made of plain numpy functions.

A register is (values, valid, errors). `valid` is None where no row is NULL, as in a Column; `errors` is None where no
row failed, else int8: 0 or an error code. Constants, and only they, have values of no dimension; every kernel gets one
column at least, and gives one. An error travels like a value, so that
CASE, COALESCE, AND and OR drop the errors of rows that do not need the failing operand.
"""

from __future__ import annotations

__all__ = [
    "CAST",
    "OVERFLOW",
    "REASONS",
    "Array",
    "Errors",
    "Kernel",
    "Mask",
    "Register",
    "any_row",
    "both",
    "checked",
    "strict",
    "worst",
]

from collections.abc import Callable
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]
Mask: TypeAlias = npt.NDArray[np.bool_]
Errors: TypeAlias = npt.NDArray[np.int8]
Register: TypeAlias = tuple[Array, Mask | None, Errors | None]
Kernel: TypeAlias = Callable[..., Register]

OVERFLOW: Final = 1
CAST: Final = 2
REASONS: Final = {OVERFLOW: "overflow", CAST: "cast"}


def any_row(mask: Array) -> bool:
    """Whether any row is set; several times faster than `mask.any()` for one row."""
    return bool(np.count_nonzero(mask))


def both(first: Mask | None, second: Mask | None) -> Mask | None:
    """Rows valid in both."""
    if first is None:
        return second
    return first if second is None else first & second


def worst(first: Errors | None, second: Errors | None) -> Errors | None:
    """Rows' errors, of either."""
    if first is None:
        return second
    return first if second is None else np.maximum(first, second)


def strict(function: Callable[..., Array], arity: int) -> Kernel:
    """`function` of values as a kernel that is NULL wherever an argument is."""
    if arity == 1:

        def unary(a: Register) -> Register:
            return function(a[0]), a[1], a[2]

        return unary
    if arity == 2:

        def binary(a: Register, b: Register) -> Register:
            av, am, ae = a
            bv, bm, be = b
            valid = bm if am is None else (am if bm is None else am & bm)
            return function(av, bv), valid, (be if ae is None else worst(ae, be))

        return binary

    def nary(*args: Register) -> Register:
        valid, errors = None, None
        for _, one_valid, one_errors in args:
            valid, errors = both(valid, one_valid), worst(errors, one_errors)
        return function(*[arg[0] for arg in args]), valid, errors

    return nary


def checked(function: Callable[..., tuple[Array, Mask | None]], code: int) -> Kernel:
    """As `strict`, for a function that also says which rows fail (None: none); NULL rows do not fail."""

    def run(*args: Register) -> Register:
        valid, errors = None, None
        for _, one_valid, one_errors in args:
            valid, errors = both(valid, one_valid), worst(errors, one_errors)
        values, bad = function(*[arg[0] for arg in args])
        if bad is not None:
            if valid is not None:
                bad = bad & valid
            if any_row(bad):
                errors = worst(errors, (bad * np.int8(code)).astype(np.int8))
        return values, valid, errors

    return run
