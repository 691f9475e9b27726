"""Columns from decoded values: one function a kind, each checking whole columns and marking bad rows.

A row's fate depends on its own record only, never on its neighbours: checks yield masks, they do not raise.
"""

from __future__ import annotations

__all__ = [
    "TIME_MAX",
    "TIME_MIN",
    "Digits",
    "Faults",
    "Values",
    "build_column",
    "float_columns",
    "parse_decimal",
    "parse_timestamp",
    "text_columns",
    "texts_of",
    "value_fault",
]

import re
from collections.abc import Callable, Sequence
from datetime import date
from decimal import Context, Decimal
from functools import lru_cache
from itertools import chain
from types import NoneType
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from operators.batch import Column
from operators.schema import MINOR_LIMIT, DataType, FieldSpec, Kind

Values = Sequence[Any]
Mask = npt.NDArray[np.bool_]
Digits = Callable[[int], Decimal]  # the digits of a row's number, as written

_json = msgspec.json.Encoder().encode

MADE_LIMIT = 2**63  # of one that a stage before has made, which is exact by its digits
# Up to here rint(v * 10**n) is exact for every v that is the nearest double of a decimal with n places: both
# roundings together are off by less than |c| * 2**-52 < 0.5. Beyond, the digits themselves are read.
FLOAT_EXACT = 2**51
# Up to here a neighbouring double is closer to its decimal than a tenth of the last place: no further place is lost.
FLOAT_NEAR = 2**45
TIME_MIN = -62_135_596_800_000  # 0001-01-01, ms
TIME_MAX = 253_402_300_799_999  # 9999-12-31T23:59:59.999, ms
INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1
DECIMAL_TEXT_MAX = 40  # characters of a decimal given as text

_CONTEXT = Context(prec=DECIMAL_TEXT_MAX)  # our own: the thread's may be changed by anyone

_DECIMAL = re.compile(r"([+-]?)([0-9]+)(?:\.([0-9]+))?").fullmatch
_RFC3339 = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]([01][0-9]|2[0-3]):([0-5][0-9]):([0-5][0-9])(?:\.([0-9]+))?"
    r"(?:[Zz]|([+-])([01][0-9]|2[0-3]):?([0-5][0-9]))?"
).fullmatch


class Faults:
    """The rows of one call that fail a check; a row keeps its first fault."""

    def __init__(self) -> None:
        self.rows: dict[int, tuple[str, str]] = {}

    def mark(self, bad: Mask, reason: str, detail: str) -> None:
        """Mark the rows where `bad` is true."""
        if np.count_nonzero(bad):
            for row in bad.nonzero()[0].tolist():
                self.rows.setdefault(row, (reason, detail))

    def mark_row(self, row: int, reason: str, detail: str) -> None:
        """Mark one row."""
        self.rows.setdefault(row, (reason, detail))


def parse_decimal(text: str, scale: int) -> int | None:
    """Minor units of a decimal given as text; None if it is not digits or has more than `scale` places.

    >>> parse_decimal("12.34", 2), parse_decimal("-7", 2), parse_decimal("1.250", 2), parse_decimal("1.255", 2)
    (1234, -700, 125, None)
    """
    match = _DECIMAL(text) if len(text) <= DECIMAL_TEXT_MAX else None
    if match is None:
        return None
    sign, whole, places = match.groups()
    places = (places or "").rstrip("0")
    if len(places) > scale:
        return None
    minor = int(whole + places.ljust(scale, "0"))
    return -minor if sign == "-" else minor


@lru_cache(maxsize=4096)
def _day(text: str) -> int | None:
    """Days since the epoch of YYYY-MM-DD; None if there is no such day."""
    try:
        return date.fromisoformat(text).toordinal() - 719_163
    except ValueError:
        return None


def parse_timestamp(text: str) -> int | None:
    """Milliseconds since the epoch of an RFC 3339 time; None if it is none.

    Finer digits are cut off, not rounded; no zone means UTC; a leap second (:60) is refused, epoch time has none.

    >>> parse_timestamp("1970-01-01T01:00:00.0019+01:00"), parse_timestamp("1970-01-01 00:00:02")
    (1, 2000)
    """
    match = _RFC3339(text)
    if match is None:
        return None
    day_text, hour, minute, second, fraction, sign, off_hour, off_minute = match.groups()
    day = _day(day_text)
    if day is None:
        return None
    minutes = int(hour) * 60 + int(minute)
    if sign is not None:
        offset = int(off_hour) * 60 + int(off_minute)
        minutes += offset if sign == "-" else -offset
    ms = day * 86_400_000 + minutes * 60_000 + int(second) * 1000
    return ms + int(fraction[:3].ljust(3, "0")) if fraction else ms


def _split_nulls(values: Values, kinds: set[type], blank: object) -> tuple[Values, Mask | None]:
    """`values` with `blank` for None, and the validity mask (None: no NULLs; costs nothing then)."""
    if NoneType not in kinds:
        return values, None
    valid = np.array([v is not None for v in values], np.bool_)
    return [blank if v is None else v for v in values], valid


def _int_array(values: Values, low: int, high: int) -> tuple[npt.NDArray[np.int64], Mask]:
    """int64 values, and which are outside low..high (those become 0)."""
    try:
        ints = np.fromiter(values, np.int64, len(values))
    except OverflowError:
        fits = [v if INT64_MIN <= v <= INT64_MAX else INT64_MIN for v in values]
        ints = np.fromiter(fits, np.int64, len(values))
        bad = np.fromiter((not low <= v <= high for v in values), np.bool_, len(values))
    else:
        bad = (ints < low) | (ints > high)
    if np.count_nonzero(bad):
        ints[bad] = 0
    return ints, bad


def _int64(spec: FieldSpec, values: Values, faults: Faults, exact: Digits) -> Column:
    try:
        return Column(spec.type, np.fromiter(values, np.int64, len(values)))
    except (TypeError, OverflowError):  # there are NULLs, or numbers that are too large
        pass
    values, valid = _split_nulls(values, set(map(type, values)), 0)
    ints, bad = _int_array(values, INT64_MIN, INT64_MAX)
    faults.mark(bad, "out_of_range", f"{spec.name}: expected int64")
    return Column(spec.type, ints, valid)


def _timestamp(spec: FieldSpec, values: Values, faults: Faults, exact: Digits) -> Column:
    kinds = set(map(type, values))
    values, valid = _split_nulls(values, kinds, 0)
    if str in kinds:
        values = [parse_timestamp(v) if type(v) is str else v for v in values]
        for row, value in enumerate(values):
            if value is None:
                faults.mark_row(row, "wrong_type", f"{spec.name}: expected RFC 3339 or epoch milliseconds")
        values = [v or 0 for v in values]
    ints, bad = _int_array(values, TIME_MIN, TIME_MAX)
    faults.mark(bad, "out_of_range", f"{spec.name}: expected a time in the years 1 to 9999")
    return Column(spec.type, ints, valid)


def _float64(spec: FieldSpec, values: Values, faults: Faults, exact: Digits) -> Column:
    floats = np.fromiter(values, np.float64, len(values))  # NaN where there is NULL
    bad = ~np.isfinite(floats)
    if not bad.any():
        return Column(spec.type, floats)
    floats[bad] = 0.0
    _, valid = _split_nulls(values, set(map(type, values)), 0.0)
    faults.mark(bad if valid is None else bad & valid, "out_of_range", f"{spec.name}: expected float64")
    return Column(spec.type, floats, valid)


def _bool(spec: FieldSpec, values: Values, faults: Faults, exact: Digits) -> Column:
    values, valid = _split_nulls(values, set(map(type, values)), False)
    return Column(spec.type, np.fromiter(values, np.bool_, len(values)), valid)


def text_columns(types: Sequence[DataType], fields: Sequence[Values]) -> list[Column]:
    """`build_column` of several fields of strings at once; `fields`: the values of each, equally many."""
    size = len(fields[0]) if fields else 0
    matrix = np.fromiter(chain.from_iterable(fields), np.object_, len(fields) * size).reshape(len(fields), size)
    masks: list[Mask | None] = [None] * len(fields)
    for i in [i for i, values in enumerate(fields) if None in values]:
        missing: Mask = matrix[i] == None  # noqa: E711 - value by value
        matrix[i, missing] = ""
        masks[i] = ~missing
    return list(map(Column, types, matrix, masks))


def float_columns(types: Sequence[DataType], fields: Sequence[Values]) -> list[Column | None]:
    """`build_column` of several fields of floats at once; None: one that has NULLs, or faults."""
    size = len(fields[0]) if fields else 0
    matrix = np.fromiter(chain.from_iterable(fields), np.float64, len(fields) * size).reshape(len(fields), size)
    known = np.isfinite(matrix)
    whole: list[bool] = [True] * len(fields)
    if np.count_nonzero(known) < known.size:
        whole = np.logical_and.reduce(known, axis=1).tolist()
    each = zip(types, matrix, whole, strict=True)
    return [Column(of_type, values) if is_whole else None for of_type, values, is_whole in each]


def _string(spec: FieldSpec, values: Values, faults: Faults, exact: Digits) -> Column:
    return text_columns([spec.type], [values])[0]


def _decimal(spec: FieldSpec, values: Values, faults: Faults, exact: Digits) -> Column:
    """Numbers: c = rint(v * 10**n) is the value iff v is the double of c / 10**n or a neighbour of it.

    One step off is what a producer's own double arithmetic leaves (85.64999999999999 for 85.65); a third place is
    further off by orders of magnitude. Text, and what is large: by its digits.
    """
    kinds = set(map(type, values))
    values, valid = _split_nulls(values, kinds, 0.0)
    by_digits: dict[int, int | None] = {}
    limit = MADE_LIMIT if spec.made else MINOR_LIMIT
    if str in kinds:
        for row, text in enumerate(values):
            if type(text) is str:
                by_digits[row] = parse_decimal(text, spec.type.scale)
                if not _DECIMAL(text):
                    faults.mark_row(row, "wrong_type", f"{spec.name}: expected {spec.type}")
        values = [0.0 if type(v) is str else v for v in values]
    floats = np.fromiter(values, np.float64, len(values))
    factor = 10.0**spec.type.scale  # exact: scale <= 15
    if not by_digits and len(floats) and np.abs(floats).max() < FLOAT_EXACT / (2 * factor):  # most are exact, and small
        minor = np.rint(floats * factor)
        if np.count_nonzero(minor / factor == floats) == len(floats):
            return Column(spec.type, minor.astype(np.int64), valid)
    with np.errstate(over="ignore", invalid="ignore"):
        minor = np.rint(floats * factor)
        size = np.abs(minor)
        off = np.abs(minor / factor - floats)
        near = off <= np.spacing(np.abs(floats))
    good = ((off == 0.0) | near & (size < FLOAT_NEAR)) & (size < FLOAT_EXACT)
    if by_digits or not good.all():
        for row in np.flatnonzero(size >= FLOAT_EXACT).tolist():
            by_digits[row] = _minor_of(exact(row), spec.type.scale, limit)
            good[row] = True
        faults.mark(~good, "decimal_places", f"{spec.name}: expected {spec.type}")
        minor[~good | (size >= FLOAT_EXACT)] = 0.0
    ints = minor.astype(np.int64)
    for row, value in by_digits.items():
        if value is None:
            faults.mark_row(row, "decimal_places", f"{spec.name}: expected {spec.type}")
        elif abs(value) >= limit:
            faults.mark_row(row, "overflow", f"{spec.name}: expected {spec.type} below 2**53 minor units")
        else:
            ints[row] = value
    return Column(spec.type, ints, valid)


def _minor_of(value: Decimal, scale: int, limit: int) -> int | None:
    """Minor units of a large number; `limit` stands for all that is too large; None: too many places."""
    if value.adjusted() + scale > len(str(limit)):
        return limit
    minor = _CONTEXT.scaleb(value, scale)
    return int(minor) if minor == minor.to_integral_value() else None


_BUILDERS: dict[Kind, Callable[[FieldSpec, Values, Faults, Digits], Column]] = {
    Kind.INT64: _int64,
    Kind.FLOAT64: _float64,
    Kind.DECIMAL: _decimal,
    Kind.STRING: _string,
    Kind.BOOL: _bool,
    Kind.TIMESTAMP: _timestamp,
}


def build_column(spec: FieldSpec, values: Values, faults: Faults, exact: Digits) -> Column:
    """The column of one field; rows that fail a check are marked in `faults` and hold 0.

    Args:
        spec: the field.
        values: one a row: None, or what JSON held (int, float, str, bool).
        faults: where bad rows are marked.
        exact: gives the digits of a row's number, for decimals too large to go through a float.
    """
    return _BUILDERS[spec.type.kind](spec, values, faults, exact)


def value_fault(kind: Kind, raw: bytes) -> str:
    """Reason for a value that its type does not take: a number too large, or something else altogether."""
    if kind in (Kind.FLOAT64, Kind.DECIMAL) and raw.lstrip()[:1] in b"-0123456789":
        return "out_of_range" if kind is Kind.FLOAT64 else "overflow"
    return "wrong_type"


def texts_of(column: Column) -> list[str]:
    """An id or key column as text; numbers all at once, in half the time."""
    values: list[Any] = column.values.tolist()
    return values if column.type.kind is Kind.STRING or not values else _json(values)[1:-1].decode().split(",")
