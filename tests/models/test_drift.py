"""Stability and missing rates against loops over numbers."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.drift import bins_of, drift_of, shares_of, stability

VALUES = st.lists(
    st.one_of(st.floats(-5, 5, width=32), st.sampled_from([0.0, 1.0, math.inf, -math.inf, math.nan])), min_size=1,
    max_size=60,
)  # fmt: skip
COUNTS = st.lists(st.integers(0, 20), min_size=3, max_size=3).filter(any)


def shares(values: list[float], edges: list[float]) -> list[float]:
    """One bin after the other."""
    known = [value for value in values if not math.isnan(value)]
    bounds = [-math.inf, *edges, math.inf]
    counts = [sum(low < value <= high for value in known) for low, high in pairwise(bounds)]
    counts[0] += sum(value == -math.inf for value in known)
    return [count / len(values) for count in [*counts, len(values) - len(known)]]


@given(VALUES, st.lists(st.floats(-4, 4, width=32), max_size=4, unique=True).map(sorted))
def test_shares_are_those_of_each_bin(values: list[float], edges: list[float]) -> None:
    assert shares_of(np.array(values, np.float32), edges) == pytest.approx(shares(values, edges))


@given(VALUES)
def test_bins_are_of_all_rows_and_nothing_drifts_from_itself(values: list[float]) -> None:
    column = np.array(values, np.float32)
    bins = bins_of(column)
    assert len(bins.edges) <= 9
    assert list(bins.edges) == sorted(set(bins.edges))
    assert sum(bins.shares) == pytest.approx(1)
    assert drift_of("x", bins, column).index == 0


@given(COUNTS, COUNTS)
def test_the_index_is_the_sum_over_bins_whichever_was_first(one: list[int], two: list[int]) -> None:
    then, now = ([count / sum(counts) for count in counts] for counts in (one, two))
    wanted = 0.0
    for before, after in zip(one, two, strict=True):
        if before or after:
            e, a = (before + 0.5) / (sum(one) + 1.5), (after + 0.5) / (sum(two) + 1.5)
            wanted += (a - e) * math.log(a / e)
    assert stability(then, now, sum(one), sum(two)) == pytest.approx(wanted)
    assert stability(now, then, sum(two), sum(one)) == pytest.approx(wanted)
    assert wanted >= 0


def test_what_shifts_is_told_and_chance_is_not() -> None:
    random = np.random.default_rng(1)
    bins = bins_of(random.normal(size=20_000))
    assert not drift_of("x", bins, random.normal(size=5000)).shifted
    assert not drift_of("x", bins, random.normal(size=40)).shifted
    assert drift_of("x", bins, random.normal(1, size=5000)).shifted
    holes = np.where(random.random(5000) < 0.3, np.nan, random.normal(size=5000))
    found = drift_of("x", bins, holes)
    assert found.shifted
    assert found.missing_then == 0
    assert found.missing == pytest.approx(0.3, abs=0.03)
