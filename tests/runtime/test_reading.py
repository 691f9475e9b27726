"""How a replay cuts what it reads again."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from streamproc.eventlog.contract import Chunk, OutputRecords, TopicPartition, TopicSpec
from streamproc.eventlog.simulated import SimulatedCluster, VirtualClock
from streamproc.runtime.journal import RangeOfInput
from streamproc.runtime.reading import MergedFeed, portions

TP = TopicPartition("t", 0)


def chunk(offsets: list[int]) -> Chunk:
    return Chunk(TP, offsets, [b"k"] * len(offsets), [b"%d" % o for o in offsets], [0] * len(offsets), offsets[-1] + 1)


def test_portions_hold_all_records_with_their_actions() -> None:
    rng = random.Random(4)
    for _ in range(200):
        offsets = sorted(rng.sample(range(60), rng.randint(1, 40)))
        cuts = sorted({0, len(offsets), *rng.choices(range(len(offsets)), k=3)})
        chunks = [chunk(offsets[a:b]) for a, b in pairwise(cuts)]
        rejected = set(rng.sample(offsets, len(offsets) // 4))
        actions = bytes(offset for offset in offsets if offset not in rejected)
        rows = rng.randint(1, 50)
        seen: list[int] = []
        for part, decided in portions(chunks, {"t": rejected}, actions, rows):
            mine = [offset for one in part for offset in one.offsets]
            assert len(mine) <= rows
            assert decided == bytes(offset for offset in mine if offset not in rejected)
            seen += mine
        assert seen == offsets


def test_input_that_is_short_of_records_leaves_actions_over() -> None:
    assert list(portions([], {}, b"\1\2", 8)) == [([], b"\1\2")]
    assert [decided for _, decided in portions([chunk([0, 1, 2])], {}, bytes(5), 2)] == [bytes(2), bytes(3)]


@pytest.mark.parametrize("seed", range(5))
async def test_ranges_of_several_topics_come_in_their_order_however_the_log_cuts_them(seed: int) -> None:
    rng = random.Random(seed)
    cluster = SimulatedCluster(VirtualClock(), rng, poll_bytes_max=rng.choice((20, 60, 9_999)))
    log = cluster.client("one")
    at = {"a": 0, "b": 0, "c": 0}
    await log.admin().ensure_topics([TopicSpec(topic, 1) for topic in at])
    for topic in at:
        for i in range(50):
            await log.appender().append([OutputRecords(TopicPartition(topic, 0), [None], [f"{topic}{i}".encode()], 0)])
    ranges: list[RangeOfInput] = []
    while at:
        topic = rng.choice(list(at))
        ranges.append(RangeOfInput(topic, at[topic], min(50, at[topic] + rng.randint(1, 6))))
        at[topic] = ranges[-1].stop
        at = {name: offset for name, offset in at.items() if offset < 50}
    feed = MergedFeed(log, 0)
    found: list[str] = []
    cuts = sorted({0, len(ranges), *rng.choices(range(len(ranges)), k=4)})
    for start, stop in pairwise(cuts):
        found += [value.decode() for chunk in await feed.read(ranges[start:stop]) for value in chunk.values if value]
    await feed.close()
    assert found == [f"{topic}{i}" for topic, first, end in ranges for i in range(first, end)]
