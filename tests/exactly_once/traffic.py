"""Payments for configs/bench_v1 without end: seeded, drawn by the block, with every kind of trouble in small amounts.

Bursts on one card, late events (at most 50 minutes: within the history that is kept for them), repeated records,
reused ids, poison. Event time runs past the longest window within 200,000 records.
"""

from __future__ import annotations

__all__ = ["BLOCK", "CARDS", "Block", "blocks", "roll_call"]

import json
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

import numpy as np

BLOCK = 2_000
CARDS = 20_000
_START_MS = 1_600_000_000_000
_STEP_MS = 600
_BURST = 64
_LATE_MS = np.array([1_000, 200_000, 3_000_000])
_AMOUNTS = np.array([0.5, 1.99, 25.1, 101.0, 1500.55])
_CITIES = np.array([[48.85, 2.35], [52.52, 13.4], [19.07, 72.87]])
_LINE = (
    b'{"transaction_id":"t%d","card_id":"c%d","amount":%.2f,"lat":%.2f,"lon":%.2f,"event_time":%d,"ts":%d}'
)  # fmt: skip
_POISON = (
    b'{"a":1,"z":[{}', b"{}]}", b'{"a":2},{"a":3}', b"", b"null", b"[]", b'{"transaction_id":"x"}',
    b'{"transaction_id":"y","card_id":"c1","amount":"much","event_time":1600000000000}',
    b'{"transaction_id":"z","card_id":"c1","amount":NaN,"event_time":1600000000000}',
    b'{"transaction_id":"w","card_id":"c1","amount":1,"event_time":9600000000000}',
)  # fmt: skip


class Block(NamedTuple):
    """Records in arrival order, with their keys; poison goes where its card would."""

    rows: list[bytes]
    keys: list[bytes]


def blocks(seed: int, cards: int = CARDS) -> Iterator[Block]:
    """Blocks of `BLOCK` records, for ever."""
    rng = np.random.default_rng(seed)
    now, number = _START_MS, 0
    last: Block | None = None
    while True:
        times = now + np.cumsum(rng.exponential(_STEP_MS, BLOCK).astype(np.int64))
        now = int(times[-1])
        block = _spoil(rng, _payments(rng, number, times, cards), last)
        yield block
        number += BLOCK
        last = block


def roll_call(seed: int, skip: int, cards: int = CARDS) -> Iterator[Block]:
    """A payment of every card, later than all of the first `skip` records: each shows what is known of its card."""
    now = _START_MS
    for block in islice(blocks(seed, cards), skip // BLOCK):
        times = (json.loads(row).get("event_time", 0) for row in block.rows[-_BURST:] if row.startswith(b'{"transac'))
        now = max([now, *(time for time in times if time < 2 * _START_MS)])
    for first in range(0, cards, BLOCK):
        some = range(first, first + BLOCK)
        rows = [_LINE % (skip + card, card, 1.0, 48.85, 2.35, now + 1_000 + card, skip + card) for card in some]
        yield Block(rows, [b"c%d" % card for card in some])


def _payments(rng: np.random.Generator, number: int, times: np.ndarray, cards: int) -> Block:
    ids = number + np.arange(BLOCK)
    card = rng.integers(0, cards, BLOCK)
    hot = rng.integers(0, cards, BLOCK // _BURST + 1)
    card = np.where(rng.random(BLOCK) < 0.15, hot[np.arange(BLOCK) // _BURST], card)
    late = rng.random(BLOCK) < 0.03
    event_time = times - np.where(late, rng.choice(_LATE_MS, BLOCK), 0)
    amount = np.where(rng.random(BLOCK) < 0.5, rng.choice(_AMOUNTS, BLOCK), rng.integers(1, 30_000, BLOCK) / 100)
    city = np.where(rng.random(BLOCK) < 0.97, card % 3, rng.integers(0, 3, BLOCK))
    reused = np.flatnonzero(rng.random(BLOCK) < 0.003)
    names = ids.copy()
    names[reused] = rng.integers(0, ids[reused] + 1)
    columns = (names, card, amount, _CITIES[city, 0], _CITIES[city, 1], event_time, ids)
    rows = [_LINE % values for values in zip(*(column.tolist() for column in columns), strict=True)]
    return Block(rows, [b"c%d" % c for c in card.tolist()])


def _spoil(rng: np.random.Generator, block: Block, last: Block | None) -> Block:
    """Some records come again, of this block or the one before; some are poison."""
    rows, keys = block
    for i in np.flatnonzero(rng.random(BLOCK) < 0.01).tolist():
        source = last if last is not None and rng.random() < 0.3 else block
        at = int(rng.integers(0, BLOCK if source is last else i + 1))
        rows[i], keys[i] = source.rows[at], source.keys[at]
    for i in np.flatnonzero(rng.random(BLOCK) < 0.002).tolist():
        rows[i] = _POISON[int(rng.integers(0, len(_POISON)))]
    return block
