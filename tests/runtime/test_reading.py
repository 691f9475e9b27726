"""How a replay cuts what it reads again."""

from __future__ import annotations

import random
from itertools import pairwise

from streamproc.eventlog.contract import Chunk, TopicPartition
from streamproc.runtime.reading import portions

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
        for part, decided in portions(chunks, rejected, actions, rows):
            mine = [offset for one in part for offset in one.offsets]
            assert len(mine) <= rows
            assert decided == bytes(offset for offset in mine if offset not in rejected)
            seen += mine
        assert seen == offsets


def test_input_that_is_short_of_records_leaves_actions_over() -> None:
    assert list(portions([], set(), b"\1\2", 8)) == [([], b"\1\2")]
    assert [decided for _, decided in portions([chunk([0, 1, 2])], set(), bytes(5), 2)] == [bytes(2), bytes(3)]
