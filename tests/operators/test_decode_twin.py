"""Decode against its slow twin, over random schemas and records; and fuzzing: nothing raises, no neighbour moves."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from operators.decode import Decoded, RecordDecoder
from operators.schema import FieldSpec, Kind, StreamSchema
from tests.operators.samples import NOW, PAN_KEY, examples, stream, type_of
from tests.oracle.decode import Refused, decode_one, has_extras

TYPES = ("int64", "float64", "decimal(0)", "decimal(2)", "decimal(9)", "decimal(15)", "string", "bool", "timestamp")
DIGITS = st.text("0123456789", min_size=1, max_size=18).map(lambda text: text.lstrip("0") or "0")
NUMBERS = st.one_of(
    st.integers(-(10**20), 10**20).map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.builds("{}{}.{}".format, st.sampled_from(["", "-"]), DIGITS, st.text("0123456789", min_size=1, max_size=4)),
    st.builds("{}e{}".format, DIGITS, st.integers(-400, 400)),
)
TIMES = st.one_of(
    st.integers(0, NOW).map(str),
    st.integers(-(10**15), 10**15).map(str),
    st.datetimes().map(lambda moment: json.dumps(moment.isoformat() + "Z")),
    st.builds(
        '"{:%Y-%m-%dT%H:%M:%S}{}{}"'.format,
        st.datetimes(),
        st.sampled_from(["", ".9", ".9999999", ".0001", "."]),
        st.sampled_from(["Z", "z", "", "+01:00", "-2359", "+24:00", "x"]),
    ),
)
TEXTS = st.text(max_size=8)
STRINGS = st.one_of(TEXTS.map(json.dumps), TEXTS.map(lambda text: json.dumps(text, ensure_ascii=False)))
JSON_VALUES = st.one_of(
    st.sampled_from(["null", "true", "[]", '{"a":[1]}', "NaN", "-", '"\\ud800"', '"\\u0041"', "1e999", '"a\nb"', "{"]),
    NUMBERS,
    STRINGS,
)
FITTING: dict[Kind, st.SearchStrategy[str]] = {
    Kind.INT64: st.integers(-(2**64), 2**64).map(str),
    Kind.FLOAT64: NUMBERS,
    Kind.DECIMAL: st.one_of(NUMBERS, NUMBERS.map(json.dumps)),
    Kind.STRING: STRINGS,
    Kind.BOOL: st.sampled_from(["true", "false"]),
    Kind.TIMESTAMP: TIMES,
}
SPACE = st.sampled_from(["", "", "", " ", "\n\t"])


@st.composite
def schemas(draw: st.DrawFn) -> StreamSchema:
    naming = st.sampled_from(["string", "string", "string*", "int64"])
    fields = {"id": draw(naming), "card": draw(naming)}
    for i in range(draw(st.integers(0, 5))):
        kind = draw(st.sampled_from(TYPES))
        mark = draw(st.sampled_from(["", "", "!", "*"] if kind == "string" else ["", "", "!"]))
        fields[f"f{i}"] = kind + mark
    return stream(fields, extra_refused=draw(st.booleans()), max_ahead_ms=draw(st.sampled_from([0, 86_400_000])))


def field(draw: st.DrawFn, spec: FieldSpec) -> str:
    values = FITTING[spec.type.kind]
    chosen = values if draw(st.integers(0, 9)) else JSON_VALUES
    return f"{draw(SPACE)}{json.dumps(spec.source)}{draw(SPACE)}:{draw(SPACE)}{draw(chosen)}{draw(SPACE)}"


@st.composite
def records(draw: st.DrawFn, schema: StreamSchema) -> bytes | None:
    parts = [field(draw, spec) for spec in schema.fields if draw(st.integers(0, 15))]
    odd = draw(st.integers(0, 19))
    if odd == 0:
        return draw(st.sampled_from([None, b"", b"[]", b"{}", b"null", b"\xff", b'{"a":1,"z":[{}', b"{}]}", b'"a",1']))
    if odd <= 3:
        parts.append(f'"extra":{draw(JSON_VALUES)}')
    if odd == 4:
        parts.append(field(draw, draw(st.sampled_from(schema.fields))))
    value = ("{" + ",".join(parts) + "}").encode("utf-8", "surrogatepass")
    return mutate(draw, value) if odd == 5 else value


def mutate(draw: st.DrawFn, value: bytes) -> bytes:
    at = draw(st.integers(0, len(value)))
    return value[:at] + draw(st.binary(max_size=2)) + value[at + draw(st.integers(0, 3)) :]


@st.composite
def cases(draw: st.DrawFn) -> tuple[StreamSchema, list[bytes | None], list[int]]:
    schema = draw(schemas())
    values = draw(st.lists(records(schema), max_size=12))
    times = st.sampled_from([NOW, NOW, 0, -1, 253_402_300_799_999])
    return schema, values, [draw(times) for _ in values]


def rows(found: Decoded) -> dict[int, dict[str, Any]]:
    """The kept rows by index, None for NULL."""
    out: dict[int, dict[str, Any]] = {row: {} for row in found.rows.tolist()}
    for name, (_, values, valid) in found.columns.items():
        assert len(values) == len(out)
        for i, (row, value) in enumerate(zip(out, values.tolist(), strict=True)):
            out[row][name] = value if valid is None or valid[i] else None
    return out


def expected(schema: StreamSchema, value: bytes | None, timestamp: int) -> dict[str, Any]:
    """The twin's row, card numbers as tokens."""
    row = decode_one(schema, value, timestamp)
    for spec in schema.fields:
        if spec.pan and row[spec.name] is not None:
            row[spec.name] = hashlib.blake2b(row[spec.name].encode(), digest_size=16, key=PAN_KEY).hexdigest()
    return row


@examples(600)
@given(cases())
def test_decode_does_what_its_twin_does(case: tuple[StreamSchema, list[bytes | None], list[int]]) -> None:
    schema, values, times = case
    found = RecordDecoder(schema, PAN_KEY).decode(values, times)
    kept, refused = {}, []
    for i, (value, time) in enumerate(zip(values, times, strict=True)):
        try:
            kept[i] = expected(schema, value, time)
        except Refused as error:
            refused.append((i, str(error)))
    assert [(reject.index, reject.reason) for reject in found.rejects] == refused
    assert rows(found) == kept
    assert found.ids == [str(row["id"]) for row in kept.values()]
    assert found.keys == [str(row["card"]) for row in kept.values()]
    assert found.event_time.tolist() == [row["at"] for row in kept.values()]
    with_extras = sum(has_extras(schema, values[i] or b"") for i in kept)
    assert with_extras <= found.extras <= with_extras + len(refused)


@examples(200)
@given(cases(), st.integers(1, 4))
def test_a_rows_fate_does_not_depend_on_its_batch(
    case: tuple[StreamSchema, list[bytes | None], list[int]], size: int
) -> None:
    schema, values, times = case
    whole = RecordDecoder(schema, PAN_KEY).decode(values, times)
    decoder = RecordDecoder(schema, PAN_KEY)
    cut_rows: dict[int, dict[str, Any]] = {}
    cut_rejects = []
    for start in range(0, len(values), size):
        part = decoder.decode(values[start : start + size], times[start : start + size])
        cut_rows |= {start + row: found for row, found in rows(part).items()}
        cut_rejects += [(start + reject.index, reject.reason, reject.detail) for reject in part.rejects]
    assert cut_rows == rows(whole)
    assert cut_rejects == [(reject.index, reject.reason, reject.detail) for reject in whole.rejects]


FUZZED = stream({"amount": "decimal(2)", "n": "int64", "x": "float64", "b": "bool", "s": "string", "t": "timestamp"})
FINE = (
    b'{"s_id":"t","s_card":"c","s_at":1,"s_amount":1.5,"s_n":3,"s_x":0.5,"s_b":true,"s_s":"\xc3\xa9",'
    b'"s_t":"2020-01-01T00:00:00Z"}'
)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    value = FINE
    for _ in range(draw(st.integers(1, 4))):
        value = mutate(draw, value)
    return value


@examples(1500)
@given(st.lists(st.one_of(mutated(), st.binary(max_size=40)), min_size=1, max_size=4))
@example([b"\x00"])
@example([b'{"s_at":"9999-12-31T23:59:59-23:59"}'])
def test_fuzzed_records_are_kept_or_refused_and_never_touch_a_neighbour(values: list[bytes]) -> None:
    batch = [FINE, *[part for value in values for part in (value, FINE)]]
    found = RecordDecoder(FUZZED).decode(batch, [NOW] * len(batch))
    refused = {reject.index for reject in found.rejects}
    assert refused | set(found.rows.tolist()) == set(range(len(batch)))
    assert len(refused) + len(found.rows) == len(batch)
    kept = rows(found)
    assert all(kept[i] == kept[0] for i in range(0, len(batch), 2))
    for reject in found.rejects:
        assert reject.detail.isascii()


def test_the_samples_type_names_are_the_languages() -> None:
    assert [str(type_of(name)) for name in TYPES] == list(TYPES)
