"""The benchmark's job in plain Python, row by row: what configs/bench_v1 must decide, bad and repeated records too.

Windows are searched by brute force among the card's earlier rows, in row order; nothing is incremental.
"""

from __future__ import annotations

__all__ = ["Expected", "expect"]

import json
import math
from dataclasses import dataclass, field
from typing import Any

MINUTE = 60_000
WINDOWS = {"5m": 5 * MINUTE, "1h": 60 * MINUTE, "24h": 1440 * MINUTE}
HORIZON = 1440 * MINUTE
AHEAD = 1440 * MINUTE
FIELDS: dict[str, tuple[type, ...]] = {
    "transaction_id": (str,), "card_id": (str,), "amount": (int, float), "lat": (int, float), "lon": (int, float),
    "event_time": (int,), "ts": (int,),
}  # fmt: skip


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
class _Seen:
    payload: bytes
    time: int
    action: str


def expect(records: list[tuple[int, bytes, int]]) -> Expected:
    """Decide (offset, value, log timestamp) of one partition, in offset order."""
    out = Expected()
    cards: dict[str, list[_Row]] = {}
    ids: dict[str, _Seen] = {}
    stream_time = 0
    for offset, value, timestamp in records:
        event = _parse(value, timestamp)
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
            out.decisions[offset] = {"transaction_id": event["transaction_id"], "decision": seen.action}
            continue
        decision = _decide(event, cards.setdefault(event["card_id"], []))
        if seen is not None:
            decision["reasons"].insert(0, "id_reused")
        ids[event["transaction_id"]] = _Seen(value, now, decision["decision"])
        out.decisions[offset] = decision
    return out


def _parse(value: bytes, timestamp: int) -> dict[str, Any] | None:
    try:
        event = json.loads(value)
    except (ValueError, RecursionError):
        return None
    if not isinstance(event, dict):
        return None
    for name, kinds in FIELDS.items():
        found = event.get(name)
        if found is None and name in {"transaction_id", "card_id", "event_time"}:
            return None
        if found is not None and (type(found) not in kinds or (isinstance(found, float) and not math.isfinite(found))):
            return None
    if event["event_time"] > timestamp + AHEAD or event["event_time"] < 0:
        return None
    return event


def _decide(event: dict[str, Any], rows: list[_Row]) -> dict[str, Any]:
    now = event["event_time"]
    row = _Row(now, round(event["amount"] * 100), event["lat"], event["lon"])
    before = [old for old in reversed(rows) if old.time <= now]
    rows.append(row)
    features: dict[str, Any] = {"amount": event["amount"]}
    for name, width in WINDOWS.items():
        inside = [old.cents for old in rows if now - width < old.time <= now]
        features[f"n_{name}"] = len(inside)
        features[f"s_{name}"] = sum(inside) / 100
    features["n_30s"] = sum(now - 30_000 < old.time <= now for old in rows)
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
    return {
        "transaction_id": event["transaction_id"],
        "card_id": event["card_id"],
        "decision": action,
        "reasons": reasons,
        **features,
    }


def _testing(row: _Row, before: list[_Row]) -> bool:
    if row.cents <= 10_000 or len(before) < 3:
        return False
    return all(old.cents < 200 for old in before[:3]) and before[2].time > row.time - 10 * MINUTE


def _speed(old: _Row, new: _Row) -> float:
    hours = (new.time - old.time) / 3_600_000
    if hours == 0:
        return 0.0
    p1, p2 = math.radians(old.lat), math.radians(new.lat)
    dl = math.radians(new.lon - old.lon)
    h = math.sin((p2 - p1) / 2) ** 2 + math.cos(p1) * math.cos(p2) * math.sin(dl / 2) ** 2
    return 2 * 6371.0 * math.asin(min(1.0, math.sqrt(h))) / hours
