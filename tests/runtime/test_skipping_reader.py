"""A reader that leaves out what was decided before it was read."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from streamproc.eventlog.contract import NO_OFFSET, Chunk, CommittedOffset, TopicPartition
from streamproc.runtime.shortcut import SkippingReader

TP, OTHER = TopicPartition("hop", 0), TopicPartition("hop", 1)


class Script:
    """A reader that delivers what it is told to."""

    def __init__(self, *offsets: Sequence[int]) -> None:
        self.polls = [[chunk(TP, some)] for some in offsets]
        self.at = dict.fromkeys((TP, OTHER), NO_OFFSET)

    async def start(self) -> None: ...

    async def poll(self, timeout_ms: int) -> list[Chunk]:
        (found,) = self.polls.pop(0)
        self.at[TP] = found.next_offset
        return [found]

    async def committed(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, CommittedOffset]:
        return {}

    def resume(self, tp: TopicPartition, offset: int) -> None:
        self.at[tp] = offset

    def pause(self, tp: TopicPartition) -> None:
        self.at[tp] = NO_OFFSET

    def position(self, tp: TopicPartition) -> int:
        return self.at[tp]

    def caught_up(self, tp: TopicPartition) -> bool:
        return True

    async def close(self, *, leave: bool = False) -> None: ...


def chunk(tp: TopicPartition, offsets: Sequence[int]) -> Chunk:
    values = [b"%d" % offset for offset in offsets]
    return Chunk(tp, offsets, [b"k"] * len(values), values, [0] * len(values), offsets[-1] + 1)


@pytest.mark.parametrize(
    ("until", "delivered"),
    [
        (0, [[3, 4, 7, 8]]),
        (3, [[3, 4, 7, 8]]),
        (4, [[4, 7, 8]]),
        (5, [[7, 8]]),
        (8, [[8]]),
        (9, []),
        (100, []),
    ],
)
async def test_records_before_it_are_left_out(until: int, delivered: list[list[int]]) -> None:
    script = Script([3, 4, 7, 8])
    reader = SkippingReader(script)
    reader.resume(TP, 3)
    reader.skip(TP, until)
    reader.skip(OTHER, 100)
    found = await reader.poll(10)
    assert [list(one.offsets) for one in found] == delivered
    assert [list(one.values) for one in found] == [[b"%d" % offset for offset in some] for some in delivered]
    assert reader.position(TP) == max(9, until)


async def test_who_reads_on_from_somewhere_gets_all_from_there() -> None:
    reader = SkippingReader(Script([3, 4]))
    reader.skip(TP, 50)
    reader.resume(TP, 3)
    assert [list(one.offsets) for one in await reader.poll(10)] == [[3, 4]]


async def test_what_is_paused_has_no_position() -> None:
    reader = SkippingReader(Script([3]))
    reader.resume(TP, 3)
    reader.skip(TP, 50)
    assert reader.position(TP) == 50
    reader.pause(TP)
    assert reader.position(TP) == NO_OFFSET
    reader.resume(TP, 3)
    assert reader.position(TP) == 3
