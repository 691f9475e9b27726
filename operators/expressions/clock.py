"""Timestamps: int64 ms since the epoch, UTC, proleptic Gregorian."""

from __future__ import annotations

__all__ = [
    "PARTS", "TRUNCATIONS", "UNIT_MONTHS", "UNIT_MS", "add_months", "duration_text", "elapsed", "elapsed_months",
    "next_starts", "parse_timestamp",
]  # fmt: skip

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np

from operators.expressions.registers import Array

UNIT_MS: Final = {
    "millisecond": 1,
    "second": 1_000,
    "minute": 60_000,
    "hour": 3_600_000,
    "day": 86_400_000,
    "week": 604_800_000,
}
UNIT_MONTHS: Final = {"month": 1, "quarter": 3, "year": 12}
_DAY: Final = 86_400_000
_MONTHS_MAX: Final = 200_000  # more lead out of the years 1 to 9999 from any of them
_MONDAY: Final = 4 * _DAY  # 1970-01-05, the first Monday of the epoch
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_RFC3339: Final = re.compile(
    r"(\d{4}-\d\d-\d\d)(?:[Tt ](\d\d:\d\d)(?::(\d\d))?(?:\.(\d{1,9}))?)?\s?([Zz]|[+-]\d\d:\d\d)?", re.ASCII
)


def _within(unit: int, count: int) -> Callable[[Array], Array]:
    def part(values: Array) -> Array:
        result: Array = (values // unit) % count
        return result

    return part


def _days(values: Array) -> Array:
    days: Array = values.astype("M8[ms]").astype("M8[D]")
    return days


def _year(values: Array) -> Array:
    return values.astype("M8[ms]").astype("M8[Y]").astype(np.int64) + 1970


def _month(values: Array) -> Array:
    return values.astype("M8[ms]").astype("M8[M]").astype(np.int64) % 12 + 1


def _quarter(values: Array) -> Array:
    return (_month(values) + 2) // 3


def _day(values: Array) -> Array:
    days = _days(values)
    since: Array = days - days.astype("M8[M]")
    return np.add(since.astype(np.int64), 1)


def _day_of_year(values: Array) -> Array:
    days = _days(values)
    since: Array = days - days.astype("M8[Y]")
    return np.add(since.astype(np.int64), 1)


def _day_of_week(values: Array) -> Array:
    """ISO: Monday is 1, Sunday 7; 1970-01-01 was a Thursday."""
    result: Array = (values // _DAY + 3) % 7 + 1
    return result


def _dayofweek(values: Array) -> Array:
    """As Flink has it: Sunday is 1, Saturday 7."""
    result: Array = (values // _DAY + 4) % 7 + 1
    return result


def _thursday(values: Array) -> Array:
    """The days' ISO weeks' Thursdays, which say the weeks' years."""
    result: Array = _days(values - (values // _DAY + 3) % 7 * _DAY) + np.timedelta64(3, "D")
    return result


def _week(values: Array) -> Array:
    """ISO: weeks begin on Mondays, the first holds the year's first Thursday."""
    thursday = _thursday(values)
    since: Array = thursday - thursday.astype("M8[Y]")
    return np.add(since.astype(np.int64) // 7, 1)


def _iso_year(values: Array) -> Array:
    return _thursday(values).astype("M8[Y]").astype(np.int64) + 1970


PARTS: Final[dict[str, Callable[[Array], Array]]] = {
    "year": _year,
    "quarter": _quarter,
    "month": _month,
    "day": _day,
    "day_of_year": _day_of_year,
    "day_of_week": _day_of_week,
    "dayofweek": _dayofweek,
    "hour": _within(3_600_000, 24),
    "minute": _within(60_000, 60),
    "second": _within(1_000, 60),
    "millisecond": _within(1, 1_000),
    "week": _week,
    "isoyear": _iso_year,
    "decade": lambda values: _year(values) // 10,
    "century": lambda values: (_year(values) + 99) // 100,
    "millennium": lambda values: (_year(values) + 999) // 1000,
    "epoch": lambda values: values // 1_000,
}


def _floor(unit: int, origin: int = 0) -> Callable[[Array], Array]:
    def truncate(values: Array) -> Array:
        start: Array = values - (values - origin) % unit
        return start

    return truncate


def _calendar(unit: str) -> Callable[[Array], Array]:
    def truncate(values: Array) -> Array:
        return values.astype("M8[ms]").astype(unit).astype("M8[ms]").astype(np.int64)

    return truncate


def _quarter_start(values: Array) -> Array:
    months = values.astype("M8[ms]").astype("M8[M]").astype(np.int64)
    return (months - months % 3).astype("M8[M]").astype("M8[ms]").astype(np.int64)


TRUNCATIONS: Final[dict[str, Callable[[Array], Array]]] = {
    "second": _floor(1_000),
    "minute": _floor(60_000),
    "hour": _floor(3_600_000),
    "day": _floor(_DAY),
    "week": _floor(7 * _DAY, _MONDAY),
    "month": _calendar("M8[M]"),
    "quarter": _quarter_start,
    "year": _calendar("M8[Y]"),
}


def next_starts(unit: str) -> Callable[[Array], Array]:
    """The start of the unit that begins at a timestamp or next."""
    begun = TRUNCATIONS[unit]

    def run(values: Array) -> Array:
        start = begun(values)
        if unit in UNIT_MONTHS:
            after = add_months(UNIT_MONTHS[unit])(start, np.array(1))
        else:
            after = start + UNIT_MS[unit]
        result: Array = np.where(start == values, values, after)
        return result

    return run


def add_months(count: int) -> Callable[[Array, Array], Array]:
    """So many units of `count` months later; a day that a month lacks is its last."""

    def run(values: Array, amount: Array) -> Array:
        moments = values.astype("M8[ms]")
        month = moments.astype("M8[M]")
        day = moments.astype("M8[D]") - month.astype("M8[D]")
        month = month + np.clip(amount, -_MONTHS_MAX, _MONTHS_MAX) * count
        first = month.astype("M8[D]")
        last = (month + 1).astype("M8[D]") - first - 1
        result: Array = (first + np.minimum(day, last)).astype("M8[ms]").astype(np.int64) + values % _DAY
        return result

    return run


def elapsed(unit: int) -> Callable[[Array, Array], Array]:
    """Whole units from the first timestamp to the second, towards zero."""

    def run(start: Array, end: Array) -> Array:
        span = end - start
        result: Array = (span - np.fmod(span, unit)) // unit
        return result

    return run


def elapsed_months(count: int) -> Callable[[Array, Array], Array]:
    """Whole units of `count` months from the first timestamp to the second, towards zero.

    A month is over at the day and time at which it began, or on its last day if it is too short for that.
    """

    def run(start: Array, end: Array) -> Array:
        first, last = np.minimum(start, end), np.maximum(start, end)
        begun, ended = (one.astype("M8[ms]").astype("M8[M]") for one in (first, last))
        shortest = (ended + 1).astype("M8[D]") - ended.astype("M8[D]")
        day = np.minimum(first.astype("M8[ms]").astype("M8[D]") - begun.astype("M8[D]"), shortest - 1)
        due = (ended.astype("M8[D]") + day).astype("M8[ms]").astype(np.int64) + first % _DAY
        months = (ended - begun).astype(np.int64) - (last < due)
        result: Array = np.where(end < start, -(months // count), months // count)
        return result

    return run


def parse_timestamp(text: str) -> int | None:
    """RFC 3339 text, or a date, as ms; no zone is UTC; digits beyond ms are cut; None if it is neither."""
    match = _RFC3339.fullmatch(text.strip(" "))
    if match is None or (match[2] is None and match[5] is not None):
        return None
    zone = "" if match[5] in {None, "z", "Z"} else match[5]
    try:
        moment = datetime.fromisoformat(f"{match[1]}T{match[2] or '00:00'}:{match[3] or '00'}{zone or '+00:00'}")
        span = moment - _EPOCH
    except (ValueError, OverflowError):
        return None
    return span // timedelta(milliseconds=1) + int(f"{match[4] or '0':0<3}"[:3])


def format_timestamp(value: int) -> str:
    """Ms as RFC 3339 with milliseconds: 2026-05-03T10:00:00.000Z."""
    return str(np.datetime_as_string(np.datetime64(value, "ms"))) + "Z"


def duration_text(milliseconds: int) -> str:
    """The shortest way to write a duration.

    >>> duration_text(86_400_000), duration_text(90_000)
    ('1d', '90s')
    """
    for unit in ("day", "hour", "minute", "second"):
        if milliseconds and milliseconds % UNIT_MS[unit] == 0:
            return f"{milliseconds // UNIT_MS[unit]}{unit[0]}"
    return f"{milliseconds}ms"
