"""Typing of the functions whose result follows the type of a number: abs, sign, round, truncate, floor, ceil."""

from __future__ import annotations

__all__ = ["absolute", "ceiling", "floor", "rounded", "sign", "truncated"]

from collections.abc import Sequence
from typing import Final

from operators.schema import Kind
from streamproc.language.expression.typed import (
    FLOAT64,
    INT64,
    INT_BOUND,
    NUMBERS,
    Typed,
    TypeMismatchError,
    call,
    constant,
    decimal,
)

DIGITS_MAX: Final = 15


def _number(piece: Typed) -> Typed:
    if piece.untyped:
        return constant(None, FLOAT64)
    if piece.type.kind not in NUMBERS:
        raise TypeMismatchError(f"a number is wanted here, not {piece.shown}")
    return piece


def absolute(args: Sequence[Typed]) -> Typed:
    """ABS: the type of x."""
    piece = _number(args[0])
    if piece.type == FLOAT64:
        return call("abs", piece, to=FLOAT64, finite=piece.finite, raw=True)
    kernel = "abs" if piece.bound < INT_BOUND else "abs_checked"
    return call(kernel, piece, to=piece.type, bound=piece.bound)._replace(interval=piece.interval)


def sign(args: Sequence[Typed]) -> Typed:
    """SIGN: int64."""
    return call("sign", _number(args[0]), to=INT64, bound=1)


def floor(args: Sequence[Typed]) -> Typed:
    """FLOOR: of a decimal int64, else the type of x."""
    return _whole(_number(args[0]), "floor")


def ceiling(args: Sequence[Typed]) -> Typed:
    """CEIL: of a decimal int64, else the type of x."""
    return _whole(_number(args[0]), "ceil")


def _whole(piece: Typed, kernel: str) -> Typed:
    if piece.type == FLOAT64:
        return call(kernel, piece, to=FLOAT64)
    if piece.type == INT64:
        return piece
    factor = 10**piece.type.scale
    return call(f"{kernel}_scaled", piece, to=INT64, options=(factor,), bound=piece.bound // factor + 1)


def rounded(args: Sequence[Typed]) -> Typed:
    """ROUND: halves away from zero. Exact numbers stay exact; with no decimals left: int64."""
    return _fewer(args, "round")


def truncated(args: Sequence[Typed]) -> Typed:
    """TRUNCATE: towards zero; types as ROUND's."""
    return _fewer(args, "cut")


def _fewer(args: Sequence[Typed], kernel: str) -> Typed:
    """The number with so many decimals."""
    piece = _number(args[0])
    digits = 0
    if len(args) > 1:
        known = args[1].constant
        if known is None or known.type != INT64 or not isinstance(known.value, int) or abs(known.value) > DIGITS_MAX:
            raise TypeMismatchError(f"the digits must be a whole literal from -{DIGITS_MAX} to {DIGITS_MAX}")
        digits = known.value
    if piece.type == FLOAT64:
        return call(kernel, piece, to=FLOAT64, options=(digits,), finite=digits >= 0)
    if digits > 0 and digits >= piece.type.scale:
        return piece
    if piece.type == INT64 and digits >= 0:
        return piece
    return _fewer_exact(piece, digits, f"{kernel}_scaled")


def _fewer_exact(piece: Typed, digits: int, kernel: str) -> Typed:
    to = decimal(digits) if digits > 0 and piece.type.kind is Kind.DECIMAL else INT64
    factor = 10 ** (piece.type.scale - digits)
    if factor >= INT_BOUND:
        raise TypeMismatchError("the digits are too many to round away")
    made = call(kernel, piece, to=to, options=(factor,), bound=piece.bound // factor + 1)
    if digits >= 0:
        return made
    bound = made.bound * 10**-digits
    grown = "multiply" if bound < INT_BOUND else "multiply_checked"
    return call(grown, made, constant(10**-digits, INT64), to=INT64, bound=bound)
