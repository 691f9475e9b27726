"""Larger than memory: throughput and batch times by hit ratio under a budget; and a ttl over 60 days of event time.

    python -m benchmarks.memory [--cards N] [--entries E] [--budget-mb M] [--hits 99 90 50] [--directory D] [--quick]

The windows operator on its state and RocksDB, without a log: 4 windows of count and sum, two earlier values. All cards
are written first, E events each, and mostly evicted. Then batches come: a share of the rows (`hit`) of cards that were
used lately, the others of any card. The budget is shared out as in `run` (`state.budget`), and a flush runs in a thread
at as many dirty rows. `evict_*` is what eviction holds the loop for after a batch; `cut_*` what a flush's copy does,
with the rows of the largest. The ttl part feeds new cards every day; keys and files over the days say whether they
level off.
With `--directory` the filled store stays there, and a later run with as many cards and entries begins with it.
Cards are written in an order unlike that of their names, as they come in a stream, so the store compacts as it would.
Before each ratio the files' pages are dropped from the system's cache.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from benchmarks.machine import memory_mb
from benchmarks.windows import AMOUNT, DAY, FLOAT, STRING, job
from operators.batch import Batch, Column, TaskRows
from operators.windows.operator import WindowOperator
from operators.windows.spec import WindowSpec
from state.budget import shares
from state.rocksdb import RocksRowStores
from state.worker_state import FlushCut, WorkerState
from streamproc.runtime.settings import WorkerSettings

Result = dict[str, Any]
I64 = npt.NDArray[np.int64]
HITS = (99, 90, 50)
CARDS, ENTRIES, BUDGET_MB, BATCHES = 300_000, 10, 128, 300
BATCH = 1_000
FILL_ROWS = 20_000
FLUSH_ROWS = WorkerSettings().flush_rows
START_MS = 1_700_000_000_000
_STRIDE = 7_368_787  # a prime: it visits every card once
DAYS, TTL_DAYS, CARDS_A_DAY = 60, 30, 3_000


class Worker:
    """One task of a worker: its operator, its state, its store, its flush thread."""

    def __init__(self, spec: WindowSpec, directory: Path, budget_mb: int) -> None:
        self.directory = directory
        self.operator = WindowOperator(spec)
        memory = shares(budget_mb)
        self.state = WorkerState(self.operator.tables, memory_bytes=memory.keys)
        self.table = self.state.table(self.operator.tables[0].name)
        self.store = RocksRowStores.within(directory, memory, sync=False).open(0)
        self.state.add_task(0, self.store)
        self._thread = ThreadPoolExecutor(1)
        self._running: tuple[Future[None], FlushCut] | None = None
        self.cuts_s: list[float] = []
        self.cuts_rows: list[int] = []

    def process(self, batch: Batch, *, results: bool = True) -> tuple[float, float, float]:
        """One batch; seconds it took, seconds of eviction after it, in wall and processor time."""
        begin = time.perf_counter()
        (self.operator.process if results else self.operator.replay)(batch, self.state)
        self.state.publish()
        wall, cpu = time.perf_counter(), time.thread_time()
        self.state.evict(is_writing=self._running is not None and not self._running[0].done())
        evicted_wall, evicted_cpu = time.perf_counter() - wall, time.thread_time() - cpu
        self.flush(wait=False)
        return time.perf_counter() - begin - evicted_wall, evicted_wall, evicted_cpu

    def flush(self, *, wait: bool) -> None:
        """As the runtime's: one at a time, in a thread; with `wait` all is written on return."""
        if self._running is not None and (wait or self._running[0].done()):
            running, cut = self._running
            running.result()
            cut.written()
            self._running = None
        if self._running is None and (wait or self.state.dirty_rows(0) >= FLUSH_ROWS):
            begin = time.perf_counter()
            cut = self.state.cut(0, b"meta")
            self.cuts_s.append(time.perf_counter() - begin)
            self.cuts_rows.append(cut.rows)
            self._running = self._thread.submit(cut.write, self.store), cut
            if wait:
                self._running[0].result()
                cut.written()
                self._running = None

    def disk_mb(self) -> float:
        """Size of the store's files."""
        return sum(path.stat().st_size for path in self.directory.rglob("*") if path.is_file()) / (1 << 20)

    def drop_cached_pages(self) -> None:
        """What is read of the store from now on comes from the disk; write-back is waited for."""
        os.sync()
        for path in self.directory.rglob("*.sst"):
            with contextlib.suppress(FileNotFoundError), path.open("rb") as file:  # a compaction removes files
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    def close(self) -> None:
        self.flush(wait=True)
        self._thread.shutdown()
        self.store.close()


def _rss_mb() -> int:
    return round(memory_mb(os.getpid())["rss_mb"])


def batch_of(cards: I64, times: I64, rng: np.random.Generator) -> Batch:
    size = len(cards)
    names = np.array([f"card-{card:012d}" for card in cards.tolist()], np.object_)
    columns = {
        "card": Column(STRING, names),
        "amount": Column(AMOUNT, rng.integers(100, 100_000, size)),
        "lat": Column(FLOAT, rng.random(size)),
        "lon": Column(FLOAT, rng.random(size)),
    }
    return Batch(size, (TaskRows(0, 0, size),), times, names.tolist(), columns)


def fill(worker: Worker, cards: int, entries: int, rng: np.random.Generator) -> float:
    """Write every card with `entries` events within the day; cards a second."""
    begun = said = time.perf_counter()
    group = max(1, FILL_ROWS // entries)
    for at in range(0, cards, group):
        some = np.arange(at, min(at + group, cards)) * _STRIDE % cards
        times = START_MS + np.repeat(np.arange(entries) * (DAY // (2 * entries)), len(some))
        worker.process(batch_of(np.tile(some, entries), times, rng), results=False)
        worker.flush(wait=False)
        if time.perf_counter() - said > 30:
            said = time.perf_counter()
            note = f"filled {at:,} of {cards:,} cards, {at / (said - begun):,.0f}/s, RSS {_rss_mb()} MiB"
            print(note, file=sys.stderr, flush=True)
    worker.flush(wait=True)
    return cards / (time.perf_counter() - begun)


def filled(worker: Worker, cards: int, entries: int, rng: np.random.Generator) -> Result:
    """Fill the store, unless it was filled so before."""
    marker, wanted = worker.directory / "filled.json", {"cards": cards, "entries": entries}
    if marker.exists():
        found: Result = json.loads(marker.read_text())
        if {name: found[name] for name in wanted} != wanted:
            raise SystemExit(f"{worker.directory} holds another store: {found}")
        return found
    found = wanted | {"filled_cards_per_s": round(fill(worker, cards, entries, rng))}
    marker.write_text(json.dumps(found))
    return found


def warm(worker: Worker, cards: int, rng: np.random.Generator) -> None:
    """Any cards come in until the budget is all but used, or all are there."""
    full = 0.95 * worker.state.memory_bytes
    while worker.table.used_bytes < full and worker.table.live_keys < 0.9 * cards:
        worker.process(batch_of(rng.integers(cards, size=4 * BATCH), np.full(4 * BATCH, START_MS + DAY // 2), rng))


def at_hits(worker: Worker, hit: int, cards: int, batches: int, rng: np.random.Generator) -> Result:
    """Batches of which `hit` % of the rows are of cards used lately."""
    hot = rng.permutation(cards)[: max(BATCH, worker.table.live_keys // 3)].copy()  # it may be 80 MB
    clock = START_MS + DAY // 2
    hits = rows = 0
    before = len(worker.cuts_s)
    taken: list[tuple[float, float, float]] = []
    for number in range(-len(hot) // BATCH - 1, batches):
        if number < 0:  # the hot cards come in
            who = np.resize(hot[(number + len(hot) // BATCH + 1) * BATCH :][:BATCH], BATCH)
        else:
            who = np.where(rng.random(BATCH) * 100 < hit, rng.choice(hot, BATCH), _cold(worker, cards, rng))
        clock += 1000
        batch = batch_of(who, np.full(BATCH, clock), rng)
        if number >= 0:
            known = worker.table.keys_of(0)
            hits += sum(key in known for key in batch.keys)
            rows += BATCH
        seconds = worker.process(batch)
        if number >= 0:
            taken.append(seconds)
    batch_s, evict_wall, evict_cpu = np.array(taken).T
    return {
        "hit_wanted": hit,
        "hit": round(100 * hits / rows, 1),
        "rows_per_s": round(rows / float((batch_s + evict_wall).sum())),
        "batch_p50_ms": round(float(np.percentile(batch_s, 50)) * 1e3, 2),
        "batch_p99_ms": round(float(np.percentile(batch_s, 99)) * 1e3, 2),
        "evict_p99_ms": round(float(np.percentile(evict_wall, 99)) * 1e3, 2),
        "evict_max_ms": round(float(evict_wall.max()) * 1e3, 2),
        "evict_max_cpu_ms": round(float(evict_cpu.max()) * 1e3, 2),
        "cut_max_ms": round(max(worker.cuts_s[before:], default=0.0) * 1e3, 2),
        "cut_rows_max": max(worker.cuts_rows[before:], default=0),
        "keys_in_memory": worker.table.live_keys,
        "used_mb": round(worker.table.used_bytes / (1 << 20)),
        "allocated_mb": round(worker.table.bytes_estimate() / (1 << 20)),
        "rss_mb": _rss_mb(),
    }


def _cold(worker: Worker, cards: int, rng: np.random.Generator) -> I64:
    """Cards that are not in memory, as far as chance finds enough."""
    known = worker.table.keys_of(0)
    cold = [card for card in rng.integers(cards, size=6 * BATCH).tolist() if f"card-{card:012d}" not in known]
    return np.resize(np.array(cold or [0], np.int64), BATCH)


def hit_ratios(
    cards: int, entries: int, budget_mb: int, hits: Sequence[int], batches: int, directory: Path | None = None
) -> list[Result]:
    """The table of throughput and times by hit ratio."""
    rng = np.random.default_rng(1)
    with contextlib.ExitStack() as stack:
        folder = directory or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        worker = Worker(job(), folder, budget_mb)
        same = filled(worker, cards, entries, rng) | {"budget_mb": budget_mb, "disk_mb": round(worker.disk_mb())}
        warm(worker, cards, rng)
        found = []
        for hit in hits:
            worker.drop_cached_pages()
            found.append(same | at_hits(worker, hit, cards, batches, rng))
            print(json.dumps(found[-1]), file=sys.stderr, flush=True)
        worker.close()
        return found


def ttl(cards_a_day: int = CARDS_A_DAY, days: int = DAYS) -> list[Result]:
    """New cards every day, none comes again after a week: what is in memory and on disk, day by day."""
    rng = np.random.default_rng(2)
    series = []
    with tempfile.TemporaryDirectory() as folder:
        worker = Worker(msgspec.structs.replace(job(), ttl_ms=TTL_DAYS * DAY), Path(folder), 0)
        for day in range(days):
            for part in range(24):
                newest = day * cards_a_day + (part + 1) * cards_a_day // 24
                who = rng.integers(max(0, newest - 7 * cards_a_day), newest, cards_a_day // 8)
                times = START_MS + day * DAY + part * DAY // 24 + np.arange(len(who))
                worker.process(batch_of(who, times, rng))
                worker.flush(wait=True)
            series.append(
                {
                    "day": day + 1,
                    "keys_in_memory": worker.table.live_keys,
                    "memory_mb": round(worker.table.bytes_estimate() / (1 << 20), 1),
                    "keys_on_disk": sum(1 for _ in worker.store.scan(b"r")),
                    "disk_mb": round(worker.disk_mb(), 1),
                    "rss_mb": _rss_mb(),
                }
            )
        worker.close()
    return series


def plot(series: Sequence[Result], figure: str, width: int = 50) -> list[str]:
    """One line every fifth day."""
    most = max(point[figure] for point in series) or 1
    shown = series[4::5]
    return [f"day {p['day']:>3} {figure} {p[figure]:>10} {'#' * round(width * p[figure] / most)}" for p in shown]


def run(*, quick: bool) -> list[Result]:
    """Both parts, for the suite."""
    found = hit_ratios(60_000, ENTRIES, 32, HITS, 60) if quick else hit_ratios(CARDS, ENTRIES, BUDGET_MB, HITS, BATCHES)
    points = ttl(CARDS_A_DAY // 10) if quick else ttl()
    return [*found, *({"ttl_day": point.pop("day"), **point} for point in points[9::10])]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description="Larger than memory, and ttl.")
    parser.add_argument("--cards", type=int, default=CARDS)
    parser.add_argument("--entries", type=int, default=ENTRIES, help="events of a card")
    parser.add_argument("--budget-mb", type=int, default=BUDGET_MB)
    parser.add_argument("--hits", type=int, nargs="*", default=list(HITS), metavar="PERCENT")
    parser.add_argument("--batches", type=int, default=BATCHES, help="batches measured at each ratio")
    parser.add_argument("--directory", type=Path, help="keep the filled store here, or use the one that is here")
    parser.add_argument("--no-ttl", action="store_true", help="leave the ttl part out")
    parser.add_argument("--quick", action="store_true")
    chosen = parser.parse_args()
    cards, batches = (60_000, 60) if chosen.quick else (chosen.cards, chosen.batches)
    budget = min(32, chosen.budget_mb) if chosen.quick else chosen.budget_mb
    found = hit_ratios(cards, chosen.entries, budget, chosen.hits, batches, chosen.directory)
    print(json.dumps(found, indent=1))
    if chosen.no_ttl:
        return
    series = ttl(CARDS_A_DAY // 10 if chosen.quick else CARDS_A_DAY)
    print(json.dumps({"ttl": series}))
    for figure in ("keys_in_memory", "keys_on_disk", "disk_mb"):
        print(*plot(series, figure), sep="\n", file=sys.stderr)


if __name__ == "__main__":
    main()
