"""Decide against its scalar twin, and the written semantics one by one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators import decide as module
from operators.batch import Column
from operators.decide import Decided, RuleDecider
from operators.operator import BOOL
from operators.plan import DecisionSpec, RuleSpec
from state.errors import ConfigError
from tests.operators.samples import column, examples
from tests.oracle.rules import decide_one

SEVERITY = ("decline", "review", "challenge", "approve")
SPEC = DecisionSpec(SEVERITY, "approve")


def decide(rules: list[RuleSpec], *hits: list[bool | None], spec: DecisionSpec = SPEC) -> Decided:
    """Decide rows; `hits`: one list a row, one entry a rule."""
    columns = {rule.condition: column("bool", [row[i] for row in hits]) for i, rule in enumerate(rules)}
    return RuleDecider(rules, spec).decide(columns, len(hits))


def actions(done: Decided) -> list[str]:
    return [done.action_names[code] for code in done.action.tolist()]


def rule(name: str, action: str, **options: Any) -> RuleSpec:
    return RuleSpec(name, f"rule:{name}", action, f"reason {name}", **options)


def test_the_most_severe_action_wins_and_reasons_keep_rule_order() -> None:
    rules = [rule("a", "review"), rule("b", "decline"), rule("c", "challenge")]
    done = decide(rules, [True, True, True], [True, False, True], [False, False, False], [None, None, True])
    assert actions(done) == ["decline", "review", "approve", "challenge"]
    assert done.reasons == [["reason a", "reason b", "reason c"], ["reason a", "reason c"], [], ["reason c"]]
    assert done.live.tolist() == [[7], [5], [0], [4]]
    assert done.shadow is None
    assert done.outputs == {}


def test_a_final_rule_ends_the_evaluation() -> None:
    rules = [rule("early", "decline"), rule("list", "approve", final=True), rule("late", "decline"),
             rule("quiet", "decline", shadow=True)]  # fmt: skip
    done = decide(rules, [False, True, True, True], [True, True, True, True], [False, False, True, True])
    assert actions(done) == ["approve", "decline", "decline"]
    assert done.reasons == [["reason list"], ["reason early", "reason list"], ["reason late"]]
    assert done.shadow == [[], [], ["quiet"]]


def test_a_shadow_rule_changes_nothing() -> None:
    rules = [rule("s", "decline", shadow=True, final=True, to="side"), rule("l", "review")]
    done = decide(rules, [True, True], [True, False])
    assert actions(done) == ["review", "approve"]
    assert done.reasons == [["reason l"], []]
    assert done.shadow == [["s"], ["s"]]
    assert done.live.tolist() == [[2], [0]]
    assert done.outputs == {}


def test_side_outputs_get_the_rows_their_rules_hit() -> None:
    rules = [rule("a", "decline", to="high"), rule("b", "review", to="high"), rule("c", "review", to="low")]
    done = decide(rules, [True, True, False], [False, False, False], [False, True, False])
    assert {name: rows.tolist() for name, rows in done.outputs.items()} == {"high": [0, 2]}


def test_a_reused_id_is_the_first_reason() -> None:
    decider = RuleDecider([rule("a", "decline")], SPEC)
    columns = {"rule:a": column("bool", [True, False, True])}
    done = decider.decide(columns, 3, np.array([0, 1]))
    assert done.reasons == [["id_reused", "reason a"], ["id_reused"], ["reason a"]]
    assert decider.decide(columns, 3).reasons == [["reason a"], [], ["reason a"]]


def test_no_rules_and_no_rows() -> None:
    done = decide([], [], [])
    assert actions(done) == ["approve", "approve"]
    assert done.live.shape == (2, 1)
    assert decide([rule("a", "decline")]).action.shape == (0,)


def test_otherwise_may_be_an_action_of_its_own() -> None:
    done = decide([rule("a", "b")], [True], [False], spec=DecisionSpec(("a", "b"), "none"))
    assert (done.action_names, actions(done)) == (("a", "b", "none"), ["b", "none"])


def test_rows_of_one_kind_share_their_reasons() -> None:
    done = decide([rule("a", "decline")], [True], [True])
    assert done.reasons[0] is done.reasons[1]


def test_the_memory_of_verdicts_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "VERDICTS_MAX", 4)
    rules = [rule(str(i), "review") for i in range(6)]
    decider = RuleDecider(rules, SPEC)
    for mask in range(64):
        columns = {r.condition: column("bool", [bool(mask >> i & 1)]) for i, r in enumerate(rules)}
        assert decider.decide(columns, 1).live.tolist() == [[mask]]
        assert len(decider._verdicts) <= 6


@pytest.mark.parametrize(
    ("rules", "spec", "wanted"),
    [
        ([rule("a", "explode")], SPEC, "rule a: explode is not an action"),
        ([rule("a", "decline"), rule("a", "review")], SPEC, "two rules have the id a"),
        ([], DecisionSpec(("a", "a"), "a"), "lists an action twice"),
        ([], DecisionSpec(tuple(map(str, range(256))), "x"), "more than 256 actions"),
    ],
)
def test_rules_that_make_no_sense_are_refused(rules: list[RuleSpec], spec: DecisionSpec, wanted: str) -> None:
    with pytest.raises(ConfigError, match=wanted):
        RuleDecider(rules, spec)


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[RuleSpec], list[list[bool | None]], list[int]]:
    count = draw(st.one_of(st.integers(0, 8), st.sampled_from([63, 64, 65, 130])))
    rules = [
        RuleSpec(
            f"r{i}",
            f"c{i}",
            draw(st.sampled_from(SEVERITY)),
            draw(st.sampled_from(["same", f"because {i}"])),
            shadow=draw(st.integers(0, 4)) == 0,
            final=draw(st.integers(0, 4)) == 0,
            to=draw(st.sampled_from([None, None, "left", "right"])),
        )
        for i in range(count)
    ]
    size = draw(st.integers(0, 6))
    hit = st.sampled_from([True, False, False, None])
    rows = [draw(st.lists(hit, min_size=count, max_size=count)) for _ in range(size)]
    return rules, rows, draw(st.lists(st.integers(0, size - 1), unique=True)) if size else []


@examples(300)
@given(cases())
def test_decide_does_what_its_twin_does(case: tuple[list[RuleSpec], list[list[bool | None]], list[int]]) -> None:
    rules, rows, reused = case
    columns = {rule.condition: column("bool", [row[i] for row in rows]) for i, rule in enumerate(rules)}
    done = RuleDecider(rules, SPEC).decide(columns, len(rows), np.array(sorted(reused), np.intp))
    for i, row in enumerate(rows):
        hits = {rule.condition: hit for rule, hit in zip(rules, row, strict=True)}
        bits = sum(int(word) << 64 * place for place, word in enumerate(done.live[i]))
        assert decide_one(rules, SPEC, hits, i in reused) == {
            "action": done.action_names[done.action[i]],
            "reasons": done.reasons[i],
            "live": [rule.id for place, rule in enumerate(rules) if bits >> place & 1],
            "shadow": done.shadow[i] if done.shadow else [],
            "outputs": {name for name, found in done.outputs.items() if i in found},
        }


def test_what_stands_under_null_is_no_hit() -> None:
    given = Column(BOOL, np.array([True, True, False]), np.array([False, True, False]))
    done = RuleDecider([rule("a", "decline")], SPEC).decide({"rule:a": given}, 3)
    assert actions(done) == ["approve", "decline", "approve"]
