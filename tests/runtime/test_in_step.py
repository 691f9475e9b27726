"""Partitions in step: who may be read when, by laws over drawn inputs and by cases."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from streamproc.eventlog.contract import NO_OFFSET, Chunk, GroupReader, TopicPartition
from streamproc.runtime.in_step import InStep, Lane
from streamproc.runtime.progress import LONG_AGO, Progress

FIRST, LAST = "first", "last"
SLACK = 10


def tp(number: int, topic: str = FIRST) -> TopicPartition:
    return TopicPartition(topic, number)


def chunk(where: TopicPartition, times: Sequence[int], start: int = 0) -> Chunk:
    """Records whose record time is their event time, too."""
    count, stop = len(times), start + len(times)
    return Chunk(where, range(start, stop), [None] * count, [b""] * count, list(times), stop)


class World:
    """A queue, and all that it asks: the tests say what is so."""

    def __init__(self, partitions: int = 3, *, rows_max: int = 1_000) -> None:
        self.now, self.wall_ms = 0.0, 10**12
        self.known = True
        self.partitions = [tp(number) for number in range(partitions)]
        self.lag: dict[TopicPartition, int] = {}  # who is behind, and the time it committed
        self.ends: dict[TopicPartition, int] = {}
        self.positions: dict[TopicPartition, int] = {}
        self.committed: dict[TopicPartition, int] = {}
        self.paused: set[TopicPartition] = set()
        self.resumed: list[tuple[TopicPartition, int]] = []
        self.held = 0
        self.ours: set[TopicPartition] = set()
        world: Any = self
        lanes = [Lane(FIRST, SLACK, self.times_of), Lane(LAST, None, self.times_of)]
        self.queue = InStep(
            lanes, cast("GroupReader", world), cast("Progress", world), world, rows_max=rows_max, patience_s=1.0,
            ours=lambda: self.ours, held=self.gave_up,
        )  # fmt: skip

    def times_of(self, chunk: Chunk) -> Any:
        return np.array(chunk.timestamps)

    def monotonic(self) -> float:
        return self.now

    def now_ms(self) -> int:
        return self.wall_ms

    def gave_up(self) -> None:
        self.held += 1

    # ---- as `Progress`

    def behind(self, where: TopicPartition, read: int) -> int | None:
        if not self.known:
            return LONG_AGO
        return self.time(where) if read < self.ends.get(where, NO_OFFSET) else self.lag.get(where)

    def time(self, where: TopicPartition) -> int:
        return self.committed.get(where, LONG_AGO)

    def look(self, *, urgent: bool = False) -> None:
        pass

    def forget(self) -> None:
        self.known = False

    # ---- as `GroupReader`

    def position(self, where: TopicPartition) -> int:
        return self.positions.get(where, NO_OFFSET)

    def pause(self, where: TopicPartition) -> None:
        self.paused.add(where)

    def resume(self, where: TopicPartition, offset: int) -> None:
        self.paused.discard(where)
        self.resumed.append((where, offset))

    # ---- what the tests ask

    def taken(self, rows: int = 1_000) -> list[tuple[int, int]]:
        """(partition, event time) of what may be taken now."""
        if not self.queue.ready():
            return []
        pieces = self.queue.take(rows)
        return [(piece.tp.partition, int(time)) for piece in pieces for time in piece.timestamps]


inputs = st.lists(st.lists(st.integers(0, 500), min_size=1, max_size=60).map(sorted), min_size=1, max_size=4)


@given(inputs, st.integers(1, 50), st.integers(1, 20))
def test_nothing_is_ahead_of_another_partition_by_more_than_the_slack(
    times: list[list[int]], rows: int, cut: int
) -> None:
    world = World(len(times))
    for number, mine in enumerate(times):
        world.queue.extend(chunk(tp(number), mine[at : at + cut], at) for at in range(0, len(mine), cut))
    left = [list(mine) for mine in times]
    while world.queue.rows:
        taken = world.taken(rows)
        assert 1 <= len(taken) <= rows
        for number, time in sorted(taken, key=lambda row: row[1]):  # as they are handed on
            others = [mine[0] for other, mine in enumerate(left) if other != number and mine]
            assert left[number].pop(0) == time, "in order within the partition"
            assert time <= min(others, default=time) + SLACK
    assert not any(left)
    assert world.queue.partitions == set()


@given(st.lists(st.lists(st.integers(0, 50), min_size=1, max_size=40), min_size=1, max_size=4), st.integers(1, 9))
def test_late_records_stay_in_order_and_hold_nobody_back(times: list[list[int]], rows: int) -> None:
    world = World(len(times))
    world.queue.extend(chunk(tp(number), mine) for number, mine in enumerate(times))
    left = [list(mine) for mine in times]
    while world.queue.rows:
        taken = world.taken(rows)
        assert len(taken) == min(rows, sum(map(len, left)))
        for number, time in taken:
            assert left[number].pop(0) == time
    assert not any(left)


@given(inputs, st.integers(1, 20))
def test_as_many_as_the_head_has_are_the_head_alone(times: list[list[int]], cut: int) -> None:
    world = World(len(times))
    for number, mine in enumerate(times):
        world.queue.extend(chunk(tp(number), mine[at : at + cut], at) for at in range(0, len(mine), cut))
    while (head := world.queue.head) is not None:
        (piece,) = world.queue.take(len(head.offsets))
        assert (piece.tp, piece.offsets) == (head.tp, head.offsets)
    assert (world.queue.rows, world.queue.take(5)) == (0, [])


@given(inputs, st.integers(0, 500), st.integers(1, 40), st.booleans())
def test_as_many_can_be_taken_as_it_says(times: list[list[int]], behind: int, rows: int, known: bool) -> None:
    world = World(len(times) + 1)
    world.known, world.lag, world.committed = known, {tp(len(times)): behind}, {tp(0): 0}
    for number, mine in enumerate(times):
        world.queue.extend([chunk(tp(number), mine)])
    while (count := world.queue.takeable(rows)) > 0:
        assert len(world.taken(rows)) == count
    assert world.taken(rows) == []


def test_backlogs_of_later_stages_are_read_first() -> None:
    world = World()
    world.queue.extend([chunk(tp(0), [100, 101]), chunk(tp(0, LAST), [5, 300])])
    assert [piece.tp.topic for piece in world.queue.take(3)] == [LAST, FIRST]


def test_what_is_newer_than_a_partition_that_is_behind_waits() -> None:
    world = World()
    world.lag = {tp(1): 100, tp(2): 90}
    world.committed = {tp(0): 500}
    world.queue.extend([chunk(tp(0), [95, 100, 101, 200])])
    assert world.taken() == [(0, 95), (0, 100)], "90 and the slack"
    assert world.taken() == []
    world.lag = {tp(1): 191}
    assert world.taken() == [(0, 101), (0, 200)]


def test_nothing_is_taken_until_it_is_known_how_far_the_others_are() -> None:
    world = World()
    world.queue.clear()
    world.committed = {tp(0): 10}
    world.queue.extend([chunk(tp(0), [10])])
    assert world.taken() == []
    world.now = 5.0
    assert world.taken() == [], "whatever the patience"
    world.known = True
    assert world.taken() == [(0, 10)]


def test_one_that_has_not_said_how_far_it_is_says_so_with_one_record() -> None:
    """Two workers after an outage: each takes the other for being far behind."""
    world = World(2)
    world.lag = {tp(1): 10}
    world.committed = {tp(0): 10}
    world.queue.extend([chunk(tp(0), [1000, 1001])])
    assert world.taken() == [(0, 1000)]
    assert world.queue.reached == {tp(0): 1001}, "which the commit says"
    assert world.taken() == []
    world.lag = {tp(1): 1000}
    assert world.taken() == [(0, 1001)]


def test_patience_ends_until_it_has_caught_up() -> None:
    world = World(2)
    world.lag, world.committed = {tp(1): 0}, {tp(0): 10_000}
    world.queue.extend([chunk(tp(0), [1000])])
    assert world.taken() == []
    world.now = 0.99
    assert world.taken() == []
    world.now = 1.0
    assert (world.taken(), world.held) == ([(0, 1000)], 1)
    world.queue.extend([chunk(tp(0), [2000], 1)])
    assert world.taken() == [(0, 2000)], "not waited for any more"
    world.lag = {tp(1): 1995}
    world.queue.extend([chunk(tp(0), [3000], 2)])
    assert world.taken() == [], "it had caught up, and counts again"


def test_all_that_are_behind_are_waited_for_together() -> None:
    """A worker that is gone has many partitions."""
    world = World(4)
    world.lag, world.committed = {tp(1): 0, tp(2): 1, tp(3): 995}, {tp(0): 10_000}
    world.queue.extend([chunk(tp(0), [1000, 1006])])
    assert world.taken() == []
    world.now = 1.0
    assert (world.taken(), world.held) == ([(0, 1000)], 1), "the third is near enough, and is waited for"


def test_what_came_lately_does_not_wait_for_a_backlog() -> None:
    """A partition was taken over, with an hour of records; payments of another one come now."""
    world = World(2)
    world.wall_ms = 5_000_000 + 1_500
    world.queue.extend([chunk(tp(0), range(1_000)), chunk(tp(1), [5_000_000, 5_000_001])])
    assert world.taken(100) == [(0, time) for time in range(100)]
    world.now = 1.0
    assert world.taken(4) == [(1, 5_000_000), (1, 5_000_001), (0, 100), (0, 101)]
    assert world.held == 1
    world.queue.extend([chunk(tp(1), range(5_000_002, 5_000_022), 2)])
    assert world.taken(8) == [*((1, 5_000_002 + i) for i in range(6)), (0, 102), (0, 103)], "it goes on all the same"
    world.queue.extend([chunk(tp(0), [5_000_003, 5_000_004], 1_000)])
    while (0, 5_000_004) not in (taken := world.taken(8)):
        assert taken
    world.queue.extend([chunk(tp(0), [5_000_050], 1_002), chunk(tp(1), [5_000_049], 22)])
    assert world.taken() == [(1, 5_000_049), (0, 5_000_050)], "it has caught up"


def test_what_came_long_ago_waits_for_older_records() -> None:
    world = World(2)
    world.wall_ms = 5_000_000 + 60_000
    world.queue.extend([chunk(tp(0), range(1_000)), chunk(tp(1), [5_000_000])])
    world.now = 1.0
    assert world.taken(10) == [(0, time) for time in range(10)]


def test_what_the_stages_before_have_handed_on_is_no_backlog() -> None:
    """Too many payments come for a while: those that are in a later stage already go on first."""
    world = World(2)
    world.wall_ms = 5_000_000 + 1_500
    world.queue.extend([chunk(tp(0, LAST), [4_999_990, 4_999_991]), chunk(tp(1), [5_000_000, 5_000_001])])
    world.now = 1.0
    assert world.taken(3) == [(0, 4_999_990), (0, 4_999_991), (1, 5_000_000)]
    assert world.held == 0
    world.queue.extend([chunk(tp(0, LAST), [4_999_980], 2)])
    assert (world.taken(), world.held) == ([(1, 5_000_001), (0, 4_999_980)], 1), "further behind than the slack"


def test_a_partition_whose_last_record_is_taken_holds_back_what_comes_with_it() -> None:
    """In one batch: more of it may lie in the log."""
    world = World(2)
    world.lag = {tp(1): 0}
    world.queue.extend([chunk(tp(0), [5, 15, 16, 400]), chunk(tp(1), [6])])
    assert sorted(world.taken()) == [(0, 5), (0, 15), (0, 16), (1, 6)]
    assert world.taken() == []


def test_what_a_poll_under_way_has_taken_up_is_not_passed() -> None:
    world = World(2)
    world.ends = {tp(1): 3}
    world.positions = {tp(1): 1}
    world.queue.extend([chunk(tp(0), [5, 400])])
    world.positions = {tp(1): 3}
    world.committed = {tp(0): 5, tp(1): 0}
    assert world.taken() == [(0, 5)]
    assert world.taken() == [], "two records are somewhere between the log and us"
    world.queue.extend([chunk(tp(1), [6, 7], 1)])
    assert sorted(world.taken()) == [(0, 400), (1, 6), (1, 7)]


def test_no_more_is_read_ahead_of_what_must_wait() -> None:
    world = World(2, rows_max=4)
    world.lag, world.committed = {tp(1): 0}, {tp(0): 100}
    world.queue.extend([chunk(tp(0), [50, 51, 52])])
    assert world.paused == set()
    world.queue.extend([chunk(tp(0), [53, 54, 55], 3)])
    assert world.paused == {tp(0)}
    world.lag = {tp(1): 42}
    assert len(world.taken()) == 3
    assert world.paused == {tp(0)}, "three are left"
    world.lag = {tp(1): 43}
    assert len(world.taken()) == 1
    assert (world.paused, world.resumed) == (set(), [(tp(0), 6)])


def test_a_record_that_cannot_be_read_holds_nobody_back_for_long() -> None:
    world = World(2)
    world.queue.extend([chunk(tp(0), [LONG_AGO, 1000]), chunk(tp(1), [1001])])
    assert sorted(world.taken()) == [(0, LONG_AGO), (0, 1000), (1, 1001)]


def test_no_record_goes_alone_before_those_of_our_own_partitions() -> None:
    """At a start, when the tasks go live one after the other."""
    world = World(2)
    world.lag = {tp(1): LONG_AGO}
    world.ours = {tp(0), tp(1)}
    world.queue.extend([chunk(tp(0), [1000])])
    assert world.taken() == []
    world.lag = {}
    world.queue.extend([chunk(tp(1), [500])])
    assert world.taken() == [(1, 500), (0, 1000)]


def test_no_record_goes_alone_before_it_is_known_how_far_the_others_are() -> None:
    world = World(2)
    world.known = False
    world.queue.extend([chunk(tp(0), [1000])])
    assert world.taken() == []
