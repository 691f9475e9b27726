"""Durations, types and names as analysts write them."""

from __future__ import annotations

__all__ = ["parse_duration", "parse_type"]

import re
from collections.abc import Iterable

from operators.schema import DataType, Kind
from streamproc.language.problems import nearest

_UNITS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_DURATION = re.compile(r"(\d{1,9})(ms|s|m|h|d|w)")
_DECIMAL = re.compile(r"decimal\s*\(\s*(\d+)\s*\)")
_SCALE_MAX = 9
DURATION_MAX_MS = 3_660 * 86_400_000
"""About ten years."""
_NAMES = {"int": "int64", "integer": "int64", "bigint": "int64", "long": "int64", "float": "float64"}
_NAMES |= {"double": "float64", "text": "string", "varchar": "string", "str": "string", "boolean": "bool"}
_NAMES |= {"datetime": "timestamp", "numeric": "decimal(2)", "decimal": "decimal(2)", "money": "decimal(2)"}

_KEYS = ("cidr", "prefix")
_NETWORKS = ("inet", "ip", "network", "subnet")


def parse_duration(text: str) -> int:
    """Milliseconds of `30s`, `5m`, `24h`, `7d`, `2w` or `500ms`.

    Raises:
        ValueError: with what is wrong and what is right.

    >>> parse_duration("5m")
    300000
    """
    match = _DURATION.fullmatch(text.strip())
    if not match:
        raise ValueError(f"{text!r} is not a duration; write a number and a unit: 500ms, 30s, 5m, 24h, 7d, 2w")
    value = int(match[1]) * _UNITS[match[2]]
    if not 0 < value <= DURATION_MAX_MS:
        raise ValueError(f"the duration {text!r} must be more than 0 and at most ten years")
    return value


def parse_type(text: str, also: Iterable[str] = ()) -> DataType:
    """The type called `text`; `also` are names that would be right in its place, for the hint.

    Raises:
        ValueError: no such type, with the nearest right name.

    >>> str(parse_type("decimal(2)"))
    'decimal(2)'
    """
    name = text.strip().lower()
    if decimal := _DECIMAL.fullmatch(name):
        if (scale := int(decimal[1][:20])) > _SCALE_MAX:
            raise ValueError(f"decimal({scale}) has too many decimals; {_SCALE_MAX} at most")
        return DataType(Kind.DECIMAL, scale)
    if name in Kind.__members__.values() and name != Kind.DECIMAL:
        return DataType(Kind(name))
    if name in _KEYS and not also:
        raise ValueError(f"only the key of a table can be a {name}")
    right = [*also] + [str(kind) for kind in Kind if kind is not Kind.DECIMAL] + ["decimal(2)"]
    known = _NAMES | dict.fromkeys(_NETWORKS, "cidr") if also else _NAMES
    hint = f"did you mean {known[name]}?" if name in known else nearest(name, right)
    raise ValueError(f"unknown type {text!r}" + (f"; {hint}" if hint else ""))
