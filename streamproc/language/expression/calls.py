"""Typing of the functions: from checked arguments to a call of a kernel."""

from __future__ import annotations

__all__ = [
    "choice",
    "choose",
    "coalesce",
    "concat",
    "concat_ws",
    "date_add",
    "date_diff",
    "date_format",
    "distance",
    "epoch_ms",
    "floats",
    "from_epoch",
    "left",
    "nullif",
    "part",
    "regexp",
    "regexp_replace",
    "row_time",
    "since",
    "substr",
    "text_count",
    "text_test",
    "text_to",
    "to_timestamp",
    "truncate",
]

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Final

import numpy as np

from operators.expressions.clock import TRUNCATIONS, UNIT_MONTHS, UNIT_MS
from operators.expressions.date_format import LETTERS, pieces_of
from operators.expressions.nodes import ROW_TIME, ColumnRef
from operators.expressions.text import regexp_like as regexp_kernel
from operators.schema import Kind
from streamproc.language.expression.arithmetic import compare
from streamproc.language.expression.conversion import converted
from streamproc.language.expression.typed import (
    BOOL,
    FLOAT64,
    INT64,
    INT_BOUND,
    STORED,
    STRING,
    TIMESTAMP,
    Typed,
    TypeMismatchError,
    boolean,
    call,
    coerce,
    column_bound,
    constant,
    unify,
)

PATTERN_MAX: Final = 500


def _float(piece: Typed) -> Typed:
    return coerce(piece, FLOAT64)


def _string(piece: Typed) -> Typed:
    return coerce(piece, STRING)


def _time(piece: Typed) -> Typed:
    return coerce(piece, TIMESTAMP)


def _word(piece: Typed, known: Sequence[str]) -> str:
    """A unit: a text literal or a bare word, singular or plural."""
    text = piece.literal if isinstance(piece.literal, str) else ""
    unit = text.lower().removesuffix("s")
    if unit not in known:
        raise TypeMismatchError(f"the unit must be one of {', '.join(known)}")
    return unit


def floats(kernel: str) -> Callable[[Sequence[Typed]], Typed]:
    """A float function that may leave the numbers: ln(0), sqrt(-1), exp(1000) are NULL."""
    return lambda args: call(kernel, *map(_float, args), to=FLOAT64, nullable=True, finite=False)


def distance(args: Sequence[Typed]) -> Typed:
    """Distance of two points."""
    return call("distance_km", *map(_float, args), to=FLOAT64, finite=False)


def choice(kernel: str) -> Callable[[Sequence[Typed]], Typed]:
    """LEAST and GREATEST: NULLs are skipped."""

    def build(args: Sequence[Typed]) -> Typed:
        known = unify([arg for arg in args if not arg.untyped] or args)
        if len(known) == 1:
            return known[0]
        nullable = all(arg.nullable for arg in known)
        bound = max(arg.bound for arg in known)
        made = call(kernel, *known, to=known[0].type, nullable=nullable, bound=bound, strict=False)
        return made._replace(interval=args[0].interval)

    return build


def coalesce(args: Sequence[Typed]) -> Typed:
    """COALESCE; what follows an argument that is never NULL is not computed."""
    known = [arg for arg in unify([arg for arg in args if not arg.untyped] or args) if not _null(arg)]
    if not known:
        return unify(args)[0]
    last = next((n for n, arg in enumerate(known) if not arg.nullable), len(known) - 1)
    known = known[: last + 1]
    if len(known) == 1:
        return known[0]
    bound = max(arg.bound for arg in known)
    made = call("coalesce", *known, to=known[0].type, nullable=known[-1].nullable, bound=bound, strict=False)
    return made._replace(interval=args[0].interval)


def _null(piece: Typed) -> bool:
    return piece.constant is not None and piece.constant.value is None


def nullif(args: Sequence[Typed]) -> Typed:
    """NULL where both are equal."""
    first, second = args
    if first.untyped or second.untyped:
        return first
    same = compare("eq", first, second)
    made = call("case", same, constant(None, first.type), first, to=first.type, nullable=True, strict=False)
    return made._replace(bound=first.bound, interval=first.interval)


def choose(args: Sequence[Typed]) -> Typed:
    """IF and CASE: condition, value, ..., else."""
    values = unify([*args[1::2], args[-1]] if len(args) % 2 else args[1::2])
    if len(args) % 2 == 0:
        values.append(constant(None, values[0].type))
    pieces: list[Typed] = []
    for condition, value in zip(args[0::2], values[:-1], strict=False):
        pieces += [boolean(condition), value]
    made = call(
        "case",
        *pieces,
        values[-1],
        to=values[0].type,
        nullable=any(one.nullable for one in values),
        bound=max(0 if one.constant and one.constant.value is None else one.bound for one in values),
        strict=False,
    )
    return made._replace(interval=any(arg.interval for arg in args))


def text_to(kernel: str) -> Callable[[Sequence[Typed]], Typed]:
    """A function of texts that gives a text."""
    return lambda args: call(kernel, *map(_string, args), to=STRING)


def text_test(kernel: str) -> Callable[[Sequence[Typed]], Typed]:
    """A function of texts that gives a bool."""
    return lambda args: call(kernel, *map(_string, args), to=BOOL)


def text_count(kernel: str) -> Callable[[Sequence[Typed]], Typed]:
    """A function of texts that gives an int64."""
    return lambda args: call(kernel, *map(_string, args), to=INT64, bound=2**40)


def concat(args: Sequence[Typed]) -> Typed:
    """Texts joined, NULL as ''."""
    known = [_string(arg) for arg in args]
    return call("concat", *known, to=STRING, nullable=False, strict=False)


def concat_ws(args: Sequence[Typed]) -> Typed:
    """Texts joined by the first, NULLs left out."""
    known = [_string(arg) for arg in args]
    return call("concat_ws", *known, to=STRING, nullable=known[0].nullable, strict=False)


def substr(args: Sequence[Typed]) -> Typed:
    """A part of a text."""
    return call("substr", _string(args[0]), *(coerce(arg, INT64) for arg in args[1:]), to=STRING)


def _written(piece: Typed, what: str) -> str:
    text = piece.literal
    if not isinstance(text, str) or len(text) > PATTERN_MAX:
        raise TypeMismatchError(f"the {what} must be a text literal of at most {PATTERN_MAX} characters")
    return text


def _pattern(piece: Typed) -> str:
    """A regular expression, which is tried at once."""
    pattern = _written(piece, "pattern")
    try:
        regexp_kernel(pattern)((np.array([""], np.object_), None, None))
    except ValueError:
        raise TypeMismatchError("the pattern is not a regular expression of RE2") from None
    return pattern


def regexp(args: Sequence[Typed]) -> Typed:
    """RE2's match."""
    return call("regexp_like", _string(args[0]), to=BOOL, options=(_pattern(args[1]),))


def regexp_replace(args: Sequence[Typed]) -> Typed:
    """RE2's matches replaced by a text."""
    options = (_pattern(args[1]), _written(args[2], "replacement"))
    return call("regexp_replace", _string(args[0]), to=STRING, options=options)


def date_format(args: Sequence[Typed]) -> Typed:
    """A timestamp by one of Java's patterns."""
    pattern = _written(args[1], "pattern")
    try:
        pieces_of(pattern)
    except ValueError as error:
        known = ", ".join(letter * min(most, 4) for letter, (most, _) in LETTERS.items())
        raise TypeMismatchError(f"a pattern has no {error}: it has {known}, and text in single quotes") from None
    return call("date_format", _time(args[0]), to=STRING, options=(pattern,))


def part(name: str) -> Callable[[Sequence[Typed]], Typed]:
    """A field of a timestamp."""
    return lambda args: call("part", _time(args[0]), to=INT64, options=(name,), bound=2**31)


def truncate(args: Sequence[Typed]) -> Typed:
    """The start of a unit."""
    unit = _word(args[0], tuple(TRUNCATIONS))
    moment = _time(args[1])
    return call("truncate", moment, to=TIMESTAMP, options=(unit,), bound=moment.bound)


def date_diff(args: Sequence[Typed]) -> Typed:
    """Whole units between."""
    unit = _word(args[0], (*UNIT_MS, *UNIT_MONTHS))
    start, end = _time(args[1]), _time(args[2])
    if unit in UNIT_MONTHS:
        return call("elapsed_months", start, end, to=INT64, options=(UNIT_MONTHS[unit],), bound=2**31)
    return call("elapsed", start, end, to=INT64, options=(UNIT_MS[unit],), bound=start.bound + end.bound)


def date_add(args: Sequence[Typed]) -> Typed:
    """So many units later."""
    unit = UNIT_MS[_word(args[0], tuple(UNIT_MS))]
    amount, start = coerce(args[1], INT64), _time(args[2])
    span = amount.bound * unit
    scaled = call("multiply" if span < INT_BOUND else "multiply_checked", amount, constant(unit, INT64), to=INT64)
    bound = min(span, INT_BOUND) + start.bound
    return call("add" if bound < INT_BOUND else "add_checked", start, scaled, to=TIMESTAMP, bound=bound)


def row_time() -> Typed:
    """The row's event time."""
    return Typed(ColumnRef(ROW_TIME, TIMESTAMP, nullable=False), bound=column_bound(TIMESTAMP))


def since(unit: int) -> Callable[[Sequence[Typed]], Typed]:
    """Units from a timestamp to the row's event time."""
    now = row_time()
    return lambda args: call("elapsed_float", _time(args[0]), now, to=FLOAT64, options=(float(unit),))


def from_epoch(args: Sequence[Typed]) -> Typed:
    """Seconds or milliseconds as a timestamp."""
    digits = args[1].literal
    if digits not in {Decimal(0), Decimal(3)}:
        raise TypeMismatchError("the digits are 0 (seconds) or 3 (milliseconds)")
    amount = coerce(args[0], INT64)
    if not digits:
        kernel = "multiply" if amount.bound * 1000 < INT_BOUND else "multiply_checked"
        bound = min(amount.bound * 1000, INT_BOUND)
        amount = call(kernel, amount, constant(1000, INT64), to=INT64, bound=bound)
    return call("limited", amount, to=TIMESTAMP, options=STORED[Kind.TIMESTAMP], bound=column_bound(TIMESTAMP))


def to_timestamp(args: Sequence[Typed]) -> Typed:
    """A text as a timestamp; NULL where it is none."""
    return converted(_string(args[0]), TIMESTAMP, try_=True)


def left(args: Sequence[Typed]) -> Typed:
    """The first so many code points."""
    return substr((args[0], constant(1, INT64), args[1]))


def epoch_ms(args: Sequence[Typed]) -> Typed:
    """A timestamp as int64."""
    moment = _time(args[0])
    return call("same", moment, to=INT64, bound=moment.bound)
