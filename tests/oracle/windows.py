"""Look-back features by brute force: every row looks at every row before it. Imports nothing of ours but the schema.

Rows are dicts: "task", "key", "time" and the columns (None is NULL). `decide` returns one dict of outputs a row.
"""

from __future__ import annotations

import math
import struct
from fractions import Fraction
from typing import Any

from operators.schema import Kind

Row = dict[str, Any]


class Either:
    """A value or NULL."""

    def __init__(self, value: Any) -> None:
        self.value = value


def decide(spec: Any, rows: list[Row]) -> list[Row]:
    """All outputs of `spec` (its attributes are read, nothing else) for rows in row order."""
    histories: dict[tuple[int, str, int], list[Row]] = {}
    streams: dict[int, int] = {}
    out = []
    for given in rows:
        row = dict(given)
        stream = streams[row["task"]] = max(streams.get(row["task"], row["time"]), row["time"])
        if row["key"] is None:
            out.append(_keyless(spec))
            continue
        lives = {}
        for precision in _precisions(spec):
            lives[precision] = life = histories.setdefault((row["task"], row["key"], precision), [])
            if life and _ttl(spec, precision) and stream - max(r["time"] for r in life) >= _ttl(spec, precision):
                life.clear()
            life.append(row)
        out.append(_row(spec, lives))
    return out


def _precisions(spec: Any) -> list[int]:
    return sorted({f.precision_ms for f in spec.features} | ({0} if spec.previous else set()))


def _ttl(spec: Any, precision: int) -> int:
    """After how much stream time, ms, a key without a row is new: no window may reach so far. 0: never."""
    features = [f for f in spec.features if f.precision_ms == precision]
    unit = max(1, precision)
    reach = max((f.delay_ms + f.over_ms for f in features), default=0)
    least = _horizon(spec, reach, precision) + -(-reach // unit)
    return unit * max(-(-spec.ttl_ms // unit), least) if spec.ttl_ms else 0


def _horizon(spec: Any, reach: int, precision: int) -> int:
    unit = max(1, precision)
    late = spec.late_ms if spec.late_ms >= 0 else min(reach or 3_600_000, 3_600_000)
    return max(1, -(-reach // unit) + -(-late // unit) + (1 if precision else 0))


def _keyless(spec: Any) -> Row:
    blank = {"count": 0, "distinct": 0, "first_seen": False}
    out: Row = {f.name: blank.get(str(f.aggregate)) for f in spec.features}
    out.update({p.name: None for p in spec.previous})
    out[f"{spec.name}__incomplete"] = False
    return out


def _row(spec: Any, lives: dict[int, list[Row]]) -> Row:
    out: Row = {}
    incomplete = False
    for precision, history in lives.items():
        features = [f for f in spec.features if f.precision_ms == precision]
        kept, gone, horizon = _visible(spec, features, history, precision)
        me = history[-1]
        unit = max(1, precision)
        for f in features:
            low = (me["time"] - f.delay_ms - f.over_ms) // unit
            high = (me["time"] - f.delay_ms) // unit if f.delay_ms else _clock(me, precision)
            window = [r for r in kept if low < _clock(r, precision) <= high and r is not me]
            window += [me] if not f.delay_ms else []
            out[f.name] = _aggregate(f, window, me)
        reach = max((f.delay_ms + f.over_ms for f in features), default=None)
        if reach is not None:
            low = (me["time"] - reach) // unit
            incomplete |= any(_clock(r, precision) > low for r in gone)
        if precision == 0 and spec.previous:
            incomplete |= _previous(spec, history, horizon, out)
    out[f"{spec.name}__incomplete"] = incomplete
    return out


def _clock(row: Row, precision: int) -> int:
    time: int = row["time"]
    return -(-time // precision) if precision else time


def _visible(spec: Any, features: list[Any], history: list[Row], precision: int) -> tuple[list[Row], list[Row], int]:
    """Rows that the last row may see, rows that were dropped, the horizon; by what happened row after row."""
    horizon = _horizon(spec, max((f.delay_ms + f.over_ms for f in features), default=0), precision)
    kept: list[Row] = []
    gone: list[Row] = []
    newest = -(1 << 62)
    for row in history:
        newest = max(newest, _clock(row, precision))
        kept.append(row)
        if _clock(row, precision) <= newest - horizon:
            gone += [row]
            kept.pop()
        entries = sorted(kept, key=lambda r: _clock(r, precision))
        over = set(map(id, entries[: max(0, _entries(spec, kept) - spec.max_entries)]))
        lost = [r for r in kept if _clock(r, precision) <= newest - horizon or id(r) in over]
        gone += lost
        ids = set(map(id, lost))
        kept = [r for r in kept if id(r) not in ids]
    return kept, gone, horizon


def _entries(spec: Any, kept: list[Row]) -> int:
    return len(kept)


def _aggregate(f: Any, window: list[Row], me: Row) -> Any:
    name = str(f.aggregate)
    if name == "first_seen":
        mine = _same(me[f.of])
        before = [r for r in window if r is not me and _counts(f, r)]
        return mine is not None and all(_same(r[f.of]) != mine for r in before)
    rows = [r for r in window if _counts(f, r)]
    if name == "count":
        return len(rows)
    values = [r[f.of] for r in rows]
    if name == "distinct":
        return len(set(map(_same, values)))
    n = len(values)
    if n == 0 or (name == "stddev" and n < 2):
        return None
    scale = 10 ** (f.type.scale if f.type.kind is Kind.DECIMAL else 0)
    match name:
        case "sum":
            return sum(values)
        case "mean":
            return float(Fraction(sum(values), n * scale))
        case "min":
            return min(values)
        case "max":
            return max(values)
    mean = Fraction(sum(values), n)
    variance = sum((v - mean) ** 2 for v in values) / (n - 1)
    return math.sqrt(variance / scale**2)


def _counts(f: Any, row: Row) -> bool:
    return (f.of is None or row[f.of] is not None) and (f.where is None or row[f.where] is True)


def _same(value: Any) -> Any:
    """What makes two values equal: floats by bits, -0.0 as 0.0."""
    return struct.pack("<d", value + 0.0) if isinstance(value, float) else value


def _remembered(spec: Any, history: list[Row], horizon: int) -> tuple[list[Row], list[Row], bool]:
    """The rows that the last one may read as earlier ones, those before it that are lost, and whether it is kept.

    Kept are the rows within the horizon and the newest one before it, and of these the newest `max_entries`, the last
    row included.
    """
    me, before = history[-1], history[:-1]
    kept: list[Row] = []
    lost: list[Row] = []

    def forget(newest: int, most: int) -> None:
        below = [r for r in kept if r["time"] <= newest - horizon][:-1]
        gone = set(map(id, below + kept[: max(0, len(kept) - most)]))
        lost.extend(r for r in kept if id(r) in gone)
        kept[:] = [r for r in kept if id(r) not in gone]

    for i, row in enumerate(before):
        kept.append(row)
        kept.sort(key=lambda r: r["time"])  # stable: equal times in row order
        forget(max(r["time"] for r in before[: i + 1]), spec.max_entries)
    newest = max(r["time"] for r in history)
    forget(newest, spec.max_entries - 1)
    readable, unreadable = list(kept), list(lost)
    kept.append(me)
    kept.sort(key=lambda r: r["time"])
    forget(newest, spec.max_entries)
    return readable, unreadable, any(r is me for r in kept)


def _previous(spec: Any, history: list[Row], horizon: int, out: Row) -> bool:
    """The plain meaning, within what a late row can still see. Returns whether it lacks rows."""
    me, before = history[-1], history[:-1]
    newest = max((r["time"] for r in before), default=None)
    ttl = (
        max(
            spec.ttl_ms, horizon + max((f.delay_ms + f.over_ms for f in spec.features if not f.precision_ms), default=0)
        )
        if spec.ttl_ms
        else 0
    )
    begin = 0  # a row that comes ttl after the newest begins anew
    top = None
    for i, row in enumerate(history):
        if ttl and top is not None and row["time"] - top >= ttl:
            begin = i
        top = row["time"] if top is None else max(top, row["time"])
    late = newest is not None and me["time"] < newest
    missing = False
    found = [r for r in history[begin:-1] if r["time"] <= me["time"]]
    kept, lost, stays = _remembered(spec, history, horizon)
    alive = (top or 0) - ttl if ttl else -(1 << 62)
    if late and not any(alive < r["time"] <= me["time"] for r in kept):
        found = []
        missing = any(r["time"] > alive for r in lost)
    me["cut off"] = missing and stays
    unknown = any(r.get("cut off") for r in history[begin:])
    for p in spec.previous:
        mine = [r for r in found if p.where is None or r[p.where] is True]
        out[p.name] = mine[-p.n][p.of] if len(mine) >= p.n else None
        if unknown and (p.n > 1 or p.where):  # behind a row that could not see its own past, NULL is allowed too
            out[p.name] = Either(out[p.name])
    return missing
