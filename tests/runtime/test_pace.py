"""How many rows make a batch, and when one is computed ahead: by what was measured."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamproc.eventlog.simulated import Faults, VirtualTimeLoop
from streamproc.language import compile_pipeline, load_pipeline
from streamproc.runtime.fresh_first import FreshFirst
from streamproc.runtime.metrics import WorkerMetrics
from streamproc.runtime.pace import Pace
from streamproc.runtime.results import BatchTooBadError, BatchTooLargeError
from tests.simulation.traffic import traffic
from tests.simulation.world import World


def pace(rows: int = 0, batch_s: float = 0.0, commit_s: float = 0.0, stages: int = 1) -> Pace:
    """After batches and commits that were all alike."""
    found = Pace(10.0, 8192, stages)
    if rows:
        found.computed(rows, batch_s)
    if commit_s:
        found.committed(commit_s, busy=0.0, at_most=False)
    return found


@pytest.mark.parametrize(
    ("rows", "batch_s", "commit_s", "waiting"),
    [
        (20, 0.010, 0.005, 5),  # half a commit is 2.5 ms, five rows' work: they will have come before it ends
        (113, 0.0017, 0.005, 167),  # computing is short beside the commit: more than will have come
        (1, 0.004, 0.005, 1),
        (1, 0.5, 0.005, 1),
        (1, 0.0003, 0.005, 9),
        (50, 0.001, 0.5, 1024),  # a full batch does in any case
    ],
)
def test_it_is_computed_ahead_for_half_a_commits_work(rows: int, batch_s: float, commit_s: float, waiting: int) -> None:
    assert pace(rows, batch_s, commit_s).ahead(through_all=False) == waiting


def test_a_row_that_goes_through_all_stages_is_more_work() -> None:
    three = pace(60, 0.010, 0.005, stages=3)
    assert (three.ahead(through_all=True), three.ahead(through_all=False)) == (5, 15)
    assert (three.full(through_all=True), three.full(through_all=False)) == (341, 1024)


def test_nothing_short_of_a_full_batch_until_both_were_measured() -> None:
    for unknown in (pace(), pace(20, 0.01), pace(commit_s=0.005)):
        assert unknown.ahead(through_all=False) == unknown.full(through_all=False) == 1024


def test_a_full_batch_is_so_much_work_as_is_set() -> None:
    told = pace(4000, 0.008)  # 2 us a row
    assert told.full(through_all=False) == 5000
    told.computed(63, 1.0)  # says nothing of a full batch's rows
    assert told.full(through_all=False) == 5000


def test_a_commit_that_nobody_looked_at_was_so_long_at_most() -> None:
    told = pace(20, 0.010, 0.005)
    told.committed(0.1, busy=0.0, at_most=True)
    assert told.ahead(through_all=False) == 5
    for _ in range(50):
        told.committed(0.003, busy=0.0, at_most=True)
    assert told.ahead(through_all=False) == 4  # a little above 3
    for _ in range(50):
        told.committed(0.010, busy=0.0, at_most=False)
    assert told.ahead(through_all=False) == 10


def test_a_slow_log_is_shared_by_more_rows() -> None:
    told = pace(4000, 0.008)  # 2 us a row
    for seconds, busy, rows in ((0.005, 0.0, 5000), (0.012, 0.0, 6000), (0.112, 0.1, 6000), (1.0, 0.0, 8192)):
        for _ in range(80):
            told.committed(seconds, busy=busy, at_most=False)
        assert told.largest(through_all=False, is_far_behind=False) == pytest.approx(rows, abs=2)
        assert told.full(through_all=False) == 5000
    slow = pace(4000, 0.04, 1.0)  # 10 us a row
    assert slow.largest(through_all=False, is_far_behind=False) == pytest.approx(5000, abs=1)  # five times 10 ms


def test_what_is_far_behind_makes_batches_five_times_as_large() -> None:
    told = pace(4000, 0.032)  # 8 us a row
    sizes = [told.largest(through_all=all_, is_far_behind=far) for all_ in (False, True) for far in (False, True)]
    assert sizes == pytest.approx([1250, 6250, 1250, 6250], abs=1)
    assert told.full(through_all=False) == pytest.approx(1250, abs=1)


def test_what_is_far_behind_may_have_twice_the_rows() -> None:
    told = pace(4000, 0.004)  # 1 us a row
    assert [told.largest(through_all=False, is_far_behind=far) for far in (False, True)] == [8192, 16384]
    for fits, rows in ((9000, [8192, 9000]), (7000, [8192, 8192]), (7000, [7000, 7000]), (100, [100, 100])):
        told.failed(BatchTooLargeError(fits))  # the second says so of more rows than are usual, the third of these
        assert [told.largest(through_all=False, is_far_behind=far) for far in (False, True)] == rows


def test_after_a_failure_batches_are_smaller_and_grow_again() -> None:
    told, sizes = pace(), list[int]()
    for error in (BatchTooBadError(), BatchTooBadError(), BatchTooLargeError(100)):
        told.failed(error)
        sizes.append(told.full(through_all=False))
    told.failed(BatchTooBadError())
    for _ in range(5):
        sizes.append(told.full(through_all=False))
        told.computed(1, 0.001)
    assert sizes == [16, 1, 100, 16, 32, 64, 100, 100]


@given(
    rows=st.integers(0, 10_000), batch_s=st.floats(1e-6, 1), commit_s=st.floats(1e-6, 60), stages=st.integers(1, 5),
    through_all=st.booleans(),
)  # fmt: skip
def test_at_least_a_row_and_at_most_a_full_batch(
    rows: int, batch_s: float, commit_s: float, stages: int, through_all: bool
) -> None:
    told = pace(rows, batch_s, commit_s, stages)
    assert 1 <= told.ahead(through_all=through_all) <= told.full(through_all=through_all)


@pytest.mark.parametrize("is_far_behind", [False, True])
def test_a_worker_asks_its_queue_whether_all_is_far_behind(is_far_behind: bool) -> None:
    path = Path(__file__).parents[2] / "configs" / "bench_v1" / "pipeline.yaml"
    rng, sizes = random.Random(3), list[int]()
    world = World(compile_pipeline(load_pipeline(path)), rng, Faults(rng))

    async def decided() -> None:
        await world.feed(traffic(rng, 100, 12))
        with (
            mock.patch.object(FreshFirst, "is_far_behind", is_far_behind),
            mock.patch.object(WorkerMetrics, "computed", lambda _, rows: sizes.append(rows)),
        ):
            assert await world.work(batch_rows_max=16)

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(decided())
    assert (max(sizes) > 16) == is_far_behind
    assert max(sizes) <= 32
