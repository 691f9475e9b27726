"""Avro in Confluent's wire format -> JSON with the declared fields. The only importer of fastavro.

A record is a zero byte, its schema's id in a registry (4 bytes, big-endian), and Avro's binary encoding (Confluent's
documentation, "Wire format"; Avro 1.12, "Binary encoding" and "Schema resolution"). Each is read by the schema that
wrote it and, if the stream has one, through the reader's schema: aliases, defaults and promotions are the
specification's. Logical types are ours (operators/wire.py): times of any unit become ms, decimals their digits.
"""

from __future__ import annotations

__all__ = ["AvroForm", "check_installed", "check_schema", "file_records", "file_schema", "schema_id", "wire_record"]

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import IO, Any, NamedTuple

import msgspec
import numpy as np

from operators.forms import Schemas
from operators.schema import FieldSpec, Kind, StreamSchema
from operators.wire import LOGICAL, Logical, time_ms, unscaled_text
from state.errors import ConfigError, RecordError

_HEADER_BYTES = 5
_READERS_MAX = 256
_encode = msgspec.json.Encoder().encode

Convert = Callable[[Any], Any]


class _Reader(NamedTuple):
    """One writer's schema, ready to read by. `convert`: of the fields whose values JSON would hold otherwise."""

    read: Callable[[io.BytesIO], Any]
    convert: Mapping[str, Convert]


def schema_id(value: bytes | None) -> int | None:
    """The id of the schema that a record was written by; None: it is not in the wire format."""
    if not value or len(value) < _HEADER_BYTES or value[0]:
        return None
    return int.from_bytes(value[1:_HEADER_BYTES], "big")


def check_installed() -> None:
    """Raises ConfigError if fastavro is missing."""
    _import()


def check_schema(text: str) -> dict[str, Any]:
    """The fields of a record's schema by name, with their types.

    Raises:
        ConfigError: it is no schema of a record, or fastavro is not installed.
    """
    schema = _parsed(text)
    if not isinstance(schema, dict) or schema.get("type") != "record":
        raise ConfigError("this is no Avro schema of a record")
    _fastavro_schema(schema)
    return {field["name"]: field["type"] for field in schema["fields"]}


def wire_record(number: int, body: bytes) -> bytes:
    """A record in the wire format."""
    return b"\0" + number.to_bytes(4, "big") + body


def file_schema(file: IO[bytes]) -> str:
    """The schema that a container file (`.avro`) says it was written by.

    Raises:
        ConfigError: it is no such file.
    """
    try:
        return str(_import().block_reader(file).metadata["avro.schema"])
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(f"this is no readable Avro file: {type(error).__name__}") from None


def file_records(file: IO[bytes]) -> Iterator[bytes]:
    """The records of a container file, byte for byte, without the header of the wire format.

    Raises:
        ConfigError: it is damaged.
    """
    fastavro = _import()
    try:
        blocks = fastavro.block_reader(file)
        schema = _fastavro_schema(_parsed(blocks.metadata["avro.schema"]))
        for block in blocks:
            stream = block.bytes_
            content = stream.getvalue()
            for _ in range(block.num_records):
                start = stream.tell()
                fastavro.schemaless_reader(stream, schema, None)
                yield content[start : stream.tell()]
    except (ConfigError, GeneratorExit):
        raise
    except Exception as error:
        raise ConfigError(f"this is no readable Avro file: {type(error).__name__}") from None


class AvroForm:
    """The form of one stream's records. Remembers the schemas it has seen, up to a bound, and no record."""

    skips_tombstones = True

    def __init__(self, schema: StreamSchema, schemas: Schemas) -> None:
        """Raises ConfigError if fastavro is missing, or the reader's schema is none."""
        self._schema = schema
        self._schemas = schemas
        self._sources = {spec.source: spec for spec in schema.fields}
        self._all = schema.extra_refused
        _import()
        self._reader = _parsed(schema.reader_schema) if schema.reader_schema else None
        if self._reader is not None:
            check_schema(schema.reader_schema)
        self._readers: dict[int, _Reader] = {}

    def plain(self, value: bytes) -> bytes:
        """The declared fields as JSON; see `Form`."""
        number = schema_id(value)
        if number is None:
            raise RecordError("not_avro", "the record does not begin with a zero byte and a schema's id")
        reader = self._readers.get(number) or self._open(number)
        stream = io.BytesIO(value)
        stream.seek(_HEADER_BYTES)
        try:
            record = reader.read(stream)
            left_over = stream.tell() != len(value)
        except Exception as error:  # a broken record shows in many ways: all of them concern this record only
            resolving = type(error).__name__ == "SchemaResolutionError"
            reason = "schema_mismatch" if resolving else "broken_avro"
            raise RecordError(reason, f"the record cannot be read by schema {number}") from None
        if left_over:
            raise RecordError("broken_avro", f"the record goes on behind what schema {number} describes")
        return self._json(record, reader.convert)

    def _json(self, record: Mapping[str, Any], convert: Mapping[str, Convert]) -> bytes:
        row = {name: held for name, held in record.items() if self._all or name in self._sources}
        for name, function in convert.items():
            if row.get(name) is not None:
                try:
                    row[name] = function(row[name])
                except RecordError as error:
                    raise RecordError(error.reason, f"{self._sources[name].name}: {error.detail}") from None
        try:
            return _encode(row)
        except (TypeError, ValueError, ArithmeticError, RecursionError):
            raise RecordError("wrong_type", "a field holds what JSON has no form for") from None

    def _open(self, number: int) -> _Reader:
        text = self._schemas.get(number)
        if text is None:
            raise RecordError("unknown_schema", f"the registry has no Avro schema {number}")
        try:
            made = self._reader_of(text)
        except ConfigError as error:
            raise RecordError("bad_schema", f"schema {number}: {error.message}") from None
        if len(self._readers) >= _READERS_MAX:
            self._readers.clear()
        self._readers[number] = made
        return made

    def _reader_of(self, text: str) -> _Reader:
        written = _parsed(text)
        check_schema(text)
        fields = _by_reader(written, self._reader)
        named = _named([self._reader, written])
        convert = {
            name: function
            for name, spec in self._sources.items()
            if name in fields and (function := _converter(spec, _branches(fields[name], named))) is not None
        }
        writer = _fastavro_schema(written)
        reader = None if self._reader is None else _fastavro_schema(self._reader)
        read = _import().schemaless_reader
        return _Reader(lambda stream: read(stream, writer, reader), convert)


def _import() -> Any:
    try:
        import fastavro
    except ImportError:
        raise ConfigError("format avro needs fastavro", hint="pip install 'streamproc[avro]'") from None
    return fastavro


def _parsed(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ConfigError("an Avro schema must be JSON") from None


def _fastavro_schema(schema: Any) -> Any:
    """As fastavro wants it, without logical types: those are read here."""
    try:
        parsed = _import().parse_schema(_bare(schema))
        _refuse_unbounded(parsed, {}, frozenset())
        return parsed
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(f"this is no Avro schema: {type(error).__name__}") from None


def _refuse_unbounded(schema: Any, named: dict[str, Any], within: frozenset[str]) -> None:
    """Refuse schemas by which a few bytes take any amount of stack or memory: fastavro bounds neither.

    `schema` is as fastavro parses it: names are full. `named`: the types defined so far; `within`: those around it.
    """
    if isinstance(schema, str):
        if schema in within:
            raise ConfigError("a schema that contains itself is not supported")
        return
    if isinstance(schema, list):
        for branch in schema:
            _refuse_unbounded(branch, named, within)
        return
    kind = schema["type"]
    if "name" in schema:
        named[schema["name"]] = schema
        within = within | {schema["name"]}
    if kind == "record":
        for field in schema["fields"]:
            _refuse_unbounded(field["type"], named, within)
    elif kind in ("array", "map"):
        inner = schema["items" if kind == "array" else "values"]
        _refuse_unbounded(inner, named, within)
        if kind == "array" and _takes_nothing(inner, named):
            raise ConfigError("an array of what takes no bytes is not supported")
    elif not isinstance(kind, str):
        _refuse_unbounded(kind, named, within)


def _takes_nothing(schema: Any, named: Mapping[str, Any]) -> bool:
    """Whether values of the type are encoded in no bytes at all."""
    if isinstance(schema, str):
        return schema == "null" or (schema in named and _takes_nothing(named[schema], named))
    if isinstance(schema, list):
        return False
    if schema["type"] == "record":
        return all(_takes_nothing(field["type"], named) for field in schema["fields"])
    return bool(schema["type"] == "null" or (schema["type"] == "fixed" and schema["size"] == 0))


def _bare(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_bare(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {key: held for key, held in schema.items() if key not in ("logicalType", "precision", "scale")}
    return {key: _bare(held) if key in ("type", "fields", "items", "values") else held for key, held in kept.items()}


def _by_reader(written: Any, reader: Any) -> dict[str, Any]:
    """Field -> the type that says how its value was written: the writer's, under the reader's name.

    The specification leaves other units or scales open (they do not resolve): the writer knows what it wrote.
    """
    types = {field["name"]: field["type"] for field in written["fields"]}
    if reader is None:
        return types
    found = {}
    for field in reader["fields"]:
        names = [field["name"], *field.get("aliases", ())]
        found[field["name"]] = next((types[name] for name in names if name in types), field["type"])
    return found


def _named(schema: Any) -> dict[str, Any]:
    """The types that a schema defines by name, also by the last part of it."""
    found: dict[str, Any] = {}
    if isinstance(schema, list):
        for part in schema:
            found |= _named(part)
    elif isinstance(schema, dict):
        if isinstance(schema.get("name"), str) and isinstance(schema.get("type"), str):
            found[schema["name"]] = found[schema["name"].rpartition(".")[2]] = schema
        for key in ("type", "fields", "items", "values"):
            found |= _named(schema.get(key))
    return found


def _branches(type_: Any, named: Mapping[str, Any]) -> list[Any]:
    """What a value of the type may be: the parts of a union, names replaced by what they stand for."""
    if isinstance(type_, list):
        return [branch for part in type_ for branch in _branches(part, named)]
    if isinstance(type_, str):
        return [named.get(type_) or named.get(type_.rpartition(".")[2]) or type_]
    return [type_]


def _converter(spec: FieldSpec, branches: Sequence[Any]) -> Convert | None:
    """What makes JSON's value of a declared field out of Avro's; None: they are the same."""
    logical = next((found for branch in branches if (found := _logical(branch)) is not None), None)
    kind = spec.type.kind
    if logical is not None and kind is Kind.TIMESTAMP and logical.encoding not in ("millis", "unscaled"):
        return lambda held: time_ms(held, logical.encoding) if type(held) is int else held
    if logical is not None and kind is Kind.DECIMAL and logical.encoding == "unscaled":
        return lambda held: unscaled_text(held, logical.scale) if type(held) is bytes else held
    if kind in (Kind.DECIMAL, Kind.FLOAT64) and any(_kind(branch) == "float" for branch in branches):
        return lambda held: float(str(np.float32(held))) if type(held) is float else held
    return None


def _kind(branch: Any) -> Any:
    return branch.get("type") if isinstance(branch, dict) else branch


def _logical(branch: Any) -> Logical | None:
    """Avro's own name, or the one that Kafka Connect's converter leaves beside it."""
    if not isinstance(branch, dict):
        return None
    for name in (branch.get("connect.name"), branch.get("logicalType")):
        if isinstance(name, str) and name in LOGICAL:
            scale = branch.get("scale")
            return Logical(LOGICAL[name], scale if type(scale) is int else 0)
    return None
