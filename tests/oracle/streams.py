"""Several streams of one task by brute force. Imports nothing of ours.

A stream is a list of rows (dicts) in offset order; `time` is a row's event time in ms, None where it cannot be read.
What `features_of` knows is the pipeline of tests/bank.py: 0 are payments, 1 logins, 2 account changes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
Row = dict[str, Any]


def merged(streams: list[list[Row]]) -> list[tuple[int, Row]]:
    """Head against head: the head with the lowest (event time, stream) comes next; (stream, row)."""
    heads = [0] * len(streams)
    out: list[tuple[int, Row]] = []
    while True:
        waiting = [number for number, rows in enumerate(streams) if heads[number] < len(rows)]
        if not waiting:
            return out
        least = min(waiting, key=lambda number: (_time(streams[number][heads[number]]), number))
        out.append((least, streams[least][heads[least]]))
        heads[least] += 1


def _time(row: Row) -> int:
    return -1 if row["time"] is None else int(row["time"])


def features_of(me: Row, seen: list[tuple[int, Row]]) -> Row:
    """`seen`: the user's rows up to this one, with their streams."""

    def within(length: int, stream: int) -> Iterator[Row]:
        return (r for s, r in seen if s == stream and me["time"] - length < r["time"] <= me["time"])

    moves = [r["time"] for s, r in seen if s == 2 and r["time"] <= me["time"] and r["address"] != r["was"]]
    earlier = [r for s, r in seen if s == 0 and r is not me and r["time"] <= me["time"]]
    resets = sum(r["password"] != r["was"] for r in within(30 * MINUTE, 2))
    countries = {r["country"] for s in (0, 1) for r in within(2 * HOUR, s)} - {None}
    before = {r["country"] for r in within(7 * DAY, 0) if r is not me}
    return {
        "failed_logins_10m": sum(r["outcome"] == "failed" for r in within(10 * MINUTE, 1)),
        "password_resets_30m": resets,
        "password_reset": resets > 0,
        "moved_at": moves[-1] if moves else None,
        "minutes_since_move": (me["time"] - moves[-1]) / MINUTE if moves else None,
        "jump": me["cents"] / earlier[-1]["cents"] if earlier else None,
        "new_country": me["country"] is not None and me["country"] not in before,
        "n_1h": sum(1 for _ in within(HOUR, 0)),
        "countries_2h": len(countries),
        "card_n_1h": sum(r["card_id"] == me["card_id"] for r in within(HOUR, 0)),
    }


def decide(features: Row, me: Row) -> tuple[str, list[str]]:
    """The action, and its reasons."""
    takeover = features["password_reset"] and features["failed_logins_10m"] >= 2
    since = features["minutes_since_move"]
    moved = since is not None and since < 60 and me["cents"] > 20_000
    reasons = ["reset after failed logins"] * takeover + ["moved"] * moved
    return "decline" if takeover else "review" if moved else "approve", reasons
