"""Records of a stream: each is decoded or becomes a dead letter, and its neighbours come out as without it."""

from __future__ import annotations

import json
import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.decode import Decoded, RecordDecoder
from tests.fuzz.kit import bounded, fuzz, traced
from tests.operators.samples import NOW, PAN_KEY, examples, stream

SCHEMA = stream(
    {
        "amount": "decimal(2)", "fine": "decimal(15)", "lat": "float64", "mcc": "int64", "online": "bool",
        "shop": "string", "seen": "timestamp", "pan": "string*", "must": "int64!",
    }
)  # fmt: skip
GOOD: dict[str, Any] = {
    "s_id": "t1", "s_card": "c1", "s_at": 1_500_000_000_000, "s_amount": 12.34, "s_fine": "0.000000000000001",
    "s_lat": 1.5e-3, "s_mcc": 7, "s_online": True, "s_shop": "müller \"x\"", "s_seen": "1999-01-01T00:00:00.5+01:00",
    "s_pan": "4111 1111 1111 1111", "s_must": -1,
}  # fmt: skip
CORPUS = [
    json.dumps(GOOD).encode(),
    json.dumps(GOOD, ensure_ascii=False).encode(),
    json.dumps(GOOD | {"s_amount": "90071992547409.91", "s_mcc": 2**63 - 1, "s_lat": None}).encode(),
    json.dumps(GOOD | {"s_amount": 90071992547409.91, "extra": {"a": [1, {"b": None}]}}).encode(),
    b'{"s_id":"t2","s_card":"c2","s_at":"2020-02-29T23:59:59Z","s_must":0}',
]
REASONS = {
    "bad_time", "broken_json", "decimal_places", "future_time", "missing_field", "missing_id", "missing_key",
    "missing_time", "out_of_range", "overflow", "tombstone", "too_deep", "too_large", "wrong_type",
}  # fmt: skip
BEFORE, AFTER = CORPUS[0], CORPUS[2]


def decode(*values: bytes | None) -> Decoded:
    return RecordDecoder(SCHEMA, PAN_KEY).decode(list(values), [NOW] * len(values))


ALONE = decode(BEFORE, AFTER)


def check(value: bytes | None) -> None:
    """Taken or refused for a known reason; neighbours are as they are without it."""
    found = decode(BEFORE, value, AFTER)
    taken = found.rows.tolist() == [0, 1, 2]
    assert taken or found.rows.tolist() == [0, 2]
    assert [reject.index for reject in found.rejects] == ([] if taken else [1])
    assert {reject.reason for reject in found.rejects} <= REASONS
    neighbours = [0, 2] if taken else [0, 1]
    for name, column in found.columns.items():
        assert len(column.values) == len(found.ids) == len(found.keys)
        alone = ALONE.columns[name]
        np.testing.assert_array_equal(column.values[neighbours], alone.values)
        valid = np.ones(len(column.values), np.bool_) if column.valid is None else column.valid
        np.testing.assert_array_equal(valid[neighbours], np.ones(2, np.bool_) if alone.valid is None else alone.valid)
    if taken:
        assert found.ids[1]
        assert found.keys[1]
        "".join(found.ids + found.keys).encode()
        again = RecordDecoder(SCHEMA, PAN_KEY).only(["amount", "must"]).again([value])
        assert again is not None
        assert again.ids == found.ids[1:2]


def run(first: int, count: int) -> None:
    taken, refused = fuzz("decode", CORPUS, lambda data: check(data), (), count=count, first=first)
    assert refused == 0
    assert taken == count


def test_mutants() -> None:
    run(0, 1500)


def test_mutants_within_memory() -> None:
    with traced():
        run(100_000, 300)


@pytest.mark.soak
@pytest.mark.matrix("fuzzing")
@pytest.mark.timeout(600)
def test_many_mutants() -> None:
    run(200_000, 100_000)


numbers = st.one_of(
    st.integers(-(10**40), 10**40), st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([2**53, 2**63, -(2**63) - 1, 10**400, 1e308, 5e-324]),
)  # fmt: skip
values = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, st.text(max_size=20), st.sampled_from(["", "0" * 50, "1e9", "2020"])),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=5,
)


@examples(150)
@given(st.dictionaries(st.sampled_from(list(GOOD)), values, max_size=4), st.integers(0, 3))
def test_any_json_in_any_field(changes: dict[str, Any], dropped: int) -> None:
    fields = GOOD | changes
    for name in random.Random(dropped).sample(sorted(fields), dropped):
        del fields[name]
    check(json.dumps(fields, ensure_ascii=dropped % 2 == 0).encode("utf-8", "surrogatepass"))


@examples(100)
@given(st.binary(max_size=300))
def test_any_bytes(data: bytes) -> None:
    check(data)


@pytest.mark.parametrize("text", ["[{", '{"s_id":', '{"s_mcc":[{"a":'])
def test_depth(text: str) -> None:
    with traced():
        for depth in (10, 999, 1_000, 10_000, 250_000 // len(text)):
            check(text.encode() * depth)


@pytest.mark.parametrize("field", ["s_amount", "s_fine", "s_lat", "s_mcc", "s_at", "s_seen", "s_must"])
def test_huge_numbers(field: str) -> None:
    good = {name: json.dumps(value) for name, value in GOOD.items()}
    for form in ("%s", "-%s", "0.%s", "%s.5", "%se-5", "1e%s", "1e-%s", "0.%se300", '"%s"', '"0.%s"'):
        for digits in (18, 40, 4_299, 4_300, 4_301, 200_000):
            fields = good | {field: form % ("7" * digits)}
            with bounded(digits):
                check(("{" + ",".join(f'"{name}":{text}' for name, text in fields.items()) + "}").encode())
