"""Scale: CPU of an event and bytes of a card as cards grow, and what one hot key and late events cost.

    python -m benchmarks.scale [--cards 10000 100000 1000000] [--skew-cards 100000]

The engine in one process, without a log: decode, deduplicate, windows, rules, encode, journal, publish, and a flush
to RocksDB at 20,000 dirty rows. A card has about five events within 24 h. Every case has a process of its own, so that
its memory is its own. Bytes of a card are those of its table; deduplication is told apart, as it grows with events,
not cards.
"""

from __future__ import annotations

import argparse
import gc
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.job import EPOCH_MS, PARTITIONS, Job, events, keys, pipeline, plan_of, texts
from benchmarks.machine import memory_mb
from operators.plan import Plan
from state.hashing import partitions_of
from streamproc.cli.compose import build_engine
from streamproc.eventlog.contract import Chunk, TopicPartition
from streamproc.runtime.partition_task import PartitionTask, Phase
from streamproc.runtime.rows import TaskInput

Result = dict[str, Any]
CARDS = (10_000, 100_000, 1_000_000)
DAY_MS = 86_400_000
LIVE = 5
BATCH = 2_000
FLUSH_ROWS = 20_000


class Inputs:
    """The job's events as batches of chunks, with offsets."""

    def __init__(self, plan: Plan, job: Job) -> None:
        self._topic = plan.stream.topic
        self._job = job
        self._offsets = [0] * PARTITIONS

    def batches(self, count: int, start: int, size: int = BATCH) -> Iterator[list[TaskInput]]:
        for some in events(self._job, count, start):
            names, values = keys(some), [text + b"%d}" % EPOCH_MS for text in texts(some)]
            where = partitions_of(names, PARTITIONS)
            for at in range(0, len(names), size):
                part = range(at, min(at + size, len(names)))
                rows: list[list[int]] = [[] for _ in range(PARTITIONS)]
                for i, task in zip(part, where[at : at + size].tolist(), strict=True):
                    rows[task].append(i)
                yield [self._input(task, mine, names, values) for task, mine in enumerate(rows) if mine]

    def _input(self, task: int, rows: list[int], names: list[bytes], values: list[bytes]) -> TaskInput:
        begin = self._offsets[task]
        end = self._offsets[task] = begin + len(rows)
        tp = TopicPartition(self._topic, task)
        chunk = Chunk(
            tp, range(begin, end), [names[i] for i in rows], [values[i] for i in rows], [EPOCH_MS] * len(rows), end
        )
        return TaskInput(task, tp, [chunk])


class Runner:
    """The engine with its tasks, fed batch by batch."""

    def __init__(self, plan: Plan, directory: Path) -> None:
        from state.rocksdb import RocksRowStores

        self.engine, self.state = build_engine(plan, bytes(32), PARTITIONS)
        self._stores = RocksRowStores(directory)
        self._open = [self._stores.open(task) for task in range(PARTITIONS)]
        self._tasks = {}
        for number, store in enumerate(self._open):
            self.state.add_task(number, store)
            task = PartitionTask(number, TopicPartition(plan.stream.topic, number))
            task.enter(Phase.RUNNING)
            self._tasks[task.source] = task
        self.cpu = 0.0

    def batch(self, inputs: list[TaskInput]) -> None:
        """One transaction's work; the flush's encoding and writing count too."""
        begun = time.process_time()
        computed = self.engine.compute(inputs, self._tasks, EPOCH_MS)
        self.engine.publish()
        self.engine.make_room()
        for source, head in computed.heads.items():
            self._tasks[source].advance(head, head.sequence)
        if sum(map(self.state.dirty_rows, range(PARTITIONS))) >= FLUSH_ROWS:
            for task, store in enumerate(self._open):
                self.state.cut(task, b"meta").write(store)
        self.cpu += time.process_time() - begun

    def close(self) -> None:
        for store in self._open:
            store.close()
        self._stores.close()


def measure(job: Job, count: int, warm: int, *, deduplicate: bool = True) -> Result:
    """CPU of an event after `warm` events; memory at the end."""
    with TemporaryDirectory(prefix="streamproc-scale-") as name:
        plan = plan_of(pipeline(Path(name), "R", "scale", "transactions", deduplicate=deduplicate))
        runner, inputs = Runner(plan, Path(name) / "state"), Inputs(plan, job)
        gc.freeze()
        gc.set_threshold(50_000, 20, 100)
        before = memory_mb(os.getpid())["rss_mb"]
        for batch in inputs.batches(warm, 0):
            runner.batch(batch)
        runner.cpu = 0.0
        for batch in inputs.batches(count, warm):
            runner.batch(batch)
        memory = memory_mb(os.getpid())
        parts = {part.name: part.bytes_estimate() for part in runner.state._parts}
        table = runner.state.table(plan.tables[0].name)
        live = len(table.keys)
        deduplication = sum(size for part, size in parts.items() if part != table.spec.name)
        runner.close()
    return {
        "cards": job.cards, "hot": job.hot, "late": job.late, "deduplicate": deduplicate, "events": count,
        "warm_up_events": warm, "cpu_us_an_event": runner.cpu / count * 1e6, "cards_live": live,
        "table_bytes_a_card": parts[table.spec.name] / max(live, 1), "deduplication_mb": deduplication / 2**20,
        "rss_grown_bytes_a_card": (memory["rss_mb"] - before) * 2**20 / max(live, 1), **memory,
    }  # fmt: skip


def _measure(case: tuple[Job, int, int, bool]) -> Result:
    job, count, warm, deduplicate = case
    return measure(job, count, warm, deduplicate=deduplicate)


def cases(cards: Sequence[int], skew_cards: int, count: int) -> list[tuple[Job, int, int, bool]]:
    """Growth with and without deduplication, then one hot key, then late events on it."""
    step = max(1, DAY_MS // (LIVE * skew_cards))
    skewed = [Job(skew_cards, step, hot, late, 0.0) for hot, late in ((0.0, 0.0), (0.5, 0.0), (0.5, 0.1))]
    return [
        *((Job(n, max(1, DAY_MS // (LIVE * n)), skew=0.0), count, LIVE * n, on) for n in cards for on in (True, False)),
        *((job, count, 2 * skew_cards, True) for job in skewed),
    ]


def run(cards: Sequence[int], skew_cards: int, count: int) -> list[Result]:
    """One process a case; ratios to the first case of the same kind."""
    context = multiprocessing.get_context("spawn")
    results = []
    with context.Pool(1, maxtasksperchild=1) as pool:
        for found in pool.imap(_measure, cases(cards, skew_cards, count), chunksize=1):
            print(f"  scale {found['cards']:,} hot {found['hot']} late {found['late']}: ", file=sys.stderr, end="")
            print(f"{found['cpu_us_an_event']:.2f} us", file=sys.stderr)
            results.append(found)
    base = {True: results[0]["cpu_us_an_event"], False: results[1]["cpu_us_an_event"]}
    skew = results[-3]["cpu_us_an_event"]
    for i, found in enumerate(results):
        found["ratio"] = found["cpu_us_an_event"] / (skew if i >= len(results) - 3 else base[found["deduplicate"]])
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description="Cost as cards grow, and under skew.")
    parser.add_argument("--cards", nargs="+", type=int, default=list(CARDS))
    parser.add_argument("--skew-cards", type=int, default=100_000)
    parser.add_argument("--events", type=int, default=200_000)
    chosen = parser.parse_args()
    for result in run(chosen.cards, chosen.skew_cards, chosen.events):
        print(json.dumps(result))


if __name__ == "__main__":
    main()
