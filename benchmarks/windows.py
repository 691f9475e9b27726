"""Micro-benchmark of the look-back windows: us an event by batch size, key count, skew and lateness.

The job: 4 windows (30 s, 5 min, 1 h, 24 h) of count and sum, previous latitude and longitude; keys arrive so that
a key has about 5 live entries, unless it is hot. Rows in order go through compiled loops if numba is installed, but for
`columns`. Each function returns a dict; `main` prints them.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy as np

from operators.batch import Batch, Column, TaskRows
from operators.schema import DataType, Kind
from operators.windows.operator import WindowOperator
from operators.windows.spec import Aggregate, PreviousFeature, WindowFeature, WindowSpec
from state.table import KeyedTable

DAY = 86_400_000
OVERS = {"30s": 30_000, "5m": 300_000, "1h": 3_600_000, "24h": DAY}
FLOAT, AMOUNT, STRING = DataType(Kind.FLOAT64), DataType(Kind.DECIMAL, 2), DataType(Kind.STRING)


def job(*more: str, where: str | None = None) -> WindowSpec:
    features = []
    for name, over in OVERS.items():
        features.append(WindowFeature(f"count_{name}", Aggregate.COUNT, over))
        for aggregate in ("sum", *more):
            of, type_ = ("shop", STRING) if aggregate in ("distinct", "first_seen") else ("amount", AMOUNT)
            features.append(WindowFeature(f"{aggregate}_{name}", Aggregate(aggregate), over, of, type_, False))
    previous = tuple(PreviousFeature(f"previous_{of}", of, FLOAT, 1, False) for of in ("lat", "lon"))
    return WindowSpec("card", "card", tuple(features), previous)


class Context:
    def __init__(self, operator: WindowOperator) -> None:
        self.tables = {spec.name: KeyedTable(spec) for spec in operator.tables}

    def table(self, name: str) -> KeyedTable:
        return self.tables[name]


class Source:
    """`hot`: share of events on one key; `late`: share of the hot key's events that come up to 10 min late."""

    def __init__(self, keys: int, hot: float = 0.0, late: float = 0.0, everyone_late: bool = False) -> None:
        self.rng = np.random.default_rng(1)
        self.keys, self.hot, self.late, self.everyone = keys, hot, late, everyone_late
        self.names = np.array([f"card-{i:012d}" for i in range(keys)], np.object_)
        self.shops = np.array([f"shop-{i:05d}" for i in range(10_000)], np.object_)
        # live entries of an ordinary key in 24 h: 5; of the hot key: 150,000
        self.step = DAY / (5 * keys) if not hot else DAY * hot / 150_000
        self.clock = 1.7e12

    def batch(self, size: int) -> Batch:
        rng = self.rng
        who = rng.integers(self.keys, size=size)
        hot = rng.random(size) < self.hot
        who[hot] = 0
        at = (self.clock + np.arange(size) * self.step).astype(np.int64)
        self.clock += size * self.step
        delayed = (rng.random(size) < self.late) & (hot | self.everyone)
        at -= delayed * rng.integers(1, 600_000, size)
        keys = self.names[who]
        columns = {
            "card": Column(STRING, keys),
            "amount": Column(AMOUNT, rng.integers(100, 100_000, size)),
            "lat": Column(FLOAT, rng.random(size)),
            "lon": Column(FLOAT, rng.random(size)),
            "shop": Column(STRING, self.shops[rng.integers(10_000, size=size)]),
        }
        return Batch(size, (TaskRows(0, 0, size),), at, keys.tolist(), columns)


def measure(
    source: Source, size: int, spec: WindowSpec | None = None, events: int = 60_000, warm: int = 0, *,
    prepared: bool = True,
) -> dict[str, Any]:  # fmt: skip
    operator = WindowOperator(spec or job())
    if prepared:
        operator.prepare()
    context = Context(operator)
    warm = warm or min(6 * source.keys, 1_500_000) if not source.hot else 320_000
    for _ in range(max(1, warm // 5000)):
        operator.process(source.batch(5000), context)
        for table in context.tables.values():
            table.publish()
    times = []
    for _ in range(max(30, min(3000, events // size))):
        batch = source.batch(size)
        begin = time.thread_time()
        operator.process(batch, context)
        for table in context.tables.values():
            table.publish()
        times.append(time.thread_time() - begin)
    table = context.tables["card"]
    assert table.ring is not None
    bytes_ = table.ring.blocks.end * table.ring.entries.itemsize * table.ring.entries.shape[1]
    bytes_ += len(table.keys) * (table.rows.shape[1] + 5) * 8
    median = float(np.median(times))
    return {
        "keys": source.keys,
        "hot": source.hot,
        "late": source.late,
        "batch": size,
        "us_batch": round(median * 1e6, 1),
        "us_event": round(median * 1e6 / size, 3),
        "us_event_mean": round(float(np.mean(times)) * 1e6 / size, 3),
        "bytes_key": round(bytes_ / len(table.keys)),
    }


def sizes() -> list[dict[str, Any]]:
    return [measure(Source(100_000), size) for size in (1, 8, 64, 512, 2000)]


def columns() -> list[dict[str, Any]]:
    return [measure(Source(100_000), size, prepared=False) for size in (1, 8, 64, 512, 2000)]


def keys() -> list[dict[str, Any]]:
    return [measure(Source(count), 2000) for count in (10_000, 100_000, 1_000_000)]


def skew() -> list[dict[str, Any]]:
    return [
        measure(Source(100_000), 2000),
        measure(Source(100_000, hot=0.5), 2000),
        measure(Source(100_000, hot=0.5, late=0.1), 2000),
        measure(Source(100_000, late=0.1, everyone_late=True), 2000),
    ]


def aggregates() -> list[dict[str, Any]]:
    out = []
    for more in ((), ("mean",), ("stddev",), ("max",), ("distinct",), ("first_seen",)):
        out.append({"job": "+".join(("count", "sum", *more)), **measure(Source(100_000), 2000, job(*more))})
        out.append({"job": "+".join(("count", "sum", *more)), **measure(Source(100_000, hot=0.5), 2000, job(*more))})
    return out


def main() -> None:
    for name in sys.argv[1:] or ["sizes", "columns", "keys", "skew", "aggregates"]:
        for line in globals()[name]():
            print(name, line)


if __name__ == "__main__":
    main()
