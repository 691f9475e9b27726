"""What is said of versions in production, against loops over payments, published intervals and training's metrics."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import duckdb
import msgspec
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.drift import bins_of, drift_of
from models.training.metrics import average_precision as of_training
from models.watching.days import BINS, DAY_MS, Known, Rows, joined
from models.watching.intervals import Ranked, average_precision, bootstrap_difference, difference, estimate, wilson
from models.watching.labels import UNKNOWN, LabelTable
from models.watching.watch import Settings, Watch

DELAY = 2 * DAY_MS
NAMES = ("amount", "count")
CHANCE = np.random.default_rng(5)
KNOWN = {
    1: Known(50.0, {"score": bins_of(CHANCE.uniform(0, 100, 900)), "amount": bins_of(CHANCE.normal(size=900))}),
    2: Known(70.0, {"count": bins_of(CHANCE.poisson(3, 700).astype(float))}),
    3: Known(why="gone"),
}


def payments(count: int, days: int, seed: int = 1, first: int = 0) -> list[dict[str, Any]]:
    """Version 2 has a third of them, 3 is a shadow; some have no score, some features lack."""
    chance = np.random.default_rng(seed)
    found = []
    for number in range(first, first + count):
        none = chance.random() < 0.05
        fraud = chance.random() < 0.3
        found.append(
            {
                "id": number, "card": int(chance.integers(90)), "time": int(chance.integers(days * DAY_MS)),
                "alerted": bool(chance.random() < 0.3),
                "version": 0 if none else 2 if number % 3 == 0 else 1,
                "score": None if none else round(float(chance.beta(4 if fraud else 2, 3) * 100), 2),
                "shadow": None if chance.random() < 0.5 else round(float(chance.random() * 100), 2),
                "amount": None if chance.random() < 0.1 else float(np.float32(chance.normal(0.5))),
                "count": float(chance.poisson(5)), "fraud": int(fraud),
                "known": int(chance.integers(1, 4 * DAY_MS)) if chance.random() < 0.8 else None,
            }
        )  # fmt: skip
    return found


def rows_of(some: Sequence[dict[str, Any]]) -> Rows:
    def floats(name: str) -> Any:
        return np.array([math.nan if one[name] is None else one[name] for one in some])

    return Rows(
        np.array([one["id"] for one in some], np.int64), np.array([one["card"] for one in some], np.int64),
        np.array([one["time"] for one in some], np.int64),
        np.array([one["alerted"] for one in some], np.bool_), np.array([one["version"] for one in some], np.int64),
        floats("score"), {3: floats("shadow")}, NAMES,
        np.array([floats("amount"), floats("count")], np.float32).T.reshape(-1, 2),
    )  # fmt: skip


def labels_of(some: Sequence[dict[str, Any]]) -> tuple[Any, Any, Any]:
    known = [one for one in some if one["known"] is not None]
    return (
        np.array([one["id"] for one in known], np.int64),
        np.array([one["time"] + one["known"] for one in known], np.int64),
        np.array([one["fraud"] for one in known], np.int8),
    )


def watching(**settings: Any) -> Watch:
    return Watch("shop", "fraud", Settings(**{"label_delay_ms": DELAY, "days": 12, **settings}), KNOWN.__getitem__)


def watched(some: Sequence[dict[str, Any]], size: int = 10**6, **settings: Any) -> Watch:
    watch = watching(**settings)
    for start in range(0, len(some), size):
        watch.add(rows_of(some[start : start + size]))
        watch.label(*labels_of(some[start : start + size]))
    return watch


def test_counts_are_those_that_duckdb_makes_of_the_payments() -> None:
    some = payments(3000, 5)
    watch = watched(some, 170)
    table = duckdb.connect()
    table.register("p", pa.Table.from_pylist([{**one, "t": one["time"]} for one in some]))
    assert watch.due() == [0, 1, 2, 3]
    for day in range(4):
        report = watch.report(day)
        until = (day + 1) * DAY_MS + (DELAY if day < 2 else 0)
        assert report.matured == (day < 2)
        of = table.execute(
            f"""SELECT version, count(*), count(*) FILTER (alerted), count(l), sum(l), sum(1 - l),
                sum(l) FILTER (alerted), sum(1 - l) FILTER (alerted),
                sum(l) FILTER (score > if(version = 1, 50, 70)), sum(1 - l) FILTER (score > if(version = 1, 50, 70))
            FROM (SELECT *, if(t + known < {until}, fraud, NULL) AS l FROM p WHERE t // {DAY_MS} = {day})
            GROUP BY version ORDER BY version"""
        ).fetchall()
        found = report.figures
        assert found.rows == sum(one[1] for one in of)
        assert found.unscored == of[0][1]
        assert found.labelled == sum(one[3] for one in of)
        for (version, count, _, _, frauds, legitimate, *told), one in zip(of[1:], found.versions[:2], strict=True):
            assert (one.version, one.decided, one.scored) == (version, count, count)
            assert (one.alerts.frauds, one.alerts.legitimate) == (frauds, legitimate)
            assert one.flagged is not None
            assert [one.alerts.hits, one.alerts.false, one.flagged.hits, one.flagged.false] == told
            assert one.alerts.precision == estimate(told[0], told[0] + told[1])
            assert one.alerts.false_positive_rate == estimate(told[1], legitimate)
            assert one.flagged.recall == estimate(told[2], frauds)
        (overdue,) = table.execute(
            f"SELECT count(*) FROM p WHERE t // {DAY_MS} = {day} AND t < {until - DELAY}"
            f" AND (known IS NULL OR t + known >= {until})"
        ).fetchall()[0]
        assert found.overdue == overdue
        (shadowed,) = table.execute(f"SELECT count(shadow) FROM p WHERE t // {DAY_MS} = {day}").fetchall()[0]
        assert (found.versions[2].decided, found.versions[2].scored) == (0, shadowed)
        assert found.notes == ("version 3: gone",)
        assert (found.versions[2].drift, found.versions[2].flagged) == ((), None)


def test_drift_is_that_of_all_rows_that_the_version_scored() -> None:
    some = payments(2000, 3)
    watch = watched(some, 90)
    mine = [one for one in some if one["version"] == 1 and one["time"] // DAY_MS == 1]
    found = {one.name: one for one in watch.report(1).figures.versions[0].drift}
    for name in ("amount", "score"):
        column = np.array([math.nan if one[name] is None else one[name] for one in mine])
        assert found[name] == drift_of(name, KNOWN[1].baseline[name], column)
    assert found["amount"].missing == pytest.approx(sum(one["amount"] is None for one in mine) / len(mine), abs=1e-6)
    assert watch.report(1).figures.versions[0].drift[0].index == max(one.index for one in found.values())
    assert [one.name for one in watch.report(1).figures.versions[1].drift] == ["count"]


def test_average_precision_is_that_of_training() -> None:
    some = [one for one in payments(2000, 1) if one["version"] == 1 and one["known"] is not None]
    found = watched([*some, *payments(1, 30, first=9000)]).standing().versions[0]
    labels = np.array([one["fraud"] for one in some], np.int8)
    assert found.average_precision == pytest.approx(
        of_training(labels, np.array([one["score"] for one in some])), abs=1e-6
    )


@given(
    st.lists(st.tuples(st.integers(0, 20), st.booleans()), min_size=1, max_size=60).filter(
        lambda x: any(f for _, f in x)
    )
)
def test_average_precision_of_counts(some: list[tuple[int, bool]]) -> None:
    frauds = np.bincount([score for score, fraud in some if fraud], minlength=21)
    legitimate = np.bincount([score for score, fraud in some if not fraud], minlength=21)
    labels, scores = np.array([fraud for _, fraud in some], np.int8), np.array([float(score) for score, _ in some])
    assert average_precision(frauds, legitimate) == pytest.approx(of_training(labels, scores))


@cache
def in_order() -> tuple[list[dict[str, Any]], list[Any]]:
    """Payments of six days, of which five are kept, and what is said of them, read as they came."""
    some = payments(600, 6)
    return some, said(watched(some, days=5))


def said(watch: Watch) -> list[Any]:
    return [*(watch.report(day) for day in range(1, 5)), watch.standing()]


@settings(max_examples=12)
@given(st.randoms(use_true_random=False), st.integers(20, 400))
def test_the_order_of_reading_does_not_matter(random: Any, size: int) -> None:
    some, wanted = in_order()
    mixed = random.sample(some, len(some))
    watch = watching(days=5)
    if size % 2:
        watch.label(*labels_of(mixed))
    for start in range(0, len(mixed), size):
        watch.add(rows_of(mixed[start : start + size]))
        watch.due()
    if size % 2 == 0:
        watch.label(*labels_of(mixed))
    assert said(watch) == wanted


def test_only_the_newest_days_and_so_many_payments_are_kept() -> None:
    watch = watched(payments(1000, 20), days=11)
    assert watch.due() == list(range(9, 19))
    assert watch.older == 0
    watch.add(rows_of([{**payments(1, 1)[0], "time": 3 * DAY_MS}]))
    assert watch.older == 1
    assert watch.due() == []
    few = watched(payments(1000, 20), 100, days=11, payments=170)
    assert few.due() == [17, 18]
    assert watched(payments(1000, 20), days=11, payments=1).due() == [18]


def test_a_day_is_due_once_it_is_over_once_it_is_mature_and_when_something_came_late() -> None:
    watch = watching()
    first = payments(50, 1)
    watch.add(rows_of(first))
    assert watch.due() == []

    def reach(ms: int) -> list[int]:
        watch.add(rows_of([{**first[0], "id": ms, "time": ms}]))
        return watch.due()

    assert reach(DAY_MS + 5) == [0]
    assert reach(2 * DAY_MS - 1) == []
    assert reach(2 * DAY_MS) == [1]
    assert reach(3 * DAY_MS - 1) == []
    assert reach(3 * DAY_MS) == [0, 2]
    assert watch.report(0).matured
    watch.label(np.array([1]), np.array([3 * DAY_MS + 9]), np.array([1], np.int8))
    assert watch.due() == []  # too late for the mature day, and no other day is so far
    watch.label(np.array([1]), np.array([DAY_MS]), np.array([1], np.int8))
    assert watch.due() == [0, 1, 2]
    watch.add(rows_of(payments(5, 1, first=100)))
    assert watch.due() == [0, 1, 2]  # those that are compared over it, too


def test_labels_as_of_then() -> None:
    table = LabelTable(100)
    ids = np.array([5, 7, 5, 9], np.int64)
    table.add(ids, np.array([10, 20, 30, 5]), np.array([0, 1, 1, 0], np.int8))
    asked = np.array([9, 5, 4, 7, 10], np.int64)
    assert table.before(10).of(asked).tolist() == [0, UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN]
    assert table.before(11).of(asked).tolist() == [0, 0, UNKNOWN, UNKNOWN, UNKNOWN]
    assert table.before(None).of(asked).tolist() == [0, 1, UNKNOWN, 1, UNKNOWN]
    table.add(np.array([7]), np.array([20]), np.array([-1], np.int8))  # taken back
    assert table.before(None).of(asked).tolist() == [0, 1, UNKNOWN, UNKNOWN, UNKNOWN]
    table.forget(20)
    assert table.before(None).of(asked).tolist() == [UNKNOWN, 1, UNKNOWN, UNKNOWN, UNKNOWN]
    table.replace(np.array([4]), np.array([1]), np.array([1], np.int8))
    assert table.before(None).of(asked).tolist() == [UNKNOWN, UNKNOWN, 1, UNKNOWN, UNKNOWN]
    assert len(table) == 1


def test_the_oldest_labels_go_first() -> None:
    table = LabelTable(3)
    for number in (4, 1, 3, 5, 2):
        table.add(np.array([number]), np.array([number * 10]), np.array([1], np.int8))
    assert table.before(None).of(np.arange(1, 6)).tolist() == [UNKNOWN, UNKNOWN, 1, 1, 1]


def test_others_are_legitimate_once_they_should_be_known() -> None:
    some = [{**one, "known": one["known"] if one["fraud"] else None} for one in payments(800, 4)]
    watch = watched(some, others_legitimate=True)
    mature, fresh = watch.report(0).figures, watch.report(2).figures
    assert (mature.labelled, mature.overdue) == (mature.rows, 0)
    assert all(one.alerts.legitimate == 0 for one in fresh.versions)
    assert fresh.labelled < fresh.rows
    assert all(one.alerts.legitimate for one in mature.versions[:2])


def test_wilson_and_newcombe_as_published() -> None:
    """Newcombe (1998), Statistics in Medicine 17, 857-872, table I: method 3; and 873-890, table II: method 10."""
    for hits, trials, low, high in ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611)):
        assert wilson(hits, trials) == pytest.approx((low, high), abs=5e-5)
    for one, other, low, high in (
        ((56, 70), (48, 80), 0.0524, 0.3339),
        ((9, 10), (3, 10), 0.1705, 0.8090),
        ((5, 56), (0, 29), -0.0381, 0.1926),
        ((0, 10), (0, 10), -0.2775, 0.2775),
    ):
        found = difference(one, other)
        assert found is not None
        assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5)
    assert estimate(0, 0) is None
    assert difference((1, 2), (0, 0)) is None


def sampled(shift: float, cards: int, seed: int) -> tuple[Any, Any, Any]:
    """Bins of frauds, their cards, bins of legitimate payments; a card's frauds have scores that are close."""
    chance = np.random.default_rng(seed)
    of = np.repeat(np.arange(cards), chance.integers(1, 7, cards))
    frauds = chance.normal(50 + 10 * shift, 9, cards)[of] + chance.normal(0, 3, len(of))
    bins = [np.rint(part * 100).clip(0, BINS - 1).astype(np.int64) for part in (frauds, chance.normal(50, 10, 200))]
    return bins[0], of, bins[1]


def ranked(bins: Any, cards: Any, legitimate: Any) -> Ranked:
    return Ranked(bins, cards, np.bincount(legitimate, minlength=BINS).astype(np.int64))


def test_the_bootstrap_is_about_what_resampled_cards_and_payments_give() -> None:
    both = sampled(1.6, 25, 1), sampled(1.0, 25, 2)
    one, other = (ranked(*part) for part in both)
    found = bootstrap_difference(one, other, 2000)
    assert found is not None
    assert bootstrap_difference(one, other) == bootstrap_difference(one, other)
    chance = np.random.default_rng(3)

    def resampled(bins: Any, cards: Any, legitimate: Any) -> float:
        drawn = chance.choice(np.unique(cards), 25)
        frauds = np.concatenate([bins[cards == card] for card in drawn])
        labels = np.repeat(np.array([1, 0], np.int8), (len(frauds), len(legitimate)))
        return of_training(labels, np.concatenate([frauds, chance.choice(legitimate, len(legitimate))]).astype(float))

    drawn = [resampled(*both[0]) - resampled(*both[1]) for _ in range(2000)]
    assert (found.low, found.high) == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=0.02)
    assert found.low < found.value < found.high
    first, second = (ranked(bins, np.arange(len(bins)), legitimate) for bins, _, legitimate in both)
    alone = bootstrap_difference(first, second)
    assert alone is not None
    assert alone.high - alone.low < 0.8 * (found.high - found.low)  # as if the frauds of a card were independent
    assert bootstrap_difference(one, ranked(both[0][0][:0], both[0][1][:0], both[0][2])) is None
    assert bootstrap_difference(one, ranked(both[0][0], both[0][1], both[0][2][:0])) is None


def test_the_cards_of_frauds_are_known() -> None:
    some = payments(1500, 3)
    day = watched(some)._days[1]
    labels = np.array([one["fraud"] for one in some if one["time"] // DAY_MS == 1], np.int8)
    mine = [one for one in some if one["time"] // DAY_MS == 1 and one["version"] == 2 and one["fraud"]]
    found = day.tallies(labels)[2].ranked
    assert found.cards.tolist() == [one["card"] for one in mine]
    assert found.frauds.tolist() == [round(one["score"] * 100) for one in mine]


def test_versions_that_never_scored_on_one_day_are_not_compared() -> None:
    some = [{**one, "shadow": None, "known": 1} for one in payments(900, 4)]
    some = [one for one in some if one["version"] == 1 + (one["time"] // DAY_MS > 1)]
    assert watched(some).standing().comparisons == ()


def test_versions_are_compared_on_the_days_that_both_scored() -> None:
    some = payments(4000, 6)
    some = [{**one, "known": 1} for one in some if one["time"] // DAY_MS != 2 or one["version"] == 1]
    watch = watched(some)
    one, shadow = watch.report(4).figures.comparisons
    both = [one for one in some if one["time"] // DAY_MS in (0, 1, 3, 4) and one["version"]]
    assert (one.version, one.against, one.days) == (2, 1, 4)
    assert (shadow.version, shadow.against, shadow.days, shadow.precision) == (3, 1, 5, None)
    assert shadow.average_precision is not None
    told = {
        version: [sum(p["version"] == version and p["fraud"] == fraud and p["score"] > line for p in both)
                  for fraud in (1, 0)]
        for version, line in ((1, 50), (2, 70))
    }  # fmt: skip
    frauds = [sum(p["version"] == version and p["fraud"] for p in both) for version in (2, 1)]
    assert one.frauds == tuple(frauds)
    assert one.precision == difference((told[2][0], sum(told[2])), (told[1][0], sum(told[1])))
    assert one.recall == difference((told[2][0], frauds[0]), (told[1][0], frauds[1]))
    assert one.false_positive_rate == difference((told[2][1], one.legitimate[0]), (told[1][1], one.legitimate[1]))


def test_a_report_is_plain_data() -> None:
    report = watched(payments(500, 5)).report(1)
    assert report.day == "1970-01-02"
    assert report.labels_until == "1970-01-05T00:00:00Z"
    assert msgspec.json.decode(msgspec.json.encode(report), type=type(report)) == report


def test_blocks_with_other_features_are_counted_apart() -> None:
    some = payments(300, 1)
    one, other = rows_of(some[:100]), rows_of(some[100:])._replace(names=("count",), shadows={})
    other = other._replace(matrix=other.matrix[:, 1:])
    assert [len(part.ids) for part in joined([one, one, other, other])] == [200, 400]
    watch = watching()
    for part in joined([one, other]):
        watch.add(part)
    drift = {one.name: one for one in watch.standing().versions[0].drift}
    known = [math.nan if p["amount"] is None else p["amount"] for p in some[:100] if p["version"] == 1]
    assert drift["amount"] == drift_of("amount", KNOWN[1].baseline["amount"], np.array(known))


def test_standing_tells_overdue_labels_by_the_stream_and_drift_of_the_newest_day_that_is_over() -> None:
    some = payments(900, 4)
    found = watched(some).standing()
    now = max(one["time"] for one in some)
    assert found.overdue == sum(one["known"] is None and one["time"] < now - DELAY for one in some)
    over = [one for one in some if one["version"] == 1 and one["time"] // DAY_MS == now // DAY_MS - 1]
    column = np.array([math.nan if one["amount"] is None else one["amount"] for one in over])
    drift = {one.name: one for one in found.versions[0].drift}
    assert drift["amount"] == drift_of("amount", KNOWN[1].baseline["amount"], column)
    assert [one.index for one in found.versions[0].drift] == sorted((one.index for one in drift.values()), reverse=True)


@pytest.mark.parametrize(("split", "champion"), [(lambda n: 1 + (n % 3 > 0), 2), (lambda n: 1 + n % 2, 1)])
def test_versions_are_compared_with_the_one_that_decided_most_at_equal_numbers_the_lower(
    split: Any, champion: int
) -> None:
    some = [{**one, "score": one["score"] or 1.0, "version": split(one["id"])} for one in payments(400, 2)]
    others = {1, 2, 3} - {champion}
    assert [(one.version, one.against) for one in watched(some).standing().comparisons] == [
        (version, champion) for version in sorted(others)
    ]
