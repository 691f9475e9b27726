"""The `streams:` and `tables:` sections."""

from __future__ import annotations

__all__ = ["read_fields", "read_streams", "read_tables"]

from operators.periods import EXPIRES, VALID_FROM
from operators.schema import DataType, Kind
from operators.tables import Match
from state.errors import ConfigError
from streamproc.language.formats import FORMATS, check_source, read_encoding, read_registry
from streamproc.language.model import FieldDeclaration, Stream, Table
from streamproc.language.problems import nearest
from streamproc.language.reader import (
    Reader,
    Section,
    check_unreserved,
    choice,
    duration,
    flag,
    identifier,
    itself,
    text,
    topic_name,
    type_name,
)
from streamproc.language.units import parse_type
from streamproc.language.yaml_tree import Mapping, Node, word

_STRING = DataType(Kind.STRING)
_DAY_MS = 86_400_000


def read_streams(top: Section, pipeline: str) -> dict[str, Stream]:
    """The streams, the one that is decided first; the others keep their order."""
    if "streams" not in top:
        top.need("streams", text, "", "streams: {transactions: {fields: ..., id: ..., event_time: ...}}")
        top.node("decide")
        return {}
    before = len(top.problems.errors)
    found = {name: _stream(section, f"{pipeline}.{name}") for name, section in top.subsections("streams", "stream")}
    if not found and len(top.problems.errors) == before:
        top.problems.add("streams needs one stream", top.key_place("streams"))
    decided = top.get("decide", text, next(iter(found), ""))
    if found and decided not in found:
        place = getattr(top.node("decide"), "place", top.place)
        top.problems.add(f"decide: there is no stream {decided!r}", place, nearest(decided, found))
    return {name: found[name] for name in sorted(found, key=lambda name: name != decided)}


def _stream(section: Section, topic: str) -> Stream:
    format_ = section.get("format", choice("format", *FORMATS, later=("protobuf",)), "json")
    fields = read_fields(section, "fields", "fields: {card_id: string, ...}", format_)
    stream = Stream(
        fields=fields,
        event_time=section.need("event_time", text, "", "the timestamp field that says when it happened"),
        id=section.need("id", text, "", "the field that identifies a record"),
        topic=section.get("topic", topic_name, topic),
        format=format_,
        deduplicate=section.get("deduplicate", duration, 0),
        max_ahead=section.get("max_ahead", duration, _DAY_MS),
        extra=section.get("extra", choice("value", "ignore", "refuse"), "ignore"),
        schema=section.get("schema", text, ""),
        registry=section.get("registry", read_registry, ""),
        stage=section.get("stage", identifier, ""),
        wait=section.get("wait", duration, 1000),
        place=section.place,
        places=tuple(node.place for node in [section.node("schema")] if node),
        topic_place=getattr(section.node("topic"), "place", section.place),
        stage_place=getattr(section.node("stage"), "place", section.place),
    )
    for key in ("schema", "registry"):
        if key in section and format_ != "avro":
            section.problems.add(f"{key}: format {format_} has none", section.key_place(key), "format: avro")
    section.close()
    _check_role(section, fields, "event_time", stream.event_time, Kind.TIMESTAMP)
    _check_role(section, fields, "id", stream.id, Kind.STRING, Kind.INT64)
    return stream


def _check_role(section: Section, fields: dict[str, FieldDeclaration], key: str, name: str, *kinds: Kind) -> None:
    if not name or not fields:
        return
    place = getattr(section.node(key), "place", section.place)
    if name not in fields:
        section.problems.add(f"{key}: there is no field {name!r}", place, nearest(name, fields))
    elif fields[name].type.kind not in kinds:
        right = " or ".join(kinds)
        section.problems.add(f"{key}: the field {name} is {fields[name].type}, not {right}", place)


def read_fields(section: Section, key: str, example: str, format_: str = "json") -> dict[str, FieldDeclaration]:
    """The fields that are declared under `key`; there must be some."""
    node = section.need(key, itself, None, example)
    if node is None:
        return {}
    if not isinstance(node, Mapping) or not node.entries:
        section.problems.add(f"{section.what} needs its {key}: a mapping of names to types", node.place, example)
        return {}
    found: dict[str, FieldDeclaration] = {}
    sources: dict[str, str] = {}
    for name, entry in node.entries.items():
        with section.problems.caught():
            identifier(word(name, node.keys[name]))
            check_unreserved(name, node.keys[name], f"{name.lstrip('_')}: {{type: ..., from: {name}}}")
            if isinstance(entry, Mapping):
                found[name] = _field(Section(entry, f"field {name}", section.problems), name, format_)
            else:
                found[name] = FieldDeclaration(type_name(entry), name, place=entry.place)
            source = found[name].source
            if source in sources:
                raise ConfigError(f"{name} and {sources[source]} both come from {source!r}", entry.place)
            sources[source] = name
            check_source(source, format_, entry.place)
    return found


def _field(section: Section, name: str, format_: str) -> FieldDeclaration:
    type_ = section.need("type", type_name, _STRING)
    field = FieldDeclaration(
        type=type_,
        source=section.get("from", text, name),
        pan=section.get("pan", flag, False),
        required=section.get("required", flag, False),
        encoding=read_encoding(section, type_, format_),
        place=section.place,
    )
    if field.pan and field.type != _STRING:
        section.problems.add("a card number (pan) must be a string", section.key_place("pan"))
    section.close()
    return field


def read_tables(top: Section) -> dict[str, Table]:
    """The look-up tables, without their contents."""
    found: dict[str, Table] = {}
    for name, section in top.subsections("tables", "table"):
        key = section.need("key", identifier, "", "the column of the file that is looked up")
        if key in (EXPIRES, VALID_FROM):
            place = getattr(section.node("key"), "place", section.place)
            top.problems.add(f"{key} says when a row holds: it cannot be the key", place, "rename the column")
        key_type, match = _STRING, Match.EXACT
        columns: dict[str, DataType] = {}
        if (node := section.node("columns")) is not None:
            declared = Section(node, f"columns of table {name}", top.problems)
            for column in declared:
                if column == key:
                    key_type, match = declared.need(column, _key_type, (_STRING, Match.EXACT))
                else:
                    columns[column] = declared.need(column, _column_type(column), _STRING)
        file = section.need("file", text, "", "a CSV or NDJSON file, relative to the pipeline")
        topic = section.get("topic", topic_name, "")
        if topic and (other := next((other for other, table in found.items() if table.topic == topic), None)):
            top.problems.add(f"the topic {topic} is that of the table {other}", section.key_place("topic"))
        section.close()
        found[name] = Table(key, key_type, file, columns, match, topic, section.place)
    return found


def _key_type(node: Node) -> tuple[DataType, Match]:
    """The type of a table's key: `cidr` and `prefix` are texts that match in a way of their own."""
    name = text(node).strip().lower()
    if name in (Match.CIDR, Match.PREFIX):
        return _STRING, Match(name)
    try:
        return parse_type(name, also=(Match.CIDR, Match.PREFIX)), Match.EXACT
    except ValueError as error:
        raise ConfigError(str(error), node.place) from None


def _column_type(column: str) -> Reader[DataType]:
    """The type of another column."""

    def read(node: Node) -> DataType:
        kind = type_name(node)
        if column in (EXPIRES, VALID_FROM) and kind.kind is not Kind.TIMESTAMP:
            raise ConfigError(f"{column} says when a row holds: it is a timestamp, not {kind}", node.place)
        return kind

    return read
