"""Collecting while a transaction is in flight: bounded, in order, and a failing poll never harms the transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from state.errors import EventLogError
from streamproc.eventlog.contract import Chunk, GroupReader, TopicPartition
from streamproc.runtime.chunks import split_chunk
from streamproc.runtime.collector import Collector, InArrivalOrder

TP = TopicPartition("t", 0)


def chunk(start: int, stop: int) -> Chunk:
    count = stop - start
    return Chunk(TP, range(start, stop), [None] * count, [b"%d" % n for n in range(start, stop)], [0] * count, stop)


class Script:
    """A reader whose polls are scripted; then it waits for ever."""

    def __init__(self, *polls: Callable[[], list[Chunk]]) -> None:
        self.polls = list(polls)

    async def poll(self, timeout_ms: int) -> list[Chunk]:
        await asyncio.sleep(0)
        if not self.polls:
            await asyncio.get_running_loop().create_future()
        return self.polls.pop(0)()


def collector(*polls: Callable[[], list[Chunk]], rows_max: int = 100) -> Collector:
    return Collector(cast("GroupReader", Script(*polls)), rows_max, InArrivalOrder())


def fail() -> list[Chunk]:
    raise EventLogError("no answer", retriable=True)


@given(rows=st.integers(1, 9))
def test_a_split_loses_nothing(rows: int) -> None:
    first, rest = split_chunk(chunk(5, 15), rows)
    assert [*first.offsets, *rest.offsets] == list(range(5, 15))
    assert [*first.values, *rest.values] == chunk(5, 15).values
    assert (first.next_offset, rest.next_offset) == (5 + rows, 15)


@given(takes=st.lists(st.integers(1, 7), min_size=30, max_size=30))
def test_takes_are_bounded_and_in_order(takes: list[int]) -> None:
    async def scenario() -> None:
        collecting = collector(lambda: [chunk(0, 4), chunk(4, 10)], lambda: [chunk(10, 20)])
        seen: list[int] = []
        for rows in takes:
            if not await collecting.wait(0.001):
                break
            taken = [offset for part in collecting.queue.take(rows) for offset in part.offsets]
            assert 1 <= len(taken) <= rows
            seen += taken
        assert seen == list(range(len(seen)))
        assert len(seen) == min(20, sum(takes)) or len(seen) <= 20
        await collecting.reset()

    asyncio.run(scenario())


async def work(result: int, polls: int) -> int:
    for _ in range(polls):
        await asyncio.sleep(0.001)
    return result


async def test_it_collects_during_a_transaction() -> None:
    collecting = collector(lambda: [chunk(0, 4)], lambda: [chunk(4, 5)])
    assert await collecting.during(asyncio.ensure_future(work(7, 5)))
    assert collecting.queue.rows == 5
    await collecting.reset()
    assert collecting.queue.rows == 0


async def test_it_returns_when_a_full_batch_waits() -> None:
    collecting = collector(lambda: [chunk(0, 4)], lambda: [chunk(4, 9)], lambda: [chunk(9, 10)])
    working = asyncio.ensure_future(work(7, 500))
    assert not await collecting.during(working, rows=9)
    assert not working.done()
    assert collecting.queue.rows == 9
    working.cancel()
    await collecting.reset()


class Holding(InArrivalOrder):
    """A queue that gives out `free` records only."""

    free = 0

    def takeable(self, rows: int) -> int:
        return min(rows, self.free)


async def test_what_is_held_back_makes_no_batch() -> None:
    """Computing ahead would take nothing of it, and look no more during that commit."""
    queue = Holding()
    collecting = Collector(cast("GroupReader", Script(lambda: [chunk(0, 9)], lambda: [chunk(9, 12)])), 100, queue)
    assert await collecting.during(asyncio.ensure_future(work(7, 5)), rows=9)
    assert queue.rows == 12
    working = asyncio.ensure_future(work(7, 500))
    queue.free = 9
    assert not await collecting.during(working, rows=9)
    working.cancel()
    await collecting.reset()


@pytest.mark.parametrize("free", [0, 1])
async def test_no_more_is_waited_for_than_there_is_room_for(free: int) -> None:
    queue = Holding()
    queue.free = free
    collecting = Collector(cast("GroupReader", Script(lambda: [chunk(0, 20)])), 20, queue)
    assert await collecting.during(asyncio.ensure_future(work(7, 20)), rows=9) is (free == 0)
    await collecting.reset()


async def test_the_buffer_is_bounded() -> None:
    endless: list[Any] = [lambda: [chunk(0, 60)]] * 10
    collecting = collector(*endless, rows_max=100)
    await collecting.during(asyncio.ensure_future(work(0, 30)))
    assert collecting.queue.rows == 120


async def test_a_failed_poll_is_told_after_the_transaction() -> None:
    collecting = collector(fail, lambda: [chunk(0, 1)])
    assert await collecting.during(asyncio.ensure_future(work(1, 5)))
    with pytest.raises(EventLogError):
        await collecting.wait(1.0)
    assert await collecting.wait(1.0)
    await collecting.reset()


async def test_what_is_taken_between_two_polls_need_not_be_as_much_as_a_poll_brings() -> None:
    """Ten times as much comes as is decided, for long: what waits stays below the bound and one poll's records."""
    came = 0

    def poll() -> list[Chunk]:
        nonlocal came
        came += 100
        return [chunk(came - 100, came)]

    collecting = collector(*[poll] * 1_000, rows_max=500)
    waiting = []
    for _ in range(300):
        assert await collecting.wait()
        collecting.queue.take(10)
        await collecting.during(asyncio.ensure_future(work(0, 1)))
        waiting.append(collecting.queue.rows)
    assert 500 <= max(waiting) <= 600
    assert min(waiting[100:]) > 400, "and it never runs dry"
    await collecting.reset()
