"""The benchmark's job in plain Python, row by row: what configs/bench_v1 must decide, bad and repeated records too.

A card's rows are kept twice: in row order, for "previous", and in order of time, so that a window is two bisections
and a sum over what lies between. Nothing is incremental, nothing is ever dropped.
"""

from __future__ import annotations

__all__ = ["AHEAD", "FIELDS", "HORIZON", "Expected", "Fields", "expect", "parse"]

import json
import math
from bisect import bisect_right
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

MINUTE = 60_000
WINDOWS = {"5m": 5 * MINUTE, "1h": 60 * MINUTE, "24h": 1440 * MINUTE}
HORIZON = 1440 * MINUTE
AHEAD = 1440 * MINUTE
BYTES_MAX = 256 * 1024
REPEATED = ("amount", *(f"{what}_{w}" for w in WINDOWS for what in "ns"), "n_30s", "speed_kmh", "hour", "ts")
"""What a repeated record's decision leaves NULL."""
Fields = Mapping[str, tuple[type, ...]]
FIELDS: Fields = {
    "transaction_id": (str,), "card_id": (str,), "amount": (int, float), "lat": (int, float), "lon": (int, float),
    "event_time": (int,), "ts": (int,),
}  # fmt: skip
NEEDED = frozenset({"transaction_id", "card_id", "event_time"})


@dataclass
class Expected:
    """What one partition's records come to: decisions by offset, offsets of dead letters, offsets of duplicates."""

    decisions: dict[int, dict[str, Any]] = field(default_factory=dict)
    dead: set[int] = field(default_factory=set)
    duplicates: set[int] = field(default_factory=set)


@dataclass
class _Row:
    time: int
    cents: int
    lat: float
    lon: float


@dataclass
class _Card:
    """`rows` in row order; `times` ascending, `cents` beside them."""

    rows: list[_Row] = field(default_factory=list)
    times: list[int] = field(default_factory=list)
    cents: list[int] = field(default_factory=list)

    def add(self, row: _Row) -> None:
        at = bisect_right(self.times, row.time)
        self.times.insert(at, row.time)
        self.cents.insert(at, row.cents)
        self.rows.append(row)

    def before(self, now: int) -> Iterator[_Row]:
        """Earlier rows that do not lie after `now`, the last one in row order first."""
        return (row for row in reversed(self.rows) if row.time <= now)

    def within(self, width: int, now: int) -> list[int]:
        """The amounts of rows in (now - width, now]."""
        return self.cents[bisect_right(self.times, now - width) : bisect_right(self.times, now)]


@dataclass
class _Seen:
    payload: bytes
    time: int
    action: str


def expect(records: list[tuple[int, bytes, int]]) -> Expected:
    """Decide (offset, value, log timestamp) of one partition, in offset order."""
    out = Expected()
    cards: dict[str, _Card] = {}
    ids: dict[str, _Seen] = {}
    stream_time = 0
    for offset, value, timestamp in records:
        event = parse(value, timestamp)
        if event is None:
            out.dead.add(offset)
            continue
        now = event["event_time"]
        stream_time = max(stream_time, now)
        seen = ids.get(event["transaction_id"])
        if seen is not None and stream_time - seen.time > HORIZON:
            seen = None
        if seen is not None and seen.payload == value:
            out.duplicates.add(offset)
            out.decisions[offset] = _named(event, seen.action, []) | dict.fromkeys(REPEATED)
            continue
        decision = _decide(event, cards.setdefault(event["card_id"], _Card()))
        if seen is not None:
            decision["reasons"].insert(0, "id_reused")
        ids[event["transaction_id"]] = _Seen(value, now, decision["decision"])
        out.decisions[offset] = decision
    return out


def parse(
    value: bytes, timestamp: int, fields: Fields = FIELDS, needed: Container[str] = NEEDED
) -> dict[str, Any] | None:
    """A record, or None if it must be refused."""
    if len(value) > BYTES_MAX:
        return None
    try:
        event = json.loads(value)
        json.dumps([event.get(name) for name in fields], ensure_ascii=False).encode()  # half a surrogate pair
    except (ValueError, RecursionError, AttributeError):
        return None
    if not isinstance(event, dict):
        return None
    for name, kinds in fields.items():
        found = event.get(name)
        if found is None and name in needed:
            return None
        if found is not None and (type(found) not in kinds or (isinstance(found, float) and not math.isfinite(found))):
            return None
    if event["event_time"] > timestamp + AHEAD or event["event_time"] < 0:
        return None
    return event


def _named(event: dict[str, Any], action: str, reasons: list[str]) -> dict[str, Any]:
    return {
        "transaction_id": event["transaction_id"],
        "card_id": event["card_id"],
        "event_time": event["event_time"],
        "decision": action,
        "score": 0.0,
        "reasons": reasons,
    }


def _decide(event: dict[str, Any], card: _Card) -> dict[str, Any]:
    now = event["event_time"]
    row = _Row(now, round(event["amount"] * 100), event["lat"], event["lon"])
    before = list(islice(card.before(now), 3))
    card.add(row)
    features: dict[str, Any] = {"amount": event["amount"], "ts": event.get("ts")}
    for name, width in WINDOWS.items():
        inside = card.within(width, now)
        features[f"n_{name}"] = len(inside)
        features[f"s_{name}"] = sum(inside) / 100
    features["n_30s"] = len(card.within(30_000, now))
    features["speed_kmh"] = _speed(before[0], row) if before else 0.0
    features["hour"] = now // 3_600_000 % 24
    hits = [
        ("testing", "decline", _testing(row, before)),
        ("velocity_30s", "decline", features["n_30s"] >= 5),
        ("speed", "decline", features["speed_kmh"] > 1000),
        ("spend_24h", "review", features["s_24h"] > 2000),
    ]
    reasons = [name for name, _, hit in hits if hit]
    actions = {action for _, action, hit in hits if hit}
    action = "decline" if "decline" in actions else "review" if actions else "approve"
    return _named(event, action, reasons) | features


def _testing(row: _Row, before: list[_Row]) -> bool:
    if row.cents <= 10_000 or len(before) < 3:
        return False
    return all(old.cents < 200 for old in before) and before[2].time > row.time - 10 * MINUTE


def _speed(old: _Row, new: _Row) -> float:
    hours = (new.time - old.time) / 3_600_000
    if hours == 0:
        return 0.0
    p1, p2 = math.radians(old.lat), math.radians(new.lat)
    dl = math.radians(new.lon - old.lon)
    h = math.sin((p2 - p1) / 2) ** 2 + math.cos(p1) * math.cos(p2) * math.sin(dl / 2) ** 2
    return 2 * 6371.0 * math.asin(min(1.0, math.sqrt(h))) / hours
