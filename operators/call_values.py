"""Values that come from outside the streams (a service's answer, a declared default), in the terms of decode."""

from __future__ import annotations

__all__ = ["ValueFaultError", "as_declared"]

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from operators.encode import json_values
from operators.schema import FieldSpec, Kind
from operators.values import Faults, build_column


class ValueFaultError(Exception):
    """A value does not have the declared type; the text says which and never quotes it."""


_TAKEN: dict[Kind, tuple[type, ...]] = {
    Kind.INT64: (int,),
    Kind.FLOAT64: (int, float, Decimal),
    Kind.DECIMAL: (int, float, Decimal, str),
    Kind.STRING: (str,),
    Kind.BOOL: (bool,),
    Kind.TIMESTAMP: (int, str),
}


def as_declared(fields: Sequence[FieldSpec], values: Sequence[Any]) -> list[Any]:
    """JSON values, None for NULL, as a stage hands such columns on: what it writes, decode reads.

    Raises:
        ValueFaultError: one is not of its field's type.

    >>> from operators.schema import DataType
    >>> as_declared([FieldSpec("limit", DataType(Kind.DECIMAL, 2), "limit")], ["12.5"])
    [12.5]
    """
    return [_as_declared(field, value) for field, value in zip(fields, values, strict=True)]


def _as_declared(field: FieldSpec, value: Any) -> Any:
    if value is None:
        return None
    if type(value) not in _TAKEN[field.type.kind]:
        raise ValueFaultError(f"{field.name}: expected {field.type}")
    faults = Faults()
    try:
        told = value if isinstance(value, (str, bool, int)) else float(value)
        column = build_column(field, [told], faults, lambda _: Decimal(value))
    except OverflowError:
        raise ValueFaultError(f"{field.name}: expected {field.type}") from None
    if faults.rows:
        raise ValueFaultError(faults.rows[0][1])
    return json_values(column)[0]
