"""What Flink, Kafka Streams and Beam say of the same rows, taken from their tests; where they disagree, our choice.

Each case runs at batch sizes 1 and all, and of both with a restore between any two events: of batches of one after
each, of one batch of all at each place in turn. Values are 1 unless told.

- Flink: a watermark w there is one of w + 1 here (there: no more rows up to w; here: none before it). Rows do not move
  it, so the disorder here is larger than all times, and ticks stand for watermarks.
- Kafka Streams: grace there is disorder here. A session's end there is its last row; here that and the gap.
"""

from __future__ import annotations

from typing import Any

import pytest

from operators.timed.spec import TimedAggregate
from tests.operators.timed.harness import Row, absence, results, row, run, tick, window

FAR = 10_000_000
HOW = pytest.mark.parametrize(("cut", "restore"), [(1, False), (1, True), (0, False), (0, True)])
COUNT: dict[str, Any] = {"of": None, "aggregates": (TimedAggregate.COUNT,)}
SUM: dict[str, Any] = {"aggregates": (TimedAggregate.SUM,)}


def mark(watermark: int) -> Row:
    """Flink's watermark."""
    return tick(watermark + 1 + FAR)


def key1(time: int, value: int = 1) -> Row:
    return row(time, value, "key1")


def key2(time: int, value: int = 1) -> Row:
    return row(time, value, "key2")


def told(said: dict[int, list[tuple[Any, ...]]]) -> list[tuple[Any, ...]]:
    """(key, value, start, end) of each result."""
    return [(one[0], *one[4], *one[2:4]) for one in results(said) if one[1] == "result"]


def late(said: dict[int, list[tuple[Any, ...]]]) -> list[tuple[Any, ...]]:
    """(key, windows missed, windows) of each row that came too late."""
    return [(one[0], *one[2:4]) for one in results(said) if one[1] == "missed"]


# ---- Flink

OUT_OF_ORDER = [
    key2(3999), key2(3000), key1(20), key1(0), key1(999), key2(1998), key2(1999), key2(1000),
]  # fmt: skip
"""SlicingWindowAggOperatorTest."""


@HOW
def test_flink_tumbling(cut: int, restore: bool) -> None:
    rows = [*OUT_OF_ORDER, mark(999), mark(1999), mark(2999), mark(3999), key1(2500), mark(4999), key2(2999),
            mark(5999), mark(6999)]  # fmt: skip
    said = run(window("tumble", 3000, **SUM), FAR, rows, cut, restore=restore)
    assert told(said) == [("key1", 3, 0, 3000), ("key2", 3, 0, 3000), ("key2", 2, 3000, 6000)]
    assert late(said) == [("key1", 1, 1), ("key2", 1, 1)]


@HOW
def test_flink_hopping(cut: int, restore: bool) -> None:
    marks = [mark(second * 1000 - 1) for second in range(1, 8)]
    said = run(window("hop", 3000, 1000, **SUM), FAR, [*OUT_OF_ORDER, *marks], cut, restore=restore)
    assert told(said) == [
        ("key1", 3, -2000, 1000),
        ("key1", 3, -1000, 2000),
        ("key2", 3, -1000, 2000),
        ("key1", 3, 0, 3000),
        ("key2", 3, 0, 3000),
        ("key2", 5, 1000, 4000),
        ("key2", 2, 2000, 5000),
        ("key2", 2, 3000, 6000),
    ]


@HOW
def test_flink_cumulating(cut: int, restore: bool) -> None:
    rows = [key2(2999), key2(3000), key1(20), key1(0), key1(999), key2(1998), key2(1999), key2(1000)]
    marks = [mark(second * 1000 - 1) for second in range(1, 8)]
    said = run(window("cumulate", 3000, 1000, **SUM), FAR, [*rows, *marks], cut, restore=restore)
    assert told(said) == [
        ("key1", 3, 0, 1000),
        ("key1", 3, 0, 2000),
        ("key2", 3, 0, 2000),
        ("key1", 3, 0, 3000),
        ("key2", 4, 0, 3000),
        ("key2", 1, 3000, 4000),
        ("key2", 1, 3000, 5000),
        ("key2", 1, 3000, 6000),
    ]


@HOW
def test_flink_drops_what_is_late_for_a_tumbling_window(cut: int, restore: bool) -> None:
    """WindowOperatorTest.testDropDueToLatenessTumbling."""
    rows = [key2(1000), mark(1985), key2(1980), mark(1999), key2(1998), key2(2001), mark(2999), mark(3999)]
    said = run(window("tumble", 2000, **SUM), FAR, rows, cut, restore=restore)
    assert told(said) == [("key2", 2, 0, 2000), ("key2", 1, 2000, 4000)]
    assert late(said) == [("key2", 1, 1)]


@HOW
def test_flink_tells_a_window_anew_within_the_allowed_lateness(cut: int, restore: bool) -> None:
    """WindowOperatorTest.testLateness. Its trigger forgets what it told; ours, Flink's usual one, goes on: 3, not 1."""
    rows = [key2(500), mark(1500), key2(1300), mark(2300), key2(1997), mark(6000), key2(1998), mark(7000)]
    said = run(window("tumble", 2000, lateness=500, **SUM), FAR, rows, cut, restore=restore)
    assert told(said) == [("key2", 2, 0, 2000), ("key2", 3, 0, 2000)]
    assert [one[5] for one in results(said) if one[1] == "result"] == [0, 1]
    assert late(said) == [("key2", 1, 1)]


@HOW
def test_flink_takes_a_row_where_its_windows_are_open(cut: int, restore: bool) -> None:
    """WindowOperatorTest.testDropDueToLatenessSliding. Flink does not say that 2400 misses a window: we do."""
    rows = [key2(1000), mark(1999), key2(2000), mark(3000), key1(3001), key2(2400), key2(2400), key1(3001), key2(3900),
            mark(6000), key1(3001), mark(25000)]  # fmt: skip
    said = run(window("hop", 3000, 1000, **SUM), FAR, rows, cut, restore=restore)
    assert told(said) == [
        ("key2", 1, -1000, 2000),
        ("key2", 2, 0, 3000),
        ("key1", 2, 1000, 4000),
        ("key2", 5, 1000, 4000),
        ("key1", 2, 2000, 5000),
        ("key2", 4, 2000, 5000),
        ("key1", 2, 3000, 6000),
        ("key2", 1, 3000, 6000),
    ]
    assert late(said) == [("key2", 1, 3), ("key2", 1, 3), ("key1", 3, 3)]


@HOW
def test_flinks_sql_drops_a_late_row_for_a_cumulating_window_and_we_do_not(cut: int, restore: bool) -> None:
    """SlicingWindowAggOperatorTest: there 3500 after the watermark 3999 is in no window. Here it is in open ones."""
    rows = [key2(3000), mark(3999), key1(3500, 2), mark(4999), mark(5999)]
    said = run(window("cumulate", 3000, 1000, **SUM), FAR, rows, cut, restore=restore)
    assert told(said) == [
        ("key2", 1, 3000, 4000),
        ("key1", 2, 3000, 5000),
        ("key2", 1, 3000, 5000),
        ("key1", 2, 3000, 6000),
        ("key2", 1, 3000, 6000),
    ]
    assert late(said) == [("key1", 1, 3)]


SESSION_ROWS = [
    key2(1000), mark(1999), key2(2000), mark(4998), key2(4500), key2(8500), mark(7400), key2(7000), mark(11501),
    key2(11600), mark(14600), key2(10000), key2(14500), mark(20000), mark(100000),
]  # fmt: skip
"""WindowOperatorTest.testDropDueToLatenessSession..., with its usual trigger."""


@HOW
@pytest.mark.parametrize(
    ("lateness", "expected", "missed"),
    [
        (0, [(5, 1000, 11500), (1, 11600, 14600), (1, 14500, 17500)], 1),
        (10, [(5, 1000, 11500), (1, 11600, 14600), (2, 10000, 14600), (3, 10000, 17500)], 0),
        (10000, [(5, 1000, 11500), (1, 11600, 14600), (7, 1000, 14600), (8, 1000, 17500)], 0),
    ],
)
def test_flink_sessions(lateness: int, expected: list[Any], missed: int, cut: int, restore: bool) -> None:
    said = run(window("session", 3000, lateness=lateness, **SUM), FAR, SESSION_ROWS, cut, restore=restore)
    assert told(said) == [("key2", *one) for one in expected]
    assert len(late(said)) == missed


@HOW
def test_a_session_says_which_it_replaces(cut: int, restore: bool) -> None:
    """Flink leaves the void results standing; Kafka Streams deletes them by tombstones."""
    said = run(window("session", 3000, lateness=10000, **SUM), FAR, SESSION_ROWS, cut, restore=restore)
    assert [one[5:] for one in results(said)] == [
        (0, ()),
        (0, ()),
        (1, ((1000, 11500), (11600, 14600))),
        (2, ((1000, 14600),)),
    ]


# ---- Kafka Streams


@HOW
def test_kafka_time_windows_with_a_jump(cut: int, restore: bool) -> None:
    """SuppressScenarioTest.shouldSupportFinalResultsForTimeWindowsWithLargeJump: size 2, grace 2."""
    rows = [row(time) for time in (0, 1, 2, 0, 3, 0, 4, 0, 30)]
    said = run(window("tumble", 2, **COUNT), 2, rows, cut, restore=restore)
    assert told(said) == [("k", 4, 0, 2), ("k", 2, 2, 4), ("k", 1, 4, 6)]
    assert late(said) == [("k", 1, 1)]


@HOW
def test_kafka_session_windows(cut: int, restore: bool) -> None:
    """SuppressScenarioTest.shouldSupportFinalResultsForSessionWindows: gap 5, no grace."""
    rows = [key1(0), key1(5), key1(1), key2(11), key1(5), key1(30)]
    said = run(window("session", 5, **COUNT), 0, rows, cut, restore=restore)
    assert told(said) == [("key1", 3, 0, 5 + 5), ("key2", 1, 11, 11 + 5)]
    assert late(said) == [("key1", 1, 1)]


@HOW
@pytest.mark.parametrize(
    ("difference", "grace", "rows", "expected"),
    [
        (  # SuppressScenarioTest.shouldSupportFinalResultsForSlidingWindows, counted
            5,
            15,
            [(time, 1) for time in (10, 11, 10, 13, 10, 24, 5, 7, 90)],
            {(5, 10): 5, (6, 11): 5, (8, 13): 5, (11, 16): 2, (12, 17): 1, (19, 24): 1},
        ),
        (  # "1", "2" at 10, "3" at 14 ..., put together there and added up here
            10,
            5,
            [(10, 1), (10, 2), (14, 3), (15, 4), (20, 5), (22, 6), (30, 7)],
            {(0, 10): 3, (4, 14): 6, (5, 15): 10, (10, 20): 15, (11, 21): 12, (12, 22): 18},
        ),
    ],
)
def test_kafka_sliding_windows_are_hops_of_one_ms(
    difference: int, grace: int, rows: list[Any], expected: dict[Any, int], cut: int, restore: bool
) -> None:
    """Its windows hold both ends, and only those with other rows than their neighbours are told."""
    given = [row(time, value) for time, value in rows]
    said = run(window("hop", difference + 1, 1, **SUM), grace, given, cut, restore=restore)
    found = {(start, end - 1): value for _, value, start, end in told(said)}
    assert {bounds: found[bounds] for bounds in expected} == expected


# ---- Beam


@HOW
@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([1, 2, 5, 9, 100, 101], [(1, 19), (100, 111)]),
        ([1, 15, 30, 100, 101, 95, 22, 10], [(1, 40), (95, 111)]),
    ],
)
def test_beam_sessions(times: list[int], expected: list[Any], cut: int, restore: bool) -> None:
    """SessionsTest.testConsecutive, testMerging."""
    rows = [*(row(time) for time in times), mark(FAR)]
    said = run(window("session", 10, **COUNT), FAR, rows, cut, restore=restore)
    assert [one[2:] for one in told(said)] == expected


@HOW
def test_a_row_at_exactly_the_gap_belongs_to_the_session(cut: int, restore: bool) -> None:
    """As in Flink (TimeWindow.intersects) and Kafka Streams; in Beam's SessionsTest.testSimple 10 begins a new one."""
    rows = [*(row(time) for time in (0, 10, 101)), mark(FAR)]
    said = run(window("session", 10, **COUNT), FAR, rows, cut, restore=restore)
    assert [one[2:] for one in told(said)] == [(0, 20), (101, 111)]


# ---- where they disagree, or say nothing


@HOW
def test_a_session_is_closed_when_the_watermark_is_at_its_end(cut: int, restore: bool) -> None:
    """As in Flink. Kafka Streams still takes a row then (its test is `<`)."""
    rows = [key1(0), key2(10), key1(0)]
    said = run(window("session", 10, **COUNT), 0, rows, cut, restore=restore)
    assert told(said) == [("key1", 1, 0, 10)]
    assert late(said) == [("key1", 1, 1)]


@HOW
def test_an_event_at_exactly_the_bound_comes_too_late(cut: int, restore: bool) -> None:
    """As Flink's CEP has it: within is exclusive."""
    said = run(absence(10), 0, [row(0, after=True), row(10, without=True), row(50)], cut, restore=restore)
    assert results(said) == [("k", "absent", 0, 10, "r0")]
    assert run(absence(10), 0, [row(0, after=True), row(9, without=True), row(50)], cut, restore=restore) == {}


@HOW
def test_what_came_before_its_time_counts(cut: int, restore: bool) -> None:
    """Event time decides: the login of 5 arrived before the payment of 0."""
    assert run(absence(10), 5, [row(5, without=True), row(0, after=True), row(50)], cut, restore=restore) == {}


@HOW
def test_no_row_ends_its_own_wait(cut: int, restore: bool) -> None:
    """No payment within 10 after a payment."""
    rows = [row(time, after=True, without=True) for time in (0, 5, 30)]
    said = run(absence(10), 0, rows, cut, restore=restore)
    assert results(said) == [("k", "absent", 5, 15, "r5")]


@HOW
def test_a_tick_makes_what_is_due_known_though_no_row_comes(cut: int, restore: bool) -> None:
    rows = [row(0, after=True), tick(9), tick(10), row(3, without=True), row(4, after=True), tick(13), tick(14)]
    said = run(absence(10), 0, rows, cut, restore=restore)
    assert results(said) == [("k", "absent", 0, 10, "r0"), ("k", "absent", 4, 14, "r4")]
