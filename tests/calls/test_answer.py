"""What a reply becomes: what the next stage's decoder makes of it, row by row, is what the reply said."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.decode import RecordDecoder
from operators.handoff import joined
from operators.schema import DataType, FieldSpec, Kind, StreamSchema
from streamproc.calls.answer import AnswerReader, BadAnswerError
from tests.calls.specs import RECORD, spec

KINDS = [("i", "int64"), ("f", "float64"), ("d", "decimal"), ("s", "string"), ("b", "bool"), ("t", "timestamp")]
FIELDS = tuple(FieldSpec(name, DataType(Kind(kind), 2 if kind == "decimal" else 0), name) for name, kind in KINDS)
ALL = spec(returns=FIELDS, default=(None,) * 6)
READER = AnswerReader(ALL)


def decoded(members: bytes) -> dict[str, Any]:
    """What the stage behind the call reads."""
    id_, at = FieldSpec("id", DataType(Kind.STRING), "id"), FieldSpec("at", DataType(Kind.TIMESTAMP), "at")
    flag = FieldSpec("device_failed", DataType(Kind.BOOL), "device_failed", required=True)
    schema = StreamSchema("s", "t", (id_, at, *FIELDS, flag), "id", "at", "id")
    found = RecordDecoder(schema).decode([joined(b'{"id":"1","at":1}', members)], [1])
    assert not found.rejects, found.rejects
    return {
        name: column.values[0] if column.valid is None or column.valid[0] else None
        for name, column in found.columns.items()
        if name not in ("id", "at")
    }


GOOD = {"i": 7, "f": 0.25, "d": 12.34, "s": "Zürich", "b": True, "t": 1000}
SEEN = {"i": 7, "f": 0.25, "d": 1234, "s": "Zürich", "b": True, "t": 1000, "device_failed": False}


@pytest.mark.parametrize(
    ("change", "seen"),
    [
        ({}, {}),
        ({"extra": [1, {}]}, {}),
        ({"f": 1}, {"f": 1.0}),
        ({"f": -0.0}, {"f": 0.0}),
        ({"d": "12.340"}, {"d": 1234}),
        ({"d": 12}, {"d": 1200}),
        ({"d": 45035996273704.95}, {"d": 4503599627370495}),
        ({"t": "1970-01-01T00:00:02Z"}, {"t": 2000}),
        ({"i": None, "f": None, "d": None, "s": None, "b": None, "t": None}, dict.fromkeys("ifdsbt")),
    ],
)
def test_the_next_stage_reads_what_the_service_said(change: dict[str, Any], seen: dict[str, Any]) -> None:
    assert decoded(READER.read(json.dumps(GOOD | change).encode())) == SEEN | seen


@pytest.mark.parametrize(
    "change",
    [
        {"i": 1.5}, {"i": True}, {"i": "1"}, {"i": 2**63}, {"f": "0.5"}, {"f": True}, {"f": 10**400}, {"d": 1.234},
        {"d": "12,5"}, {"d": 2.0**60}, {"s": 1}, {"s": {}}, {"b": 1}, {"b": "true"}, {"t": "yesterday"}, {"t": 1.5},
        {"t": 10**18},
    ],
)  # fmt: skip
def test_a_value_of_another_type_is_no_answer(change: dict[str, Any]) -> None:
    """Never a dead letter of the next stage."""
    with pytest.raises(BadAnswerError) as caught:
        READER.read(json.dumps(GOOD | change).encode())
    (name, value), *_ = change.items()
    assert str(caught.value).startswith(f"{name}: expected")
    if isinstance(value, str):
        assert value not in str(caught.value)


@pytest.mark.parametrize(
    "reply",
    [b"", b"{", b"null", b"[]", b"1", b'"x"', b"NaN", b'{"f": NaN}', b"\xff", b"[" * 100_000, b"{}",
     b'{"i": 1, "f": 1, "d": 1, "s": "", "b": true}', b'{"s": "\\ud800"}'],
)  # fmt: skip
def test_what_is_no_object_with_the_fields_is_no_answer(reply: bytes) -> None:
    with pytest.raises(BadAnswerError):
        READER.read(reply)


VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.integers(), max_size=2)


@settings(deadline=None)
@given(st.sampled_from(sorted(GOOD)), VALUES)
def test_whatever_is_replied_is_an_answer_or_none(name: str, value: Any) -> None:
    text = json.dumps(GOOD | {name: value}).encode()
    try:
        members = READER.read(text)
    except BadAnswerError:
        return
    assert set(decoded(members)) == set(SEEN)


def test_dots_lead_into_an_answer() -> None:
    nested = AnswerReader(
        spec(returns=(FieldSpec("score", DataType(Kind.FLOAT64), "data.risk.score"),), default=(1.0,))
    )
    assert nested.read(b'{"data": {"risk": {"score": 0.75}}}') == b'"score":0.75,"device_failed":false'
    for reply in (b'{"data": {"risk": 1}}', b'{"data": {"risk": []}}', b'{"data.risk.score": 1}'):
        with pytest.raises(BadAnswerError, match=r"the answer has no data\.risk\.score"):
            nested.read(reply)


def test_defaults_say_that_the_call_failed() -> None:
    reader = AnswerReader(spec())
    assert json.loads(joined(RECORD, reader.default)) == json.loads(RECORD) | {
        "reputation": 0.5, "known_bad": None, "device_failed": True,
    }  # fmt: skip
    assert json.loads(joined(RECORD, reader.nothing)) == json.loads(RECORD) | {
        "reputation": None, "known_bad": None, "device_failed": False,
    }  # fmt: skip
    assert joined(RECORD, b"") == RECORD
