"""Rule tests of what is told: alerts of windows, absences and patterns, and rows of statements."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Cli

PIPELINE = """\
pipeline: shop
tests: cases.yaml
streams:
  payments:
    id: id
    event_time: at
    fields: {id: string, card: string, amount: decimal(2), kind: string, at: timestamp}
partition_by: card
watermark: {disorder: 30s, idle: 15m}
windows:
  turnover: {tumble: 1h, of: amount, aggregates: [count, sum, mean], when: sum > 100, reason: much}
absences:
  no_login: {after: kind = 'payment' and amount > 500, without: kind = 'login', within: 10m}
patterns:
  unpaid:
    timeout: an order, and no payment
    match: >
      MEASURES A.amount AS first_amount PATTERN (A -> B) WITHIN INTERVAL '5' MINUTE
      DEFINE A AS kind = 'order', B AS kind = 'payment'
sql:
  large: SELECT id, amount, at AS paid_at, NULLIF(kind, 'payment') AS other FROM payments WHERE amount > 500
"""
CASES = """\
base: {card: c1, kind: payment, amount: 60.00}
cases:
  - name: an hour's turnover
    events:
      - {event: one, repeat: 2, every: 1m}
      - {event: next_hour, at: +1h, card: c2}
    expect: {one: {decision: approve}}
    tells:
      turnover: [{key: c1, count: 2, sum: 120.0, mean: 59..61, window_start: +0s, window_end: 2026-01-01T13:00:00Z}]
      large: []
      no_login: []
  - name: what comes not, and a row
    events: [{id: p1, amount: 600.00, at: +1m}]
    tells:
      no_login: [{id: p1, deadline: +11m}]
      large: [{id: p1, amount: ~600, paid_at: +1m, other: null}]
      turnover: [{}]
  - name: an order that nobody pays
    events: [{kind: order, amount: 7.5}]
    tells: {unpaid: [{first_amount: 7.50, deadline: +5m}]}
"""


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    path = tmp_path / "shop.yaml"
    path.write_text(PIPELINE)
    (tmp_path / "cases.yaml").write_text(CASES)
    return path


def test_what_is_told_as_expected(cli: Cli, shop: Path) -> None:
    done = cli("test", shop)
    assert (done.code, done.err) == (0, "")
    assert done.lines[-1] == "3 cases: 3 ok, 0 failed"


WRONG = {
    "a number": (("sum: 120.0", "sum: 120.01"), "turnover[1]  sum  120.01  120.0"),
    "a range": (("59..61", "..59.9"), "turnover[1]  mean  ..59.9  60.0"),
    "a time in ms": (("+0s", "+1s"), "turnover[1]  window_start  +1s  1767268800000"),
    "a time as text": (("paid_at: +1m", "paid_at: +2m"), "large[1]  paid_at  +2m  2026-01-01T12:01:00.000Z"),
    "NULL": (("other: null", "other: none"), "large[1]  other  none  NULL"),
    "not NULL": (("amount: ~600", "amount: null"), "large[1]  amount  NULL  600.00"),
    "a text": (("{id: p1, deadline", "{id: p2, deadline"), "no_login[1]  id  p2  p1"),
    "no such field": (
        ("[{id: p1, amount: ~600", "[{idd: p1, amount: ~600"),
        "large[1]  idd  p1  no such field: id, amount, paid_at, other",
    ),
    "too many": (("turnover: [{}]", "turnover: []"), "turnover[1]  told  no  alert turnover, kind tumble"),
    "too few": (("large: []", "large: [{id: p9, amount: 5}]"), "large[1]  told  id p9, amount 5  no"),
    "measures": (("first_amount: 7.50", "first_amount: 8"), "unpaid[1]  first_amount  8  7.5"),
}  # fmt: skip
"""One change to the cases -> the row of the table that says so."""


@pytest.mark.parametrize("what", WRONG)
def test_a_difference_is_shown(cli: Cli, shop: Path, what: str) -> None:
    (old, new), row = WRONG[what]
    assert CASES.count(old) == 1
    shop.with_name("cases.yaml").write_text(CASES.replace(old, new))
    done = cli("test", shop)
    assert done.code == 1, done.out
    assert any(line.startswith(row) for line in done.cells), done.out
    assert done.lines[-1] == "3 cases: 2 ok, 1 failed"


REFUSED = {
    "large: []": ("larg: []", "10:7: no alert or statement is called 'larg' (did you mean large?)"),
    "no_login: []": ("no_login: {id: p1}", "11:7: no_login is a list of what is told, in order"),
    "turnover: [{}]": ("turnover: [p1]", "17:18: turnover: fields and their values are expected here"),
    "{id: p1, deadline: +11m}": ("{id: [p1]}", "15:23: a single value is expected here"),
    "{one: {decision: approve}}": ("[one]", "7:5: a case expects something of its events"),
    "[{kind: order, amount: 7.5}]\n    tells: {unpaid: [{first_amount: 7.50, deadline: +5m}]}": (
        "[{event: order, kind: order}]\n    expect: {order: {decision: approve}}\n    tells: [unpaid]",
        "21:12: tells must be a mapping of keys to values",
    ),
    "    tells: {unpaid: [{first_amount: 7.50, deadline: +5m}]}\n": ("", "18:5: a case expects something"),
}


@pytest.mark.parametrize("old", REFUSED)
def test_what_is_wrong_with_it_is_said_with_its_place(cli: Cli, shop: Path, old: str) -> None:
    new, message = REFUSED[old]
    assert CASES.count(old) == 1
    shop.with_name("cases.yaml").write_text(CASES.replace(old, new))
    done = cli("test", shop)
    assert done.code == 2
    assert message in done.err


def test_what_no_case_had_told_is_listed(cli: Cli, shop: Path) -> None:
    shop.with_name("cases.yaml").write_text(CASES[: CASES.index("  - name: what comes not")])
    done = cli("test", shop, "--coverage")
    assert done.lines[-4:] == ["alerts and statements never told: 3 of 4", "  unpaid", "  no_login", "  large"]
    said = json.loads(cli("test", shop, "--coverage", "--json").out)
    assert (said["alerts_and_statements"], said["never_told"]) == (4, ["unpaid", "no_login", "large"])


def test_statements_that_decide_nothing_have_cases_too(cli: Cli, shop: Path) -> None:
    begin, end = PIPELINE.index("watermark:"), PIPELINE.index("sql:")
    shop.write_text(PIPELINE[:begin] + PIPELINE[end:])
    shop.with_name("cases.yaml").write_text(
        "base: {card: c}\ncases:\n"
        "  - {name: large, events: [{amount: 501}, {amount: 7}], tells: {large: [{amount: 501}]}}\n"
    )
    done = cli("test", shop)
    assert (done.code, done.lines[-1]) == (0, "1 case: 1 ok, 0 failed")


def test_a_row_may_have_a_column_called_measures_and_any_float(cli: Cli, shop: Path) -> None:
    sql = "sql:\n  thirds: SELECT amount AS measures, CAST(amount AS DOUBLE) / 3 AS third FROM payments\n"
    shop.write_text(PIPELINE[: PIPELINE.index("watermark:")] + sql)
    tells = "{thirds: [{measures: 1, third: 0.3333333333333333}]}"
    shop.with_name("cases.yaml").write_text(f"cases: [{{name: a, events: [{{card: c, amount: 1}}], tells: {tells}}}]")
    done = cli("test", shop)
    assert (done.code, done.err) == (0, "")


def test_an_alert_and_a_statement_of_one_name_are_not_told_apart(cli: Cli, shop: Path) -> None:
    shop.write_text(PIPELINE.replace("  large: SELECT", "  turnover: SELECT"))
    shop.with_name("cases.yaml").write_text("cases: [{name: a, events: [{card: c}], tells: {turnover: []}}]")
    done = cli("test", shop)
    assert done.code == 2
    assert "1:48: 'turnover' is an alert and a statement" in done.err
