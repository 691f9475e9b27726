"""Debezium's change events: golden ones after its documentation, and what is no change event.

The events follow the examples in the chapters "Data change events" and "Data type mappings" of Debezium's documentation
of the PostgreSQL, MySQL and MongoDB connectors (customers of the tutorial's database), with columns of ours beside.
"""

from __future__ import annotations

import base64
import itertools
import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from operators.decode import Decoded, RecordDecoder
from operators.forms import FormDecoder, open_decoder
from operators.schema import FieldSpec, StreamSchema
from tests.operators.samples import NOW, PAN_KEY, examples, type_of

SECRET = "4111222233334444"
POSTGRES = {
    "version": "2.7.0.Final", "connector": "postgresql", "name": "PostgreSQL_server", "ts_ms": 1559033904863,
    "snapshot": False, "db": "postgres", "sequence": '["24023119","24023128"]', "schema": "public",
    "table": "customers", "txId": 555, "lsn": 24023128, "xmin": None,
}  # fmt: skip
MYSQL = {
    "version": "2.7.0.Final", "connector": "mysql", "name": "mysql-server-1", "ts_ms": 1465581029100,
    "snapshot": False, "db": "inventory", "table": "customers", "server_id": 223344, "gtid": None,
    "file": "mysql-bin.000003", "pos": 484, "row": 0, "thread": 7, "query": None,
}  # fmt: skip
MONGO = {
    "version": "2.7.0.Final", "connector": "mongodb", "name": "fulfillment", "ts_ms": 1558965508000,
    "snapshot": False, "db": "inventory", "rs": "rs0", "collection": "customers", "ord": 31, "h": 1546547425148721999,
}  # fmt: skip
CUSTOMER = {"id": 1004, "first_name": "Anne", "last_name": "Kretchmar", "email": "annek@noanswer.org"}


def customers(more: dict[str, str] | None = None, id_type: str = "int64", **options: Any) -> StreamSchema:
    """A stream of the tutorial's customers: field -> "type from [encoding]"; `!`, `*` as in samples."""
    given = {
        "id": f"{id_type} id", "email": "string email", "old_email": "string __before_email", "op": "string __op",
        "gone": "bool __deleted", "at": "timestamp __source_ts_ms", **(more or {}),
    }  # fmt: skip
    specs = []
    for name, text in given.items():
        kind, source, encoding = [*text.split(), ""][:3]
        specs.append(
            FieldSpec(name, type_of(kind.rstrip("!*")), source, "*" in kind, "!" in kind, encoding)
        )  # fmt: skip
    usual = {"id": "id", "event_time": "at", "key": "id", "format": "debezium", **options}
    return StreamSchema("customers", "customers", tuple(specs), **usual)


def event(op: str, before: Any, after: Any, source: dict[str, Any] = POSTGRES, **more: Any) -> dict[str, Any]:
    return {"before": before, "after": after, "source": source, "op": op, "ts_ms": 1559033904999, **more}


def encoded(value: Any) -> bytes:
    return json.dumps(value).encode()


def decode(schema: StreamSchema, *values: bytes | None) -> Decoded:
    return open_decoder(schema, PAN_KEY).decode(list(values), [NOW] * len(values))


def rows(found: Decoded) -> list[dict[str, Any]]:
    """The kept rows, None for NULL."""
    out: list[dict[str, Any]] = [{} for _ in found.ids]
    for name, (_, values, valid) in found.columns.items():
        for i, value in enumerate(values.tolist()):
            out[i][name] = value if valid is None or valid[i] else None
    return out


def only(schema: StreamSchema, value: bytes) -> dict[str, Any]:
    found = decode(schema, value)
    assert found.rejects == []
    (row,) = rows(found)
    return row


def refused(schema: StreamSchema, value: bytes) -> str:
    """Why the record between two good ones is refused."""
    good = encoded(event("c", None, CUSTOMER))
    found = decode(schema, good, value, good)
    assert found.rows.tolist() == [0, 2]
    (reject,) = found.rejects
    assert reject.index == 1
    assert SECRET not in reject.reason + reject.detail
    return f"{reject.reason} | {reject.detail}"


def schema_of(columns: list[dict[str, Any]]) -> dict[str, Any]:
    """Kafka Connect's schema of an event, as its JSON converter writes it."""
    row = {"type": "struct", "fields": columns, "optional": True, "name": "s.customers.Value"}
    return {
        "type": "struct", "optional": False, "name": "s.customers.Envelope",
        "fields": [{**row, "field": "before"}, {**row, "field": "after"},
                   {"type": "string", "optional": False, "field": "op"}],
    }  # fmt: skip


CHANGED = {**CUSTOMER, "email": "anne@example.org"}
ROW = {"id": 1004, "email": "annek@noanswer.org", "old_email": None, "op": "c", "gone": False, "at": 1559033904863}


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("source", [POSTGRES, MYSQL], ids=["postgresql", "mysql"])
@pytest.mark.parametrize(
    ("op", "before", "after", "expected"),
    [
        ("c", None, CUSTOMER, {}),
        ("r", None, CUSTOMER, {"op": "r"}),
        ("u", CUSTOMER, CHANGED, {"op": "u", "email": "anne@example.org", "old_email": "annek@noanswer.org"}),
        ("u", {"id": 1004}, CHANGED, {"op": "u", "email": "anne@example.org"}),
        ("u", None, CHANGED, {"op": "u", "email": "anne@example.org"}),
        ("d", CUSTOMER, None, {"op": "d", "gone": True, "old_email": "annek@noanswer.org"}),
        ("d", {"id": 1004}, None, {"op": "d", "gone": True, "email": None}),
    ],
)
def test_changes_of_a_table(
    op: str, before: Any, after: Any, expected: dict[str, Any], source: dict[str, Any], wrapped: bool
) -> None:
    value = event(op, before, after, source)
    if wrapped:
        value = {"schema": schema_of([{"type": "int32", "optional": False, "field": "id"}]), "payload": value}
    wanted = {**ROW, "at": source["ts_ms"], **expected}
    assert only(customers(), encoded(value)) == wanted


def document(**more: Any) -> str:
    return json.dumps({"_id": {"$numberLong": "1004"}, "first_name": "Anne", "email": "annek@noanswer.org", **more})


@pytest.mark.parametrize(
    ("op", "before", "after", "expected"),
    [
        ("c", None, document(), {}),
        ("r", None, document(), {"op": "r"}),
        ("u", document(email="old@x"), document(), {"op": "u", "old_email": "old@x"}),
        ("u", None, document(), {"op": "u"}),
        ("d", document(), None, {"op": "d", "gone": True, "old_email": "annek@noanswer.org"}),
    ],
)
def test_changes_of_a_collection(op: str, before: Any, after: Any, expected: dict[str, Any]) -> None:
    description = {"updateDescription": {"removedFields": None, "updatedFields": "{}", "truncatedArrays": None}}
    value = {"schema": None, "payload": event(op, before, after, MONGO, **description)}
    row = {**ROW, "at": 1558965508000, **expected}
    assert only(customers({"id": "int64 _id"}), encoded(value)) == row


@pytest.mark.parametrize(
    ("kind", "written", "expected"),
    [
        ("string", {"$oid": "596e275826f08b2730779e1f"}, "596e275826f08b2730779e1f"),
        ("int64", {"$numberInt": "42"}, 42),
        ("int64", {"$numberLong": "-9223372036854775808"}, -(2**63)),
        ("int64", 42, 42),
        ("float64", {"$numberDouble": "42.5"}, 42.5),
        ("float64", {"$numberDouble": "NaN"}, None),
        ("float64", {"$numberDouble": "-Infinity"}, None),
        ("decimal(2)", {"$numberDecimal": "42.50"}, 4250),
        ("decimal(2)", {"$numberDecimal": "1.5E+3"}, 150_000),
        ("decimal(2)", {"$numberDecimal": "NaN"}, None),
        ("timestamp", {"$date": {"$numberLong": "1356351330501"}}, 1356351330501),
        ("timestamp", {"$date": "2012-12-24T12:15:30.501Z"}, 1356351330501),
        ("timestamp", {"$date": 1356351330501}, 1356351330501),
        ("timestamp", {"$timestamp": {"t": 1565545664, "i": 1}}, 1565545664000),
        ("string", {"$uuid": "73ffd264-44b3-4c69-90e8-e7d1dfc035d4"}, "73ffd264-44b3-4c69-90e8-e7d1dfc035d4"),
        ("bool", True, True),
        ("string", "text", "text"),
        ("string", None, None),
    ],
)
def test_extended_json(kind: str, written: Any, expected: Any) -> None:
    """The examples of MongoDB's specification of extended JSON, version 2: canonical and relaxed."""
    value = encoded(event("c", None, document(x=written), MONGO))
    assert only(customers({"id": "int64 _id", "x": f"{kind} x"}), value)["x"] == expected


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        ({"$numberLong": "4x"}, "wrong_type"),
        ({"$numberLong": "--4"}, "wrong_type"),
        ({"$numberLong": 1.5}, "wrong_type"),
        ({"$date": {"a": 1}}, "wrong_type"),
        ({"street": SECRET}, "wrong_type"),
        ({"$regex": "a"}, "wrong_type"),
        ({"$numberLong": "9" * 30}, "out_of_range"),
        ({"$numberLong": "9" * 50}, "wrong_type"),
        ({"$date": 10**30}, "out_of_range"),
        ({"$timestamp": {"t": 10**30}}, "out_of_range"),
    ],
)
def test_other_objects_are_refused_where_a_value_is_declared(written: Any, reason: str) -> None:
    value = encoded(event("c", None, document(x=written), MONGO))
    found = decode(customers({"id": "int64 _id", "x": "int64 x"}), value)
    assert [(reject.reason, reject.detail) for reject in found.rejects] == [(reason, "x: expected int64")]


TYPED = [
    ("timestamp", {"type": "int64", "name": "io.debezium.time.MicroTimestamp"}, 1529507596945104, 1529507596945),
    ("timestamp", {"type": "int64", "name": "io.debezium.time.Timestamp"}, 1529507596945, 1529507596945),
    ("timestamp", {"type": "int64", "name": "io.debezium.time.NanoTimestamp"}, 1529507596945104000, 1529507596945),
    ("timestamp", {"type": "int64", "name": "org.apache.kafka.connect.data.Timestamp"}, 1529507596945, 1529507596945),
    ("timestamp", {"type": "int32", "name": "io.debezium.time.Date"}, 17702, 1529452800000),
    ("timestamp", {"type": "int32", "name": "org.apache.kafka.connect.data.Date"}, 17702, 1529452800000),
    ("timestamp", {"type": "string", "name": "io.debezium.time.ZonedTimestamp"}, "2018-06-20T13:13:16.945104Z",
     1529500396945),
    ("timestamp", {"type": "int64", "name": "io.debezium.time.MicroTimestamp"}, -1, -1),
    ("int64", {"type": "int64", "name": "io.debezium.time.MicroTimestamp"}, 1529507596945104, 1529507596945104),
    ("decimal(2)", {"type": "bytes", "name": "org.apache.kafka.connect.data.Decimal", "parameters": {"scale": "2"}},
     "BNI=", 1234),
    ("decimal(2)", {"type": "bytes", "name": "org.apache.kafka.connect.data.Decimal", "parameters": {"scale": "0"}},
     "/w==", -100),
    ("decimal(4)", {"type": "bytes", "name": "org.apache.kafka.connect.data.Decimal", "parameters": {"scale": "2"}},
     "BNI=", 123400),
    ("decimal(2)", {"type": "struct", "name": "io.debezium.data.VariableScaleDecimal"}, {"scale": 3, "value": "MDQ="},
     1234),
    ("decimal(2)", {"type": "string"}, "12.34", 1234),
    ("decimal(2)", {"type": "double"}, 12.34, 1234),
    ("string", {"type": "string", "name": "io.debezium.data.Uuid"}, "73ffd264-44b3", "73ffd264-44b3"),
    ("string", {"type": "string"}, "__debezium_unavailable_value", None),
    ("bool", {"type": "int16"}, 1, True),
    ("bool", {"type": "int16"}, 0, False),
    ("bool", {"type": "boolean"}, True, True),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "column", "written", "expected"), TYPED)
def test_logical_types_with_their_schema(kind: str, column: dict[str, Any], written: Any, expected: Any) -> None:
    """2018-06-20 15:13:16.945104 is the documentation's own example; 1234 is 0x04D2, 12340 is 0x3034."""
    schema = schema_of([{**column, "optional": True, "field": "x"}])
    value = {"schema": schema, "payload": event("u", {"x": written}, {**CUSTOMER, "x": written})}
    row = only(customers({"x": f"{kind} x", "x_before": f"{kind} __before_x"}), encoded(value))
    assert (row["x"], row["x_before"]) == (expected, expected)


@pytest.mark.parametrize(
    ("declared", "written", "expected"),
    [
        ("timestamp x micros", 1529507596945104, 1529507596945),
        ("timestamp x nanos", 1529507596945104000, 1529507596945),
        ("timestamp x millis", 1529507596945, 1529507596945),
        ("timestamp x days", 17702, 1529452800000),
        ("timestamp x micros", "2018-06-20T13:13:16.945104Z", 1529500396945),
        ("timestamp x", 1529507596945, 1529507596945),
        ("decimal(2) x unscaled", "BNI=", 1234),
        ("decimal(2) x unscaled", 12.34, 1234),
        ("decimal(3) x unscaled", {"scale": 3, "value": "MDQ="}, 12340),
        ("decimal(2) x", "12.34", 1234),
    ],
)
def test_logical_types_without_a_schema_are_declared(declared: str, written: Any, expected: Any) -> None:
    value = encoded(event("c", None, {**CUSTOMER, "x": written}))
    assert only(customers({"x": declared}), value)["x"] == expected


def test_the_records_own_schema_counts_more_than_the_declaration() -> None:
    column = {"type": "int64", "name": "io.debezium.time.Timestamp", "field": "x"}
    value = {"schema": schema_of([column]), "payload": event("c", None, {**CUSTOMER, "x": 1529507596945})}
    assert only(customers({"x": "timestamp x micros"}), encoded(value))["x"] == 1529507596945


def test_a_schema_that_changes_is_followed() -> None:
    schema = customers({"x": "timestamp x"})
    values = [
        encoded({"schema": schema_of([{"type": "int64", "name": name, "field": "x"}]),
                 "payload": event("c", None, {**CUSTOMER, "x": 1529507596945000})})
        for name in ("io.debezium.time.MicroTimestamp", "io.debezium.time.NanoTimestamp") * 2
    ]  # fmt: skip
    assert [row["x"] for row in rows(decode(schema, *values))] == [1529507596945, 1529507596] * 2


def test_parts_of_the_event_can_be_fields() -> None:
    schema = customers({
        "seen": "timestamp __ts_ms", "lsn": "int64 __source_lsn", "table": "string __source_table",
        "us": "timestamp __source_ts_us", "ns": "timestamp __source_ts_ns", "nothing": "string __source_nothing",
    })  # fmt: skip
    source = {**POSTGRES, "ts_us": 1559033904863123, "ts_ns": 1559033904863123456}
    row = only(schema, encoded(event("c", None, CUSTOMER, source)))
    assert {name: row[name] for name in ("seen", "lsn", "table", "us", "ns", "nothing")} == {
        "seen": 1559033904999, "lsn": 24023128, "table": "customers", "us": 1559033904863, "ns": 1559033904863,
        "nothing": None,
    }  # fmt: skip


def test_tombstones_are_neither_rows_nor_dead_letters() -> None:
    good = encoded(event("c", None, CUSTOMER))
    found = decode(customers(), None, good, None, b"", good, b"{", None)
    assert found.rows.tolist() == [1, 4]
    assert [(reject.index, reject.reason) for reject in found.rejects] == [(5, "broken_json")]
    assert decode(customers(), None, None).ids == []


def test_added_columns_are_ignored_unless_they_are_to_be_refused() -> None:
    value = encoded(event("c", None, {**CUSTOMER, "phone": SECRET}))
    assert only(customers({"first": "string first_name", "last": "string last_name"}), value)["id"] == 1004
    every = {"first": "string first_name", "last": "string last_name"}
    schema = customers(every, extra_refused=True)
    assert refused(schema, value) == "extra_field | the record has a field that the stream does not declare"


def test_declarations_mean_what_they_mean_in_json() -> None:
    schema = customers({"card": "string* card", "must": "int64! must"})
    good = {**CUSTOMER, "card": "4111 2222 3333 4444", "must": 1}
    row = only(schema, encoded(event("c", None, good)))
    columns = [spec for spec in schema.fields if not spec.source.startswith("__")]
    at = FieldSpec("at", type_of("timestamp"), "at")
    plain = StreamSchema("s", "s", (*columns, at), id="id", event_time="at", key="id")
    twin = RecordDecoder(plain, PAN_KEY).decode([encoded({**good, "at": 1})], [NOW])
    assert row["card"] == twin.columns["card"].values[0] != SECRET
    found = decode(schema, encoded(event("c", None, CUSTOMER)), encoded(event("c", None, {**good, "id": None})))
    assert [(reject.reason, reject.detail) for reject in found.rejects] == [
        ("missing_field", "must: expected int64, got nothing"),
        ("missing_key", "id: expected int64, got nothing"),
    ]


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (b"{", "broken_json | the record is not valid JSON"),
        (b"[]", "wrong_type | the record is no change event: expected JSON objects"),
        (b"7", "wrong_type | the record is no change event: expected JSON objects"),
        (b'{"op":"c","after":' + b"[" * 10_000, "too_deep | the record is nested too deeply"),
        (encoded(CUSTOMER), "no_change_event | the record is no change event: it has no op"),
        (encoded({"schema": {}, "payload": CUSTOMER}), "no_change_event | the record is no change event: it has no op"),
        (encoded(event("t", None, None)), "unknown_op | op: expected c, u, d or r"),
        (encoded(event(SECRET, None, CUSTOMER)), "unknown_op | op: expected c, u, d or r"),
        (encoded(event("c", None, None)), "no_row | a change without the row after it: let the source send it "
                                          "(MongoDB: capture.mode with update_full)"),
        (encoded(event("d", None, None)), "no_row | a delete without its row: let the source send it "
                                          "(REPLICA IDENTITY, pre-images)"),
        (encoded(event("c", None, [1])), "wrong_type | the record is no change event: expected JSON objects"),
        (encoded(event("c", None, "{" + SECRET)), "broken_json | the record is not valid JSON"),
        (encoded({**event("c", None, CUSTOMER), "source": 7}),
         "wrong_type | the record is no change event: expected JSON objects"),
        (encoded({**event("c", None, CUSTOMER), "source": None}), "missing_time | at: expected timestamp, got nothing"),
        (encoded(event("c", None, {**CUSTOMER, "email": 7})), "wrong_type | email: expected string"),
        (encoded(event("c", None, CUSTOMER)).replace(b"Anne", b"\xff"), "broken_json | the record is not UTF-8"),
        (b" " * 300_000, "too_large | the record is larger than 262144 bytes"),
    ],
    ids=itertools.count(),
)  # fmt: skip
def test_what_is_no_change_event_fails_alone(value: bytes, wanted: str) -> None:
    assert refused(customers(), value) == wanted


@pytest.mark.parametrize(
    ("written", "wanted"),
    [
        (SECRET + "?", "wrong_type | x: expected decimal(2) as base64 of its unscaled value"),
        ("A" * 400, "overflow | x: a decimal is too large, or its scale is"),
        ("f" + "/" * 14 + "8=", "overflow | x: expected decimal(2) below 2**53 minor units"),
        ({"scale": 10**9, "value": "BNI="}, "overflow | x: a decimal is too large, or its scale is"),
        ({"scale": 1, "value": 7}, "wrong_type | x: expected decimal(2)"),
        ([1], "wrong_type | x: expected decimal(2)"),
    ],
)
def test_decimals_that_are_none(written: Any, wanted: str) -> None:
    schema = customers({"x": "decimal(2) x unscaled"})
    found = decode(schema, encoded(event("c", None, {**CUSTOMER, "x": written})))
    assert [f"{reject.reason} | {reject.detail}" for reject in found.rejects] == [wanted]


@examples(300)
@given(st.integers(-(2**53) + 1, 2**53 - 1), st.integers(0, 6))
def test_unscaled_decimals_are_exact(minor: int, scale: int) -> None:
    """Against Java's BigInteger.toByteArray as its documentation defines it, and Python's Decimal."""
    raw = minor.to_bytes((minor + (minor < 0)).bit_length() // 8 + 1, "big", signed=True)
    value = event("c", None, {**CUSTOMER, "x": base64.b64encode(raw).decode()})
    schema = customers({"x": f"decimal({scale}) x unscaled"})
    found = only(schema, encoded(value))["x"]
    assert Decimal(found).scaleb(-scale) == Decimal(minor).scaleb(-scale)


COLUMN = {"type": "int64", "name": "io.debezium.time.Date", "field": "x"}
CHANGE = event("u", CUSTOMER, {**CUSTOMER, "x": 17702, "y": {"scale": 1, "value": "BNI="}})
GOOD = encoded({"schema": schema_of([COLUMN]), "payload": CHANGE})
MONGOS = encoded(event("c", None, document(x={"$date": 7}, y={"$numberDecimal": "1.5"}), MONGO))


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    value = draw(st.sampled_from([GOOD, MONGOS]))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(value)))
        insert = st.one_of(st.binary(max_size=2), st.sampled_from([b"null", b'"', b"{}", b"[", b"1e999", b"-"]))
        value = value[:at] + draw(insert) + value[at + draw(st.integers(0, 6)) :]
    return value


@examples(1500)
@given(st.lists(mutated(), min_size=1, max_size=3))
def test_fuzzed_events_are_kept_or_refused_and_never_touch_a_neighbour(values: list[bytes]) -> None:
    schema = customers({"x": "timestamp x", "y": "decimal(2) y unscaled", "lsn": "int64 __source_lsn"})
    batch = [GOOD, *[part for value in values for part in (value, GOOD)]]
    found = decode(schema, *batch)
    refused = {reject.index for reject in found.rejects}
    assert refused | set(found.rows.tolist()) == set(range(len(batch)))
    assert len(refused) + len(found.rows) == len(batch)
    kept = dict(zip(found.rows.tolist(), rows(found), strict=True))
    assert all(kept[i] == kept[0] for i in range(0, len(batch), 2))
    assert all(reject.detail.isascii() for reject in found.rejects)


def test_again_reads_what_was_kept() -> None:
    schema = customers({"x": "timestamp x"})
    decoder = open_decoder(schema, PAN_KEY)
    assert isinstance(decoder, FormDecoder)
    values = [GOOD, encoded(event("c", None, CUSTOMER))]
    decoded = decoder.decode(values, [NOW] * 2)
    known = decoder.only({"x"}).again(values)
    assert known is not None
    assert (known.ids, known.keys) == (decoded.ids, decoded.keys)
    assert known.columns["x"].values.tolist() == decoded.columns["x"].values.tolist() == [1529452800000, 0]
    assert decoder.only({"x"}).again([GOOD, b"{"]) is None
    times = decoder.only(()).times(values)
    assert times is not None
    assert times.tolist() == decoded.event_time.tolist()


ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**25), 10**25),
    st.floats(allow_nan=False),
    st.text(max_size=6),
    st.sampled_from(["BNI=", "1E+9999999", "-1E-9999999", "9" * 60, "sNaN", "1_0", "--4", "\u0664", "-Infinity", "="]),
)
NAMES = st.sampled_from([
    "$oid", "$numberInt", "$numberLong", "$numberDouble", "$numberDecimal", "$date", "$timestamp", "$binary", "$symbol",
    "t", "i", "base64", "scale", "value", "other",
])  # fmt: skip
WRAPPED = st.dictionaries(NAMES, ODD, min_size=1, max_size=1)
NESTED = st.recursive(ODD, lambda inner: st.dictionaries(NAMES, inner, max_size=3) | st.lists(inner, max_size=2))


@examples(1500)
@given(
    st.sampled_from(["int64", "float64", "decimal(2)", "string", "bool", "timestamp"]), NESTED | WRAPPED, st.booleans()
)
@example("decimal(2)", {"$numberDecimal": "1E+9999999"}, True)
@example("int64", {"$numberLong": "--4"}, True)
def test_any_value_is_kept_or_refused(kind: str, value: Any, mongo: bool) -> None:
    encoding = {"decimal(2)": " unscaled", "timestamp": " micros"}.get(kind, "")
    after = document(x=value, y=value) if mongo else {**CUSTOMER, "x": value}
    column = "_id" if mongo else "id"
    found = decode(customers({"id": f"int64 {column}", "x": f"{kind} x{encoding}"}), encoded(event("c", None, after)))
    assert len(found.ids) + len(found.rejects) == 1
