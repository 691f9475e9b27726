"""Decode: what each kind of record becomes, and that a bad one fails alone."""

from __future__ import annotations

import hashlib
import json
import sys

import numpy as np
import pytest

from operators.decode import SAMPLE_EVERY, Decoded, RecordDecoder, payload_digest
from operators.schema import FieldSpec, StreamSchema
from state.errors import ConfigError
from tests.operators.samples import NOW, PAN_KEY, stream, type_of

PAYMENT = stream(
    {"amount": "decimal(2)", "lat": "float64", "mcc": "int64", "online": "bool", "shop": "string", "seen": "timestamp"}
)
GOOD = (
    b'{"s_id":"t1","s_card":"c1","s_at":1500000000000,"s_amount":12.34,"s_lat":1.5,"s_mcc":7,"s_online":true,'
    b'"s_shop":"m","s_seen":"1999-01-01T00:00:00Z"}'
)
SECRET = "4111222233334444"


def decode(*values: bytes | None, schema: StreamSchema = PAYMENT, log_time: int = NOW) -> Decoded:
    return RecordDecoder(schema, PAN_KEY).decode(list(values), [log_time] * len(values))


def reason(value: bytes | None, schema: StreamSchema = PAYMENT, log_time: int = NOW) -> str:
    """Why the record between two good ones is refused; the good ones are not."""
    found = decode(GOOD, value, GOOD, schema=schema, log_time=log_time)
    assert found.rows.tolist() == [0, 2]
    assert found.ids == ["t1", "t1"]
    assert all(len(column.values) == 2 for column in found.columns.values())
    (reject,) = found.rejects
    assert reject.index == 1
    assert SECRET not in reject.reason + reject.detail
    return f"{reject.reason} | {reject.detail}"


def with_field(name: str, json_text: bytes) -> bytes:
    """The good record with another value in one field."""
    fields = json.loads(GOOD)
    assert f"s_{name}" in fields
    parts = [
        json.dumps(key).encode() + b":" + (json_text if key == f"s_{name}" else json.dumps(value).encode())
        for key, value in fields.items()
    ]
    return b"{" + b",".join(parts) + b"}"


def without_field(name: str) -> bytes:
    fields = json.loads(GOOD)
    del fields[f"s_{name}"]
    return json.dumps(fields).encode()


def test_a_record_becomes_columns() -> None:
    found = decode(GOOD)
    assert not found.rejects
    assert found.ids == ["t1"]
    assert found.keys == ["c1"]
    assert found.event_time.tolist() == [1_500_000_000_000]
    values = {name: column.values.tolist() for name, column in found.columns.items()}
    assert values == {
        "id": ["t1"], "card": ["c1"], "at": [1_500_000_000_000], "amount": [1234], "lat": [1.5], "mcc": [7],
        "online": [True], "shop": ["m"], "seen": [915_148_800_000],
    }  # fmt: skip
    assert all(column.valid is None for column in found.columns.values())
    assert [column.values.dtype for column in found.columns.values()] == [
        np.dtype(spec.type.dtype) for spec in PAYMENT.fields
    ]


def test_no_records() -> None:
    found = decode()
    assert (found.ids, found.keys, found.rejects, found.extras) == ([], [], [], 0)
    assert all(len(column.values) == 0 for column in found.columns.values())


@pytest.mark.parametrize("absent", [b"null", None])
@pytest.mark.parametrize("name", ["amount", "lat", "mcc", "online", "shop", "seen"])
def test_a_missing_or_null_field_is_null(name: str, absent: bytes | None) -> None:
    record = without_field(name) if absent is None else with_field(name, absent)
    found = decode(GOOD, record)
    valid = found.columns[name].valid
    assert valid is not None
    assert valid.tolist() == [True, False]
    assert found.columns[name].values[1] in (0, "")


@pytest.mark.parametrize("name", ["id", "card", "at"])
def test_id_key_and_time_must_be_there(name: str) -> None:
    wanted = {"id": "missing_id", "card": "missing_key", "at": "missing_time"}[name]
    assert reason(without_field(name)).startswith(f"{wanted} | {name}: expected")
    assert reason(with_field(name, b"null")).startswith(wanted)


@pytest.mark.parametrize("name", ["id", "card"])
def test_an_empty_id_or_key_is_missing(name: str) -> None:
    assert reason(with_field(name, b'""')).startswith("missing_")


def test_a_required_field_must_be_there() -> None:
    schema = stream({"amount": "decimal(2)!"})
    bad = b'{"s_id":"t2","s_card":"c","s_at":1}'
    found = decode(bad, schema=schema)
    assert [reject.reason for reject in found.rejects] == ["missing_field"]


@pytest.mark.parametrize("value", [None, b""])
def test_a_tombstone_is_refused(value: bytes | None) -> None:
    assert reason(value).startswith("tombstone")


@pytest.mark.parametrize(
    "value",
    [
        b'{"a":1,"z":[{}',
        b"{}]}",
        b'{"a":2},{"a":3}',
        b"{",
        b"nul",
        GOOD + GOOD,
        GOOD[:-1],
        b" ",
        b"\xef\xbb\xbf" + GOOD,
    ],
)
def test_broken_json_fails_alone(value: bytes) -> None:
    assert reason(value).startswith("broken_json")


def test_neighbours_that_are_whole_only_together_fail_each() -> None:
    broken = [b'{"a":1,"z":[{}', b"{}]}", b'{"a":2},{"a":3}']
    found = decode(GOOD, *broken, GOOD)
    assert [(reject.index, reject.reason) for reject in found.rejects] == [(i, "broken_json") for i in (1, 2, 3)]
    assert found.rows.tolist() == [0, 4]


@pytest.mark.parametrize("value", [b"[]", b"7", b'"x"', b"null"])
def test_a_record_must_be_an_object(value: bytes) -> None:
    assert reason(value).startswith("wrong_type | the record is not a JSON object")


def test_deep_nesting_neither_crashes_nor_passes() -> None:
    before = sys.getrecursionlimit()
    deep = GOOD[:-1] + b',"z":' + b"[" * 10_000 + b"]" * 10_000 + b"}"
    assert reason(deep).startswith("too_deep")
    assert reason(with_field("shop", b'{"a":' * 10_000 + b"1" + b"}" * 10_000)).startswith("too_deep")
    assert reason(b"[" * 10_000).startswith("too_deep")
    assert sys.getrecursionlimit() == before


def test_a_huge_value_is_refused() -> None:
    assert reason(with_field("shop", b'"' + b"x" * 900_000 + b'"')).startswith("too_large")
    bound = RecordDecoder(PAYMENT, value_bytes_max=len(GOOD))
    assert not bound.decode([GOOD], [NOW]).rejects
    assert bound.decode([GOOD + b" "], [NOW]).rejects[0].reason == "too_large"


@pytest.mark.parametrize("token", [b"NaN", b"Infinity", b"-Infinity", b"nan", b"1.", b"01", b"+1", b".5"])
@pytest.mark.parametrize("name", ["amount", "lat"])
def test_what_json_does_not_know_is_no_number(name: str, token: bytes) -> None:
    assert reason(with_field(name, token)).startswith("broken_json")


@pytest.mark.parametrize(
    ("name", "token", "wanted"),
    [
        ("id", b"7", "wrong_type | id: expected string"),
        ("shop", b"7", "wrong_type | shop: expected string"),
        ("mcc", b'"4111222233334444"', "wrong_type | mcc: expected int64"),
        ("mcc", b"1.0", "wrong_type | mcc: expected int64"),
        ("mcc", b"9223372036854775808", "out_of_range | mcc: expected int64"),
        ("mcc", b"-99999999999999999999999", "out_of_range | mcc: expected int64"),
        ("lat", b'"1.5"', "wrong_type | lat: expected float64"),
        ("lat", b"1e400", "out_of_range | lat: expected float64"),
        ("online", b"1", "wrong_type | online: expected bool"),
        ("amount", b"true", "wrong_type | amount: expected decimal(2)"),
        ("amount", b'"4111222233334444 "', "wrong_type | amount: expected decimal(2)"),
        ("amount", b'"1e3"', "wrong_type | amount: expected decimal(2)"),
        ("amount", b"[1]", "wrong_type | amount: expected decimal(2)"),
        ("amount", b"12.345", "decimal_places | amount: expected decimal(2)"),
        ("amount", b'"12.345"', "decimal_places | amount: expected decimal(2)"),
        ("amount", b"100000000000000.001", "decimal_places | amount: expected decimal(2)"),  # as its twin has it
        ("amount", b"1e400", "overflow | amount: expected decimal(2)"),
        ("amount", b"90071992547409.92", "overflow | amount: expected decimal(2) below 2**53 minor units"),
        ("amount", b'"-90071992547409.92"', "overflow | amount: expected decimal(2) below 2**53 minor units"),
        ("amount", b"1e300", "overflow | amount: expected decimal(2) below 2**53 minor units"),
        ("seen", b'"yesterday"', "wrong_type | seen: expected RFC 3339 or epoch milliseconds"),
        ("seen", b"1.5", "wrong_type | seen: expected timestamp"),
        ("seen", b"253402300800000", "out_of_range | seen: expected a time in the years 1 to 9999"),
        ("at", b"-1", "bad_time | at: expected a time in the years 1970 to 9999"),
        ("at", b'"1969-12-31T23:59:59.999Z"', "bad_time | at: expected a time in the years 1970 to 9999"),
        ("at", b"99999999999999999999", "out_of_range | at: expected a time in the years 1 to 9999"),
        ("shop", b'"\xff"', "broken_json | the record is not UTF-8"),
        ("shop", b'"\xed\xa0\x80"', "broken_json | the record is not UTF-8"),
        ("shop", b'"\\ud800"', "broken_json | the record is not valid JSON"),
        ("shop", b'"\\udc00 x"', "broken_json | the record is not valid JSON"),
        ("shop", b'7,"s_shop":"x"', "wrong_type | a field is given twice, once with a wrong type"),
    ],
)
def test_a_wrong_value_names_its_field_and_type(name: str, token: bytes, wanted: str) -> None:
    assert reason(with_field(name, token)) == wanted


def test_text_is_checked_in_undeclared_fields_too() -> None:
    assert reason(GOOD[:-1] + b',"z":"\xff"}').startswith("broken_json")


@pytest.mark.parametrize(
    ("token", "minor"),
    [
        (b"12.34", 1234), (b'"12.34"', 1234), (b"-0.01", -1), (b"0.29", 29), (b"1e3", 100_000), (b"5", 500),
        (b'"+5.0"', 500), (b"0.1", 10), (b"1.10", 110), (b"22517998136852.47", 2_251_799_813_685_247),
        (b"80071992547409.37", 8_007_199_254_740_937), (b"90071992547409.91", 2**53 - 1),
        (b'"-90071992547409.91"', 1 - 2**53), (b"-0", 0),
    ],
)  # fmt: skip
def test_decimals_are_exact(token: bytes, minor: int) -> None:
    assert decode(with_field("amount", token)).columns["amount"].values.tolist() == [minor]


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("2020-01-01T00:00:00Z", 1_577_836_800_000),
        ("2020-01-01t00:00:00z", 1_577_836_800_000),
        ("2020-01-01 00:00:00", 1_577_836_800_000),
        ("2020-01-01T02:30:00+02:30", 1_577_836_800_000),
        ("2019-12-31T19:00:00-0500", 1_577_836_800_000),
        ("2020-01-01T00:00:00.1Z", 1_577_836_800_100),
        ("2020-01-01T00:00:00.0019999999Z", 1_577_836_800_001),
        ("1970-01-01T00:00:00.000999Z", 0),
    ],
)
def test_times_are_cut_to_milliseconds(text: str, ms: int) -> None:
    assert decode(with_field("at", json.dumps(text).encode())).event_time.tolist() == [ms]


@pytest.mark.parametrize("text", ["2020-01-01", "20200101T000000Z", "2020-02-30T00:00:00Z", "2020-01-01T24:00:00Z",
                                  "2020-01-01T23:59:60Z", "2020-01-01T00:00:00+24:00", "",
                                  "٢٠٢٠-01-01T00:00:00Z"])  # fmt: skip
def test_other_times_are_refused(text: str) -> None:
    assert reason(with_field("at", json.dumps(text).encode())).startswith("wrong_type | at:")


def test_a_time_before_1970_floors_in_other_fields() -> None:
    found = decode(with_field("seen", b'"1969-12-31T23:59:59.9999Z"'))
    assert found.columns["seen"].values.tolist() == [-1]


def test_times_and_epochs_mix_in_one_field() -> None:
    found = decode(with_field("at", b'"1970-01-01T00:00:01Z"'), with_field("at", b"2000"))
    assert found.event_time.tolist() == [1000, 2000]


def test_the_future_is_refused_by_the_logs_time() -> None:
    limit = NOW + PAYMENT.max_ahead_ms
    assert reason(with_field("at", b"%d" % (limit + 1))) == "future_time | at: more than 1d after the log's time"
    assert not decode(with_field("at", b"%d" % limit), log_time=NOW).rejects
    assert not decode(with_field("at", b"%d" % (limit + 1)), log_time=-1).rejects


def test_ids_and_keys_may_be_numbers() -> None:
    fields = tuple(
        FieldSpec(name, type_of(kind), name) for name, kind in {"i": "int64", "k": "int64", "t": "timestamp"}.items()
    )
    schema = StreamSchema("s", "s", fields, id="i", event_time="t", key="k")
    found = decode(b'{"i":-7,"k":9007199254740993,"t":0}', schema=schema)
    assert (found.ids, found.keys) == (["-7"], ["9007199254740993"])


def test_extras_are_counted_exactly_while_rare() -> None:
    extra = GOOD[:-1] + b',"z":{"a":[1]}}'
    decoder = RecordDecoder(PAYMENT)
    found = decoder.decode([GOOD, extra, GOOD, GOOD, extra, GOOD], [NOW] * 6)
    assert (found.extras, found.rejects, len(found.ids)) == (2, [], 6)


def test_extras_are_sampled_once_common_and_counted_again_once_rare() -> None:
    extra = GOOD[:-1] + b',"z":1}'
    decoder = RecordDecoder(PAYMENT)
    assert decoder.decode([extra] * 10, [NOW] * 10).extras == 10
    estimates = sum(decoder.decode([extra] * 5, [NOW] * 5).extras for _ in range(64 * 10))
    assert estimates == pytest.approx(64 * 50, abs=SAMPLE_EVERY)
    for _ in range(6):
        decoder.decode([GOOD] * SAMPLE_EVERY, [NOW] * SAMPLE_EVERY)
    assert decoder.decode([GOOD, extra, GOOD], [NOW] * 3).extras == 1


def test_bad_records_are_found_while_sampling_too() -> None:
    extra = GOOD[:-1] + b',"z":1}'
    decoder = RecordDecoder(PAYMENT)
    decoder.decode([extra] * 10, [NOW] * 10)
    found = decoder.decode([extra, b"{", extra], [NOW] * 3)
    assert [(reject.index, reject.reason) for reject in found.rejects] == [(1, "broken_json")]


def test_extras_can_be_refused() -> None:
    schema = stream({}, extra_refused=True)
    good, bad = b'{"s_id":"a","s_card":"b","s_at":1}', b'{"s_id":"a","s_card":"b","s_at":1,"4111222233334444":1}'
    for _ in range(3):
        found = decode(good, bad, schema=schema)
        assert [(reject.index, reject.reason) for reject in found.rejects] == [(1, "extra_field")]
        assert SECRET not in found.rejects[0].detail


def test_card_numbers_become_keyed_tokens() -> None:
    schema = stream({"pan": "string*"})
    values = [b'{"s_id":"a","s_card":"b","s_at":1,"s_pan":%s}' % pan for pan in
              (b'"4111222233334444"', b'"4111 2222-3333 4444"', b'"4111222233334445"', b'" - "', b"null")]  # fmt: skip
    column = decode(*values, schema=schema).columns["pan"]
    first, same, other, blank, null = column.values.tolist()
    assert first == same == hashlib.blake2b(SECRET.encode(), digest_size=16, key=PAN_KEY).hexdigest()
    assert other != first
    assert column.valid is not None
    assert column.valid.tolist() == [True, True, True, False, False]
    assert (blank, null) == ("", "")
    (otherwise,) = RecordDecoder(schema, b"another key of 16").decode(values[:1], [NOW]).columns["pan"].values.tolist()
    assert otherwise != first


def test_a_key_may_be_a_card_number() -> None:
    fields = (FieldSpec("id", type_of("string"), "id"), FieldSpec("pan", type_of("string"), "pan", pan=True),
              FieldSpec("t", type_of("timestamp"), "t"))  # fmt: skip
    schema = StreamSchema("s", "s", fields, id="id", event_time="t", key="pan")
    found = decode(b'{"id":"a","pan":"4111222233334444","t":1}', b'{"id":"a","pan":"--","t":1}', schema=schema)
    assert found.keys == [hashlib.blake2b(SECRET.encode(), digest_size=16, key=PAN_KEY).hexdigest()]
    assert [reject.reason for reject in found.rejects] == ["missing_key"]


@pytest.mark.parametrize("key", [None, b"short", b"x" * 65])
def test_card_numbers_need_a_key(key: bytes | None) -> None:
    with pytest.raises(ConfigError, match="pan_key"):
        RecordDecoder(stream({"pan": "string*"}), key)


@pytest.mark.parametrize(
    ("fields", "options", "wanted"),
    [
        ({"a": "decimal(16)"}, {}, "more than 15 decimals"),
        ({"pan": "int64*"}, {}, "not string"),
        ({"id": "float64"}, {}, "id id is float64"),
        ({"at": "int64"}, {}, "event_time at is int64"),
    ],
)
def test_a_schema_that_cannot_be_decoded_is_refused(
    fields: dict[str, str], options: dict[str, bool], wanted: str
) -> None:
    with pytest.raises(ConfigError, match=wanted):
        RecordDecoder(stream(fields, **options), PAN_KEY)


def test_two_fields_of_one_source_are_refused() -> None:
    fields = (*stream({}).fields, FieldSpec("again", type_of("string"), "s_id"))
    with pytest.raises(ConfigError, match="two fields have the source s_id"):
        RecordDecoder(StreamSchema("s", "s", fields, id="id", event_time="at", key="card"))
    with pytest.raises(ConfigError, match="id names no field: nope"):
        RecordDecoder(StreamSchema("s", "s", stream({}).fields, id="nope", event_time="at", key="card"))


def test_a_payload_digest_is_keyed_and_tells_nothing() -> None:
    assert len(payload_digest(GOOD, PAN_KEY)) == 32
    assert payload_digest(GOOD, PAN_KEY) != payload_digest(GOOD, b"x" * 16)
    assert payload_digest(None, PAN_KEY) == payload_digest(b"", PAN_KEY)


def test_again_gives_the_same_columns_of_the_fields_asked_for() -> None:
    decoder = RecordDecoder(PAYMENT, PAN_KEY)
    values = [GOOD, with_field("lat", b"2"), without_field("lat"), GOOD[:-1] + b',"more":[1]}']
    decoded = decoder.decode(values, [NOW] * len(values))
    assert not decoded.rejects
    known = decoder.only({"lat", "no such field"}).again(values)
    assert known is not None
    assert (known.ids, known.keys) == (decoded.ids, decoded.keys)
    assert set(known.columns) == {"lat", PAYMENT.id, PAYMENT.key, PAYMENT.event_time}
    for name, column in known.columns.items():
        other = decoded.columns[name]
        assert column.type == other.type
        assert column.values.tolist() == other.values.tolist()
        assert (column.valid is None) == (other.valid is None)
        assert column.valid is None or column.valid.tolist() == other.valid.tolist()  # type: ignore[union-attr]
    times = decoder.only(()).times(values)
    assert times is not None
    assert times.tolist() == decoded.event_time.tolist()


@pytest.mark.parametrize("value", [None, b"", b"{", with_field("lat", b'"x"'), without_field("id")])
def test_again_sees_records_that_were_never_kept(value: bytes | None) -> None:
    decoder = RecordDecoder(PAYMENT, PAN_KEY).only({"lat"})
    assert decoder.again([GOOD]) is not None
    assert decoder.again([GOOD, value]) is None
    assert decoder.times([GOOD, value]) is None
