"""What formats besides plain JSON add to a stream: encodings, parts of a change event, Avro's schemas."""

from __future__ import annotations

__all__ = ["FORMATS", "check_source", "read_encoding", "read_registry", "read_schema_file", "registry_of"]

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from urllib.parse import urlsplit

from operators.debezium import BEFORE, META, SOURCE
from operators.schema import DataType, Kind
from operators.wire import PER_MS
from state.errors import ConfigError, Place
from streamproc.language.model import FieldDeclaration, Stream
from streamproc.language.problems import Problems, nearest
from streamproc.language.reader import Section, choice, text
from streamproc.language.yaml_tree import Node

FORMATS = ("json", "debezium", "avro")
_BYTES_MAX = 1 << 20
_CLOSE = 0.75
_KNOWN_SOURCE = ("ts_ms", "lsn", "db", "table", "schema", "snapshot", "txId", "pos", "collection", "ord")


def read_encoding(section: Section, type_: DataType, format_: str) -> str:
    """The `encoding:` of a field: only where neither the record nor its format says it, and fitting the type."""
    times = (*PER_MS, "days")
    found = section.get("encoding", choice("encoding", *times, "unscaled"), "")
    if not found:
        return ""
    kind = Kind.DECIMAL if found == "unscaled" else Kind.TIMESTAMP
    if format_ != "debezium":
        hint = "format: debezium" if format_ == "json" else "Avro's schema says it"
        section.problems.add(f"encoding: format {format_} has none", section.key_place("encoding"), hint)
    elif type_.kind is not kind:
        right = "a timestamp" if kind is Kind.TIMESTAMP else "a decimal"
        section.problems.add(f"encoding: {found} is of {right}, not of {type_}", section.key_place("encoding"))
    return found


def check_source(source: str, format_: str, place: Place) -> None:
    """Refuse what looks like a part of a change event and is none.

    Raises:
        ConfigError: with the nearest right one.
    """
    if format_ != "debezium" or not source.startswith("__"):
        return
    if source in META or any(source.startswith(part) and source != part for part in (SOURCE, BEFORE)):
        return
    close = get_close_matches(source, [*META, *(SOURCE + name for name in _KNOWN_SOURCE), BEFORE], 1, _CLOSE)
    if close or source in (SOURCE, BEFORE):
        hint = f"did you mean {close[0]}?" if close and close[0] != source else f"{source}NAME"
        raise ConfigError(f"from: {source!r} is no part of a change event", place, hint)


def read_registry(node: Node) -> str:
    """A schema registry: a URL without secrets, or `file:DIR`."""
    address = text(node)
    parts = urlsplit(address)
    if parts.scheme == "file" and address != "file:":
        return address
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"{parts.scheme or address!r} names no schema registry", node.place, _REGISTRY_HINT)
    if parts.username is not None:
        raise ConfigError("registry: credentials do not belong into a file", node.place, "set STREAMPROC_REGISTRY")
    return address


_REGISTRY_HINT = "http://host:8081, or file:DIR with files ID.avsc"


def registry_of(stream: Stream, folder: str) -> str:
    """The stream's registry; a folder is relative to the pipeline's file."""
    name = stream.registry.removeprefix("file:")
    return stream.registry if name == stream.registry else f"file:{(Path(folder) / name).absolute()}"


def read_schema_file(stream: Stream, folder: str, problems: Problems) -> str:
    """The text of the reader's schema, "" if there is none; it must have all declared fields."""
    if stream.format != "avro":
        return ""
    from operators.avro import check_installed, check_schema

    try:
        check_installed()
    except ConfigError as error:
        problems.add(error.message, stream.place, error.hint)
        return ""
    if not stream.schema:
        return ""
    path = Path(folder) / stream.schema
    try:
        with open(path, encoding="utf-8") as file:
            content = file.read(_BYTES_MAX + 1)
        if len(content) > _BYTES_MAX:
            raise ConfigError(f"it is larger than {_BYTES_MAX >> 20} MiB")
        _check_fields(stream.fields, check_schema(content), stream.schema, problems)
    except (OSError, UnicodeDecodeError) as error:
        said = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        problems.add(f"schema: {stream.schema} cannot be read: {said}", stream.places[0])
        return ""
    except ConfigError as error:
        problems.add(f"schema: {stream.schema}: {error.message}", stream.places[0], error.hint)
        return ""
    return content


def _check_fields(
    declared: Mapping[str, FieldDeclaration], known: Mapping[str, object], file: str, problems: Problems
) -> None:
    for name, field in declared.items():
        if field.source not in known:
            said = f"field {name}: {file} has no field {field.source!r}"
            problems.add(said, field.place, nearest(field.source, known))
