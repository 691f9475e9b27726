"""Typing of the functions of times: from checked arguments to a call of a kernel."""

from __future__ import annotations

__all__ = [
    "UnitError",
    "ceiling",
    "date_add",
    "date_diff",
    "date_format",
    "epoch_ms",
    "from_epoch",
    "from_unixtime",
    "part",
    "part_name",
    "row_time",
    "since",
    "span_hint",
    "to_date",
    "to_timestamp",
    "truncate",
    "unix_timestamp",
]

import difflib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from typing import Final

from operators.expressions.clock import PARTS, TRUNCATIONS, UNIT_MONTHS, UNIT_MS
from operators.expressions.date_format import LETTERS, pieces_of
from operators.expressions.date_parse import reader_of
from operators.expressions.nodes import ROW_TIME, ColumnRef
from operators.schema import Kind
from streamproc.language.expression.conversion import converted
from streamproc.language.expression.typed import (
    FLOAT64,
    INT64,
    INT_BOUND,
    STORED,
    STRING,
    TIMESTAMP,
    Typed,
    TypeMismatchError,
    call,
    coerce,
    column_bound,
    constant,
    written,
)

_EXTRACTED: Final = {"dow": "day_of_week", "isodow": "day_of_week", "doy": "day_of_year"}


class UnitError(TypeMismatchError):
    """A word that is no unit of time; `hint`: which one was meant."""

    def __init__(self, message: str, word: str, known: Iterable[str]) -> None:
        super().__init__(message)
        self.hint = _near_unit(word, known)


def _near_unit(word: str, known: Iterable[str]) -> str | None:
    """Which unit was meant, in capitals if the word is.

    >>> _near_unit("HOURS", ["minute", "hour"])
    'did you mean HOUR?'
    """
    near = difflib.get_close_matches(word.lower(), list(known), 1)
    return f"did you mean {near[0].upper() if word.isupper() else near[0]}?" if near else None


def span_hint(unit: str) -> str | None:
    """What is meant by a unit that no span of time has; None: it is one, or like none.

    >>> span_hint("month")
    'months and years differ in length: use days'
    """
    if unit in {"month", "year", "quarter"}:
        return "months and years differ in length: use days"
    return None if unit in UNIT_MS else _near_unit(unit.upper(), UNIT_MS)


def _time(piece: Typed) -> Typed:
    return coerce(piece, TIMESTAMP)


def _word(piece: Typed, known: Sequence[str]) -> str:
    """A unit: a text literal or a bare word, singular or plural."""
    text = piece.literal if isinstance(piece.literal, str) else ""
    unit = text.lower().removesuffix("s")
    if unit not in known:
        raise UnitError(f"the unit must be one of {', '.join(known)}", text, known)
    return unit


def _format(piece: Typed) -> str:
    pattern = written(piece, "pattern")
    with _pattern_errors():
        pieces_of(pattern)
    return pattern


@contextmanager
def _pattern_errors() -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        known = ", ".join(letter * min(most, 4) for letter, (most, _) in LETTERS.items())
        raise TypeMismatchError(f"a pattern has no {error}: it has {known}, and text in single quotes") from None


def date_format(args: Sequence[Typed]) -> Typed:
    """A timestamp by one of Java's patterns."""
    return call("date_format", _time(args[0]), to=STRING, options=(_format(args[1]),))


def part_name(unit: str) -> str:
    """The function that gives what EXTRACT calls `unit`.

    Raises:
        UnitError: there is none.

    >>> part_name("DOY")
    'day_of_year'
    """
    name = _EXTRACTED.get(unit.lower(), unit.lower())
    if name not in PARTS:
        known = [one for one in (*PARTS, *_EXTRACTED) if one not in _EXTRACTED.values() and one != "dayofweek"]
        raise UnitError(f"EXTRACT does not know {unit or 'this'}; it knows {', '.join(known)}", unit, known)
    return name


def part(name: str) -> Callable[[Sequence[Typed]], Typed]:
    """A field of a timestamp."""
    return lambda args: call("part", _time(args[0]), to=INT64, options=(name,), bound=2**40)


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
    unit = _word(args[0], (*UNIT_MS, *UNIT_MONTHS))
    amount, start = coerce(args[1], INT64), _time(args[2])
    if unit in UNIT_MONTHS:
        later = call("add_months", start, amount, to=TIMESTAMP, options=(UNIT_MONTHS[unit],))
        return _stored(later)
    span = amount.bound * UNIT_MS[unit]
    kernel = "multiply" if span < INT_BOUND else "multiply_checked"
    scaled = call(kernel, amount, constant(UNIT_MS[unit], INT64), to=INT64)
    bound = min(span, INT_BOUND) + start.bound
    return call("add" if bound < INT_BOUND else "add_checked", start, scaled, to=TIMESTAMP, bound=bound)


def _stored(piece: Typed) -> Typed:
    """The piece where it is a time of the years 1 to 9999; else an overflow."""
    return call("limited", piece, to=TIMESTAMP, options=STORED[Kind.TIMESTAMP], bound=column_bound(TIMESTAMP))


def ceiling(args: Sequence[Typed]) -> Typed:
    """The start of the unit that begins then or next."""
    unit = _word(args[0], tuple(TRUNCATIONS))
    return _stored(call("next_start", _time(args[1]), to=TIMESTAMP, options=(unit,)))


def row_time() -> Typed:
    """The row's event time."""
    return Typed(ColumnRef(ROW_TIME, TIMESTAMP, nullable=False), bound=column_bound(TIMESTAMP))


def since(unit: int) -> Callable[[Sequence[Typed]], Typed]:
    """Units from a timestamp to the row's event time."""
    now = row_time()
    return lambda args: call("elapsed_float", _time(args[0]), now, to=FLOAT64, options=(float(unit),))


def from_epoch(args: Sequence[Typed]) -> Typed:
    """Seconds or milliseconds as a timestamp."""
    digits = args[1].literal if len(args) > 1 else Decimal(3)
    if digits not in {Decimal(0), Decimal(3)}:
        raise TypeMismatchError("the digits are 0 (seconds) or 3 (milliseconds)")
    amount = coerce(args[0], INT64)
    if not digits:
        kernel = "multiply" if amount.bound * 1000 < INT_BOUND else "multiply_checked"
        bound = min(amount.bound * 1000, INT_BOUND)
        amount = call(kernel, amount, constant(1000, INT64), to=INT64, bound=bound)
    return _stored(amount)


def from_unixtime(args: Sequence[Typed]) -> Typed:
    """Seconds as the text of a time."""
    pattern = _format(args[1]) if len(args) > 1 else "yyyy-MM-dd HH:mm:ss"
    moment = from_epoch((args[0], constant(0, INT64, Decimal(0))))
    return call("date_format", moment, to=STRING, options=(pattern,))


def to_timestamp(args: Sequence[Typed]) -> Typed:
    """A text as a timestamp, by Java's pattern if there is one; NULL where it is none."""
    text = coerce(args[0], STRING)
    if len(args) == 1:
        return converted(text, TIMESTAMP, try_=True)
    pattern = written(args[1], "pattern")
    with _pattern_errors():
        reader_of(pattern)
    bound = column_bound(TIMESTAMP)
    return call("parse_date", text, to=TIMESTAMP, nullable=True, options=(pattern,), bound=bound)


def to_date(args: Sequence[Typed]) -> Typed:
    """A text as the start of a day."""
    moment = to_timestamp(args)
    return call("truncate", moment, to=TIMESTAMP, options=("day",), bound=moment.bound)


def unix_timestamp(args: Sequence[Typed]) -> Typed:
    """A text's time in seconds."""
    return part("epoch")([to_timestamp(args)])


def epoch_ms(args: Sequence[Typed]) -> Typed:
    """A timestamp as int64."""
    moment = _time(args[0])
    return call("same", moment, to=INT64, bound=moment.bound)
