"""Figures of decided payments against plain ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.evaluation.decisions import Decisions, Groups, grouped
from models.evaluation.differences import differences
from models.evaluation.evaluation import Settings, evaluated
from models.evaluation.measures import Measures
from models.evaluation.scores import calibration, payment_precision, points
from models.training.history import DAY_MS
from tests.oracle import evaluation as plain
from tests.oracle import fraud_metrics
from tests.oracle.evaluation import Payment

ACTIONS = ("decline", "challenge", "review", "approve")
RULES = ("fast", "far", "maybe")
LIVE = ("fast", "far")
PAYMENT = st.builds(
    Payment,
    day=st.integers(20_000, 20_004),
    card=st.integers(0, 5),
    amount=st.none() | st.integers(0, 500).map(float),
    label=st.sampled_from([True, False, None]),
    score=st.none() | st.sampled_from([0.0, 9.99, 10.0, 35.5, 70.0, 99.5, 100.0]),
    action=st.sampled_from(ACTIONS),
    rules=st.sets(st.sampled_from(RULES)).map(lambda names: tuple(sorted(names))),
    segment=st.none() | st.sampled_from(["be", "fr", "nl"]),
)
PAYMENTS = st.lists(PAYMENT, min_size=1, max_size=30)


def decisions(some: Sequence[Payment]) -> Decisions:
    def numbers(values: Sequence[float | None]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        return np.array([math.nan if one is None else one for one in values], np.float64)

    return Decisions(
        ACTIONS,
        RULES,
        frozenset({2}),
        np.arange(len(some)),
        np.array([ACTIONS.index(one.action) for one in some], np.uint8),
        np.array([[rule in one.rules for rule in RULES] for one in some]),
        numbers([one.score for one in some]),
        np.array([-1 if one.label is None else int(one.label) for one in some], np.int8),
        np.array([one.day * DAY_MS + place for place, one in enumerate(some)], np.int64),
        np.array([one.card for one in some], np.int64),
        numbers([one.amount for one in some]),
        kind=grouped("kind", ["lost" if one.card % 2 else None for one in some]),
        segments=(grouped("country", [one.segment for one in some]),),
    )


def same(found: Measures, some: Sequence[Payment]) -> None:
    for name, wanted in plain.measures(some).items():
        assert getattr(found, name) == pytest.approx(wanted), name
    assert found.payments == len(some)


def has_both(some: Sequence[Payment]) -> bool:
    return len({one.label for one in plain.judged(some)}) == 2


@given(PAYMENTS)
def test_rates_and_values_are_as_defined(some: list[Payment]) -> None:
    found = evaluated(decisions(some), Settings(alert_cost=2.0, insult_cost=30.0))
    same(found.overall, some)
    assert found.overall.saved(2.0, 30.0) == pytest.approx(plain.saved(some, 2.0, 30.0))
    assert found.accounts == plain.accounts(some)
    assert dict(found.per_action) == {action: sum(one.action == action for one in some) for action in ACTIONS}


@given(PAYMENTS)
def test_parts_are_measured_as_the_whole_is(some: list[Payment]) -> None:
    found = evaluated(decisions(some), Settings())
    (segment,) = found.segments
    assert segment[0] == "country"
    for one in segment[1]:
        same(one.measures, [row for row in some if (row.segment or "NULL") == one.name])
    assert sum(one.measures.payments for one in segment[1]) == len(some)
    for kind in found.kinds:
        same(kind.measures, [row for row in some if row.label and row.card % 2 == (kind.name == "lost")])
    assert found.period_days == 1
    for period in found.periods:
        same(period.measures, [row for row in some if row.day == period.start])


@given(PAYMENTS)
def test_a_rule_is_measured_as_if_it_alone_said_alert(some: list[Payment]) -> None:
    found = evaluated(decisions(some), Settings())
    for rule in found.rules:
        same(rule.hits, [one._replace(action="alert" if rule.name in one.rules else "approve") for one in some])
        assert rule.alone == plain.alone(some, rule.name, LIVE)
        assert rule.shadow == (rule.name not in LIVE)


@given(PAYMENTS.filter(has_both), st.integers(1, 3))
def test_scores_are_judged_as_defined(some: list[Payment], k: int) -> None:
    judged = decisions(some).judged
    assert payment_precision(judged, k) == pytest.approx(plain.payment_precision(some, k))
    rows = plain.judged(some)
    bins = calibration(judged.labels, judged.scores)
    for one, wanted in zip(bins, plain.calibration(some), strict=True):
        assert (one.low, one.payments, one.frauds, one.predicted) == pytest.approx(wanted)
    for point in points(judged, 1000):
        flagged = plain.flagged_from(some, point.score)
        assert (point.flagged, point.frauds, point.fraud_value, point.cards_a_day) == pytest.approx(flagged)
    scores = {row.score for row in rows if row.score is not None}
    assert [point.score for point in points(judged, 1000)] == sorted(scores, reverse=True)
    quality = evaluated(decisions(some), Settings(capacity=k)).quality
    assert quality is not None
    metric_rows = [(one.day * DAY_MS, one.card, bool(one.label), one.score) for one in rows if one.score is not None]
    assert quality.auc == pytest.approx(fraud_metrics.auc(metric_rows))
    assert quality.average_precision == pytest.approx(fraud_metrics.average_precision(metric_rows))
    assert quality.card_precision_at_k == pytest.approx(fraud_metrics.card_precision(metric_rows, k))
    assert quality.brier == pytest.approx(
        sum(((one.score or 0.0) / 100 - bool(one.label)) ** 2 for one in rows) / len(rows)
    )


def test_many_points_are_thinned_where_many_are_flagged() -> None:
    some = [Payment(20_000, n, 1.0, n % 50 == 0, n / 100, "approve", (), None) for n in range(10_000)]
    found = [point.flagged for point in points(decisions(some).judged, 100)]
    assert len(found) <= 100
    assert found[:3] == [1, 2, 3]
    assert found[-1] == 10_000


@given(st.lists(st.tuples(PAYMENT, st.sampled_from(ACTIONS)), min_size=1, max_size=30))
def test_differences_are_told_both_ways(pairs: list[tuple[Payment, str]]) -> None:
    before = [one for one, _ in pairs]
    after = [one._replace(action=action) for one, action in pairs]
    found = differences(decisions(before), decisions(after))
    assert {(one.before, one.after): one.payments for one in found.moves} == plain.moves(before, after)
    for one in found.moves:
        rows = [
            old for old, new in zip(before, after, strict=True) if (old.action, new.action) == (one.before, one.after)
        ]
        known = any(row.label is not None for row in before)
        assert one.frauds == (sum(row.label is True for row in rows) if known else None)
        assert one.legitimate == (sum(row.label is False for row in rows) if known else None)
        assert one.value == pytest.approx(plain.value(rows))
    for places, stricter in ((found.stricter, True), (found.milder, False)):
        order = sorted(
            (place for place, (old, action) in enumerate(pairs)
             if action != old.action and (ACTIONS.index(action) < ACTIONS.index(old.action)) == stricter),
            key=lambda place: -math.inf if before[place].amount is None else before[place].amount or 0.0, reverse=True,
        )  # fmt: skip
        assert places.tolist() == [[place, place] for place in order]
    assert found.same + len(found.stricter) + len(found.milder) == len(pairs)


def test_payments_of_one_only_are_counted_and_not_compared() -> None:
    some = [Payment(20_000, n, 1.0, None, None, "approve", (), None) for n in range(5)]
    before, after = decisions(some), decisions([one._replace(action="decline") for one in some])
    found = differences(before.take(np.array([0, 1, 3])), after.take(np.array([1, 2, 3, 4])))
    assert found.stricter.tolist() == [[1, 0], [2, 2]]
    assert (found.same, found.only_before, found.only_after) == (0, 1, 2)


def test_rare_values_stand_together() -> None:
    some = [Payment(20_000, 1, 1.0, None, None, "approve", (), str(n % 25)) for n in range(70)]
    ((_, named),) = evaluated(decisions(some), Settings()).segments
    assert [one.name for one in named[:20]] == [str(n) for n in range(20)]
    assert [(one.name, one.measures.payments) for one in named[20:]] == [(None, 10)]


def test_long_times_are_told_in_weeks() -> None:
    some = [Payment(20_000 + n, 1, 1.0, None, None, "approve", (), None) for n in range(100)]
    found = evaluated(decisions(some), Settings())
    assert found.period_days == 7
    assert [one.measures.payments for one in found.periods] == [7] * 14 + [2]
    far = evaluated(decisions([some[0], some[1]._replace(day=90_000)]), Settings())
    assert [one.measures.payments for one in far.periods] == [1, 1]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"label": None}, "No label is known"),
        ({"label": False}, "No payment is known as a fraud"),
        ({"label": True}, "All payments whose label is known are frauds"),
        ({"score": None}, "gives no score"),
        ({"amount": None}, "Amounts are not known"),
    ],
)
def test_what_cannot_be_said_is_named(change: dict[str, Any], said: str) -> None:
    some = [Payment(20_000, n, 5.0, n == 1, 10.0 * n, "review", (), None) for n in range(3)]
    assert evaluated(decisions(some), Settings()).missing == ()
    found = evaluated(decisions([one._replace(**change) for one in some]), Settings())
    assert len(found.missing) == 1
    assert said in found.missing[0]
    assert (found.quality is None) == (change.keys() != {"amount"})


def test_actions_that_are_not_there_are_named() -> None:
    some = decisions([Payment(20_000, 1, 5.0, True, 1.0, "review", (), None)])
    other = Decisions(
        **{name: getattr(some, name) for name in some.__struct_fields__} | {"actions": ("a", "b", "c", "d")}
    )
    said = evaluated(other, Settings()).missing
    assert any("--decline ACTION" in one for one in said)
    assert any("called challenge" in one for one in said)
    assert evaluated(other, Settings(blocking=("a",))).overall.declines == 0


def test_groups_keep_their_values() -> None:
    found = grouped("x", ["a", "b", None, "a"]).take(np.array([2, 3]))
    assert found == Groups("x", ("a", "b"), found.codes)
    assert found.codes.tolist() == [-1, 0]
