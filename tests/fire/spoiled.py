"""Payments for configs/bench_v1 of which a share is poison of every kind, repeated, out of order, or late."""

from __future__ import annotations

__all__ = ["POISON", "Spoiled", "spoiled"]

import json
import random
import re
from collections import Counter
from typing import NamedTuple

from tests.exactly_once.traffic import blocks

_TIME = re.compile(rb'("event_time":)(\d+)')
_LATE_MAX_MS = 3_000_000
"""Fifty minutes: within the history that is kept for late records."""


CARD_NUMBER = "4111111111111111"


def _payment(**changes: object) -> bytes:
    fields = {
        "transaction_id": "p", "card_id": "c1", "amount": 1.5, "lat": 1.0, "lon": 1.0, "event_time": 1_600_000_000_000,
    } | changes  # fmt: skip
    return json.dumps({name: value for name, value in fields.items() if value is not ...}).encode()


POISON: dict[str, tuple[bytes | None, frozenset[str]]] = {
    name: (value, frozenset(reasons.split()))
    for name, value, reasons in (
        ("bad JSON", b'{"transaction_id":"p","card_id":', "broken_json"),
        ("two objects", b"{}{}", "broken_json"),
        ("no object", CARD_NUMBER.encode(), "wrong_type"),
        ("empty", b"", "tombstone"),
        ("tombstone", None, "tombstone"),
        ("not UTF-8", b'{"transaction_id":"\xff"}', "broken_json"),
        ("wrong type", _payment(amount="much"), "wrong_type"),
        ("a list for a number", _payment(lat=[1]), "wrong_type"),
        ("NaN", _payment(amount=float("nan")), "broken_json"),
        ("infinity", _payment(lat=float("inf")), "broken_json"),
        ("beyond a float", _payment(lat=0.5).replace(b"0.5", b"1e999"), "out_of_range broken_json"),
        ("10,000 deep", b'{"transaction_id":"p","x":' + b"[" * 10_000 + b"]" * 10_000 + b"}", "too_deep broken_json"),
        ("300 KB", _payment(note="x" * 300_000), "too_large"),
        ("lone surrogate", _payment(card_id="\ud800"), "broken_json wrong_type"),
        ("no key", _payment(card_id=...), "missing_key"),
        ("null key", _payment(card_id=None), "missing_key"),
        ("no id", _payment(transaction_id=...), "missing_id"),
        ("no time", _payment(event_time=...), "missing_time"),
        ("the future", _payment(event_time=9_600_000_000_000), "future_time"),
        ("before 1970", _payment(event_time=-1), "bad_time"),
    )
}


class Spoiled(NamedTuple):
    """Records in arrival order with their keys; what was done to them, by kind."""

    rows: list[bytes | None]
    keys: list[bytes]
    done: Counter[str]


def spoiled(seed: int, records: int, *, poison: float = 0.0, disorder: float = 0.0) -> Spoiled:
    """`poison`: share of records replaced by it; `disorder`: share repeated, share shuffled and share made late."""
    rng = random.Random(seed)
    rows: list[bytes | None] = []
    keys: list[bytes] = []
    for block in blocks(seed):
        rows += block.rows
        keys += block.keys
        if len(rows) >= records:
            break
    done: Counter[str] = Counter()
    for at in range(records):
        if rng.random() < disorder:
            rows[at] = _late(rng, rows[at] or b"")
            done["late"] += 1
        if rng.random() < disorder and at > 100:
            other = at - rng.randrange(1, 100)
            rows[at], keys[at] = rows[other], keys[other]
            done["repeated"] += 1
    for at in range(records - 50):
        if rng.random() < disorder:
            other = at + rng.randrange(1, 50)
            rows[at], rows[other] = rows[other], rows[at]
            keys[at], keys[other] = keys[other], keys[at]
            done["shuffled"] += 1
    kinds = list(POISON)
    for at in range(records):
        if rng.random() < poison:
            kind = kinds[done.total() % len(kinds)] if poison else ""
            rows[at] = POISON[kind][0]
            done[kind] += 1
    return Spoiled(rows[:records], keys[:records], done)


def _late(rng: random.Random, row: bytes) -> bytes:
    return _TIME.sub(lambda found: found[1] + b"%d" % max(0, int(found[2]) - rng.randrange(1, _LATE_MAX_MS)), row)
