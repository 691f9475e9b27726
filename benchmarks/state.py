"""Micro-benchmark of state: key to slot, touch, flush (on the loop and in the thread), cold loads, deduplication.

The table is a card's usual one: 12 fields, a ring of two columns with about 5 entries a key. Each function returns a
dict; `main` prints them. The stores lie in a temporary directory.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np

from operators.batch import TaskRows
from operators.deduplicate import Deduplicator
from state.hashing import partitions_of
from state.ring import Ring, RingSpec
from state.rocksdb import RocksRowStores
from state.table import TableSpec
from state.worker_state import WorkerState

SPEC = TableSpec("card", "card", tuple(f"field{i}" for i in range(12)), ring=RingSpec(("time", "amount")))
KEYS = 100_000
ENTRIES = 5
FLUSHED = 20_000
Result = dict[str, float]


class Span(NamedTuple):
    task: int
    start: int
    stop: int


def timed(job: Callable[[], object], repeats: int) -> float:
    """Median seconds of a call."""
    taken = []
    for _ in range(repeats):
        begin = time.perf_counter()
        job()
        taken.append(time.perf_counter() - begin)
    return median(taken)


def names(begin: int, end: int) -> list[str]:
    return [f"card-{i:012d}" for i in range(begin, end)]


def append(state: WorkerState, keys: list[str], entries: int) -> None:
    """Touch the keys and append `entries` to each."""
    table = state.table("card")
    ring = table.ring
    assert ring
    slots = table.slots([Span(0, 0, len(keys))], keys)
    table.touch(slots)
    ring.touch(slots)
    ring.append_room(slots, np.full(len(slots), entries))
    stop = ring.heads[slots, Ring.STOP]
    ring.heads[slots, Ring.STOP] = stop + entries
    ring.entries[ring.spans(slots, stop, stop + entries)] = 7
    table.rows[slots] += 1
    state.publish()


def filled(stores: RocksRowStores) -> WorkerState:
    state = WorkerState([SPEC])
    store = stores.open(0)
    state.add_task(0, store)
    for begin in range(0, KEYS, FLUSHED):
        append(state, names(begin, begin + FLUSHED), ENTRIES)
        state.cut(0, b"meta").write(store)
    store.close()
    return state


def slots_and_touch(state: WorkerState) -> list[Result]:
    """Known keys to slots; before-images of table and ring."""
    table, rng, out = state.table("card"), np.random.default_rng(1), []
    everyone = names(0, KEYS)
    for size in (1, 20, 200, 2000):
        keys = [everyone[i] for i in rng.choice(KEYS, size, replace=False)]
        slots = table.slots([Span(0, 0, size)], keys)
        lookup = timed(lambda keys=keys: table.slots([Span(0, 0, len(keys))], keys), 300)  # type: ignore[misc]

        def touch(slots: object = slots) -> None:
            table.touch(slots)  # type: ignore[arg-type]
            table.ring.touch(slots)  # type: ignore[union-attr,arg-type]
            state.publish()

        out.append({"rows": size, "slots_us_a_key": lookup * 1e6 / size, "touch_us": timed(touch, 300) * 1e6})
    return out


def flush(state: WorkerState, directory: Path) -> list[Result]:
    """Cut, encode and write dirty rows, synced; `loop` is what the loop waits for, `thread` the rest."""
    out = []
    for rows in (2000, FLUSHED):
        stores = RocksRowStores(directory / f"flush{rows}")
        store = stores.open(0)
        parts: list[tuple[float, float, float]] = []
        for _ in range(5):
            append(state, names(0, rows), 1)
            begin = time.perf_counter()
            cut = state.cut(0, b"meta")
            after_cut = time.perf_counter()
            puts, deletes = cut.encode()
            after_encode = time.perf_counter()
            store.write(puts, deletes)
            parts.append((after_cut - begin, after_encode - after_cut, time.perf_counter() - after_encode))
        store.close()
        loop, encode, write = (median(part) for part in zip(*parts, strict=True))
        total = (loop + encode + write) * 1e6 / rows
        out.append(
            {"rows": rows, "loop_ms": loop * 1e3, "encode_ms": encode * 1e3, "write_ms": write * 1e3, "us_a_row": total}
        )
    return out


def cold_load(stores: RocksRowStores) -> list[Result]:
    """Keys that only the store knows, from a block cache that is warm after the first."""
    out = []
    for size in (1, 20, 200, 2000):
        state = WorkerState([SPEC])
        store = stores.open(0)
        state.add_task(0, store)
        keys = np.random.default_rng(2).permutation(names(0, KEYS)).tolist()
        taken = []
        for at in range(0, min(50 * size, KEYS - size), size):
            part = keys[at : at + size]
            begin = time.perf_counter()
            state.table("card").slots([Span(0, 0, size)], part)
            taken.append(time.perf_counter() - begin)
        store.close()
        out.append({"rows": size, "us_a_row": median(taken) * 1e6 / size, "us_a_batch": median(taken) * 1e6})
    return out


def deduplicate() -> list[Result]:
    """New ids only (the costly case), up to 300,000 of them; `worst_ms` is a growth of the index."""
    out = []
    for size in (1, 8, 64, 512, 2000):
        index, taken = Deduplicator(86_400_000), []
        for batch in range(min(5000, 300_000 // size)):
            ids = [f"tx-{batch * size + i:012d}" for i in range(size)]
            times = np.arange(batch * size, (batch + 1) * size)
            begin = time.perf_counter()
            flags = index.check([TaskRows(0, 0, size)], ids, times, times)
            index.record(flags, np.ones(size, np.uint8))
            index.publish()
            taken.append(time.perf_counter() - begin)
        middle = median(taken) * 1e6
        out.append(
            {
                "rows": size,
                "us_a_row": middle / size,
                "us_a_batch": middle,
                "worst_ms": max(taken) * 1e3,
                "bytes_an_id": index.bytes_estimate() / index.live_keys,
            }
        )
    return out


def partitions() -> list[Result]:
    """Kafka's partitioner, vectorised."""
    keys = [name.encode() for name in names(0, 2000)]
    return [{"keys": 2000, "us_a_key": timed(lambda: partitions_of(keys, 12), 100) * 1e6 / 2000}]


def report(title: str, results: list[Result]) -> None:
    for result in results:
        sys.stdout.write(f"{title}: " + ", ".join(f"{name} {value:,.3g}" for name, value in result.items()) + "\n")


def main() -> None:
    """Print all of it."""
    with tempfile.TemporaryDirectory() as folder:
        stores = RocksRowStores(Path(folder) / "cold")
        state = filled(stores)
        report("slots and touch", slots_and_touch(state))
        report("flush", flush(state, Path(folder)))
        report("cold load", cold_load(stores))
    report("deduplicate", deduplicate())
    report("partitions", partitions())


if __name__ == "__main__":
    main()
