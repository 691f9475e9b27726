"""Typing of CAST, TRY_CAST and LIKE."""

from __future__ import annotations

__all__ = ["cast", "converted", "escape_of", "like"]

from decimal import Decimal
from typing import Final

from sqlglot import exp

from operators.expressions.casts import cast_kernel
from operators.schema import DataType, Kind
from streamproc.language.expression.typed import (
    BOOL,
    FLOAT64,
    INT64,
    INT_BOUND,
    PATTERN_MAX,
    STRING,
    TIMESTAMP,
    Typed,
    TypeMismatchError,
    call,
    coerce,
    column_bound,
    constant,
    decimal,
)

_TYPES: Final = {
    exp.DType.TINYINT: INT64,
    exp.DType.SMALLINT: INT64,
    exp.DType.INT: INT64,
    exp.DType.BIGINT: INT64,
    exp.DType.FLOAT: FLOAT64,
    exp.DType.DOUBLE: FLOAT64,
    exp.DType.TEXT: STRING,
    exp.DType.VARCHAR: STRING,
    exp.DType.BOOLEAN: BOOL,
    exp.DType.TIMESTAMP: TIMESTAMP,
    exp.DType.TIMESTAMPTZ: TIMESTAMP,
    exp.DType.DATE: TIMESTAMP,
}
_INTEGERS: Final = {  # least and greatest number of the narrower ones
    exp.DType.TINYINT: (-(2**7), 2**7 - 1),
    exp.DType.SMALLINT: (-(2**15), 2**15 - 1),
    exp.DType.INT: (-(2**31), 2**31 - 1),
}
_SIZE_DIGITS: Final = 10
_DIGITS_MAX: Final = 19  # more than int64 has


def cast(piece: Typed, node: exp.DataType, try_: bool) -> Typed:
    """CAST(piece AS node): a DATE is the start of its day, VARCHAR(n) cuts to n, a number must fit its type's size."""
    sizes = [int(one.name) for one in node.expressions if one.name.isdecimal() and len(one.name) < _SIZE_DIGITS]
    target = _target(node, sizes)
    made = converted(piece, target, try_)
    if node.this == exp.DType.DATE:
        return call("truncate", made, to=target, options=("day",), bound=made.bound)
    if node.this == exp.DType.VARCHAR and sizes:
        return call("substr", made, constant(1, INT64), constant(sizes[0], INT64), to=STRING)
    low, high = _INTEGERS.get(node.this, (-INT_BOUND, INT_BOUND - 1))
    if node.this == exp.DType.DECIMAL and len(sizes) > 1:
        high = 10 ** min(sizes[0], _DIGITS_MAX) - 1
        low = -high
    if made.bound <= high or high >= INT_BOUND - 1:
        return made
    return call("within", made, to=target, options=(low, high, try_), nullable=True if try_ else None, bound=-low)


def _target(node: exp.DataType, sizes: list[int]) -> DataType:
    """The type that a CAST names; decimal(2) is our decimal with two decimals, DECIMAL(18, 2) the same in SQL's way."""
    if node.this == exp.DType.DECIMAL:
        if not sizes:
            raise TypeMismatchError("say the number of decimals: decimal(2)")
        if len(sizes) > 1 and sizes[0] < sizes[1]:
            raise TypeMismatchError("DECIMAL(p, s) has p digits, s of them decimals: s is at most p")
        return decimal(sizes[-1])
    known = _TYPES.get(node.this)
    sized = known == TIMESTAMP or (node.this == exp.DType.VARCHAR and len(sizes) == 1 and sizes[0] > 0)
    if known is None or (node.expressions and not sized):
        names = "int64, float64, decimal(n), string, varchar(n), bool, timestamp, date"
        raise TypeMismatchError(f"there is no type {node.sql()[:40]}; the types are {names}")
    return known


def converted(piece: Typed, target: DataType, try_: bool) -> Typed:
    """The piece as a `target`. A text literal is converted at once."""
    if piece.untyped:
        return constant(None, target)
    if piece.type == target:
        return piece
    written_time = target == TIMESTAMP and isinstance(piece.literal, str) and not try_
    written_number = target == FLOAT64 and isinstance(piece.literal, Decimal)
    if written_time or written_number:
        return coerce(piece, target)
    return _cast(piece, target, try_)


def _cast(piece: Typed, target: DataType, try_: bool) -> Typed:
    if piece.interval:
        raise TypeMismatchError("an interval cannot be cast; use date_diff or hours_since")
    try:
        cast_kernel(piece.type, target, try_)
    except KeyError:
        raise TypeMismatchError(f"{piece.shown} cannot be cast to {target}") from None
    source = piece.type.kind
    growth = 10 ** max(target.scale - piece.type.scale, 0)
    bound = INT_BOUND
    if target == TIMESTAMP:
        bound = column_bound(target)
    elif source in {Kind.INT64, Kind.DECIMAL, Kind.BOOL}:
        bound = (1 if source is Kind.BOOL else piece.bound) * growth
    loses = piece.type == FLOAT64 and target.kind in {Kind.INT64, Kind.DECIMAL}
    can_fail = source is Kind.STRING or loses or (growth > 1 and bound >= INT_BOUND)
    nullable = True if try_ and can_fail else None
    return call("cast", piece, to=target, options=(try_,), nullable=nullable, bound=bound)


def escape_of(piece: Typed) -> str:
    """The letter of ESCAPE."""
    letter = piece.literal
    if not isinstance(letter, str) or len(letter) != 1:
        raise TypeMismatchError("ESCAPE wants one character")
    return letter


def like(text: Typed, pattern: Typed, escape: str | None) -> Typed:
    """Text LIKE a literal pattern."""
    text = coerce(text, STRING)
    if not isinstance(pattern.literal, str) or len(pattern.literal) > PATTERN_MAX:
        raise TypeMismatchError(f"LIKE wants a text literal of at most {PATTERN_MAX} characters")
    return call("like", text, to=BOOL, options=(pattern.literal, escape))
