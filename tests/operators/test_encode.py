"""Encode against json.loads: names, order, exact values."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.batch import Column
from operators.decide import Decided, RuleDecider
from operators.encode import DecisionEncoder, json_values
from operators.plan import DecisionSpec, RuleSpec
from operators.schema import FieldSpec, StreamSchema
from state.errors import ConfigError, RecordError
from tests.operators.samples import column, examples, stream, type_of

TYPES = {
    "n": "int64", "x": "float64", "amount": "decimal(2)", "s": "string", "b": "bool", "t": "timestamp",
    "fraud.score": "float64", "fraud.tier": "string", "class": "int64",
}  # fmt: skip
SEVERITY = ("decline", "approve")
RULES = [RuleSpec("fast", "c", "decline", "too fast"), RuleSpec("quiet", "q", "decline", "-", shadow=True)]


def encoder(*include: str, schema: StreamSchema | None = None, **options: Any) -> DecisionEncoder:
    types = {name: type_of(kind) for name, kind in TYPES.items()}
    schema = schema or stream({})
    types |= {spec.name: spec.type for spec in schema.fields}
    return DecisionEncoder(schema, DecisionSpec(SEVERITY, "approve", include, **options), types)


def decided(hits: list[bool], quiet: list[bool] | None = None) -> Decided:
    columns = {"c": column("bool", hits), "q": column("bool", quiet or [False] * len(hits))}
    return RuleDecider(RULES, DecisionSpec(SEVERITY, "approve")).decide(columns, len(hits))


def times(size: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.arange(size, dtype=np.int64) + 1_540_000_000_000


def exact(line: bytes) -> Any:
    return json.loads(line, parse_float=Decimal)


def test_a_decision_reads_like_this() -> None:
    columns = {
        "n": column("int64", [7, None]),
        "amount": column("decimal(2)", [1234, 100]),
        "x": column("float64", [None, 1.5]),
    }
    lines = encoder("n", "amount", "x").encode(["t1", "t2"], ["c1", "c2"], times(2), decided([True, False]), columns)
    assert lines == [
        b'{"id":"t1","card":"c1","decision":"decline","score":0.0,"reasons":["too fast"],"n":7,"amount":12.34,"x":null,'
        b'"event_time":1540000000000}',
        b'{"id":"t2","card":"c2","decision":"approve","score":0.0,"reasons":[],"n":null,"amount":1.0,"x":1.5,'
        b'"event_time":1540000000001}',
    ]


def test_score_and_tier_come_from_their_columns() -> None:
    columns = {"fraud.score": column("float64", [97.5, None]), "fraud.tier": column("string", ["high", None])}
    made = encoder(score="fraud.score", tier="fraud.tier")
    first, second = map(json.loads, made.encode(["a", "b"], ["c", "d"], times(2), decided([False, False]), columns))
    assert (first["score"], first["risk_tier"]) == (97.5, "high")
    assert (second["score"], second["risk_tier"]) == (None, None)
    assert list(first) == ["id", "card", "decision", "score", "risk_tier", "reasons", "event_time"]


def test_duplicates_and_shadow_hits_are_named_only_where_they_are() -> None:
    done = decided([False] * 3, [False, True, False])
    lines = encoder().encode(list("abc"), list("xyz"), times(3), done, {}, duplicates=np.array([True, False, False]))
    first, second, third = map(json.loads, lines)
    assert first["duplicate"] is True
    assert "shadow" not in first
    assert second["shadow"] == ["quiet"]
    assert "duplicate" not in second
    assert not {"duplicate", "shadow"} & set(third)
    assert list(third) == ["id", "card", "decision", "score", "reasons", "event_time"]


def test_failed_calls_are_named_only_where_they_are() -> None:
    columns = {
        "first_failed": column("bool", [False, True, True, False]),
        "second_failed": column("bool", [False, False, True, True]),
    }
    calls = encoder(schema=None, calls=("first", "second"))
    lines = calls.encode(["1", "2", "3", "4"], ["c"] * 4, times(4), decided([False] * 4), columns)
    assert [json.loads(line).get("failed_calls") for line in lines] == [
        None, ["first"], ["first", "second"], ["second"],
    ]  # fmt: skip
    well = {name: column("bool", [False]) for name in columns}
    (line,) = calls.encode(["1"], ["c"], times(1), decided([False]), well)
    assert b"failed_calls" not in line


def test_a_bare_duplicate_repeats_the_action_and_nothing_else() -> None:
    made = encoder("n", score="fraud.score", tier="fraud.tier")
    (line,) = made.encode_duplicates(["a"], ["c"], times(1), ["decline"])
    assert json.loads(line) == {
        "id": "a", "card": "c", "decision": "decline", "score": None, "risk_tier": None, "reasons": [], "n": None,
        "event_time": 1_540_000_000_000, "duplicate": True,
    }  # fmt: skip
    (line,) = encoder().encode_duplicates(["a"], ["c"], times(1), ["decline"])
    assert json.loads(line)["score"] == 0


def test_ids_declared_as_numbers_are_numbers() -> None:
    fields = tuple(
        FieldSpec(n, type_of(k), n) for n, k in {"i": "int64", "k": "string", "event_time": "timestamp"}.items()
    )
    schema = StreamSchema("s", "s", fields, id="i", event_time="event_time", key="k")
    (line,) = encoder("i", "event_time", schema=schema).encode(
        ["9007199254740993"], ["7"], times(1), decided([False]), {}
    )
    assert json.loads(line) == {
        "i": 9007199254740993, "k": "7", "decision": "approve", "score": 0, "reasons": [],
        "event_time": 1_540_000_000_000,
    }  # fmt: skip


def test_one_field_may_be_id_and_key() -> None:
    schema = StreamSchema("s", "s", stream({}).fields, id="id", event_time="at", key="id")
    (line,) = encoder(schema=schema).encode(["a"], ["a"], times(1), decided([False]), {})
    assert list(json.loads(line)) == ["id", "decision", "score", "reasons", "event_time"]


@pytest.mark.parametrize(
    ("include", "options", "wanted"),
    [
        (["nope"], {}, "no column nope"),
        (["decision"], {}, "a field decision of its own"),
        (["event_time"], {}, "a field event_time of its own"),
        ([], {"score": "nope"}, "no column nope"),
    ],
)
def test_names_that_clash_or_are_unknown_are_refused(include: list[str], options: dict[str, Any], wanted: str) -> None:
    with pytest.raises(ConfigError, match=wanted):
        encoder(*include, **options)


def test_text_that_is_not_unicode_is_the_rows_fault() -> None:
    with pytest.raises(RecordError, match="not_unicode"):
        encoder("s").encode(["a"], ["c"], times(1), decided([False]), {"s": column("string", ["\ud800"])})


@pytest.mark.parametrize("scale", [0, 1, 2, 9, 15])
@examples(50)
@given(minor=st.lists(st.one_of(st.integers(-(2**53) + 1, 2**53 - 1), st.integers(-(2**63), 2**63 - 1))))
def test_decimals_are_exact_numbers(scale: int, minor: list[int]) -> None:
    name = f"decimal({scale})"
    schema = stream({"d": name})
    lines = encoder("d", schema=schema).encode(
        ["a"] * len(minor),
        ["c"] * len(minor),
        times(len(minor)),
        decided([False] * len(minor)),
        {"d": column(name, minor)},
    )
    assert [Decimal(exact(line)["d"]) for line in lines] == [Decimal(value).scaleb(-scale) for value in minor]
    small = [value for value in minor if abs(value) < 10**15]
    assert [type(value) for value in json_values(column(name, small))] == [float if scale else int] * len(small)


ANY = {
    "n": st.integers(-(2**63), 2**63 - 1),
    "x": st.floats(allow_nan=False, allow_infinity=False),
    "amount": st.integers(-(10**15) + 1, 10**15 - 1),
    "s": st.text(max_size=6),
    "b": st.booleans(),
    "t": st.integers(-(10**13), 10**13),
    "class": st.integers(0, 5),
}


@examples(150)
@given(
    st.lists(st.fixed_dictionaries({name: st.none() | values for name, values in ANY.items()}), max_size=5), st.data()
)
def test_json_loads_gives_back_what_went_in(rows: list[dict[str, Any]], data: st.DataObject) -> None:
    columns: dict[str, Column] = {name: column(TYPES[name], [row[name] for row in rows]) for name in ANY}
    names = st.text(min_size=1, max_size=5)
    ids, keys = ([data.draw(names) for _ in rows] for _ in range(2))
    done = decided([data.draw(st.booleans()) for _ in rows], [data.draw(st.booleans()) for _ in rows])
    lines = encoder(*ANY).encode(ids, keys, times(len(rows)), done, columns)
    for i, (line, row) in enumerate(zip(lines, rows, strict=True)):
        wanted = {**row, "amount": None if row["amount"] is None else row["amount"] / 100}
        shadow = {"shadow": done.shadow[i]} if done.shadow and done.shadow[i] else {}
        assert json.loads(line) == {
            "id": ids[i], "card": keys[i], "decision": done.action_names[done.action[i]], "score": 0.0,
            "reasons": done.reasons[i], **wanted, "event_time": 1_540_000_000_000 + i, **shadow,
        }  # fmt: skip
