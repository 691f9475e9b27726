"""What a late row reads as its key's earlier rows, where the kept history begins (its base: see room.py)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.operators.windows.harness import Row, compare, feature, previous, random_rows, spec_of

CUTS = (1, 2, 3, 99)
EARLIER = (previous("at"), previous("at", 2), previous("at", 3))
WINDOW = feature("sum", "amount", 100)  # kept for 200: as long again, for late rows


def rows_at(*times: int) -> list[Row]:
    return [{"task": 0, "key": "k", "time": t, "at": t, "amount": 1} for t in times]


def earlier(rows: list[Row]) -> list[tuple[Any, ...]]:
    return [tuple(row[p.name] for p in EARLIER) for row in rows]


def test_the_newest_row_before_the_kept_history_stays() -> None:
    rows = rows_at(0, 10, 20, 10_000, 9_950)
    got = compare(spec_of(WINDOW, previous=EARLIER), rows, CUTS, undo=True)
    assert earlier(got)[-1] == (20, 10, 0)
    assert got[-1]["sum_amount_100"] == 1
    assert not got[-1]["w__incomplete"]


def test_it_stays_when_rows_before_it_are_taken_out_of_a_full_ring() -> None:
    many = list(range(0, 600, 3))
    rows = rows_at(*many, *range(10_000, 10_090, 3), 9_999)
    got = compare(spec_of(WINDOW, previous=EARLIER), rows, (1, 7, 999), undo=True)
    assert earlier(got)[-1] == (597, 594, 591)


def test_a_row_between_it_and_the_kept_history_takes_its_place() -> None:
    rows = rows_at(0, 10, 20, 10_000, 5_000, 9_950, 4_000, 9_960, 4_500, 9_970, 6_000)
    got = compare(spec_of(WINDOW, previous=EARLIER), rows, CUTS, undo=True)
    assert earlier(got)[4:8] == [
        (20, 10, 0),
        (5_000, 20, 10),
        (None, None, None),  # behind 5,000, which is all that is kept of that time: not known
        (4_000, 9_950, 5_000),  # but row order knows it
    ]
    assert [row["w__incomplete"] for row in got[4:]] == [True, False, True, False, True, False, True]


def test_without_windows_too() -> None:
    rows = rows_at(0, 10, 20, 10_000, 9_950, 15, 9_960)
    got = compare(spec_of(previous=EARLIER, late_ms=100), rows, CUTS, undo=True)
    assert earlier(got)[4:] == [(20, 10, 0), (None, None, None), (15, 9_950, 20)]
    assert [row["w__incomplete"] for row in got[4:]] == [False, True, False]


def test_nothing_is_missing_where_there_was_nothing() -> None:
    rows = rows_at(10_000, 9_950, 50, 40)
    got = compare(spec_of(previous=EARLIER, late_ms=100), rows, CUTS)
    assert earlier(got) == [(None, None, None)] * 4
    assert [row["w__incomplete"] for row in got] == [False] * 4


def test_what_a_ttl_has_ended_is_no_earlier_row() -> None:
    rows = rows_at(0, 10_000, 9_950, 9_960)
    got = compare(spec_of(WINDOW, previous=EARLIER, ttl_ms=1_000), rows, CUTS, undo=True)
    assert earlier(got)[1:] == [(None, None, None), (None, None, None), (9_950, None, None)]
    assert not any(row["w__incomplete"] for row in got)


@pytest.mark.parametrize(("most", "wanted"), [(3, None), (4, 10)])
def test_it_counts_among_the_newest_max_entries(most: int, wanted: int | None) -> None:
    rows = rows_at(0, 10, 10_000, 10_010, 9_950)  # the late row itself is one of them
    got = compare(spec_of(WINDOW, previous=EARLIER, max_entries=most), rows, CUTS, undo=True)
    assert got[-1]["previous_at_1"] == wanted
    assert got[-1]["w__incomplete"] is (wanted is None)


@pytest.mark.parametrize("more", [{}, {"late_ms": 0}, {"ttl_ms": 900}, {"max_entries": 5}])
@pytest.mark.parametrize("seed", range(5))
def test_sparse_keys_equal_the_oracle(seed: int, more: dict[str, Any]) -> None:
    rows = random_rows(seed, 60, keys=2, late=0.3, step=150, back=700)
    windows = (WINDOW, feature("distinct", "shop", 60, delay_ms=20), feature("max", "ratio", 60))
    spec = spec_of(*windows, previous=(*EARLIER, previous("ratio", 2)), **more)
    compare(spec, rows, (1, 13, 60), undo=True)


PASSED = (previous("at", where="flag"), previous("at", 3, where="flag"), previous("ratio", 2, where="flag"))


def flagged(*rows: tuple[int, bool | None]) -> list[Row]:
    return [{**row, "flag": flag} for row, (_, flag) in zip(rows_at(*(t for t, _ in rows)), rows, strict=True)]


def test_rows_that_a_where_passes_over_are_no_earlier_rows_but_see_them() -> None:
    rows = flagged((1, True), (2, False), (3, None), (4, True), (5, False), (6, True))
    spec = spec_of(previous=(previous("at", where="flag"), previous("at", 2, where="flag"), previous("at")))
    got = compare(spec, rows, CUTS, undo=True)
    assert [row["previous_at_1_flag"] for row in got] == [None, 1, 1, 1, 4, 4]
    assert [row["previous_at_2_flag"] for row in got] == [None, None, None, None, 1, 1]
    assert [row["previous_at_1"] for row in got] == [None, 1, 2, 3, 4, 5]


def test_a_late_row_that_is_passed_over_changes_nothing_for_others() -> None:
    rows = flagged((10, True), (40, True), (20, False), (50, False), (30, True), (35, False), (60, False))
    spec = spec_of(WINDOW, previous=(previous("at", where="flag"), previous("at", 2, where="flag")))
    got = compare(spec, rows, CUTS, undo=True)
    assert [row["previous_at_1_flag"] for row in got] == [None, 10, 10, 40, 10, 30, 30]
    assert [row["previous_at_2_flag"] for row in got] == [None, None, None, 10, None, 10, 40]


@pytest.mark.parametrize("more", [{}, {"late_ms": 0}, {"ttl_ms": 900}, {"max_entries": 5}])
@pytest.mark.parametrize(("seed", "late"), [(seed, late) for seed in range(4) for late in (0.0, 0.3)])
def test_filtered_earlier_rows_equal_the_oracle(seed: int, late: float, more: dict[str, Any]) -> None:
    rows = random_rows(seed, 60, keys=2, late=late, step=150, back=700)
    windows = (WINDOW, feature("count", None, 60, where="flag"))
    compare(spec_of(*windows, previous=(*PASSED, previous("at", 2)), **more), rows, (1, 13, 60), undo=True)
