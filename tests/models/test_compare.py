"""Champion against candidate: the weights against copies of rows, and what the interval says of plain cases."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.training.compare import compared, weighted_precision
from models.training.history import DAY_MS, History
from tests.oracle import fraud_metrics as plain

ROWS = st.lists(
    st.tuples(st.booleans(), st.sampled_from([0.0, 0.1, 0.5, 0.9]), st.integers(0, 3)), min_size=1, max_size=30
).filter(lambda rows: any(fraud and copies for fraud, _, copies in rows))


@given(ROWS)
def test_a_weight_is_so_many_copies(rows: list[tuple[bool, float, int]]) -> None:
    labels, scores, copies = (np.array(column) for column in zip(*rows, strict=True))
    found = weighted_precision(labels.astype(np.int8), scores, copies.astype(float))
    copied = [(0, 0, fraud, score) for fraud, score, times in rows for _ in range(times)]
    assert found == pytest.approx(plain.average_precision(copied))


def history(seed: int) -> tuple[History, np.random.Generator]:
    random = np.random.default_rng(seed)
    labels = (random.random(4000) < 0.05).astype(np.int8)
    return History(
        ("x",), np.zeros((4000, 1), np.float32), labels, random.integers(0, DAY_MS, 4000), random.integers(0, 500, 4000)
    ), random


def test_the_same_scores_differ_by_nothing() -> None:
    rows, random = history(1)
    scores = rows.labels + random.normal(size=4000)
    found = compared(rows, scores, scores, seed=1, draws=50)
    assert (found.low, found.high) == (0.0, 0.0)
    assert found.champion == found.candidate == pytest.approx(weighted_precision(rows.labels, scores, np.ones(4000)))
    assert found.not_worse(0.01)


def test_a_worse_one_is_found_worse_and_the_same_seed_says_the_same() -> None:
    rows, random = history(2)
    noise = random.normal(size=4000)
    found = compared(rows, 3 * rows.labels + noise, rows.labels + noise, seed=1, draws=100)
    assert found.high < 0
    assert not found.not_worse(0.02)
    assert compared(rows, 3 * rows.labels + noise, rows.labels + noise, seed=1, draws=100) == found


def test_the_interval_covers_what_chance_does() -> None:
    """Two models that are equally good: of 60 worlds the interval misses zero in few."""
    missed = 0
    for seed in range(60):
        rows, random = history(seed)
        one, two = (rows.labels + random.normal(size=4000) for _ in range(2))
        found = compared(rows, one, two, seed=seed, draws=100)
        missed += not found.low <= 0 <= found.high
    assert missed <= 9  # 3 are expected; ten or more have a chance of .1 %
