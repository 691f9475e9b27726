"""Values as databases and Avro write them -> what JSON would hold: times in ms, decimals as digits, plain numbers.

Pure functions. What does not look as expected is left as it is: the decoder then says what the field's type wants. No
error quotes a value.
"""

from __future__ import annotations

__all__ = ["LOGICAL", "PER_MS", "Logical", "base64_text", "decimal_text", "extended", "time_ms", "unscaled_text"]

import binascii
import re
from collections.abc import Callable
from decimal import Context, Decimal, InvalidOperation
from typing import Any, NamedTuple

from state.errors import RecordError

_DAY_MS = 86_400_000
_DIGITS_MAX = 40
_WHOLE = re.compile(r"-?[0-9]+").fullmatch
_UNSCALED_BYTES_MAX = 32
_CONTEXT = Context(prec=100)

PER_MS = {"millis": 1, "micros": 1_000, "nanos": 1_000_000}
"""How many of a unit a millisecond has; `days` is the unit that has none."""


class Logical(NamedTuple):
    """How a column's value is written: `millis`, `micros`, `nanos`, `days` or `unscaled`, and then with which scale."""

    encoding: str
    scale: int = 0


LOGICAL = {
    "io.debezium.time.Timestamp": "millis",
    "io.debezium.time.MicroTimestamp": "micros",
    "io.debezium.time.NanoTimestamp": "nanos",
    "io.debezium.time.Date": "days",
    "org.apache.kafka.connect.data.Timestamp": "millis",
    "org.apache.kafka.connect.data.Date": "days",
    "org.apache.kafka.connect.data.Decimal": "unscaled",
    "timestamp-millis": "millis",
    "timestamp-micros": "micros",
    "timestamp-nanos": "nanos",
    "local-timestamp-millis": "millis",
    "local-timestamp-micros": "micros",
    "local-timestamp-nanos": "nanos",
    "date": "days",
    "decimal": "unscaled",
}
"""Names of logical types (Debezium's documentation on temporal and decimal types, Kafka Connect, Avro 1.12)."""


def time_ms(count: int, encoding: str) -> int:
    """Milliseconds; finer digits are cut off, towards the past.

    >>> time_ms(1529507596945104, "micros"), time_ms(-1, "micros"), time_ms(2, "days")
    (1529507596945, -1, 172800000)
    """
    return count * _DAY_MS if encoding == "days" else count // PER_MS[encoding]


def unscaled_text(raw: bytes, scale: int) -> str:
    """Digits of a number given as big-endian two's complement of its `scale`-fold power of ten.

    >>> unscaled_text(bytes([0x04, 0xD2]), 2), unscaled_text(bytes([0xFF]), 0), unscaled_text(b"", 2)
    ('12.34', '-1', '0.00')

    Raises:
        RecordError: it is longer than any decimal of the language.
    """
    if len(raw) > _UNSCALED_BYTES_MAX or abs(scale) > _DIGITS_MAX:
        raise RecordError("overflow", "a decimal is too large, or its scale is")
    number = Decimal(int.from_bytes(raw, "big", signed=True))
    return decimal_text(_CONTEXT.scaleb(number, -scale))


def base64_text(text: str, scale: int) -> str | None:
    """The same of base64; None: it is none."""
    try:
        raw = binascii.a2b_base64(text, strict_mode=True)
    except (binascii.Error, ValueError):
        return None
    return unscaled_text(raw, scale)


def decimal_text(number: Decimal) -> str:
    """All digits, without an exponent.

    Raises:
        RecordError: there are too many.
    """
    if abs(number.adjusted()) > _DIGITS_MAX:
        raise RecordError("overflow", "a decimal is too large")
    return format(number, "f")


def extended(value: Any) -> Any:
    """MongoDB's extended JSON (version 2, canonical or relaxed) as plain JSON; other values as they are.

    >>> extended({"$numberLong": "1004"}), extended({"$date": {"$numberLong": "7"}}), extended({"$oid": "5f"})
    (1004, 7, '5f')
    """
    if not isinstance(value, dict) or not 1 <= len(value) <= 2:
        return value
    name = next(iter(value))
    read = _EXTENDED.get(name)
    if read is None or (len(value) == 2 and name != "$binary"):
        return value
    found = read(value[name])
    return value if found is _OTHER else found


_OTHER = object()


def _integer(held: Any) -> Any:
    if isinstance(held, str):
        held = int(held) if len(held) <= _DIGITS_MAX and _WHOLE(held) else None
    return held if type(held) is int else _OTHER


def _double(held: Any) -> Any:
    """NaN and infinity are NULL, as everywhere; msgspec writes them so."""
    try:
        return float(held)
    except (TypeError, ValueError):
        return _OTHER


def _decimal128(held: Any) -> Any:
    try:
        number = _CONTEXT.create_decimal(held) if isinstance(held, str) and len(held) <= 2 * _DIGITS_MAX else None
    except InvalidOperation:
        return _OTHER
    except ArithmeticError:
        raise RecordError("overflow", "a decimal is too large") from None
    if number is None:
        return _OTHER
    return decimal_text(number) if number.is_finite() else None


def _date(held: Any) -> Any:
    """Milliseconds (canonical, and the older form), or RFC 3339 (relaxed)."""
    if isinstance(held, dict):
        return _integer(held.get("$numberLong"))
    return held if isinstance(held, str) else _integer(held)


def _seconds(held: Any) -> Any:
    seconds = held.get("t") if isinstance(held, dict) else None
    return seconds * 1000 if type(seconds) is int else _OTHER


def _text(held: Any) -> Any:
    return held if isinstance(held, str) else _OTHER


def _binary(held: Any) -> Any:
    return held.get("base64", _OTHER) if isinstance(held, dict) else _text(held)


_EXTENDED: dict[str, Callable[[Any], Any]] = {
    "$oid": _text,
    "$numberInt": _integer,
    "$numberLong": _integer,
    "$numberDouble": _double,
    "$numberDecimal": _decimal128,
    "$date": _date,
    "$timestamp": _seconds,
    "$symbol": _text,
    "$uuid": _text,
    "$binary": _binary,
}
