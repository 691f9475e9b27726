"""Typing of operators: arithmetic, comparisons, membership."""

from __future__ import annotations

__all__ = ["arithmetic", "chain", "compare", "conjunction", "member", "negated", "remainder"]

from collections.abc import Sequence
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Final

from operators.expressions.arithmetic import FLOAT_EXACT
from operators.schema import Kind
from streamproc.language.expression.typed import (
    BOOL,
    FLOAT64,
    INT64,
    INT_BOUND,
    NUMBERS,
    TIMESTAMP,
    Typed,
    TypeMismatchError,
    call,
    coerce,
    constant,
    decimal,
    settled,
    unify,
)

_KERNELS: Final = {"+": "add", "-": "subtract", "*": "multiply"}
_FLIPPED: Final = {"eq": "eq", "ne": "ne", "lt": "gt", "le": "ge", "gt": "lt", "ge": "le"}
_EXACT: Final = frozenset({Kind.INT64, Kind.DECIMAL})


def arithmetic(sign: str, left: Typed, right: Typed) -> Typed:
    """Left `sign` right for + - * /; TypeMismatchError names both types."""
    left, right = _typed_nulls(left, right)
    if Kind.TIMESTAMP in {left.type.kind, right.type.kind} or left.interval or right.interval:
        return _duration(sign, left, right)
    if left.type.kind not in NUMBERS or right.type.kind not in NUMBERS:
        raise TypeMismatchError(f"{sign} wants two numbers, not {left.shown} and {right.shown}")
    if sign == "/":
        return _divided(left, right)
    if FLOAT64 in {left.type, right.type}:
        return call(_KERNELS[sign], coerce(left, FLOAT64), coerce(right, FLOAT64), to=FLOAT64, finite=False, raw=True)
    return _exact(sign, left, right)


def _typed_nulls(left: Typed, right: Typed) -> tuple[Typed, Typed]:
    """A literal NULL takes the other operand's type."""
    if left.untyped and right.untyped:
        raise TypeMismatchError("the type of NULL is not known here; write CAST(NULL AS <type>)")
    if left.untyped:
        return constant(None, right.type)._replace(interval=right.interval), right
    return left, constant(None, left.type)._replace(interval=left.interval) if right.untyped else right


def _exact(sign: str, left: Typed, right: Typed) -> Typed:
    """Integers and decimals: overflow is checked only where the operands' bounds allow one."""
    if sign == "*":
        scale = left.type.scale + right.type.scale
        exact_int = left.type == right.type == INT64
        to, bound = INT64 if exact_int else decimal(scale), left.bound * right.bound
    else:
        left, right = unify((left, right))
        to, bound = left.type, left.bound + right.bound
    kernel = _KERNELS[sign] if bound < INT_BOUND else f"{_KERNELS[sign]}_checked"
    return call(kernel, left, right, to=to, bound=bound)


def _divided(left: Typed, right: Typed) -> Typed:
    """Always float64. With a decimal both are brought to one scale and divided once: correctly rounded."""
    kinds = {left.type.kind, right.type.kind}
    if Kind.DECIMAL in kinds <= _EXACT:
        scale = max(left.type.scale, right.type.scale)
        factors = tuple(10 ** (scale - one.type.scale) for one in (left, right))
        if all(one.bound * factor <= FLOAT_EXACT for one, factor in zip((left, right), factors, strict=True)):
            left, right = unify((left, right))
        else:
            return call("divide_scaled", left, right, to=FLOAT64, nullable=True, options=factors, finite=False)
    elif kinds != {Kind.INT64}:
        left, right = coerce(left, FLOAT64), coerce(right, FLOAT64)
    return call("divide", left, settled(right), to=FLOAT64, nullable=True, finite=False, raw=True)


def _duration(sign: str, left: Typed, right: Typed) -> Typed:
    """Timestamps and intervals."""
    bound = left.bound + right.bound
    checked = "" if bound < INT_BOUND else "_checked"
    both_times = left.type == right.type == TIMESTAMP
    if sign == "-" and both_times:
        return call(f"subtract{checked}", left, right, to=INT64, bound=bound)._replace(interval=True)
    if sign in "+-" and left.type == TIMESTAMP and right.interval:
        return call(_KERNELS[sign] + checked, left, right, to=TIMESTAMP, bound=bound)
    if sign == "+" and left.interval and right.type == TIMESTAMP:
        return call(f"add{checked}", left, right, to=TIMESTAMP, bound=bound)
    if sign in "+-" and left.interval and right.interval:
        return call(_KERNELS[sign] + checked, left, right, to=INT64, bound=bound)._replace(interval=True)
    if sign == "*" and left.interval != right.interval and left.type == right.type == INT64:
        return _exact("*", left, right)._replace(interval=True)
    raise TypeMismatchError(
        f"{sign} does not take {left.shown} and {right.shown}; "
        "a timestamp takes + or - an INTERVAL, and hours_since or date_diff give numbers"
    )


def remainder(left: Typed, right: Typed) -> Typed:
    """Left % right: the sign of left; NULL where right is 0."""
    left, right = unify(_typed_nulls(left, right))
    if left.type.kind not in NUMBERS or left.interval:
        raise TypeMismatchError(f"% wants two numbers, not {left.shown} and {right.shown}")
    if left.type == FLOAT64:
        return call("remainder_float", left, right, to=FLOAT64, nullable=True, finite=False)
    return call("remainder", left, right, to=left.type, nullable=True, bound=min(left.bound, right.bound))


def negated(piece: Typed) -> Typed:
    """-piece."""
    if piece.untyped:
        return piece
    if piece.type.kind not in NUMBERS:
        raise TypeMismatchError(f"- wants a number, not {piece.shown}")
    if piece.type == FLOAT64:
        return call("negate", piece, to=FLOAT64, finite=piece.finite, raw=True)
    kernel = "negate" if piece.bound < INT_BOUND else "negate_checked"
    made = call(kernel, piece, to=piece.type, bound=piece.bound)
    literal = -piece.literal if isinstance(piece.literal, Decimal) else None
    return made._replace(interval=piece.interval, literal=literal)


def compare(kernel: str, left: Typed, right: Typed) -> Typed:
    """A comparison (eq, ne, lt, le, gt, ge); a decimal against a literal stays exact, whatever its decimals."""
    left, right = _typed_nulls(left, right)
    if left.constant and not right.constant:
        left, right, kernel = right, left, _FLIPPED[kernel]
    if right.constant and isinstance(right.literal, Decimal) and left.type.kind in _EXACT and not left.interval:
        known = _against_literal(kernel, left, right.literal)
        if known is not None:
            return known
    left, right = unify((left, right))
    return call(kernel, left, right, to=BOOL)


def _against_literal(kernel: str, left: Typed, literal: Decimal) -> Typed | None:
    """An exact column against a literal, in the column's own scale: x > 1.5 is x > 1 for whole x."""
    scaled = literal.scaleb(left.type.scale)
    if abs(scaled) >= INT_BOUND:
        return None
    if scaled == scaled.to_integral_value():
        value = int(scaled)
    elif kernel in {"eq", "ne"}:
        return call("ne" if kernel == "eq" else "eq", left, left, to=BOOL)  # FALSE or TRUE, NULL where NULL
    elif kernel in {"gt", "le"}:
        value = int(scaled.to_integral_value(ROUND_FLOOR))
    else:
        value = int(scaled.to_integral_value(ROUND_CEILING))
    return call(kernel, left, constant(value, left.type), to=BOOL)


def member(left: Typed, items: Sequence[Typed]) -> Typed:
    """Left IN (items): constants by one look-up, the others by comparisons."""
    has_null = any(item.untyped or (item.constant and item.constant.value is None) for item in items)
    fixed = [item for item in items if item.constant and not item.untyped and item.constant.value is not None]
    others = [item for item in items if not item.constant]
    found: list[Typed] = [compare("eq", left, item) for item in others]
    if fixed and (left.constant or len(fixed) == 1):
        found += [compare("eq", left, item) for item in fixed]
    elif fixed:
        found.append(_one_of(left, fixed))
    if has_null:
        found.append(constant(None, BOOL))
    return chain("or", found)


def _one_of(left: Typed, fixed: Sequence[Typed]) -> Typed:
    if left.type.kind in _EXACT and not left.interval:
        scale = left.type.scale
        literals = [item.literal.scaleb(scale) if isinstance(item.literal, Decimal) else None for item in fixed]
        if None not in literals:
            whole = {int(one) for one in literals if one is not None and one == one.to_integral_value()}
            values = tuple(sorted(one for one in whole if abs(one) < INT_BOUND))
            if not values:
                return call("ne", left, left, to=BOOL)
            return call("member", left, to=BOOL, options=(values,))
    left, *others = unify((left, *fixed))
    known = {item.constant.value for item in others if item.constant}
    return call("member", left, to=BOOL, options=(tuple(sorted(known)),))  # type: ignore[type-var]


def chain(kernel: str, pieces: Sequence[Typed]) -> Typed:
    """Pieces joined by AND or OR, as a balanced tree."""
    if len(pieces) == 1:
        return pieces[0]
    middle = len(pieces) // 2
    left, right = chain(kernel, pieces[:middle]), chain(kernel, pieces[middle:])
    return call(kernel, left, right, to=BOOL, strict=False)


def conjunction(*pieces: Typed) -> Typed:
    """Pieces joined by AND."""
    return chain("and", pieces)
