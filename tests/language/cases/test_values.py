"""What is given becomes the producer's JSON; what is expected fits the right values and no others."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.schema import DataType, Kind
from state.errors import Place
from streamproc.language.cases import Given, read_cases
from streamproc.language.cases.values import parse_time, read_expected, time_text
from streamproc.language.yaml_tree import word
from tests.language.helpers import compiled

PLANS = [
    compiled("""\
pipeline: p
streams:
  s:
    id: number
    event_time: when
    fields:
      number: int64
      card: {type: string, from: Card}
      amount: decimal(2)
      ratio: float64
      fine: bool
      every: int64
      when: {type: timestamp, from: When}
      seen: timestamp
partition_by: card
features: {amount: amount}
""")
]
START = 1_767_268_800_000  # date -u -d 2026-01-01T12:00:00 +%s
PLACE = Place("t.yaml", 1, 1)


def records(events: str, base: str = "{card: c}", start: str = "") -> list[Given]:
    text = f"base: {base}\n{start}\ncases: [{{name: a, events: {events}, expect: {{x: {{decision: approve}}}}}}]"
    (case,) = read_cases(text, "t.yaml", PLANS)
    return list(case.given)


def payloads(events: str, base: str = "{card: c}") -> list[dict[str, Any]]:
    return [json.loads(record.value, parse_float=Decimal) for record in records(events, base)]


def test_fields_in_their_types() -> None:
    (payload,) = payloads("[{event: x, amount: 1.50, ratio: 1e3, fine: true, fields: {every: 7}, seen: -1d}]")
    assert payload == {
        "number": 1_000_000_001, "Card": "c", "amount": Decimal("1.50"), "ratio": Decimal(1000), "fine": True,
        "every": 7, "When": START, "seen": START - 86_400_000,
    }  # fmt: skip


def test_null_takes_a_field_of_the_base_away() -> None:
    (payload,) = payloads("[{event: x, card: null, amount: }]", "{card: c, amount: 5, fine: false}")
    assert payload.keys() == {"number", "fine", "When"}


def test_times() -> None:
    found = records("[{}, {at: +1h}, {}, {repeat: 3, every: 2s}, {event: x}, {at: 2026-01-01T12:00:05Z, logged: +1m}]")
    seconds = [(json.loads(one.value)["When"] - START) / 1000 for one in found]
    assert seconds == [0, 3600, 3600, 3600, 3602, 3604, 3604, 5]
    assert [(one.logged - START) / 1000 for one in found] == [0, 3600, 3600, 3600, 3602, 3604, 3604, 60]


def test_no_time_at_all() -> None:
    without, after = records("[{when: null}, {event: x, when: +1s}]")
    assert "When" not in json.loads(without.value)
    assert without.logged == START
    assert json.loads(after.value)["When"] == after.logged == START + 1000


def test_copies_are_numbered() -> None:
    found = records("[{event: x, repeat: 3, card: 'c{n}', amount: '{n}.5'}]")
    assert [json.loads(one.value)["Card"] for one in found] == ["c1", "c2", "c3"]
    assert [json.loads(one.value)["amount"] for one in found] == [1.5, 2.5, 3.5]
    assert [one.label for one in found] == ["x[1]", "x[2]", "x[3]"]
    assert len({json.loads(one.value)["number"] for one in found}) == 3


def test_a_record_goes_as_it_is() -> None:
    found = records("[{event: x, at: +1s, record: ' {broken '}, {record: b, repeat: 2, every: 1s}]")
    assert [one.value for one in found] == [b" {broken ", b"b", b"b"]
    assert [one.logged - START for one in found] == [1000, 1000, 2000]


def test_starts() -> None:
    text = """
start: 2026-02-01
cases:
  - {name: a, events: [{event: x}], expect: {x: {decision: approve}}}
  - {name: b, start: +1d, events: [{event: x}], expect: {x: {features: {when: +0s, seen: null}}}}
"""
    first, second = read_cases(text, "t.yaml", PLANS)
    assert time_text(first.given[0].logged) == "2026-02-01T00:00:00Z"
    assert time_text(second.given[0].logged) == "2026-02-02T00:00:00Z"
    assert second.expected[0].columns["when"].low == second.given[0].logged


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("+0s", 5000), ("+1d2h3m4s5ms", 5000 + 93_784_005), ("-5s", 0), ("1500", 1500),
        ("1970-01-01T00:00:01.25Z", 1250),
        ("1970-01-01T01:00:00+01:00", 0), ("1970-01-02", 86_400_000), ("1970-01-01 00:00:01", 1000),
    ],
)  # fmt: skip
def test_parse_time(text: str, ms: int) -> None:
    assert parse_time(text, 5000) == ms


@pytest.mark.parametrize("text", ["", "5m", "+", "+5", "+5m ", "-6s", "now", "+5y", "1e3", "9" * 18, "1969-12-31"])
def test_no_time(text: str) -> None:
    with pytest.raises(ValueError, match=r"isoformat|not in the years"):
        parse_time(text, 5000)


INT, FLOAT, CENTS = DataType(Kind.INT64), DataType(Kind.FLOAT64), DataType(Kind.DECIMAL, 2)


@pytest.mark.parametrize(
    ("kind", "text", "fits", "not_fits"),
    [
        (INT, "5", [5], [4, 6, None]),
        (INT, "-5..5", [-5, 0, 5], [-6, 6, None]),
        (INT, "5..", [5, 2**62], [4]),
        (INT, "..5", [5, -(2**62)], [6, None]),
        (INT, "~5e1", [45, 55], [44, 56]),
        (INT, "null", [None], [0]),
        (CENTS, "22.5", [Decimal("22.50")], [Decimal("22.51"), None]),
        (CENTS, "0.1..0.3", [Decimal("0.10"), Decimal("0.30")], [Decimal("0.31")]),
        (FLOAT, "0.1", [0.1], [0.1 + 1e-17 * 2, 0.10000000000000002]),
        (FLOAT, "~1.5", [1.45, 1.5, 1.5499, 1.55], [1.4499, 1.5501, None]),
        (FLOAT, "~100", [99.5, 100.4], [99.4, 101.0]),
        (FLOAT, "~-0.30", [-0.3, -0.295], [0.3, -0.294]),
        (FLOAT, "0.3..", [0.3, 1e300], [0.29999999999999999 - 1e-9]),
        (DataType(Kind.STRING), "~1.5", ["~1.5"], ["1.5", "", None]),
        (DataType(Kind.STRING), "1.50", ["1.50"], ["1.5"]),
        (DataType(Kind.BOOL), "true", [True], [False, None]),
        (DataType(Kind.TIMESTAMP), "+1s", [1000], [999, None]),
    ],
)
def test_what_fits(kind: DataType, text: str, fits: list[Any], not_fits: list[Any]) -> None:
    value = read_expected(word(text, PLACE), "x", kind, 0)
    assert [one for one in fits if not value.fits(one)] == []
    assert [one for one in not_fits if one != 0.1 and value.fits(one)] == []


@given(st.decimals(-1000, 1000, places=6), st.integers(0, 5))
def test_about_is_what_rounds_to_it(exact: Decimal, places: int) -> None:
    """Python's own rounding says which text a number has at so many decimals."""
    value = read_expected(word(f"~{exact:.{places}f}", PLACE), "x", CENTS, 0)
    assert value.fits(exact)
    assert not value.fits(exact + Decimal("1.01").scaleb(-places))
    assert not value.fits(exact - Decimal("1.01").scaleb(-places))
