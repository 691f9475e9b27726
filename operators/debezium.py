"""Debezium's change events (PostgreSQL, MySQL, MongoDB ...) as JSON -> a row with the declared fields.

The row is `after`, or `before` of a delete. Other parts of the event have names of their own, so that a field may come
from them: `__op`, `__ts_ms`, `__deleted`, `__source_NAME`, `__before_COLUMN`. Events come with Kafka Connect's schema
around them or without; with it, a column's logical type is known, else a field's `encoding` says it. Source of the
forms: Debezium's documentation of the connectors' change events and data types.
"""

from __future__ import annotations

__all__ = ["BEFORE", "META", "SOURCE", "DebeziumForm"]

import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from operators.schema import FieldSpec, Kind, StreamSchema
from operators.wire import LOGICAL, Logical, base64_text, extended, time_ms
from state.errors import RecordError

BEFORE = "__before_"
SOURCE = "__source_"
META = ("__op", "__ts_ms", "__deleted")
_SCHEMAS_MAX = 64
_OPS = frozenset("cudr")
_NULL = msgspec.Raw(b"null")
_UNAVAILABLE = b'"__debezium_unavailable_value"'
_FAILURES = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_INTEGER = re.compile(rb"-?[0-9]{1,19}").fullmatch
_BOOLS = {b"0": msgspec.Raw(b"false"), b"1": msgspec.Raw(b"true")}

Row = dict[str, msgspec.Raw]
Types = Mapping[str, Logical]


class _Event(msgspec.Struct, gc=False):
    """An event, or what Kafka Connect wraps around one."""

    payload: msgspec.Raw = _NULL
    schema: msgspec.Raw = _NULL
    op: msgspec.Raw = _NULL
    before: msgspec.Raw = _NULL
    after: msgspec.Raw = _NULL
    source: msgspec.Raw = _NULL
    ts_ms: msgspec.Raw = _NULL


_event = msgspec.json.Decoder(_Event).decode
_row = msgspec.json.Decoder(Row).decode
_text = msgspec.json.Decoder(str).decode
_any = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


class DebeziumForm:
    """The form of one stream's events. Remembers the schemas it has seen, up to a bound, and no event."""

    skips_tombstones = True

    def __init__(self, schema: StreamSchema) -> None:
        self._columns = [spec for spec in schema.fields if not _is_part(spec.source)]
        self._written = [spec for spec in self._columns if spec.type.kind in _CONVERTERS]
        self._before = [
            (spec.source, msgspec.structs.replace(spec, source=spec.source.removeprefix(BEFORE)))
            for spec in schema.fields
            if spec.source.startswith(BEFORE)
        ]
        self._source = [spec for spec in schema.fields if spec.source.startswith(SOURCE)]
        self._meta = [spec.source for spec in schema.fields if spec.source in META]
        self._types: dict[bytes, Types] = {}

    def plain(self, value: bytes) -> bytes:
        """The row as JSON, other columns too; see `Form`."""
        try:
            return _encode(self._read(value))
        except RecursionError:
            raise RecordError("too_deep", "the record is nested too deeply") from None
        except msgspec.ValidationError:
            raise RecordError("wrong_type", "the record is no change event: expected JSON objects") from None
        except _FAILURES:
            raise RecordError("broken_json", "the record is not valid JSON") from None

    def _read(self, value: bytes) -> Row:
        event, types = _event(value), None
        if _given(event.payload):
            types = self._typed(event.schema)
            event = _event(event.payload)
        op = _op(event.op)
        image = event.before if op == "d" else event.after
        if not _given(image):
            raise RecordError("no_row", _NO_BEFORE if op == "d" else _NO_AFTER)
        row, mongo = _image(image)
        for spec in self._columns if mongo or _UNAVAILABLE in value else self._written:
            if (raw := row.get(spec.source)) is not None:
                row[spec.source] = _column(spec, raw, types, mongo)
        if self._before:
            earlier, mongo = _image(event.before) if _given(event.before) else ({}, mongo)
            for name, spec in self._before:
                row[name] = _column(spec, earlier.get(spec.source, _NULL), types, mongo)
        if self._source:
            origin = _row(event.source) if _given(event.source) else {}
            for spec in self._source:
                row[spec.source] = _origin(spec, origin.get(spec.source.removeprefix(SOURCE), _NULL))
        for name in self._meta:
            row[name] = _part(name, event, op)
        return row

    def _typed(self, schema: msgspec.Raw) -> Types | None:
        """The logical types of the row's columns; None: the schema is left out."""
        if not _given(schema):
            return None
        text = bytes(schema)
        known = self._types.get(text)
        if known is None:
            if len(self._types) >= _SCHEMAS_MAX:
                self._types.clear()
            known = self._types[text] = _types_of(_any(text))
        return known


def _given(raw: msgspec.Raw) -> bool:
    return raw is not _NULL and bytes(raw).strip() != b"null"


def _is_part(source: str) -> bool:
    """Whether a field comes from elsewhere than the row."""
    return source in META or source.startswith((BEFORE, SOURCE))


_NO_BEFORE = "a delete without its row: let the source send it (REPLICA IDENTITY, pre-images)"
_NO_AFTER = "a change without the row after it: let the source send it (MongoDB: capture.mode with update_full)"


def _op(raw: msgspec.Raw) -> str:
    if not _given(raw):
        raise RecordError("no_change_event", "the record is no change event: it has no op")
    op = _text(raw)
    if op not in _OPS:
        raise RecordError("unknown_op", "op: expected c, u, d or r")
    return op


def _image(raw: msgspec.Raw) -> tuple[Row, bool]:
    """A row's columns, and whether it is a document of MongoDB: those come as text."""
    if bytes(raw).lstrip()[:1] == b'"':
        return _row(_text(raw).encode()), True
    return _row(raw), False


def _types_of(schema: Any) -> Types:
    """From a schema of Kafka Connect: the logical types of the columns in `after` (those in `before` are the same)."""
    found: dict[str, Logical] = {}
    for part in _fields(schema):
        if part.get("field") not in ("before", "after"):
            continue
        for column in _fields(part):
            encoding = LOGICAL.get(str(column.get("name")))
            if encoding is not None and isinstance(column.get("field"), str):
                found[column["field"]] = Logical(encoding, _scale(column.get("parameters")))
    return found


def _fields(schema: Any) -> list[dict[str, Any]]:
    fields = schema.get("fields") if isinstance(schema, dict) else None
    return [field for field in fields if isinstance(field, dict)] if isinstance(fields, list) else []


def _scale(parameters: Any) -> int:
    text = str(parameters.get("scale")) if isinstance(parameters, dict) else ""
    return int(text) if re.fullmatch(r"-?[0-9]{1,3}", text) else 0


def _column(spec: FieldSpec, raw: msgspec.Raw, types: Types | None, mongo: bool) -> msgspec.Raw:
    """A column's value as JSON would hold it; what is not as expected stays, for the decoder to refuse."""
    text = bytes(raw).strip()
    if text == _UNAVAILABLE:  # a large value that the change did not touch, so the database did not send it
        return _NULL
    if mongo:
        return msgspec.Raw(_encode(extended(_any(text)))) if text[:1] == b"{" else raw
    convert = _CONVERTERS.get(spec.type.kind)
    return convert(spec, raw, text, types) if convert is not None else raw


def _logical(spec: FieldSpec, types: Types | None) -> Logical | None:
    """The record's own schema says how a column is written; without one the field's declaration does."""
    if types is not None:
        return types.get(spec.source)
    return Logical(spec.encoding, spec.type.scale) if spec.encoding else None


def _time(spec: FieldSpec, raw: msgspec.Raw, text: bytes, types: Types | None) -> msgspec.Raw:
    logical = _logical(spec, types)
    if logical is None or logical.encoding in ("millis", "unscaled") or not _INTEGER(text):
        return raw
    return msgspec.Raw(b"%d" % time_ms(int(text), logical.encoding))


def _decimal(spec: FieldSpec, raw: msgspec.Raw, text: bytes, types: Types | None) -> msgspec.Raw:
    """Base64 of the unscaled number; of a column without a fixed scale, an object that has the scale beside it."""
    if text[:1] == b"{":
        held = _any(text)
        value, scale = held.get("value"), held.get("scale")
        logical = Logical("unscaled", scale) if type(scale) is int else None
    else:
        logical = _logical(spec, types)
        value = _text(text) if text[:1] == b'"' else None
    if logical is None or logical.encoding != "unscaled" or not isinstance(value, str):
        return raw
    try:
        digits = base64_text(value, logical.scale)
    except RecordError as error:
        raise RecordError(error.reason, f"{spec.name}: {error.detail}") from None
    if digits is None:
        raise RecordError("wrong_type", f"{spec.name}: expected {spec.type} as base64 of its unscaled value")
    return msgspec.Raw(b'"%b"' % digits.encode())


def _bool(spec: FieldSpec, raw: msgspec.Raw, text: bytes, types: Types | None) -> msgspec.Raw:
    """MySQL's booleans are tinyint(1): 0 and 1."""
    return _BOOLS.get(text, raw)


_CONVERTERS: dict[Kind, Callable[[FieldSpec, msgspec.Raw, bytes, Types | None], msgspec.Raw]] = {
    Kind.TIMESTAMP: _time,
    Kind.DECIMAL: _decimal,
    Kind.BOOL: _bool,
}
_UNITS = {"_us": "micros", "_ns": "nanos"}


def _origin(spec: FieldSpec, raw: msgspec.Raw) -> msgspec.Raw:
    """A part of `source`; `ts_us` and `ts_ns` say their unit by their name."""
    unit = _UNITS.get(spec.source[-3:])
    if unit and spec.type.kind is Kind.TIMESTAMP and _INTEGER(text := bytes(raw).strip()):
        return msgspec.Raw(b"%d" % time_ms(int(text), unit))
    return raw


def _part(name: str, event: _Event, op: str) -> msgspec.Raw:
    if name == "__deleted":
        return msgspec.Raw(b"true" if op == "d" else b"false")
    return event.op if name == "__op" else event.ts_ms
