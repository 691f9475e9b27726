"""Whose turn it is: payments that can still be answered before a backlog, which is not forgotten, nor let in whole."""

from __future__ import annotations

from collections import defaultdict
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamproc.eventlog.contract import NO_OFFSET, Chunk, GroupReader, TopicPartition
from streamproc.runtime.fresh_first import FreshFirst

NOW, WITHIN = 1_000_000, 80
LATE = NOW - WITHIN - 1
LONG_AGO = NOW - 1_001
PARTITIONS = frozenset(TopicPartition("t", p) for p in range(4))


class Reader:
    """Where reading stands; all partitions have caught up but those that are named."""

    def __init__(self, *behind: int) -> None:
        self.behind = set(behind)
        self.at: dict[TopicPartition, int] = defaultdict(int)
        self.paused: set[TopicPartition] = set()

    def pause(self, tp: TopicPartition) -> None:
        self.paused.add(tp)

    def resume(self, tp: TopicPartition, offset: int) -> None:
        assert (self.at[tp], tp in self.paused) == (offset, True)
        self.paused.remove(tp)

    def position(self, tp: TopicPartition) -> int:
        return NO_OFFSET if tp in self.paused else self.at[tp]

    def caught_up(self, tp: TopicPartition) -> bool:
        return tp.partition not in self.behind

    def chunk(self, partition: int, rows: int, came: int) -> Chunk:
        tp = TopicPartition("t", partition)
        start = self.at[tp]
        self.at[tp] += rows
        offsets = range(start, start + rows)
        return Chunk(tp, offsets, [None] * rows, [b""] * rows, [came] * rows, start + rows)


def queue(reader: Reader, *, rows_max: int = 1_000) -> FreshFirst:
    given = cast("GroupReader", reader)
    return FreshFirst(given, lambda: NOW, lambda: PARTITIONS, within_ms=WITHIN, rows_max=rows_max)


def counts(chunks: list[Chunk]) -> list[tuple[int, int]]:
    return [(chunk.tp.partition, len(chunk.offsets)) for chunk in chunks]


def test_fresh_ones_go_first_and_a_backlog_gets_its_share() -> None:
    reader = Reader()
    waiting = queue(reader)
    waiting.extend([reader.chunk(0, 400, LATE), reader.chunk(1, 3, NOW), reader.chunk(2, 5, NOW)])
    assert waiting.head is not None
    assert waiting.head.tp.partition == 1
    assert counts(waiting.take(100)) == [(1, 3), (2, 5), (0, 25)]
    assert counts(waiting.take(100)) == [(0, 100)], "nothing fresh waits: the backlog has it all"
    waiting.extend([reader.chunk(1, 200, NOW)])
    assert counts(waiting.take(100)) == [(1, 100)], "no others are with what stands first alone"
    assert counts(waiting.take(120)) == [(1, 90), (0, 30)]
    assert waiting.rows == 200 - 190 + 275 - 30


def test_just_in_time_is_fresh() -> None:
    reader = Reader()
    waiting = queue(reader)
    waiting.extend([reader.chunk(0, 4, LATE), reader.chunk(1, 4, NOW - WITHIN), reader.chunk(2, 4, NOW)])
    assert counts(waiting.take(8)) == [(1, 4), (2, 2), (0, 2)]


def test_when_all_are_behind_the_first_that_came_is_taken_first() -> None:
    reader = Reader(0, 1, 2, 3)
    waiting = queue(reader, rows_max=100)
    waiting.extend([reader.chunk(p, 50, LATE - p) for p in (2, 0, 1)])
    assert counts(waiting.take(120)) == [(2, 50), (0, 50), (1, 20)]
    assert not reader.paused, "a backlog of all partitions is read as fast as it is decided"


@pytest.mark.parametrize(
    ("behind", "came", "is_far_behind"),
    [
        ((0, 1, 2, 3), LONG_AGO, True),
        ((0, 1, 2, 3), LONG_AGO + 1, False),
        ((0, 1, 2), LONG_AGO, False),  # the fourth has caught up: what comes to it next must not wait long
    ],
)
def test_a_second_back_everywhere_is_far_behind(behind: tuple[int, ...], came: int, is_far_behind: bool) -> None:
    waiting = queue(reader := Reader(*behind))
    assert not waiting.is_far_behind, "nothing waits"
    waiting.extend([reader.chunk(0, 5, LONG_AGO), reader.chunk(1, 5, came)])
    assert waiting.is_far_behind is is_far_behind


def test_beside_a_live_partition_nothing_is_far_behind_while_its_next_records_are_not_polled_yet() -> None:
    waiting = queue(reader := Reader(0, 1, 2, 3))  # who has fetched something has not caught up
    waiting.extend([reader.chunk(0, 5, LONG_AGO), reader.chunk(1, 5, NOW - 1)])
    assert {chunk.tp.partition for chunk in waiting.take(5)} == {1}
    assert not waiting.is_far_behind


def test_beside_a_live_partition_a_backlog_has_half_the_room_and_is_read_on_when_little_is_left() -> None:
    reader = Reader(0)
    waiting, most = queue(reader), 0
    for _ in range(100):
        if TopicPartition("t", 0) not in reader.paused:
            waiting.extend([reader.chunk(0, 200, LATE)])
        waiting.extend([reader.chunk(1, 2, NOW)])
        taken = counts(waiting.take(100))
        assert taken[0] == (1, 2)
        most = max(most, waiting.rows)
    assert most <= 500 + 200 + 2
    assert reader.at[TopicPartition("t", 0)] > 2_000, "it goes on"


def test_who_restores_is_not_told_to_read_on() -> None:
    reader = Reader(0)
    waiting = queue(reader)
    late = reader.chunk(0, 600, LATE)
    reader.paused.add(late.tp)
    waiting.extend([late])
    waiting.take(600)
    assert reader.paused == {late.tp}


def test_a_cleared_queue_has_forgotten_whom_it_paused() -> None:
    reader = Reader(0)
    waiting = queue(reader)
    waiting.extend([reader.chunk(0, 600, LATE)])
    assert reader.paused
    waiting.clear()
    assert (waiting.rows, waiting.head, waiting.ready()) == (0, None, False)
    waiting.extend([reader.chunk(1, 5, NOW)])
    waiting.take(5)
    assert reader.paused == {TopicPartition("t", 0)}, "who clears it places the reader anew"


@given(
    came=st.lists(st.tuples(st.integers(0, 3), st.integers(1, 9), st.sampled_from((LATE, NOW))), max_size=25),
    takes=st.lists(st.integers(1, 12), min_size=1, max_size=60),
)
def test_nothing_is_lost_or_reordered_and_batches_are_bounded(
    came: list[tuple[int, int, int]], takes: list[int]
) -> None:
    reader = Reader()
    waiting = queue(reader, rows_max=10_000)
    waiting.extend([reader.chunk(*one) for one in came])
    total = waiting.rows
    seen: dict[int, list[int]] = defaultdict(list)
    for rows in takes:
        head = waiting.head
        taken = waiting.take(rows)
        assert sum(len(chunk.offsets) for chunk in taken) <= rows
        assert bool(taken) == (head is not None)
        if head is not None:
            assert (taken[0].tp, taken[0].offsets[0]) == (head.tp, head.offsets[0])
            assert rows > len(head.offsets) or len(taken) == 1
        for chunk in taken:
            seen[chunk.tp.partition] += chunk.offsets
    assert all(offsets == list(range(len(offsets))) for offsets in seen.values())
    assert total == waiting.rows + sum(len(offsets) for offsets in seen.values())
