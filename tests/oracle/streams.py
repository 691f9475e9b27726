"""Several streams of one task by brute force. Imports nothing of ours.

A stream is a list of rows (dicts) in offset order; `time` is a row's event time in ms, None where it cannot be read.
"""

from __future__ import annotations

from typing import Any

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
