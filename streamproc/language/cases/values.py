"""Values in cases: times, what is given for a field, what is expected of a column."""

from __future__ import annotations

__all__ = [
    "Value",
    "Wanted",
    "parse_time",
    "read_expected",
    "read_given",
    "read_time",
    "read_wanted",
    "time_text",
]

import contextlib
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec

from operators.schema import DataType, Kind
from operators.values import TIME_MAX
from state.errors import ConfigError
from streamproc.language.units import parse_duration
from streamproc.language.yaml_tree import Node, Scalar

_NUMBER_TEXT = r"-?(?:0|[1-9]\d{0,30})(?:\.\d{1,30})?(?:[eE][-+]?\d{1,3})?"
_NUMBER = re.compile(_NUMBER_TEXT).fullmatch
_INTEGER = re.compile(r"-?(?:0|[1-9]\d{0,18})").fullmatch
_RANGE = re.compile(rf"({_NUMBER_TEXT})?\.\.({_NUMBER_TEXT})?").fullmatch
_RELATIVE = re.compile(r"([+-])((?:\d{1,9}(?:ms|s|m|h|d|w))+)").fullmatch
_PARTS = re.compile(r"\d+(?:ms|s|m|h|d|w)")
_TIMES_HINT = "2026-01-31T12:00:00Z, or counted from the case's start: +5m, -1d12h"
_NUMBERS_HINT = "5, about: ~1.5, or a range: 90..100, 90.., ..5"
_ANY_NUMBER = DataType(Kind.DECIMAL, 1_100)  # decimals enough for any number that can be written
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


class Value(msgspec.Struct, frozen=True):
    """What a column's value must be: within low..high, both included; neither: NULL. `shown` is how it was written.

    Numbers are Decimal for int64 and decimal columns, float for float64 ones; times are ms.
    """

    shown: str
    low: Any = None
    high: Any = None

    def fits(self, found: Any) -> bool:
        """Whether `found` is such a value; None is NULL."""
        if self.low is None and self.high is None:
            return found is None
        if found is None:
            return False
        return (self.low is None or self.low <= found) and (self.high is None or found <= self.high)


class Wanted(msgspec.Struct, frozen=True):
    """What a value of a JSON record must be, whatever its type; `shown` is how it was written. `number`: as a number;
    `time`: ms, as a time; None: it cannot be read so. Neither, and no text: NULL.
    """

    shown: str | None
    number: Value | None = None
    time: int | None = None

    def fits(self, found: Any) -> bool:
        """Whether `found` is such a value: None, a bool, a number (no float), or a text, which may be a time."""
        if self.shown is None or found is None:
            return self.shown is None and found is None
        if isinstance(found, bool):
            return self.shown == str(found).lower()
        if isinstance(found, str):
            return self.shown == found or (self.time is not None and _time_of(found) == self.time)
        is_number = isinstance(found, int | Decimal)
        return is_number and (found == self.time or (self.number is not None and self.number.fits(found)))


def _time_of(text: str) -> int | None:
    try:
        return parse_time(text, 0)
    except (ValueError, OverflowError):
        return None


def parse_time(text: str, start: int) -> int:
    """A time in ms: RFC 3339 (UTC without a zone), ms since 1970, or counted from `start`.

    Raises:
        ValueError: it is none, or lies outside of 1970..9999.

    >>> parse_time("+1m30s", 1_000)
    91000
    """
    if relative := _RELATIVE(text):
        parts = [parse_duration(part) for part in _PARTS.findall(relative[2]) if part.lstrip("0")[0].isdigit()]
        found = start + sum(parts) * (-1 if relative[1] == "-" else 1)
    elif _INTEGER(text):
        found = int(text)
    else:
        moment = datetime.fromisoformat(text)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        found = (moment - _EPOCH) // _MILLISECOND
    if not 0 <= found <= TIME_MAX:
        raise ValueError("not in the years 1970 to 9999")
    return found


def time_text(ms: int) -> str:
    """A time as RFC 3339.

    >>> time_text(1_500)
    '1970-01-01T00:00:01.500Z'
    """
    text = (_EPOCH + ms * _MILLISECOND).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z").replace(".000Z", "Z")


def read_given(node: Node, name: str, kind: DataType, start: int, copy: int) -> Any:
    """The JSON value of a field; None: the record goes without it.

    `copy`: which of the event's copies this is, from 1: what `{n}` in its text stands for.

    Raises:
        ConfigError: a value that the field's type does not take.
    """
    scalar = _scalar(node)
    if scalar.empty:
        return None
    text = scalar.text.replace("{n}", str(copy))
    match kind.kind:
        case Kind.STRING:
            return text
        case Kind.BOOL if text in ("true", "false"):
            return text == "true"
        case Kind.TIMESTAMP:
            return _time(text, name, scalar, start)
        case Kind.INT64 if _INTEGER(text):
            return int(text)
        case Kind.FLOAT64 | Kind.DECIMAL if _NUMBER(text):
            return msgspec.Raw(text.encode())
    hint = "a record that is wrong on purpose is written as text: record: '{...}'"
    raise ConfigError(f"{name} is {kind}, and {text!r} is not", scalar.place, hint)


def read_expected(node: Node, name: str, kind: DataType, start: int) -> Value:
    """What is expected of a column.

    Raises:
        ConfigError: its type has no such value.
    """
    scalar = _scalar(node)
    text = scalar.text
    if scalar.empty:
        return Value("NULL")
    match kind.kind:
        case Kind.STRING:
            return Value(text, text, text)
        case Kind.BOOL:
            if text not in ("true", "false"):
                raise ConfigError(f"{name} is bool, and {text!r} is neither true nor false", scalar.place)
            return Value(text, text == "true", text == "true")
        case Kind.TIMESTAMP:
            time = _time(text, name, scalar, start)
            return Value(text, time, time)
    return _numbers(text, name, kind, scalar)


def read_wanted(node: Node, start: int) -> Wanted:
    """What is expected of a field of a record that is told.

    Raises:
        ConfigError: it is no single value.
    """
    scalar = _scalar(node)
    if scalar.empty:
        return Wanted(None)
    text, number, time = scalar.text, None, None
    with contextlib.suppress(ConfigError):
        number = _numbers(text, "it", _ANY_NUMBER, scalar)
    with contextlib.suppress(ValueError, OverflowError):
        time = parse_time(text, start)
    return Wanted(text, number, time)


def _numbers(text: str, name: str, kind: DataType, scalar: Scalar) -> Value:
    number = float if kind.kind is Kind.FLOAT64 else Decimal
    if found := _RANGE(text):
        low, high = (None if bound is None else number(bound) for bound in found.groups())
        if low is None and high is None:
            raise ConfigError("a range needs a bound", scalar.place, _NUMBERS_HINT)
        if low is not None and high is not None and low > high:
            raise ConfigError(f"no value lies in {text}", scalar.place, "the lower bound stands first")
        return Value(text, low, high)
    if not _NUMBER(text.removeprefix("~")):
        raise ConfigError(f"{name} is {kind}, and {text!r} is no number", scalar.place, _NUMBERS_HINT)
    middle = Decimal(text.removeprefix("~"))
    digits = int(middle.as_tuple().exponent)
    if text.startswith("~"):
        half = Decimal(5).scaleb(digits - 1)
        return Value(text, number(middle - half), number(middle + half))
    if kind.kind is not Kind.FLOAT64 and int(middle.normalize().as_tuple().exponent) < -kind.scale:
        raise ConfigError(f"{name} is {kind} and can never be {text}", scalar.place, f"about: ~{text}")
    return Value(text, number(middle), number(middle))


def read_time(node: Node, name: str, start: int) -> int:
    """A time in ms; see `parse_time`.

    Raises:
        ConfigError: it is none.
    """
    scalar = _scalar(node)
    return _time(scalar.text, name, scalar, start)


def _time(text: str, name: str, scalar: Scalar, start: int) -> int:
    try:
        return parse_time(text, start)
    except (ValueError, OverflowError):
        raise ConfigError(f"{name}: {text!r} is no time in the years 1970 to 9999", scalar.place, _TIMES_HINT) from None


def _scalar(node: Node) -> Scalar:
    if not isinstance(node, Scalar):
        raise ConfigError("a single value is expected here", node.place)
    return node
