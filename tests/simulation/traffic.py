"""Small, seeded payments for configs/bench_v1 that hold every kind of trouble."""

from __future__ import annotations

__all__ = ["START_MS", "Record", "staged_stream", "staged_traffic", "traffic", "trouble"]

import json
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

START_MS = 1_600_000_000_000
STEPS_MS = (1, 500, 5_000, 60_000, 1_000_000)
"""Between two records."""
POISON = (
    b'{"a":1,"z":[{}', b"{}]}", b'{"a":2},{"a":3}', b"", b"null", b"[]", b'{"transaction_id":"x"}',
    b'{"transaction_id":"y","card_id":"c1","amount":"much","event_time":1600000000000}',
    b'{"transaction_id":"z","card_id":"c1","amount":NaN,"event_time":1600000000000}',
    b'{"transaction_id":"w","card_id":"c1","amount":1,"event_time":9600000000000}',
)  # fmt: skip
HUGE = 85_000_000_000_000.0
"""An amount of which a field does not take the double, though a feature may hold it."""
_STAGED_POISON = (
    *POISON[:7],
    b'{"transaction_id":"y","card_id":"c1","device_id":"d1","lat":1,"lon":2,"amount":"much","event_time":1}',
    b'{"transaction_id":"w","card_id":"c1","device_id":"d1","lat":1,"lon":2,"amount":1,"event_time":9600000000000}',
    b'{"transaction_id":"v","card_id":"c1","lat":1,"lon":2,"amount":1,"event_time":1600000000000}',
    b'{"transaction_id":"u","device_id":"d1","lat":1,"lon":2,"amount":1,"event_time":1600000000000}',
)


class Record(NamedTuple):
    """A record to feed; poison has no key of its own, so `card` names the key whose partition it goes to."""

    card: str
    value: bytes


def traffic(rng: random.Random, count: int, cards: int) -> list[Record]:
    """`count` records in arrival order: bursts, small amounts, jumps, late, repeated and reused ids, poison."""
    return list(islice(_stream(rng, cards, START_MS, STEPS_MS, POISON, lambda card: (card, {})), count))


def staged_traffic(rng: random.Random, count: int, cards: int, start_ms: int) -> list[Record]:
    """The same for stages.yaml."""
    return list(islice(staged_stream(rng, cards, start_ms), count))


def staged_stream(
    rng: random.Random, cards: int, start_ms: int, steps_ms: Sequence[int] = STEPS_MS
) -> Iterator[Record]:
    """The same without end, by device, from the event time `start_ms` on, which goes on by `steps_ms`.

    A device has two cards, mostly, and a card is now and then seen on any of them; terminals have all cards.
    """

    def places(card: str) -> tuple[str, dict[str, Any]]:
        device = f"d{rng.randrange(cards) if rng.random() < 0.2 else int(card[1:]) // 2}"
        terminal = rng.choice((None, "", "t0", "t1", "t2", "t3", "t4", "t5"))
        huge = {"amount": HUGE} if rng.random() < 0.03 else {}
        return device, {"device_id": device, "terminal_id": terminal, **huge}

    return _stream(rng, cards, start_ms, steps_ms, _STAGED_POISON, places)


def trouble(records: Sequence[Record]) -> Counter[str]:
    """How many there are, and how many of each kind that a seed must have, in the order in which they come."""
    found = Counter({"records": len(records)})
    newest, seen = 0, set[bytes]()
    for _, value in records:
        if value in POISON or value in _STAGED_POISON:
            found["poison"] += 1
            continue
        found["repeated records"] += value in seen
        seen.add(value)
        time = json.loads(value)["event_time"]
        found["late records"] += time < newest
        newest = max(newest, time)
    return found


def _stream(
    rng: random.Random, cards: int, now: int, steps_ms: Sequence[int], poison: Sequence[bytes],
    places: Callable[[str], tuple[str, dict[str, Any]]],
) -> Iterator[Record]:  # fmt: skip
    """`places`: the key of a card's record, and what else the record has."""
    records: list[Record] = []
    while True:
        number = len(records)
        card = f"c{min(rng.randrange(cards), rng.randrange(cards))}"
        if records and rng.random() < 0.05:
            record = rng.choice(records)
        elif rng.random() < 0.05:
            record = Record(card, rng.choice(poison))
        else:
            now += rng.choice(steps_ms)
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
            key, more = places(card)
            record = Record(key, json.dumps(event | more).encode())
        records.append(record)
        yield record
