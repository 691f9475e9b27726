"""Tables: a schema and rows as columns. What a column holds is inferred from all its values, or declared."""

from __future__ import annotations

__all__ = [
    "EVENT_TIME",
    "RawColumn",
    "Table",
    "Wanted",
    "days_of",
    "inferred",
    "nulls",
    "raw_of",
    "typed",
    "with_event_time",
]

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from decimal import Decimal
from math import isfinite
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np

from operators.batch import Column
from operators.expressions.clock import TRUNCATIONS, parse_timestamp
from operators.schema import DataType, FieldSpec, Kind
from operators.values import Faults, build_column
from state.errors import ConfigError, Place

_INTEGER: Final = re.compile(r"-?(?:0|[1-9][0-9]*)").fullmatch
_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]*)?(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?").fullmatch
_HOURS: Final = re.compile(r"[-+][0-9]{2}").fullmatch
_PLAIN_TIME: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,3})?Z?").fullmatch
_BOOLS: Final = {"true": True, "false": False}
_INT64: Final = range(-(2**63), 2**63)
_INT64_DIGITS: Final = 19  # what is shorter fits
_TAKEN: Final[dict[Kind, tuple[type, ...]]] = {
    Kind.INT64: (int,),
    Kind.FLOAT64: (int, float),
    Kind.DECIMAL: (int, float, str),
    Kind.STRING: (str,),
    Kind.BOOL: (bool,),
    Kind.TIMESTAMP: (int, str),
}
_WHY: Final = {
    "decimal_places": "it has more decimal places",
    "overflow": "it is too large",
    "out_of_range": "it is out of range",
}
_DAY_MS: Final = 86_400_000
_FLOAT_MAX: Final = 1e308
EVENT_TIME: Final = "event_time"


class RawColumn(NamedTuple):
    """Values as a file has them, None for NULL. `text`: they are a CSV's cells, which say nothing of their type."""

    values: Sequence[Any]
    text: bool = False


class Table(NamedTuple):
    """`time`: its event time's column, or None. `rows`: how many. `unknown`: columns whose type no value tells."""

    name: str
    rows: int
    columns: Mapping[str, Column]
    time: str | None
    unknown: frozenset[str] = frozenset()


def with_event_time(name: str, rows: int, columns: Mapping[str, Column], declared: str | None) -> Table:
    """The table; its event time is the declared one, else `event_time`, else the only timestamp (days do not count)."""
    times = [one for one, column in columns.items() if column.type.kind is Kind.TIMESTAMP]
    if declared is None and EVENT_TIME not in times and len(times) > 1:
        times = [one for one in times if (columns[one].values % _DAY_MS).any()]
    if declared is None:
        declared = EVENT_TIME if EVENT_TIME in times else times[0] if len(times) == 1 else None
    return Table(name, rows, columns, declared)


def inferred(raw: RawColumn) -> Column:
    """The column with the narrowest type that all its values have: bool, int64, float64, timestamp, else string."""
    values = [None if value == "" else value for value in raw.values] if raw.text else list(raw.values)
    known = [value for value in values if value is not None]
    if raw.text or set(map(type, known)) <= {str}:
        kind, made = _of_texts(known, raw.text)
    else:
        kind, made = _of_json(known)
    left = iter(made)
    values = made if len(made) == len(values) else [None if value is None else next(left) for value in values]
    return build_column(_spec("", DataType(kind)), values, Faults(), lambda row: Decimal(0))


def nulls(kind: DataType, rows: int) -> Column:
    """A column without a value."""
    return build_column(_spec("", kind), [None] * rows, Faults(), lambda row: Decimal(0))


def raw_of(column: Column) -> RawColumn:
    """A column's values as JSON has them; decimals by their digits, times in ms."""
    values: list[Any] = column.values.tolist()
    if column.type.kind is Kind.DECIMAL:
        values = [f"{Decimal(value).scaleb(-column.type.scale):f}" for value in values]
    if column.valid is not None:
        values = [value if valid else None for value, valid in zip(values, column.valid.tolist(), strict=True)]
    return RawColumn(values)


def _of_texts(texts: list[str], numbers: bool) -> tuple[Kind, list[Any]]:
    """The type of texts, and their values. `numbers`: may they be numbers and bools?"""
    if not texts:
        return Kind.STRING, texts
    if numbers and all(map(_is_number, texts)):
        if any(len(text) >= _INT64_DIGITS and _INTEGER(text) and int(text) not in _INT64 for text in texts):
            return Kind.STRING, texts
        if all(map(_INTEGER, texts)):
            return Kind.INT64, list(map(int, texts))
        return Kind.FLOAT64, list(map(float, texts))
    if numbers and all(text.lower() in _BOOLS for text in texts):
        return Kind.BOOL, [_BOOLS[text.lower()] for text in texts]
    moments = _moments(texts)
    return (Kind.STRING, texts) if moments is None else (Kind.TIMESTAMP, moments)


def _moments(texts: list[str]) -> list[int] | None:
    """The times that all texts are, ms; None if one is none."""
    if all(map(_PLAIN_TIME, texts)):  # what numpy reads as we do, and much faster
        with suppress(ValueError):
            plain = np.array([text.removesuffix("Z") for text in texts], "M8[ms]")
            return [int(one) for one in plain.astype(np.int64).tolist()]
    moments = []
    for text in texts:
        moment = _moment(text)
        if moment is None:
            return None
        moments.append(moment)
    return moments


def _moment(text: str) -> int | None:
    """A time, ms; its zone may be hours only, as DuckDB and PostgreSQL write it."""
    return parse_timestamp(f"{text}:00" if _HOURS(text[-3:]) and ":" in text[:-3] else text)


def _is_number(text: str) -> bool:
    return bool(text) and _NUMBER(text) is not None and text[-1].isdecimal() and isfinite(float(text))


def _of_json(values: list[Any]) -> tuple[Kind, list[Any]]:
    kinds = set(map(type, values))
    if kinds == {bool}:
        return Kind.BOOL, values
    if kinds <= {int, float} and _fit(values):
        return (Kind.INT64, values) if kinds == {int} else (Kind.FLOAT64, list(map(float, values)))
    return Kind.STRING, list(map(_as_text, values))


def _fit(numbers: list[int | float]) -> bool:
    return all(one in _INT64 if type(one) is int else abs(one) < _FLOAT_MAX for one in numbers)


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


class Wanted(NamedTuple):
    """A column as CREATE TABLE declares it, and where; `required`: NOT NULL."""

    name: str
    type: DataType
    required: bool
    place: Place


def typed(wanted: Wanted, raw: RawColumn, row_name: Callable[[int], str]) -> Column:
    """The column as it was declared; `row_name`: what a row is called.

    Raises:
        ConfigError: a value is not of its type, or NULL where that is refused; names the row, never the value.
    """
    name, kind = wanted.name, wanted.type
    values = [_value(value, kind.kind, raw.text) if value is not None else None for value in raw.values]
    if wanted.required and None in values:
        said = f"{name} is NULL in {row_name(values.index(None))}, but declared NOT NULL"
        raise ConfigError(said, wanted.place)
    taken = _TAKEN[kind.kind]
    faults = Faults()
    for row, value in enumerate(values):
        if value is not None and type(value) not in taken:
            faults.mark_row(row, "wrong_type", "")
            values[row] = None
    column = build_column(_spec(name, kind), values, faults, lambda row: Decimal(str(values[row])))
    if faults.rows:
        row = min(faults.rows)
        raise ConfigError(f"{name} is no {kind} in {row_name(row)}", wanted.place, _WHY.get(faults.rows[row][0]))
    return column


def days_of(column: Column) -> Column:
    """Times as the starts of their days, in UTC."""
    return Column(column.type, TRUNCATIONS["day"](column.values), column.valid)


def _value(value: Any, kind: Kind, cell: bool) -> Any:
    """What JSON would hold for it; a text that does not fit stays one, but a blank cell is NULL."""
    if kind is Kind.STRING:
        return _as_text(value)
    if isinstance(value, str):
        text = value.strip()
        if cell and not text:
            return None
        if kind is Kind.TIMESTAMP:
            moment = int(text) if _INTEGER(text) else _moment(text)
            return text if moment is None else moment
        if kind is Kind.BOOL:
            return _BOOLS.get(text.lower(), text)
        if kind is Kind.INT64:
            return int(text) if _INTEGER(text) and len(text) < 40 else text
        if kind is Kind.FLOAT64:
            return float(text) if _is_number(text) else text
        return text
    if kind is Kind.INT64 and isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _spec(name: str, kind: DataType) -> FieldSpec:
    return FieldSpec(name, kind, name)
