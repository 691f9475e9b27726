"""Fields of an event -> the change event of Debezium that a database's connector would have sent."""

from __future__ import annotations

__all__ = ["change_event"]

import base64
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from operators.debezium import BEFORE, SOURCE
from operators.schema import FieldSpec, StreamSchema
from operators.wire import PER_MS

_DAY_MS = 86_400_000
_PARTS = {"__op": "op", "__ts_ms": "ts_ms"}


def change_event(schema: StreamSchema, values: Mapping[str, Any]) -> dict[str, Any]:
    """A change with these fields: an update unless they say otherwise (`__op`); a delete's row is the one before.

    `values`: by field; None is left out.
    """
    event: dict[str, Any] = {"op": "u"}
    row, before, source = dict[str, Any](), dict[str, Any](), dict[str, Any]()
    for spec in schema.fields:
        if (value := values.get(spec.name)) is None:
            continue
        if spec.source.startswith(BEFORE):
            before[spec.source.removeprefix(BEFORE)] = _written(spec, value)
        elif spec.source.startswith(SOURCE):
            source[spec.source.removeprefix(SOURCE)] = _written(spec, value)
        elif spec.source in _PARTS:
            event[_PARTS[spec.source]] = value
        else:
            row[spec.source] = _written(spec, value)
    if event["op"] == "d":
        return {**event, "before": {**row, **before}, "after": None, "source": source}
    return {**event, "before": before or None, "after": row, "source": source}


def _written(spec: FieldSpec, value: Any) -> Any:
    """As the column's `encoding` has it."""
    if spec.encoding == "days":
        return value // _DAY_MS
    if spec.encoding in PER_MS:
        return value * PER_MS[spec.encoding]
    if spec.encoding == "unscaled":
        minor = int(Decimal(value).scaleb(spec.type.scale))
        return base64.b64encode(minor.to_bytes(minor.bit_length() // 8 + 1, "big", signed=True)).decode()
    return value
