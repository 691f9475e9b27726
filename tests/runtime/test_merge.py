"""The order of merging: laws, whatever the streams; and that answers of the log may be cut anywhere."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from streamproc.runtime.merge import Lane, Run, blocked_by, merge_heads
from tests.oracle import streams as oracle

TIMES = st.lists(st.integers(-1, 12), max_size=12)
STREAMS = st.lists(TIMES, min_size=1, max_size=4)
Place = tuple[int, int]
"""(stream, offset)"""


def lanes_of(times: list[list[int]], open_: list[bool] | None = None) -> list[Lane]:
    return [Lane(np.array(some, np.int64), bool(open_ and open_[n])) for n, some in enumerate(times)]


def places(runs: list[Run], begins: list[int]) -> list[Place]:
    at = list(begins)
    out = []
    for lane, rows in runs:
        out += [(lane, at[lane] + i) for i in range(rows)]
        at[lane] += rows
    return out


def merge(times: list[list[int]]) -> list[Place]:
    return places(merge_heads(lanes_of(times)), [0] * len(times))


@given(STREAMS)
def test_it_is_the_oracles_order(times: list[list[int]]) -> None:
    rows = [
        [{"time": None if t < 0 else t, "place": (n, i)} for i, t in enumerate(some)] for n, some in enumerate(times)
    ]
    assert merge(times) == [row["place"] for _, row in oracle.merged(rows)]


@given(STREAMS)
def test_every_record_comes_once_and_no_stream_is_reordered(times: list[list[int]]) -> None:
    order = merge(times)
    assert sorted(order) == [(n, i) for n, some in enumerate(times) for i in range(len(some))]
    for number in range(len(times)):
        mine = [offset for stream, offset in order if stream == number]
        assert mine == sorted(mine)


@given(STREAMS)
def test_where_nothing_is_late_it_goes_by_event_time_and_stream(times: list[list[int]]) -> None:
    times = [sorted(some) for some in times]
    keys = [(times[stream][offset], stream, offset) for stream, offset in merge(times)]
    assert keys == sorted(keys)


@given(STREAMS)
def test_runs_are_as_few_as_can_be(times: list[list[int]]) -> None:
    runs = merge_heads(lanes_of(times))
    assert all(one.lane != other.lane for one, other in pairwise(runs))
    assert all(run.rows for run in runs)


@given(STREAMS, st.data())
def test_what_is_certain_does_not_change_with_what_follows(times: list[list[int]], data: st.DataObject) -> None:
    known = [some[: data.draw(st.integers(0, len(some)))] for some in times]
    open_ = [len(few) < len(some) for few, some in zip(known, times, strict=True)]
    certain = places(merge_heads(lanes_of(known, open_)), [0] * len(times))
    assert merge(times)[: len(certain)] == certain


@given(STREAMS, st.data())
def test_the_order_does_not_depend_on_how_answers_were_cut(times: list[list[int]], data: st.DataObject) -> None:
    """Records arrive in any pieces; a stream is open until all of it is there."""
    arrived, taken = [0] * len(times), [0] * len(times)
    order: list[Place] = []
    while len(order) < sum(map(len, times)):
        for number, some in enumerate(times):
            arrived[number] = min(len(some), arrived[number] + data.draw(st.sampled_from((1, 0, 2, 5))))
        held = [some[taken[n] : arrived[n]] for n, some in enumerate(times)]
        runs = merge_heads(lanes_of(held, [arrived[n] < len(some) for n, some in enumerate(times)]))
        found = places(runs, taken)
        for stream, _ in found:
            taken[stream] += 1
        order += found
    assert order == merge(times)


def test_nothing_passes_an_open_stream_that_has_nothing() -> None:
    lanes = lanes_of([[5], []], [False, True])
    assert merge_heads(lanes) == []
    assert blocked_by(lanes) == [1]


def test_a_payment_does_not_overtake_the_login_before_it() -> None:
    """An outage is over: payments of 10:05 are there, of the logins only that of 10:00."""
    ten, one, five = 600, 601, 605
    assert merge_heads(lanes_of([[five], [ten]], [True, True])) == [Run(1, 1)]
    assert merge_heads(lanes_of([[five], [one]], [True, False])) == [Run(1, 1), Run(0, 1)]
