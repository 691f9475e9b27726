"""Decode one record by json.loads and plain arithmetic. Imports nothing of ours but the schema."""

from __future__ import annotations

import json
import math
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

from operators.schema import FieldSpec, Kind, StreamSchema

BYTES_MAX = 256 * 1024
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
INT64 = range(-(2**63), 2**63)
TIME = (-62_135_596_800_000, 253_402_300_799_999)


class Refused(Exception):
    """The record becomes a dead letter; the message is the reason."""


class Number(str):
    """A JSON number as written."""


def decode_one(schema: StreamSchema, value: bytes | None, timestamp: int) -> dict[str, Any]:
    """The record's fields by name: None is NULL, decimals are minor units, times ms, card numbers without blanks.

    Raises:
        Refused: with the reason.
    """
    if not value:
        raise Refused("tombstone")
    if len(value) > BYTES_MAX:
        raise Refused("too_large")
    pairs = _parse(value)
    by_source = {spec.source: spec for spec in schema.fields}
    given: dict[str, Any] = {}
    earlier_wrong = False
    for name, found in pairs:
        spec = by_source.get(name)
        if spec is None:
            continue
        if spec.name in given:
            earlier_wrong |= _wrong(schema, spec, given[spec.name]) is not None
        given[spec.name] = found
    for spec in schema.fields:
        reason = _wrong(schema, spec, given.get(spec.name))
        if reason:
            raise Refused(reason)
    extras = any(name not in by_source for name, _ in pairs)
    if extras and schema.extra_refused and not earlier_wrong:
        raise Refused("extra_field")
    if earlier_wrong:
        raise Refused("extra_field" if schema.extra_refused else "wrong_type")
    out = {spec.name: _value(schema, spec, given.get(spec.name)) for spec in schema.fields}
    time = out[schema.event_time]
    if not 0 <= time <= TIME[1]:
        raise Refused("bad_time")
    if timestamp >= 0 and time > timestamp + schema.max_ahead_ms:
        raise Refused("future_time")
    return out


def has_extras(schema: StreamSchema, value: bytes) -> bool:
    """Whether a readable record has undeclared fields."""
    sources = {spec.source for spec in schema.fields}
    return any(name not in sources for name, _ in _parse(value))


def _parse(value: bytes) -> list[tuple[str, Any]]:
    def refuse(token: str) -> None:
        raise ValueError(token)

    class Pairs(list[tuple[str, Any]]):
        pass

    try:
        found = json.loads(
            value.decode("utf-8"),
            object_pairs_hook=Pairs,
            parse_constant=refuse,
            parse_float=Number,
            parse_int=Number,
        )
        _check_text(found)
    except ValueError:
        raise Refused("broken_json") from None
    except RecursionError:
        raise Refused("too_deep") from None
    if not isinstance(found, Pairs):
        raise Refused("wrong_type")
    return found


def _check_text(found: Any) -> None:
    if isinstance(found, str):
        found.encode()
    elif isinstance(found, list | tuple):
        for part in found:
            _check_text(part)


def _must(schema: StreamSchema, spec: FieldSpec) -> str | None:
    roles = {schema.event_time: "missing_time", schema.key: "missing_key", schema.id: "missing_id"}
    return roles.get(spec.name, "missing_field" if spec.required else None)


def _wrong(schema: StreamSchema, spec: FieldSpec, found: Any) -> str | None:
    """Reason if JSON's type does not fit."""
    if found is None:
        return _must(schema, spec)
    text = isinstance(found, str) and not isinstance(found, Number)
    integer = isinstance(found, Number) and re.fullmatch(r"-?\d+", found) is not None
    kind = spec.type.kind
    if kind is Kind.STRING:
        return None if text else "wrong_type"
    if kind is Kind.BOOL:
        return None if isinstance(found, bool) else "wrong_type"
    if kind is Kind.INT64:
        return None if integer else "wrong_type"
    if kind is Kind.TIMESTAMP:
        return None if integer or text else "wrong_type"
    if isinstance(found, Number):
        fits = abs(Decimal(found)) < Decimal("1.7976931348623158e308")
        return None if fits else "overflow" if kind is Kind.DECIMAL else "out_of_range"
    return None if text and kind is Kind.DECIMAL else "wrong_type"


def _value(schema: StreamSchema, spec: FieldSpec, found: Any) -> Any:
    kind = spec.type.kind
    if spec.pan and found is not None:
        found = re.sub("[ -]", "", found) or None
    naming = spec.name in (schema.id, schema.key) and found == "" and not isinstance(found, Number)
    if found is None or naming:
        reason = _must(schema, spec)
        if reason:
            raise Refused(reason)
        return None
    if kind is Kind.INT64:
        if int(found) not in INT64:
            raise Refused("out_of_range")
        return int(found)
    if kind is Kind.FLOAT64:
        return float(found)
    if kind is Kind.TIMESTAMP:
        time = int(found) if isinstance(found, Number) else _time(found)
        if not TIME[0] <= time <= TIME[1]:
            raise Refused("out_of_range")
        return time
    if kind is Kind.DECIMAL:
        return _decimal(found, spec.type.scale)
    return found


def _decimal(found: str, scale: int) -> int:
    shift: int = 10**scale
    if isinstance(found, Number):
        number = Fraction(float(found)) * shift
        if abs(number) >= 2**51:  # by its digits
            number = Fraction(Decimal(found)) * shift
            if abs(number) >= 10**17:
                raise Refused("overflow")
            minor = round(number)
            fits = minor == number
        else:
            minor = round(number)
            wanted = float(Fraction(minor, shift))
            fits = wanted == float(found)
            if abs(minor) < 2**45:  # the step above |found|, as the kernel measures it
                fits |= abs(wanted - float(found)) <= math.ulp(float(found))
    else:
        if len(found) > 40 or not re.fullmatch(r"[+-]?[0-9]+(\.[0-9]+)?", found):
            raise Refused("wrong_type")
        number = Fraction(Decimal(found)) * shift
        minor = round(number)
        fits = minor == number
    if not fits:
        raise Refused("decimal_places")
    if abs(minor) >= 2**53:
        raise Refused("overflow")
    return minor


def _time(text: str) -> int:
    match = re.fullmatch(
        r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]([0-9]{2}:[0-9]{2}:[0-9]{2})(\.[0-9]+)?([Zz]|[+-][0-9]{2}:?[0-9]{2})?", text
    )
    if match is None:
        raise Refused("wrong_type")
    day, clock, fraction, zone = match.groups()
    try:
        moment = datetime.strptime(f"{day} {clock}", "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
    except ValueError:
        raise Refused("wrong_type") from None
    ms = (moment - EPOCH) // timedelta(milliseconds=1)
    if fraction:
        ms += int(Decimal("0" + fraction) * 1000)
    if zone and zone not in "Zz":
        hours, minutes = int(zone[1:3]), int(zone[-2:])
        if hours > 23 or minutes > 59:
            raise Refused("wrong_type")
        ms -= (1 if zone[0] == "+" else -1) * (hours * 60 + minutes) * 60_000
    return ms
