"""The parts of a transaction, each at batch 1, 8, 64 and 512: decode, expressions, windows, score, encode, flush ...

    python -m benchmarks.micro [--quick]

CPU microseconds a row, but for `transaction`, which is the median wall of begin to commit, in ms a batch: that one is
spent waiting. `engine` is steps 2-4 and the publish together, flush included.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks import codec, eventlog, expressions, kafka_client, patterns, state, streams, timed, windows
from benchmarks.job import CONFIGS, PARTITIONS, Job, has_model, pipeline, plan_of
from benchmarks.scale import Inputs, Runner
from benchmarks.world import World, fresh, world
from state.rocksdb import RocksRowStores
from state.worker_state import WorkerState
from streamproc.cli.compose import open_log
from streamproc.cli.loops import run_async
from streamproc.eventlog.contract import CommittedOffset, EventLog, Membership, OutputRecords, TopicPartition, TopicSpec

Result = dict[str, Any]
SIZES = (1, 8, 64, 512)
_RECORD = 330


class Assigned:
    """Waits for the first assignment."""

    def __init__(self) -> None:
        self.membership: Membership | None = None

    async def on_revoked(self, partitions: frozenset[TopicPartition]) -> None: ...
    async def on_assigned(self, partitions: frozenset[TopicPartition], membership: Membership) -> None:
        self.membership = membership


def _row(step: str, unit: str, by_size: dict[int, float]) -> Result:
    return {"step": step, "unit": unit, **{str(size): value for size, value in by_size.items()}}


def engine(events: int) -> Result:
    """The whole plan of variant R on a state of 20,000 cards."""
    found = {}
    for size in SIZES:
        with TemporaryDirectory() as name:
            plan = plan_of(pipeline(Path(name), "R", "micro", "transactions"))
            runner, inputs = Runner(plan, Path(name) / "state"), Inputs(plan, Job())
            for batch in inputs.batches(100_000, 0):
                runner.batch(batch)
            runner.cpu, count = 0.0, min(events, size * 2_000)
            for batch in inputs.batches(count, 100_000, size):
                runner.batch(batch)
            runner.close()
            found[size] = runner.cpu / count * 1e6
    return _row("engine", "us a row", found)


def flush() -> list[Result]:
    """Dirty rows to RocksDB: the copy on the loop; encoding and the write in the thread."""
    loop, thread = {}, {}
    with TemporaryDirectory() as name:
        for size in SIZES:
            stores = RocksRowStores(Path(name) / str(size))
            store, made = stores.open(0), WorkerState([state.SPEC])
            made.add_task(0, store)
            times: list[tuple[float, float]] = []
            for _ in range(30):
                state.append(made, state.names(0, size), 1)
                begun = time.process_time()
                cut = made.cut(0, b"meta")
                middle = time.process_time()
                cut.write(store)
                times.append((middle - begun, time.process_time() - middle))
            loop[size], thread[size] = (median(part) / size * 1e6 for part in zip(*times, strict=True))
            store.close()
            stores.close()
    return [_row("flush, on the loop", "us a row", loop), _row("flush, in the thread", "us a row", thread)]


async def _transactions(log: EventLog, batch: int, times: int) -> tuple[float, float]:
    """(median ms, CPU us) of a transaction: `batch` decisions over the tasks, a journal record a task, offsets."""
    source, decisions, journal = fresh("in"), fresh("decisions"), fresh("journal")
    await log.admin().ensure_topics([TopicSpec(topic, PARTITIONS) for topic in (source, decisions, journal)])
    told = Assigned()
    reader = log.reader(fresh("group"), [source], told, instance="bench-0", index=0, count=1)
    await reader.start()
    while told.membership is None:
        await reader.poll(100)
    writer = log.writer(fresh("writer"))
    await writer.open()
    tasks = min(PARTITIONS, batch)
    value = [os.urandom(_RECORD)] * (batch // tasks)
    outputs = [OutputRecords(TopicPartition(decisions, task), [b"k"] * len(value), value, 1) for task in range(tasks)]
    outputs += [OutputRecords(TopicPartition(journal, task), [None], [b"block" * 100], 1) for task in range(tasks)]
    seconds: list[float] = []
    cpu = time.process_time()
    for number in range(times):
        begun = time.perf_counter()
        await writer.begin()
        await writer.append(outputs)
        offsets = {TopicPartition(source, task): CommittedOffset(number, "x" * 80) for task in range(tasks)}
        await writer.offsets(offsets, told.membership)
        await writer.delivered()
        await writer.commit()
        seconds.append(time.perf_counter() - begun)
    cpu = time.process_time() - cpu
    await writer.abandon()
    await reader.close(leave=True)
    return median(seconds) * 1e3, cpu / times * 1e6


def transaction(on: World, log: str, times: int) -> list[Result]:
    """Wall and CPU of a transaction on a log."""

    async def work() -> dict[int, tuple[float, float]]:
        events = open_log(on.url(log, "transactions"))
        found = {size: await _transactions(events, size, times) for size in SIZES}
        await events.close()
        return found

    found = run_async(work())
    return [
        _row(f"transaction, {log}", "ms a batch", {size: wall for size, (wall, _) in found.items()}),
        _row(f"transaction, {log}, CPU", "us a batch", {size: cpu for size, (_, cpu) in found.items()}),
    ]


def run(on: World, *, quick: bool) -> list[Result]:
    """All parts."""
    found = [engine(10_000 if quick else 100_000)]
    coded = codec.run(CONFIGS / "model.onnx" if has_model() else None)
    found += [_row(str(row["step"]), "us a row", {size: float(row[str(size)]) for size in SIZES}) for row in coded]
    twenty = expressions.twenty()
    found.append(_row("20 expressions", "us a row", {size: twenty[str(size)] / size for size in SIZES}))
    source = 10_000 if quick else 100_000
    windowed = {size: windows.measure(windows.Source(source), size)["us_event"] for size in SIZES}
    found.append(_row("windows, 4 x count and sum, 2 previous", "us a row", windowed))
    found += timed.run(source)
    found += patterns.run(source)
    merging = {size: streams.measure(max(2, size), merged=True) for size in SIZES}
    found.append(_row("engine, every other row of a second stream", "us a row", merging))
    found += flush()
    for log in ("embedded", *(["kafka"] if on.broker else [])):
        found += transaction(on, log, 50 if quick else 400)
    return found


def modules(on: World) -> dict[str, list[Result]]:
    """What the other modules of this suite measure beyond that."""
    found: dict[str, list[Result]] = {}
    with TemporaryDirectory() as name:
        found["embedded log"] = list(eventlog.run(Path(name)))
    with TemporaryDirectory() as name:
        stores = RocksRowStores(Path(name) / "cold")
        filled = state.filled(stores)
        parts: dict[str, Callable[[], Sequence[Result]]] = {
            "slots and touch": lambda: state.slots_and_touch(filled),
            "flush": lambda: state.flush(filled, Path(name)),
            "cold load": lambda: state.cold_load(stores),
            "deduplicate": state.deduplicate,
        }
        for title, part in parts.items():
            found[f"state: {title}"] = list(part())
    found["windows: skew"] = windows.skew()
    if on.broker is not None:
        measured = asyncio.run(kafka_client.measure(on.broker.bootstrap))
        found["Kafka client"] = [{"what": name, **figures} for name, figures in measured]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="The parts of a transaction.")
    parser.add_argument("--quick", action="store_true")
    with world(kafka=True) as on:
        for result in run(on, quick=parser.parse_args().quick):
            print(json.dumps(result))


if __name__ == "__main__":
    main()
