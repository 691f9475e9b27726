"""Every wrong case file is refused with its place, what is wrong, and what would be right."""

from __future__ import annotations

from pathlib import Path

import pytest

from state.errors import ConfigError
from streamproc.language import load_pipeline
from streamproc.language.cases import case_files, load_cases, read_cases
from tests.language.helpers import BASE, compiled

PLANS = [compiled(BASE)]
RIGHT = """\
base: {card_id: c1, amount: 2.50}
start: 2026-03-01T10:00:00Z
cases:
  - name: burst
    base: {country: BE}
    events:
      - {event: first, at: +5m}
      - {event: many, at: +6m, repeat: 4, every: 1s}
    expect:
      first: {decision: approve, features: {spend_count_1m: 1}}
      many: {decision: decline, hits: burst}
"""
CASES = [
    # the file
    ("cases:", "case:", "t.yaml:3:1: unknown key 'case' in the case file (did you mean cases?)"),
    ("2026-03-01T10:00:00Z", "noon", "t.yaml:2:8: start: 'noon' is no time in the years 1970 to 9999 (2026-01-31T"),
    ("2026-03-01T10:00:00Z", "10000-01-01", "t.yaml:2:8: start: '10000-01-01' is no time"),
    ("base: {card_id: c1", "base: {cardid: c1", "t.yaml:1:8: unknown key 'cardid' in base (did you mean card_id?)"),
    ("amount: 2.50", "amount: 2,50", "t.yaml:1:31: unknown key '50' in base (a comma ends a value inside { }: quote"),
    ("amount: 2.50", "amount: much", "t.yaml:1:29: amount is decimal(2), and 'much' is not (a record that is wrong"),
    ("amount: 2.50", "amount: [2]", "t.yaml:1:29: a single value is expected here"),
    ("amount: 2.50", "transaction_id: t", "t.yaml:1:21: transaction_id cannot be the same for all events (each event"),
    ("amount: 2.50", "event_time: +1m", "t.yaml:1:21: event_time cannot be the same for all events (start:"),
    ("- name: burst", "- name: burst\n  - name: burst", "t.yaml:5:5: a case 'burst' exists already (in line 4)"),
    # the case
    ("- name: burst", "- nam: burst", "t.yaml:4:5: unknown key 'nam' in the case (did you mean name?)"),
    ("    events:\n", "    event:\n", "unknown key 'event' in the case (did you mean events?)"),
    ("    expect:\n", "    expects:\n", "t.yaml:9:5: unknown key 'expects' in the case (did you mean expect?)"),
    # events
    ("{event: first, at: +5m}", "{event: first, at: 5m}", "t.yaml:7:28: at: '5m' is no time in the years 1970 to 9999"),
    ("{event: first, at: +5m}", "{event: first, at: -60000d}", "at: '-60000d' is no time"),
    ("{event: first, at: +5m}", "{evnt: first}", "t.yaml:7:10: unknown key 'evnt' in the event (did you mean event?)"),
    (
        "{event: first, at: +5m}",
        "{event: first, amuont: 1}",
        "unknown key 'amuont' in the event (did you mean amount",
    ),
    ("{event: first, at: +5m}", "{event: first, every: 1s}", "t.yaml:7:24: every: without repeat (repeat: 5, every:"),
    ("{event: first, at: +5m}", "{event: first, price: yes}", "t.yaml:7:31: price is float64, and 'yes' is not"),
    ("{event: first, at: +5m}", "{event: first, price: NaN}", "price is float64, and 'NaN' is not"),
    ("{event: first, at: +5m}", "{event: first, fields: {at: 1}}", "t.yaml:7:33: unknown key 'at' in fields"),
    ("{event: first, at: +5m}", "{event: first, record: x, amount: 1}", "t.yaml:7:35: amount stands beside record"),
    (
        "{event: first, at: +5m}",
        "{event: first, at: +1m, event_time: +1m}",
        "t.yaml:7:24: the time is given twice",
    ),
    ("{event: first, at: +5m}", "{event: 'first[1]'}", "t.yaml:7:10: event: 'first[1]' cannot be a name"),
    ("event: many", "event: first", "t.yaml:8:10: event: 'first' is the name of an event before"),
    ("repeat: 4", "repeat: 10001", "t.yaml:8:40: '10001' is not a whole number from 1 to 10000"),
    ("every: 1s", "every: 1 s", "t.yaml:8:50: '1 s' is not a duration"),
    # expectations
    ("first: {decision", "frist: {decision", "t.yaml:10:7: no event is called 'frist' (did you mean first?)"),
    ("many: {decision", "many[5]: {decision", "t.yaml:11:7: no event is called 'many[5]' (did you mean many?)"),
    ("decision: decline", "decision: declined", "t.yaml:11:24: unknown action 'declined' (did you mean decline?)"),
    ("hits: burst", "hits: bursts", "t.yaml:11:39: unknown rule 'bursts' (did you mean burst?)"),
    ("hits: burst", "hits: burst, misses: burst", "t.yaml:11:46: rule burst cannot both hit and miss"),
    ("hits: burst", "reasons: [brust]", "unknown reason 'brust' (did you mean burst?)"),
    ("hits: burst", "hit: burst", "t.yaml:11:33: unknown key 'hit' in what is expected of many (did you mean hits?)"),
    ("hits: burst", "score: 5", "t.yaml:11:33: score: the pipeline has no model"),
    ("hits: burst", "risk_tier: high", "t.yaml:11:33: risk_tier: the pipeline has no model with tiers"),
    ("hits: burst", "dead_letter: x", "t.yaml:11:14: a dead letter is not decided (leave decision out)"),
    ("hits: burst", "duplicate: yes", "'yes' is neither true nor false"),
    ("{decision: decline, hits: burst}", "{}", "t.yaml:11:13: what is expected of many: nothing ({decision: ...})"),
    ("spend_count_1m: 1", "spend_count_2m: 1", "t.yaml:10:45: there is no feature or field 'spend_count_2m' (did you"),
    ("spend_count_1m: 1", "spend_count_1m: 1.5", "t.yaml:10:61: spend_count_1m is int64 and can never be 1.5"),
    ("spend_count_1m: 1", "spend_sum_1m: 1.005", "spend_sum_1m is decimal(2) and can never be 1.005 (about: ~1.005)"),
    (
        "spend_count_1m: 1",
        "spend_count_1m: many",
        "spend_count_1m is int64, and 'many' is no number (5, about: ~1.5",
    ),
    ("spend_count_1m: 1", "spend_count_1m: 5..1", "t.yaml:10:61: no value lies in 5..1 (the lower bound stands first)"),
    ("spend_count_1m: 1", "spend_count_1m: ..", "t.yaml:10:61: a range needs a bound"),
    ("spend_count_1m: 1", "event_time: noon", "t.yaml:10:57: event_time: 'noon' is no time"),
]


def refused(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read_cases(text, "t.yaml", PLANS)
    return str(caught.value).splitlines()


def test_the_right_file_is_right() -> None:
    (case,) = read_cases(RIGHT, "t.yaml", PLANS)
    assert (case.name, case.place.line, len(case.given), len(case.expected)) == ("burst", 4, 5, 2)


@pytest.mark.parametrize(("old", "new", "said"), CASES, ids=[new or old for old, new, _ in CASES])
def test_wrong_input(old: str, new: str, said: str) -> None:
    assert RIGHT.count(old) >= 1
    lines = refused(RIGHT.replace(old, new, 1))
    assert any(said in line for line in lines), lines


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("cases: []", "t.yaml:1:1: a case file has a list of cases (cases: [{name"),
        ("cases: 3", "t.yaml:1:1: a case file has a list of cases"),
        ("cases: [{name: a, expect: {a: {decision: approve}}}]", "t.yaml:1:9: a case has a list of events (events:"),
        ("cases: [{name: a, events: [{event: a}]}]", "t.yaml:1:9: a case expects something of its events (expect:"),
        ("cases: [{name: a, events: [{event: a}], expect: a}]", "t.yaml:1:41: a case expects something of its events"),
        ("cases: [{name: a, events: [a], expect: {a: {decision: approve}}}]", "the event must be a mapping of keys"),
    ],
)
def test_an_incomplete_file(text: str, said: str) -> None:
    assert any(said in line for line in refused(text))


def test_all_that_is_wrong_is_said_in_order_of_place() -> None:
    text = RIGHT.replace("c1", "[c1]").replace("at: +5m", "at: 5m").replace("decision: decline", "decision: no")
    assert [line.split(" ")[0] for line in refused(text)] == ["t.yaml:1:17:", "t.yaml:7:28:", "t.yaml:11:24:"]


def test_too_many_records() -> None:
    event = "      - {repeat: 10000}\n"
    lines = refused(RIGHT.replace("    events:\n", "    events:\n" + event * 2))
    assert "t.yaml:9:9: a case has at most 20000 records" in lines


def test_an_error_in_a_copy_is_said_once() -> None:
    lines = refused(RIGHT.replace("repeat: 4", "repeat: 9000, amount: 'x{n}'"))
    assert len(lines) == 1
    assert "'x1' is not" in lines[0]


def test_files_are_found(tmp_path: Path) -> None:
    pipeline = tmp_path / "p.yaml"
    for name in ("b.yaml", "a.yaml", "c.txt"):
        (tmp_path / name).write_text(RIGHT)
    pipeline.write_text(BASE + "tests: [b.yaml, '[ab].yaml']\n")
    assert case_files(load_pipeline(pipeline)) == [tmp_path / "b.yaml", tmp_path / "a.yaml"]


def test_files_that_are_not_there(tmp_path: Path) -> None:
    pipeline = tmp_path / "p.yaml"
    pipeline.write_text(BASE)
    with pytest.raises(ConfigError, match=r"p.yaml:1:1: the pipeline names no files of cases \(tests: tests/\*.yaml"):
        case_files(load_pipeline(pipeline))
    pipeline.write_text("tests: [tests/*.yaml, p.yaml, '../*.yml']\n" + BASE)
    with pytest.raises(ConfigError) as caught:
        case_files(load_pipeline(pipeline))
    first, second = str(caught.value).splitlines()
    assert f"p.yaml:1:9: tests: no file fits 'tests/*.yaml' (it is looked for in {tmp_path}" in first
    assert "p.yaml:1:31: tests: no file fits '../*.yml'" in second


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "t.yaml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"t.yaml: not UTF-8 text"):
        load_cases(path, PLANS)
