"""What a case's events had told, as alerts and rows of statements, beside what it expects."""

from __future__ import annotations

__all__ = ["records_told", "told_otherwise"]

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from itertools import zip_longest
from typing import Any

import msgspec

from operators.timed.alerts import Telling
from streamproc.language.cases import Told

Record = Mapping[str, Any]
Otherwise = tuple[str, str, str, str]
"""Which record, its field, what is expected, what was found."""

_read = msgspec.json.Decoder(dict[str, Any], float_hook=Decimal).decode
_NULL = "NULL"


def records_told(tellings: Sequence[Telling]) -> dict[str, list[Record]]:
    """By alert or statement, in order; measures of a pattern are fields beside the others."""
    found: dict[str, list[Record]] = {}
    for one in tellings:
        if one.what != "late":
            record = _read(one.text)
            beside = record.get("measures", {}) if one.what == "alert" else {}
            found.setdefault(one.name, []).append({**beside, **record})
    return found


def told_otherwise(wanted: Told, told: Mapping[str, Sequence[Record]]) -> Iterator[Otherwise]:
    """Where it is not as expected: field by field, and records that are missing or too many."""
    pairs = zip_longest(wanted.rows, told.get(wanted.name, ()))
    for number, (fields, record) in enumerate(pairs, 1):
        label = f"{wanted.name}[{number}]"
        if record is None:
            yield label, "told", ", ".join(f"{name} {_text(one.shown)}" for name, one in fields.items()) or "yes", "no"
        elif fields is None:
            yield label, "told", "no", ", ".join(f"{name} {_text(value)}" for name, value in record.items())
        else:
            for name, one in fields.items():
                found = record.get(name)
                if name not in record:
                    yield label, name, _text(one.shown), f"no such field: {', '.join(record)}"
                elif not one.fits(found):
                    yield label, name, _text(one.shown), _text(found)


def _text(value: Any) -> str:
    if value is None:
        return _NULL
    if isinstance(value, str | Decimal | int) and not isinstance(value, bool):
        return str(value)
    return msgspec.json.encode(value).decode()
