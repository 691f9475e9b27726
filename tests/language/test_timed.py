"""The sections `watermark:`, `windows:` and `absences:`: what they compile to, and what is refused, with its place."""

from __future__ import annotations

import pytest

from operators.timed.operator import TimedOperator
from state.errors import ConfigError
from tests.language.helpers import changed, compiled

TIMED = """\
watermark: {disorder: 5s, idle: 1m}
windows:
  turnover: {tumble: 1h, of: amount, aggregates: [count, sum], where: country = 'FR', when: sum > 5}
absences:
  silence: {after: amount > 5, without: country = 'FR', within: 10m}
partition_by:"""


def test_what_waits_for_time_compiles() -> None:
    plan = compiled(changed(("partition_by:", TIMED)))
    assert [step.spec.name for step in plan.timed if isinstance(step, TimedOperator)] == ["turnover", "silence"]
    assert (plan.idle_ms, plan.topics.alerts, plan.topics.late) == (60_000, "cards.alerts", "cards.late")


CASES = [
    ("disorder: 5s", "disorder: 5", "p.yaml:13:23: '5' is not a duration"),
    ("idle: 1m", "idel: 1m", "p.yaml:13:27: unknown key 'idel' in watermark (did you mean idle?)"),
    (
        "tumble: 1h",
        "tumbling: 1h",
        "window turnover needs one of tumble, hop, session, cumulate, with its length (did you",
    ),
    ("tumble: 1h", "slide: 1h", "p.yaml:15:13: window turnover needs one of tumble, hop, session, cumulate"),
    ("tumble: 1h", "tumble: 1h, session: 1m", "p.yaml:15:26: window turnover has two kinds (make it two windows)"),
    ("tumble: 1h", "hop: 1h", "p.yaml:15:13: window turnover lacks 'every' (how far apart they begin"),
    ("tumble: 1h", "hop: 1h, every: 2h", "p.yaml:15:14: hop: the step must be longer than 0 ms, and not longer than"),
    ("tumble: 1h", "hop: 1h, every: 7ms", "p.yaml:15:14: hop: a window would be cut into 3600000 pieces (a window of"),
    ("tumble: 1h", "cumulate: 1h, every: 7m", "p.yaml:15:14: cumulate: the window must be a multiple of its step"),
    ("tumble: 1h", "tumble: 1h, every: 5m", "p.yaml:15:26: unknown key 'every' in window turnover"),
    ("tumble: 1h", "session: 1h, offset: 5m", "p.yaml:15:27: unknown key 'offset' in window turnover"),
    ("tumble: 1h", "tumble: 1h, latenes: 5m", "unknown key 'latenes' in window turnover (did you mean lateness?)"),
    ("[count, sum]", "[count, avg]", "p.yaml:15:58: unknown aggregate 'avg' (did you mean mean?)"),
    ("[count, sum]", "[count, stddev]", "p.yaml:15:58: unknown aggregate 'stddev' (one of count, sum, mean, min, max)"),
    ("[count, sum]", "[sum, count, sum]", "an aggregate is listed twice"),
    ("of: amount, agg", "agg", "p.yaml:15:13: sum needs a column, not * (of: amount)"),
    ("of: amount", "of: amonut", "p.yaml:15:13: unknown column 'amonut' (did you mean amount?)"),
    ("of: amount", "of: price", "p.yaml:15:30: sum of float64 is not exact, or has no meaning (declare decimal(n))"),
    ("of: amount", "of: country", "p.yaml:15:30: sum of string is not exact, or has no meaning (int64 and decimal(n)"),
    ("where: country = 'FR'", "where: country", "p.yaml:15:71: `where` is string, not a condition (compare it)"),
    ("when: sum > 5", "when: sum", "`when` is decimal(2), not a condition (compare it)"),
    ("when: sum > 5", "when: mean > 5", "p.yaml:15:93: there is no column mean"),
    ("when: sum > 5", "when: amount > 5", "p.yaml:15:93: there is no column amount"),
    ("when: sum > 5", "per: price", "p.yaml:15:13: the key price is float64, not string (make a feature of it"),
    ("after: amount > 5, ", "", "p.yaml:17:12: absence silence lacks 'after' (the condition of the event that begins"),
    ("within: 10m", "within: 0s", "the duration '0s' must be more than 0"),
    ("after: amount > 5", "after: amount", "p.yaml:17:20: `after` is decimal(2), not a condition (compare it)"),
    ("without: country = 'FR'", "without: contry = 'FR'", "unknown column 'contry' (did you mean country?)"),
    ("silence:", "turnover:", "p.yaml:17:13: a window and an absence are called turnover (first in line 15)"),
]


@pytest.mark.parametrize(("old", "new", "expected"), CASES)
def test_what_waits_for_time_says_where_it_is_wrong(old: str, new: str, expected: str) -> None:
    assert TIMED.count(old) == 1
    with pytest.raises(ConfigError) as caught:
        compiled(changed(("partition_by:", TIMED.replace(old, new))))
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_alerts_of_two_stages_are_not_called_alike() -> None:
    stage = "- {name: NAME, partition_by: card_id, windows: {turnover: {tumble: 1h}}}"
    stages = "\n".join(["stages:", *(f"  {stage}".replace("NAME", name) for name in ("a", "b"))])
    text = changed(("partition_by: card_id\n", stages + "\n")).partition("features:")[0]
    with pytest.raises(ConfigError, match=r"p.yaml:15:58: two alerts are called turnover .first in line 14."):
        compiled(text)


def test_nothing_new_is_there_where_nothing_is_timed() -> None:
    plan = compiled(changed())
    assert (plan.timed, plan.alerts, plan.idle_ms, plan.topics.alerts, plan.topics.late) == ((), (), 0, "", "")


@pytest.mark.parametrize(
    ("old", "new", "state", "decision"),
    [
        ("disorder: 5s", "disorder: 6s", True, False),
        ("idle: 1m", "idle: 2m", False, False),
        ("tumble: 1h", "tumble: 2h", True, False),
        ("tumble: 1h", "tumble: 1h, lateness: 1m", True, False),
        ("[count, sum]", "[sum, count]", True, False),
        ("when: sum > 5", "when: sum > 6", False, True),
        ("when: sum > 5", "when: sum > 5, reason: much", False, True),
        ("within: 10m", "within: 11m", True, False),
    ],
)
def test_what_a_change_means(old: str, new: str, state: bool, decision: bool) -> None:
    before, after = (compiled(changed(("partition_by:", text))) for text in (TIMED, TIMED.replace(old, new)))
    assert (before.state_fingerprint != after.state_fingerprint) == state
    assert (before.decision_fingerprint != after.decision_fingerprint) == decision
