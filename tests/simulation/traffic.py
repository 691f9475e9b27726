"""Small, seeded payments for configs/bench_v1 that hold every kind of trouble."""

from __future__ import annotations

__all__ = ["Record", "traffic"]

import json
import random
from typing import NamedTuple

START_MS = 1_600_000_000_000
POISON = (
    b'{"a":1,"z":[{}', b"{}]}", b'{"a":2},{"a":3}', b"", b"null", b"[]", b'{"transaction_id":"x"}',
    b'{"transaction_id":"y","card_id":"c1","amount":"much","event_time":1600000000000}',
    b'{"transaction_id":"z","card_id":"c1","amount":NaN,"event_time":1600000000000}',
    b'{"transaction_id":"w","card_id":"c1","amount":1,"event_time":9600000000000}',
)  # fmt: skip


class Record(NamedTuple):
    """A record to feed; poison has no key of its own, so it names the card whose partition it goes to."""

    card: str
    value: bytes


def traffic(rng: random.Random, count: int, cards: int) -> list[Record]:
    """`count` records in arrival order: bursts, small amounts, jumps, late, repeated and reused ids, poison."""
    records: list[Record] = []
    now = START_MS
    for number in range(count):
        card = f"c{min(rng.randrange(cards), rng.randrange(cards))}"
        if records and rng.random() < 0.05:
            records.append(rng.choice(records))
            continue
        if rng.random() < 0.05:
            records.append(Record(card, rng.choice(POISON)))
            continue
        now += rng.choice((1, 500, 5_000, 60_000, 1_000_000))
        time = now - rng.choice((1_000, 200_000, 7_200_000)) if rng.random() < 0.1 else now
        reused = rng.random() < 0.02
        event = {
            "transaction_id": f"t{rng.randrange(max(1, number)) if reused else number}",
            "card_id": card,
            "amount": rng.choice((0.5, 1.99, 25.1, 101.0, 1500.55)),
            "lat": rng.choice((48.85, 52.52, 19.07)),
            "lon": rng.choice((2.35, 13.4, 72.87)),
            "event_time": time,
            "ts": 1,
        }
        records.append(Record(card, json.dumps(event).encode()))
    return records
