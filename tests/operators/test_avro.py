"""Avro in Confluent's wire format: fastavro's own writer is the oracle of what a record says."""

from __future__ import annotations

import datetime
import io
import json
import uuid
from decimal import Decimal
from typing import Any

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.avro import check_schema, file_records, file_schema, schema_id, wire_record
from operators.decode import Decoded
from operators.forms import open_decoder
from operators.schema import FieldSpec, StreamSchema
from state.errors import ConfigError
from tests.operators.samples import NOW, PAN_KEY, examples, type_of

SECRET = "4111222233334444"
MOMENT = datetime.datetime(2018, 6, 20, 15, 13, 16, 945104, datetime.UTC)
MOMENT_MS = 1529507596945
BASE = [{"name": "id", "type": "string"}, {"name": "at", "type": "long"}]
ROW = {"id": "a", "at": MOMENT_MS}


def record(*fields: dict[str, Any], name: str = "Payment") -> dict[str, Any]:
    return {"type": "record", "name": name, "fields": [*BASE, *fields]}


def of(kind: str, **options: Any) -> StreamSchema:
    """A stream of id, at and x."""
    x = FieldSpec("x", type_of(kind.rstrip("!*")), "x", "*" in kind, "!" in kind)
    fields = (FieldSpec("id", type_of("string"), "id"), FieldSpec("at", type_of("timestamp"), "at"), x)
    return StreamSchema("s", "s", fields, id="id", event_time="at", key="id", format="avro", **options)


def wire(schema: Any, row: Any, number: int = 7) -> bytes:
    body = io.BytesIO()
    fastavro.schemaless_writer(body, fastavro.parse_schema(schema), row)
    return wire_record(number, body.getvalue())


class Registry(dict[int, str]):
    """Schemas by id."""

    def __init__(self, *schemas: Any) -> None:
        super().__init__((7 + i, json.dumps(schema)) for i, schema in enumerate(schemas))


def decode(stream: StreamSchema, registry: Registry, *values: bytes | None) -> Decoded:
    return open_decoder(stream, PAN_KEY, registry).decode(list(values), [NOW] * len(values))


def x_of(found: Decoded) -> list[Any]:
    assert found.rejects == []
    _, values, valid = found.columns["x"]
    return [value if valid is None or valid[i] else None for i, value in enumerate(values.tolist())]


def reasons(found: Decoded) -> list[str]:
    assert SECRET not in str(found.rejects)
    return [f"{reject.reason} | {reject.detail}" for reject in found.rejects]


def logical(kind: str, name: str, **more: Any) -> dict[str, Any]:
    return {"type": kind, "logicalType": name, **more}


DECIMAL = logical("bytes", "decimal", precision=12, scale=2)
FIXED = {"type": "fixed", "name": "F", "size": 8, "logicalType": "decimal", "precision": 12, "scale": 2}


@pytest.mark.parametrize(
    ("kind", "type_", "written", "expected"),
    [
        ("string", "string", "text", "text"),
        ("int64", "int", -7, -7),
        ("int64", "long", 2**63 - 1, 2**63 - 1),
        ("float64", "double", 1.5, 1.5),
        ("float64", "double", float("nan"), None),
        ("float64", "double", float("-inf"), None),
        ("float64", "float", 12.34, 12.34),
        ("decimal(2)", "float", 12.34, 1234),
        ("decimal(2)", "double", 12.34, 1234),
        ("decimal(2)", "string", "12.34", 1234),
        ("decimal(2)", DECIMAL, Decimal("-12.34"), -1234),
        ("decimal(4)", DECIMAL, Decimal("12.34"), 123400),
        ("decimal(2)", FIXED, Decimal("12.34"), 1234),
        ("decimal(2)", ["null", DECIMAL], None, None),
        ("decimal(2)", ["null", DECIMAL], Decimal("0.01"), 1),
        ("bool", "boolean", True, True),
        ("timestamp", logical("long", "timestamp-millis"), MOMENT, MOMENT_MS),
        ("timestamp", logical("long", "timestamp-micros"), MOMENT, MOMENT_MS),
        ("timestamp", logical("long", "timestamp-nanos"), MOMENT_MS * 10**6 + 1, MOMENT_MS),
        ("timestamp", logical("long", "local-timestamp-micros"), MOMENT.replace(tzinfo=None), MOMENT_MS),
        ("timestamp", logical("int", "date"), datetime.date(2018, 6, 20), 1529452800000),
        ("timestamp", ["null", logical("long", "timestamp-micros")], None, None),
        ("timestamp", logical("long", "timestamp-micros"), -1, -1),
        ("timestamp", "long", MOMENT_MS, MOMENT_MS),
        ("timestamp", "string", "2018-06-20T15:13:16.945Z", MOMENT_MS),
        ("timestamp", {"type": "long", "connect.name": "io.debezium.time.MicroTimestamp"}, MOMENT_MS * 1000,
         MOMENT_MS),
        ("int64", logical("long", "timestamp-micros"), MOMENT, MOMENT_MS * 1000 + 104),
        ("string", {"type": "enum", "name": "E", "symbols": ["pos", "web"]}, "web", "web"),
        ("string", logical("string", "uuid"), uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        ("string", ["null", "string"], None, None),
        ("string", ["null", "int", "string"], "z", "z"),
    ],
)  # fmt: skip
def test_what_a_writer_wrote_is_read(kind: str, type_: Any, written: Any, expected: Any) -> None:
    schema = record({"name": "x", "type": type_}, {"name": "more", "type": {"type": "array", "items": "bytes"}})
    value = wire(schema, {**ROW, "x": written, "more": [b"\xff"]})
    assert x_of(decode(of(kind), Registry(schema), value)) == [expected]


@pytest.mark.parametrize(
    ("kind", "type_", "written", "wanted"),
    [
        ("int64", "string", SECRET, "wrong_type | x: expected int64"),
        ("string", "long", 4111222233334444, "wrong_type | x: expected string"),
        ("string!", ["null", "string"], None, "missing_field | x: expected string, got nothing"),
        ("decimal(1)", DECIMAL, Decimal("12.34"), "decimal_places | x: expected decimal(1)"),
        ("decimal(2)", {"type": "map", "values": "string"}, {SECRET: SECRET}, "wrong_type | x: expected decimal(2)"),
        ("timestamp", logical("int", "date"), 2**31 - 1, "out_of_range | x: expected a time in the years 1 to 9999"),
    ],
)  # fmt: skip
def test_declarations_mean_what_they_mean_in_json(kind: str, type_: Any, written: Any, wanted: str) -> None:
    schema = record({"name": "x", "type": type_})
    good, bad = wire(record(), ROW, 8), wire(schema, {**ROW, "x": written})
    stream = of(kind.rstrip("!"))
    found = decode(of(kind) if "!" in kind else stream, Registry(schema, record()), bad)
    assert reasons(found) == [wanted]
    assert decode(stream, Registry(schema, record()), good).ids == ["a"]


def test_card_numbers_are_tokens() -> None:
    schema = record({"name": "x", "type": "string"})
    (token,) = x_of(decode(of("string*"), Registry(schema), wire(schema, {**ROW, "x": SECRET})))
    assert SECRET not in token
    assert len(token) == 32


def test_records_of_several_schemas_mix() -> None:
    old = record({"name": "x", "type": "int"})
    new = {"type": "record", "name": "Payment", "fields": [
        {"name": "x", "type": ["null", "long"]}, {"name": "added", "type": "double"}, *reversed(BASE)]}  # fmt: skip
    gone = record()
    values = [wire(old, {**ROW, "x": 1}), wire(new, {**ROW, "x": 2, "added": 0.5}, 8), wire(gone, ROW, 9)]
    found = decode(of("int64"), Registry(old, new, gone), *values, *values)
    assert x_of(found) == [1, 2, None] * 2
    assert found.extras == 0


READER = record(
    {"name": "x", "type": "double", "aliases": ["old_x"], "default": 0.5},
    {"name": "y", "type": ["null", "string"], "default": None},
)


@pytest.mark.parametrize(
    ("field", "written", "expected"),
    [
        ({"name": "x", "type": "int"}, {"x": 3}, 3.0),
        ({"name": "x", "type": "long"}, {"x": 3}, 3.0),
        ({"name": "old_x", "type": "double"}, {"old_x": 1.5}, 1.5),
        ({"name": "other", "type": "string"}, {"other": "z"}, 0.5),
    ],
)
def test_evolution_is_the_specifications(field: dict[str, Any], written: dict[str, Any], expected: float) -> None:
    """Promotion, an alias, a default for what the writer did not have, a field that the reader does not know."""
    schema = record(field)
    stream = of("float64", reader_schema=json.dumps(READER))
    assert x_of(decode(stream, Registry(schema), wire(schema, {**ROW, **written}))) == [expected]


def test_a_schema_that_does_not_resolve_is_a_dead_letter() -> None:
    good, bad = record({"name": "x", "type": "int"}), record({"name": "x", "type": "string"})
    stream = of("float64", reader_schema=json.dumps(READER))
    values = [wire(good, {**ROW, "x": 1}), wire(bad, {**ROW, "x": SECRET}, 8), wire(good, {**ROW, "x": 2})]
    found = decode(stream, Registry(good, bad), *values)
    assert reasons(found) == ["schema_mismatch | the record cannot be read by schema 8"]
    assert found.rows.tolist() == [0, 2]


def test_the_writer_knows_its_units() -> None:
    reader = record({"name": "x", "type": logical("long", "timestamp-millis"), "aliases": ["when"]})
    writer = record({"name": "when", "type": logical("long", "timestamp-micros")})
    stream = of("timestamp", reader_schema=json.dumps(reader))
    assert x_of(decode(stream, Registry(writer), wire(writer, {**ROW, "when": MOMENT}))) == [MOMENT_MS]


def test_undeclared_fields_can_be_refused() -> None:
    schema = record({"name": "x", "type": "string"}, {"name": "z", "type": "string"})
    value = wire(schema, {**ROW, "x": "a", "z": SECRET})
    assert x_of(decode(of("string"), Registry(schema), value)) == ["a"]
    assert reasons(decode(of("string", extra_refused=True), Registry(schema), value)) == [
        "extra_field | the record has a field that the stream does not declare"
    ]


SCHEMA = record({"name": "x", "type": ["null", "string"]}, {"name": "n", "type": {"type": "array", "items": "long"}})
GOOD = wire(SCHEMA, {**ROW, "x": "text", "n": [1, 2]})


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (b'{"id":"a"}', "not_avro | the record does not begin with a zero byte and a schema's id"),
        (b"\0\0\0\0", "not_avro | the record does not begin with a zero byte and a schema's id"),
        (b"\1" + GOOD[1:], "not_avro | the record does not begin with a zero byte and a schema's id"),
        (b"\0\0\0\0\1" + GOOD[5:], "unknown_schema | the registry has no Avro schema 1"),
        (GOOD[:5], "broken_avro | the record cannot be read by schema 7"),
        (GOOD[:-2], "broken_avro | the record cannot be read by schema 7"),
        (GOOD + b"\0", "broken_avro | the record goes on behind what schema 7 describes"),
        (GOOD[:5] + b"\xff" * 30, "broken_avro | the record cannot be read by schema 7"),
        (GOOD[:5] + b"\x02\xff" + GOOD[7:], "broken_avro | the record cannot be read by schema 7"),
        (b"\0\0\0\0\x08" + GOOD[5:], "bad_schema | schema 8: this is no Avro schema of a record"),
        (b"\0\0\0\0\x09" + GOOD[5:], "bad_schema | schema 9: this is no Avro schema: UnknownType"),
        (b"\0\0\0\0\x0a" + GOOD[5:], "bad_schema | schema 10: an Avro schema must be JSON"),
        (GOOD + b"\0" * 300_000, "too_large | the record is larger than 262144 bytes"),
    ],
    ids=str,
)
def test_a_broken_record_fails_alone(value: bytes, wanted: str) -> None:
    registry = Registry(SCHEMA, "string", record({"name": "x", "type": "nope"}))
    registry[10] = "{"
    found = decode(of("string"), registry, GOOD, value, None, GOOD)
    assert reasons(found) == [wanted]
    assert found.rows.tolist() == [0, 3]
    assert x_of(found._replace(rejects=[])) == ["text", "text"]


@examples(1000)
@given(st.data())
def test_fuzzed_records_are_kept_or_refused_and_never_touch_a_neighbour(data: st.DataObject) -> None:
    value = GOOD
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(value)))
        value = value[:at] + data.draw(st.binary(max_size=3)) + value[at + data.draw(st.integers(0, 3)) :]
    found = decode(of("string"), Registry(SCHEMA), GOOD, value, GOOD)
    assert {0, 2} <= set(found.rows.tolist())
    assert len(found.rows) + len(found.rejects) == (3 if value else 2)


@examples(300)
@given(
    st.integers(-(2**53) + 1, 2**53 - 1),
    st.integers(0, 6),
    st.datetimes(datetime.datetime(1970, 1, 1), datetime.datetime(2100, 1, 1)),
)
def test_decimals_and_times_are_exact(minor: int, scale: int, moment: datetime.datetime) -> None:
    schema = record(
        {"name": "x", "type": logical("bytes", "decimal", precision=16, scale=scale)},
        {"name": "t", "type": logical("long", "timestamp-micros")},
    )
    stream = of(f"decimal({scale})")
    stream = StreamSchema(
        "s", "s", (*stream.fields, FieldSpec("t", type_of("timestamp"), "t")), "id", "at", "id", format="avro"
    )
    utc = moment.replace(tzinfo=datetime.UTC)
    value = wire(schema, {**ROW, "x": Decimal(minor).scaleb(-scale), "t": utc})
    found = decode(stream, Registry(schema), value)
    assert x_of(found) == [minor]
    epoch = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
    assert found.columns["t"].values.tolist() == [(utc - epoch) // datetime.timedelta(milliseconds=1)]


def test_a_container_files_records_are_taken_byte_for_byte() -> None:
    rows = [{**ROW, "x": f"text {i}", "n": list(range(i))} for i in range(500)]
    for codec in ("null", "deflate"):
        file = io.BytesIO()
        fastavro.writer(file, SCHEMA, rows, codec=codec, sync_interval=1000)
        file.seek(0)
        assert json.loads(file_schema(file))["name"] == "Payment"
        file.seek(0)
        assert [wire_record(7, body) for body in file_records(file)] == [wire(SCHEMA, row) for row in rows]


def test_what_is_no_schema_is_refused() -> None:
    for text in ("{", '"string"', "[]", '{"type":"record","name":"x","fields":[{"name":"a","type":"b"}]}'):
        with pytest.raises(ConfigError):
            check_schema(text)
    with pytest.raises(ConfigError, match="a schema registry"):
        open_decoder(of("string"), PAN_KEY)
    assert [schema_id(value) for value in (None, b"", b"\0\0\0\0", b"\1\0\0\0\7", GOOD)] == [None] * 4 + [7]


NODE = {"type": "record", "name": "n.Node", "fields": [{"name": "next", "type": ["null", "n.Node"]}]}
NOTHING = {"type": "record", "name": "Nothing", "fields": [{"name": "a", "type": "null"}]}


@pytest.mark.parametrize(
    ("field", "said"),
    [
        ({"name": "x", "type": ["null", "Payment"]}, "a schema that contains itself is not supported"),
        ({"name": "x", "type": {"type": "array", "items": "Payment"}}, "a schema that contains itself"),
        ({"name": "x", "type": {"type": "map", "values": NODE}}, "a schema that contains itself"),
        ({"name": "x", "type": {"type": "array", "items": "null"}}, "an array of what takes no bytes"),
        ({"name": "x", "type": {"type": "array", "items": NOTHING}}, "an array of what takes no bytes"),
        (
            {"name": "x", "type": {"type": "array", "items": {"type": "fixed", "name": "F", "size": 0}}},
            "an array of what",
        ),
    ],
)
def test_schemas_that_bound_nothing_are_refused(field: dict[str, Any], said: str) -> None:
    """25 KB of a list that contains itself end the process, five bytes of an array of nulls take all of its memory."""
    schema = record(field)
    with pytest.raises(ConfigError, match=said):
        check_schema(json.dumps(schema))
    good = wire(record(), ROW, 8)
    found = decode(
        of("string"), Registry(schema, record()), good, wire_record(7, b"\x02a\x02" + b"\x02" * 25_000), good
    )
    (reason,) = reasons(found)
    assert reason.startswith(f"bad_schema | schema 7: {said}")
    assert found.rows.tolist() == [0, 2]


def test_a_type_may_be_named_twice_beside_itself() -> None:
    pair = {
        "type": "record",
        "name": "Pair",
        "fields": [{"name": "a", "type": NOTHING}, {"name": "b", "type": "string"}],
    }
    fields = [{"name": "x", "type": pair}, {"name": "y", "type": {"type": "array", "items": "Pair"}}]
    assert list(check_schema(json.dumps(record(*fields)))) == ["id", "at", "x", "y"]


def test_a_logical_type_may_stand_under_a_name() -> None:
    money = {**FIXED, "name": "shop.Money"}
    for name in ("Money", "shop.Money"):
        first = {"name": "first", "type": money}
        schema = {**record(first, {"name": "x", "type": ["null", name]}), "namespace": "shop"}
        value = wire(schema, {**ROW, "first": Decimal(1), "x": Decimal("12.34")})
        assert x_of(decode(of("decimal(2)"), Registry(schema), value)) == [1234]
