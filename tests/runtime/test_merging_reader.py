"""What is delivered when: a scripted reader below, a clock that is set by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from state.errors import EventLogError
from streamproc.eventlog.contract import NO_OFFSET, Chunk, CommittedOffset, TopicPartition
from streamproc.runtime import merging_reader
from streamproc.runtime.merging_reader import MergedStage, MergingReader

PAYMENTS, LOGINS = TopicPartition("payments", 0), TopicPartition("logins", 0)
OTHER = TopicPartition("alone", 0)
WAIT_S = 2.0


class Clock:
    """Moves on by each look of a poll."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def now_ms(self) -> int:
        return 0

    def work(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


class Reader:
    """Delivers what `bring` is told; `up` are the partitions that are known to be caught up."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.next: list[Chunk] = []
        self.up: set[TopicPartition] = set()
        self.positions: dict[TopicPartition, int] = {PAYMENTS: 0, LOGINS: 0, OTHER: 0}
        self.paused: list[TopicPartition] = []
        self.resumed: list[tuple[TopicPartition, int]] = []
        self.error: Exception | None = None

    def bring(self, tp: TopicPartition, *times: int) -> None:
        first = self.positions[tp]
        offsets = list(range(first, first + len(times)))
        self.positions[tp] = first + len(times)
        self.next.append(
            Chunk(tp, offsets, [None] * len(times), [b"%d" % t for t in times], list(times), offsets[-1] + 1)
        )

    async def start(self) -> None: ...

    async def poll(self, timeout_ms: int) -> list[Chunk]:
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error
        chunks, self.next = self.next, []
        if not chunks:
            self.clock.now += timeout_ms / 1000
        return chunks

    async def committed(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, CommittedOffset]:
        return {}

    def resume(self, tp: TopicPartition, offset: int) -> None:
        self.positions[tp] = offset
        self.resumed.append((tp, offset))

    def pause(self, tp: TopicPartition) -> None:
        self.paused.append(tp)

    def position(self, tp: TopicPartition) -> int:
        return self.positions.get(tp, NO_OFFSET)

    def caught_up(self, tp: TopicPartition) -> bool:
        return tp in self.up

    async def close(self, *, leave: bool = False) -> None: ...


def times_of(chunk: Chunk) -> Any:
    return np.array([int(value or b"-1") for value in chunk.values], np.int64)


@pytest.fixture
def reader() -> Reader:
    return Reader(Clock())


@pytest.fixture
def merging(reader: Reader) -> MergingReader:
    stage = MergedStage({"payments": times_of, "logins": times_of}, {"payments": WAIT_S, "logins": WAIT_S})
    return MergingReader(reader, [stage], reader.clock)


def shown(chunks: list[Chunk]) -> list[tuple[str, list[int]]]:
    return [(chunk.tp.topic, times_of(chunk).tolist()) for chunk in chunks]


async def test_after_an_outage_a_payment_waits_for_the_login_before_it(reader: Reader, merging: MergingReader) -> None:
    reader.bring(PAYMENTS, 1000, 1005)
    assert await merging.poll(100) == []
    assert merging.position(PAYMENTS) == 0  # not delivered
    reader.bring(LOGINS, 1001)
    assert shown(await merging.poll(100)) == [("payments", [1000]), ("logins", [1001])]
    assert merging.position(PAYMENTS) == 1
    reader.up.add(LOGINS)
    assert shown(await merging.poll(100)) == [("payments", [1005])]
    assert merging.position(PAYMENTS) == 2


async def test_live_nothing_waits(reader: Reader, merging: MergingReader) -> None:
    reader.up |= {PAYMENTS, LOGINS}
    reader.bring(PAYMENTS, 1000)
    assert shown(await merging.poll(100)) == [("payments", [1000])]
    assert reader.clock.now == 0.0
    reader.bring(PAYMENTS, 1010)
    reader.bring(LOGINS, 1009)
    assert shown(await merging.poll(100)) == [("logins", [1009]), ("payments", [1010])]
    assert reader.clock.now == 0.0


async def test_the_wait_is_bounded_and_borne_once(reader: Reader, merging: MergingReader) -> None:
    given_up: list[int] = []
    merging._gave_up = lambda: given_up.append(1)
    reader.bring(PAYMENTS, 1000)
    while not (found := await merging.poll(500)):
        assert reader.clock.now < WAIT_S + 0.5
    assert shown(found) == [("payments", [1000])]
    assert reader.clock.now >= WAIT_S
    then = reader.clock.now
    reader.bring(PAYMENTS, 1001)
    assert shown(await merging.poll(500)) == [("payments", [1001])]
    assert reader.clock.now == then
    assert given_up == [1]
    reader.up.add(PAYMENTS)
    reader.bring(LOGINS, 990)  # what comes too late comes at once, behind
    assert shown(await merging.poll(500)) == [("logins", [990])]
    reader.bring(PAYMENTS, 1002)  # and now it is waited for again
    assert await merging.poll(500) == []


async def test_other_topics_pass_as_they_are(reader: Reader, merging: MergingReader) -> None:
    reader.bring(PAYMENTS, 1000)
    reader.bring(OTHER, 3, 1)
    assert shown(await merging.poll(100)) == [("alone", [3, 1])]


async def test_what_is_read_again_is_forgotten(reader: Reader, merging: MergingReader) -> None:
    reader.bring(PAYMENTS, 1000, 1001)
    assert await merging.poll(50) == []
    merging.resume(PAYMENTS, 0)
    assert reader.resumed == [(PAYMENTS, 0)]
    reader.up |= {PAYMENTS, LOGINS}
    assert await merging.poll(50) == []
    reader.bring(PAYMENTS, 1000, 1001)
    assert shown(await merging.poll(50)) == [("payments", [1000, 1001])]


async def test_what_is_lost_is_forgotten(reader: Reader, merging: MergingReader) -> None:
    reader.bring(PAYMENTS, 1000)
    assert await merging.poll(50) == []
    reader.positions.clear()
    assert await merging.poll(50) == []
    reader.positions |= {PAYMENTS: 7, LOGINS: 0}
    assert merging.position(PAYMENTS) == 7


async def test_a_failed_poll_loses_nothing(reader: Reader, merging: MergingReader) -> None:
    reader.bring(PAYMENTS, 1000)
    assert await merging.poll(50) == []
    reader.error = EventLogError("gone", retriable=True)
    with pytest.raises(EventLogError):
        await merging.poll(50)
    reader.error = None
    reader.up.add(LOGINS)
    assert shown(await merging.poll(50)) == [("payments", [1000])]


async def test_memory_is_bounded(reader: Reader, merging: MergingReader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merging_reader, "_HELD_ROWS_MAX", 4)
    reader.bring(PAYMENTS, 1, 2, 3, 4, 5)
    assert await merging.poll(50) == []
    assert reader.paused == [PAYMENTS]
    reader.bring(LOGINS, 4, 9)
    assert shown(await merging.poll(50)) == [("payments", [1, 2, 3, 4]), ("logins", [4]), ("payments", [5])]
    assert reader.resumed == [(PAYMENTS, 5)]
    reader.up |= {PAYMENTS, LOGINS}
    assert shown(await merging.poll(50)) == [("logins", [9])]


async def test_what_is_handed_on_is_caught_up_when_the_stages_before_are(reader: Reader) -> None:
    busy = [True]
    stage = MergedStage(
        {"payments": times_of, "logins": times_of}, {"payments": WAIT_S, "logins": WAIT_S}, lambda: busy[0]
    )
    merging = MergingReader(reader, [stage], reader.clock)
    reader.up |= {PAYMENTS, LOGINS}
    reader.bring(LOGINS, 1000, 9000)
    for _ in range(20):  # all that was handed on is read, and yet there is more to come
        assert await merging.poll(500) == []
    reader.bring(PAYMENTS, 2000)
    assert shown(await merging.poll(50)) == [("logins", [1000]), ("payments", [2000])]
    busy[0] = False
    began = reader.clock.now
    assert await merging.poll(100) == []
    assert shown(await merging.poll(500)) == [("logins", [9000])]
    assert 0.2 <= reader.clock.now - began < 0.3


async def test_unreadable_records_wait_for_nothing_of_their_own(reader: Reader, merging: MergingReader) -> None:
    reader.up |= {PAYMENTS, LOGINS}
    reader.bring(PAYMENTS, 1000, -1, 1003)
    reader.bring(LOGINS, 1001)
    found = shown(await merging.poll(50))
    assert found == [("payments", [1000, -1]), ("logins", [1001]), ("payments", [1003])]
