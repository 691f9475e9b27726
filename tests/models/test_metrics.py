"""Metrics and folds against plain ones."""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.training.calibrate import beyond, threshold_of
from models.training.folds import Window, folds, last_window, learned_from, rows_to_judge
from models.training.history import DAY_MS, History
from models.training.metrics import auc, average_precision, card_precision, measured, recall_at
from state.errors import ConfigError
from tests.oracle import fraud_metrics as plain

ROWS = st.lists(
    st.tuples(
        st.integers(0, 5 * DAY_MS), st.integers(0, 6), st.booleans(), st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9, 1.0])
    ),
    min_size=2,
    max_size=40,
).filter(lambda rows: len({row[2] for row in rows}) == 2)


def history(rows: list[plain.Row]) -> tuple[History, npt.NDArray[np.float64]]:
    times, cards, frauds, scores = (np.array(column) for column in zip(*rows, strict=True))
    matrix = np.zeros((len(rows), 1), np.float32)
    return History(("x",), matrix, frauds.astype(np.int8), times, cards), scores.astype(np.float64)


@given(ROWS, st.integers(1, 4), st.sampled_from([0.0, 0.2, 0.5]))
def test_metrics_are_the_books(rows: list[plain.Row], k: int, budget: float) -> None:
    found, scores = history(rows)
    assert average_precision(found.labels, scores) == pytest.approx(plain.average_precision(rows))
    assert auc(found.labels, scores) == pytest.approx(plain.auc(rows))
    assert recall_at(found.labels, scores, budget) == pytest.approx(plain.recall_at(rows, budget))
    assert card_precision(found, scores, k) == pytest.approx(plain.card_precision(rows, k))


def test_a_perfect_score_is_perfect() -> None:
    found, scores = history([(0, 1, True, 0.9), (1, 2, False, 0.1)])
    metrics = measured(found, scores)
    assert metrics == {
        "auc": 1.0, "average_precision": 1.0, "card_precision_100": 0.01, "recall_at_0.001": 1.0,
    }  # fmt: skip


@given(st.integers(0, 2**32 - 1))
def test_a_fold_is_judged_as_the_book_does_it(seed: int) -> None:
    random = np.random.default_rng(seed)
    rows = [
        (int(at), int(card), bool(fraud), 0.0)
        for at, card, fraud in zip(
            random.integers(0, 9 * DAY_MS, 60), random.integers(0, 20, 60), random.random(60) < 0.3, strict=True
        )
    ]
    rows += [(day * DAY_MS + n, 100 + 2 * day + n, bool(n), 0.0) for day in range(9) for n in (0, 1)]
    found, _ = history(rows)
    window = Window(2, 2, 2 * DAY_MS, 1)
    made = folds(found, window)
    assert [fold.train.start // DAY_MS for fold in made] == [1, 3]
    for fold in made:
        wanted = plain.tested(rows, fold.train.start, 2, 2, 2)
        assert rows_to_judge(found, fold, window.delay_ms).tolist() == wanted


def test_labels_are_known_before_a_fold_is_judged() -> None:
    rows = [(day * DAY_MS + n, n, bool(n), 0.0) for day in range(20) for n in (0, 1)]
    for fold in folds(history(rows)[0], Window(5, 3, 4 * DAY_MS, 2)):
        assert fold.train.stop + 4 * DAY_MS == fold.test.start


def test_what_was_not_known_is_not_learned() -> None:
    """Labels known two days late, and one of a fraud that was known much later: missing then, or legitimate."""
    rows = [(day * DAY_MS + n, n, bool(n), 0.0) for day in range(12) for n in (0, 1)]
    found, _ = history(rows)
    known = found.times + 2 * DAY_MS
    known[3] = 99 * DAY_MS
    apart = History(found.names, found.matrix, found.labels, found.times, found.cards, known)
    fold = folds(apart, Window(4, 3, 2 * DAY_MS, 1))[0]
    assert fold.train.start == 0
    learned = learned_from(apart, fold.train, fold.test.start)
    assert learned.times.tolist() == [row[0] for row in rows[:8] if row != rows[3]]
    chargebacks = msgspec.structs.replace(apart, open_ended=True)
    legitimate = learned_from(chargebacks, fold.train, fold.test.start)
    assert legitimate.labels.tolist() == [0, 1, 0, 0, 0, 1, 0, 1]


def test_too_few_days_are_refused() -> None:
    rows = [(day * DAY_MS, 1, bool(day % 2), 0.0) for day in range(10)]
    with pytest.raises(
        ConfigError, match=r"cover 10 days, 14 are needed: 5 to learn from, 3 until .* \(give more files"
    ):
        folds(history(rows)[0], Window(5, 2, 2 * DAY_MS + 1, 2))


@given(ROWS, st.sampled_from([0.0, 0.1, 0.3]), st.integers(0, 3))
def test_a_threshold_keeps_both_budgets_and_is_the_lowest(rows: list[plain.Row], budget: float, capacity: int) -> None:
    found, scores = history(rows)
    line = threshold_of(found, scores, budget, capacity)
    others = [row[3] for row in rows if not row[2]]
    days = len({row[0] // DAY_MS for row in rows})

    def keeps(at: float) -> bool:
        flagged = {(row[0] // DAY_MS, row[1]) for row in rows if row[3] > at}
        fine = sum(score > at for score in others) <= budget * len(others)
        return fine and (not capacity or len(flagged) <= capacity * days)

    assert keeps(line.at)
    lower = [score for score in {0.0, *scores.tolist()} if score < line.at]
    assert not any(keeps(score) for score in lower)


@pytest.mark.parametrize(("exported", "judged", "learned"), [(12, 9, 9), (14, 11, 9), (40, 12, 9), (11, 8, 8)])
def test_payments_whose_chargebacks_are_still_to_come_are_not_judged(exported: int, judged: int, learned: int) -> None:
    """Twelve days of payments, frauds reported 2.5 days later, the file of chargebacks written on some day."""
    rows = [(day * DAY_MS + n, 2 * day + n, bool(n), 0.0) for day in range(12) for n in (0, 1)]
    found, _ = history(rows)
    known = np.where(found.labels == 1, found.times + 5 * DAY_MS // 2, 0)
    known[-1] = max(int(known[-1]), 39 * DAY_MS if exported == 40 else 0)
    there = known < exported * DAY_MS
    labels = np.where(there, found.labels, 0).astype(np.int8)
    apart = History(
        found.names, found.matrix, labels, found.times, found.cards, np.where(there, known, 0), open_ended=True
    )
    window = Window(1, 2, 3 * DAY_MS, 1)
    assert folds(apart, window)[-1].test.stop == judged * DAY_MS
    assert last_window(apart, window).stop == learned * DAY_MS
    for fold in folds(apart, window):
        assert apart.labels[rows_to_judge(apart, fold, window.delay_ms)].sum() == 2  # one a day, all are in
    some = msgspec.structs.replace(apart, open_ended=False)  # both kinds are told: nobody is taken for legitimate
    assert folds(some, window)[-1].test.stop == 12 * DAY_MS


def test_too_few_days_with_labels_are_told() -> None:
    rows = [(day * DAY_MS + n, n, bool(n), 0.0) for day in range(12) for n in (0, 1)]
    found, _ = history(rows)
    apart = History(found.names, found.matrix, found.labels, found.times, found.cards, found.times, open_ended=True)
    with pytest.raises(ConfigError, match=r"cover 7 days, but for 5 whose labels are not in yet, 11 are needed"):
        folds(apart, Window(2, 2, 5 * DAY_MS, 1))


@given(st.floats(1e-9, 1.0))
def test_who_stands_at_the_line_is_not_above_what_is_written_of_it(chance: float) -> None:
    served = 100.0 * float(np.float32(chance))  # ONNX gives float32
    assert max(served, 100 * chance) < beyond(chance) <= 100 * chance + 0.0002
