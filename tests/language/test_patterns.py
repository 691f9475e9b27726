"""The section `patterns:`: what it compiles to, and what is refused, with its place."""

from __future__ import annotations

from typing import Any

import pytest

from operators.patterns.operator import PatternOperator
from operators.plan import Plan
from state.errors import ConfigError
from tests.language.helpers import changed, compiled

PATTERNS = """\
patterns:
  testing: >
    MEASURES COUNT(A.*) AS small, MAX(A.amount) AS largest
    AFTER MATCH SKIP PAST LAST ROW
    PATTERN (A{3,} B)
    WITHIN INTERVAL '10' MINUTE
    SUBSET U = (A, B)
    DEFINE A AS amount < 5, B AS amount > 100 AND country = LAST(A.country)
  abroad: {match: "PATTERN (A -> B) DEFINE A AS country = 'BE', B AS country <> 'BE'", where: amount > 0, per: country}
partition_by:"""


def with_patterns(old: str = "", new: str = "") -> str:
    assert not old or PATTERNS.count(old) == 1
    return changed(("partition_by:", PATTERNS.replace(old, new) if old else PATTERNS))


def test_patterns_compile() -> None:
    text = with_patterns().replace("spend_count_1m >= 5", "matched(testing) and testing.small > 3 or matched(abroad)")
    plan = compiled(text)
    outputs = {field.name: str(field.type) for step in plan.steps for field in step.outputs}
    assert outputs["testing.matched"] == outputs["abroad.matched"] == "bool"
    assert (outputs["testing.small"], outputs["testing.largest"]) == ("int64", "decimal(2)")
    tables = {table.name: table for table in plan.tables}
    assert tables["pattern.card_id"].ttl_ms == 87_000_000
    assert tables["pattern.country"].key == "country"


def test_patterns_of_a_key_are_one_operator_and_their_order_says_nothing() -> None:
    entries = [f"  p{i}: PATTERN (A B) DEFINE A AS amount > {i}, B AS amount < {i}\n" for i in range(35)]
    timed = [f"  t{i}: PATTERN (A B) WITHIN INTERVAL '{i}' MINUTE DEFINE A AS amount > 9\n" for i in range(1, 3)]
    after = "  after: PATTERN (A B) DEFINE A AS matched(p1), B AS amount > 5\n"

    def steps(lines: list[str]) -> list[PatternOperator]:
        plan = compiled(changed(("partition_by:", "patterns:\n" + "".join(lines) + "partition_by:")))
        return [step for step in plan.steps if isinstance(step, PatternOperator)]

    found = steps([*entries, *timed, after])
    names = [[spec.name for spec in step.specs] for step in found]
    numbers = sorted(f"p{i}" for i in range(35))
    assert names == [numbers[:30], numbers[30:], ["t1", "t2"], ["after"]], "61 conditions at most; a ttl, or none"
    assert [step.tables[0].name for step in found] == ["pattern.card_id", *(f"pattern.card_id_{i}" for i in (2, 3, 4))]
    again = steps([after, *reversed([*entries, *timed])])
    assert [[spec.name for spec in step.specs] for step in again] == names


def test_a_timeout_is_an_alert_whose_reason_is_no_state() -> None:
    def told(reason: str) -> Plan:
        entry = "match: PATTERN (A -> B) WITHIN INTERVAL '1' HOUR DEFINE A AS amount > 5"
        lines = f"patterns:\n  p: {{{entry.replace('match: ', 'match: ' + chr(34)) + chr(34)}{reason}}}\npartition_by:"
        return compiled(changed(("partition_by:", lines)))

    plain, first, second = told(""), told(", timeout: one"), told(", timeout: two")
    assert [(alert.name, alert.reason) for alert in second.alerts] == [("p", "two")]
    assert plain.state_fingerprint != first.state_fingerprint == second.state_fingerprint
    assert first.decision_fingerprint != second.decision_fingerprint
    assert (plain.topics.alerts, plain.timed) == ("", ())


def test_what_a_pattern_is_belongs_to_the_state_and_its_layout_does_not() -> None:
    plain = compiled(with_patterns()).state_fingerprint
    assert compiled(with_patterns("A AS amount < 5,", "A as  amount  < 5,")).state_fingerprint == plain
    for old, new in [
        ("{3,}", "{4,}"),
        ("'10' MINUTE", "'11' MINUTE"), ("< 5", "< 6"), ("MAX(A", "MIN(A"), ("amount > 0", "amount > 1"),
        ("PAST LAST", "TO NEXT"), ("A -> B", "A ->> B"),
    ]:  # fmt: skip
        assert compiled(with_patterns(old, new)).state_fingerprint != plain, new


CASES: list[tuple[str, str, str]] = [
    (
        "amount > 0,",
        "amount > 0, timeout: x,",
        "p.yaml:21:107: timeout: tells of matches that WITHIN ends: there is none",
    ),
    ("PATTERN (A{3,} B)", "", "there is no PATTERN (...)"),
    ("PATTERN (A{3,} B)", "PATTERN (A{3,} B", "PATTERN ( is not closed"),
    ("PATTERN (A{3,} B)", "PATTERN (A{3,} [B)", "p.yaml:17:20: '[' is not part of a pattern"),
    ("PATTERN (A{3,} B)", "PATTERN (A{3,} B) HAVING x", "'HAVING' does not fit behind PATTERN (...)"),
    ("(A{3,} B)", "(A{3,}+ B)", "p.yaml:17:19: a quantifier of a quantifier (put the first one into parentheses)"),
    ("(A{3,} B)", "(A{3,2} B)", "{3,2} is no number of times"),
    ("(A{3,} B)", "(A{3,5000} B)", "a quantifier counts to 500 at most"),
    ("(A{3,} B)", "(((A{1,400} B){1,400}){1,400})", "the pattern has more than 1000 steps (x{n,m} counts as m times x"),
    ("(A{3,} B)", "(" * 31 + "A B" + ")" * 31, "nested more than 30 levels deep"),
    (
        "(A{3,} B)",
        "(B A{3,})",
        "the pattern ends with a greedy quantifier: a match would wait for the row behind it (end",
    ),
    ("(A{3,} B)", "(A* B?)", "the pattern matches no row at all (A+ instead of A*"),
    ("(A{3,} B)", "(A{3,} -> )", "a row must follow here"),
    ("(A{3,} B)", "(A{3,} -> !B)", "a row must follow here (absences: say what does not come within a time)"),
    ("(A{3,} B)", "(A{3,} ! (B))", "'!' stands before the name of a variable"),
    ("(A{3,} B)", "(A{3,} (B)", "PATTERN ( is not closed"),
    ("(A{3,} B)", "(A{3,} B -})", "'-}' does not fit here"),
    ("'10' MINUTE", "'10' MONTH", "WITHIN wants an interval (WITHIN INTERVAL '10' MINUTE; millisecond, second"),
    ("'10' MINUTE", "10 MINUTE", "WITHIN wants an interval"),
    ("SKIP PAST LAST ROW", "SKIP TO LAST C", "C is not in the pattern (one of A, B"),
    ("SKIP PAST LAST ROW", "GO ON", "AFTER MATCH wants to know where to go on (SKIP PAST LAST ROW, SKIP TO NEXT ROW"),
    ("AFTER MATCH", "ALL ROWS PER MATCH WITH UNMATCHED ROWS AFTER MATCH", "WITH UNMATCHED ROWS is not supported yet"),
    ("AFTER MATCH", "ALL ROWS PER MATCH AFTER MATCH", "ALL ROWS PER MATCH is for SQL statements"),
    ("AFTER MATCH SKIP PAST LAST ROW", "DEFINE A AS true", "PATTERN stands behind DEFINE (move it before it)"),
    ("COUNT(A.*) AS small", "COUNT(A.*)", "a measure needs a name (COUNT(A.*) AS failures)"),
    ("COUNT(A.*) AS small", "COUNT(C.*) AS small", "C is not in the pattern"),
    ("COUNT(A.*) AS small", "SUM(*) AS small", "SUM needs a column, not *"),
    ("COUNT(A.*) AS small", "SUM(A.price) AS small", "a sum of float64 is not exact, or has no meaning (declare"),
    ("COUNT(A.*) AS small", "SUM(A.amount - B.amount) AS small", "SUM is of the rows of one variable"),
    ("COUNT(A.*) AS small", "SUM(LAST(A.amount)) AS small", "LAST inside SUM"),
    ("COUNT(A.*) AS small", "NEXT(amount) AS small", "NEXT looks at rows that have not come"),
    ("COUNT(A.*) AS small", "LAST(amount, 101) AS small", "a number of rows from 0 to 100 is wanted here"),
    ("COUNT(A.*) AS small", "COUNT(A.*) AS largest", "a measure largest exists already"),
    ("A AS amount < 5", "A AS amount", "DEFINE A is decimal(2), not a condition (compare it)"),
    ("A AS amount < 5", "A AS amonut < 5", "unknown column 'amonut' (did you mean amount?)"),
    ("A AS amount < 5", "A AS amount < MAX(B.amonut)", "unknown column 'amonut' (did you mean amount?)"),
    ("A AS amount < 5", "A AS MATCH_NUMBER() = 1", "MATCH_NUMBER() is for MEASURES"),
    ("A AS amount < 5", "C AS amount < 5", "C is not in the pattern (one of A, B"),
    ("A AS amount < 5", "B AS amount < 5", "B is defined twice"),
    ("A AS amount < 5", "A = amount < 5", "DEFINE wants a variable AS a condition"),
    ("U = (A, B)", "U = A, B", "SUBSET wants a name = (variables)"),
    ("U = (A, B)", "U = (A, C)", "C is not in the pattern"),
    ("U = (A, B)", "A = (A, B)", "A exists already"),
    ("match:", "macth:", "p.yaml:21:12: unknown key 'macth' in pattern abroad (did you mean match?)"),
    ("where: amount > 0", "where: amount", "`where` is decimal(2), not a condition (compare it)"),
    ("per: country", "per: price", "the key price is float64, not string"),
]


@pytest.mark.parametrize(("old", "new", "expected"), CASES)
def test_a_wrong_pattern_says_where_it_is_wrong(old: str, new: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compiled(with_patterns(old, new))
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        ("matched(tseting)", "unknown column 'tseting.matched' (did you mean testing.matched?)"),
        ("testing", "unknown column 'testing' (did you mean matched(testing)?)"),
        ("matched()", "matched() takes the name of a pattern (matched(card_testing))"),
        ("testing.smal > 1", "unknown column 'testing.smal' (did you mean testing.small?)"),
    ],
)
def test_a_rule_names_what_is_there(when: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compiled(with_patterns().replace("spend_count_1m >= 5", when))
    assert expected in str(caught.value)


@pytest.mark.parametrize("given", ["patterns: [a]\n", "patterns: a\n"])
def test_patterns_are_named(given: str) -> None:
    with pytest.raises(ConfigError, match="patterns must be a mapping of names"):
        compiled(changed(("partition_by:", given + "partition_by:")))


def test_a_pattern_and_a_score_do_not_depend_on_each_other() -> None:
    model: Any = "models: {m: {file: m.onnx, features: [amount]}}\npartition_by:"
    text = with_patterns("A AS amount < 5", "A AS m.score < 5").replace("partition_by:", model)
    with pytest.raises(ConfigError, match="state cannot depend on a model's score"):
        compiled(text)


@pytest.mark.parametrize("wrong", ["A AS amuont < 5", "A AS amount + 5"])
def test_a_wrong_pattern_is_said_once(wrong: str) -> None:
    text = with_patterns("A AS amount < 5", wrong).replace("include: [", "include: [testing.small, testing.largest, ")
    with pytest.raises(ConfigError) as caught:
        compiled(text)
    assert len(str(caught.value).splitlines()) == 1
