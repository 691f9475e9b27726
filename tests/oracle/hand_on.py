"""What the stages of tests/simulation/stages.yaml, beside.yaml that do not decide add to a row, in plain Python.

Each row looks at all rows of its key before it. Nothing is incremental, nothing is ever dropped.
"""

from __future__ import annotations

__all__ = ["DECLARED", "KEYS", "expect_features"]

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tests.oracle.card_job import FIELDS, HORIZON, NEEDED, Expected, Fields, parse

MINUTE = 60_000
DECLARED: Fields = {**FIELDS, "device_id": (str,), "terminal_id": (str,)}
KEYS = {
    "device": "device_id", "terminal": "terminal_id", "holder": "card_id", "card": "card_id", "main": "card_id",
    "passing": "device_id", "again": "device_id", "reputation_gather": "device_id", "reputation_part": "device_id",
}  # fmt: skip
"""By stage."""
_NEEDED = NEEDED | {"device_id", "amount", "lat", "lon"}
_Event = Mapping[str, Any]


def expect_features(stage: str, records: Sequence[tuple[int, bytes, int]]) -> Expected:
    """The features of (offset, value, log timestamp) of one partition, in offset order; NULL for repeated records."""
    out = Expected()
    rows: dict[str, list[_Event]] = {}
    seen: dict[str, tuple[bytes, int]] = {}
    stream_time = 0
    for offset, value, timestamp in records:
        event = parse(value, timestamp, DECLARED, _NEEDED)
        if event is None or (stage == "holder" and abs(_scaled(event)) >= 1 << 63):
            out.dead.add(offset)
            continue
        stream_time = max(stream_time, event["event_time"])
        payload, time = seen.get(event["transaction_id"], (b"", 0))
        if payload == value and stream_time - time <= HORIZON:
            out.duplicates.add(offset)
            out.decisions[offset] = dict.fromkeys(_FEATURES[stage]([], event))
            continue
        seen[event["transaction_id"]] = (value, event["event_time"])
        key = event.get(KEYS[stage])
        mine = [] if key is None else rows.setdefault(key, [])
        out.decisions[offset] = _FEATURES[stage](mine, event)
        mine.append(event)
    return out


def _device(before: Sequence[_Event], event: _Event) -> dict[str, Any]:
    earlier = [row for row in before if row["event_time"] <= event["event_time"]]
    return {
        "device_n_10m": len(_within(10 * MINUTE, before, event)),
        "device_s_24h": sum(round(row["amount"] * 100) for row in _within(1440 * MINUTE, before, event)) / 100,
        "device_last": earlier[-1]["amount"] if earlier else None,
    }


def _terminal(before: Sequence[_Event], event: _Event) -> dict[str, Any]:
    if event.get("terminal_id") is None:
        return {"terminal_n_1h": 0, "terminal_cards_24h": 0}
    return {
        "terminal_n_1h": len(_within(60 * MINUTE, before, event)),
        "terminal_cards_24h": len({row["card_id"] for row in _within(1440 * MINUTE, before, event)}),
    }


def _holder(before: Sequence[_Event], event: _Event) -> dict[str, Any]:
    return {
        "holder_n_1h": len(_within(60 * MINUTE, before, event)),
        "holder_s_24h": sum(round(row["amount"] * 100) for row in _within(1440 * MINUTE, before, event)) / 100,
        "holder_scaled": _scaled(event) / 100,
    }


def _nothing(_: Sequence[_Event], __: _Event) -> dict[str, Any]:
    return {}


def _scaled(event: _Event) -> int:
    """A hundred thousand times the amount, in cents."""
    cents: int = round(event["amount"] * 100)
    return cents * 100_000


_FEATURES: dict[str, Callable[[Sequence[_Event], _Event], dict[str, Any]]] = {
    "device": _device, "terminal": _terminal, "holder": _holder, "passing": _nothing, "again": _nothing,
    "reputation_gather": _nothing, "reputation_part": _nothing,
}  # fmt: skip


def _within(width: int, before: Sequence[_Event], event: _Event) -> list[_Event]:
    """The row itself, and the earlier ones in (its time - width, its time]."""
    now = event["event_time"]
    return [event, *(row for row in before if now - width < row["event_time"] <= now)]
