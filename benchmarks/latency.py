"""Latency, open loop: from the moment an event was due to be sent to its decision at a read_committed reader.

    python -m benchmarks.latency [--rate 1000 5000] [--warm-up 10] [--seconds 30] [--log kafka] [--variant R]

Sender and receiver are processes of their own. An event counts from its *scheduled* time, so a sender or a worker that
falls behind is not forgiven. The floor is the same driver reading its input back: what broker and driver cost alone.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import re
import sys
import threading
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from multiprocessing.connection import Connection
from typing import Any, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from benchmarks import drain
from benchmarks.job import PARTITIONS, Job, pipeline, plan_of
from benchmarks.machine import cpu_seconds
from benchmarks.world import Worker, World, fresh, prepare_outputs, stages, world
from streamproc.cli.compose import open_log
from streamproc.cli.loops import run_async
from streamproc.eventlog.contract import Appender, TopicPartition, TopicSpec

Result = dict[str, Any]
RATES = (100, 1_000, 5_000, 10_000, 20_000)
_TICK_SECONDS = 0.001
_APPENDS_MAX = 8
_LEAD_SECONDS = 0.5
_STRAGGLE_SECONDS = 15.0
_WARM_SECONDS = 20.0
_NUMBER = re.compile(rb'"transaction_id":"t(\d+)"')


class Drawn(Protocol):
    """Events that are made beforehand, but for the time at which they are sent; see `Job.unfinished`."""

    def unfinished(self, count: int, start: int) -> tuple[list[bytes], list[bytes]]: ...


class Task(msgspec.Struct, frozen=True):
    """One rate: events start .. start + count go to `source`, what arrives in `target` is timed."""

    url: str
    source: str
    target: str
    job: Drawn
    rate: int
    start: int
    count: int


# ---- the sender's process


class Ticker:
    """Wakes the loop at most every millisecond: loop timers are too coarse for 1,000 events a second."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._event = asyncio.Event()
        self._due = 0.0
        self._wanted = threading.Event()
        threading.Thread(target=self._run, daemon=True).start()

    async def until(self, due: float) -> None:
        """Return at time.monotonic() == due, give or take 0.1 ms."""
        self._event.clear()
        self._due = due
        self._wanted.set()
        await self._event.wait()

    def _run(self) -> None:
        while True:
            self._wanted.wait()
            self._wanted.clear()
            time.sleep(max(0.0, self._due - time.monotonic()))
            self._loop.call_soon_threadsafe(self._event.set)


def sender(task: Task, parent: Connection) -> None:
    """Send on schedule; tells "ready", is told the start, tells how late it was at worst."""
    run_async(_send(task, parent))


@asynccontextmanager
async def feeding(task: Task) -> AsyncIterator[None]:
    """The sender at work beside what the caller does; at the end everything has been sent."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=sender, args=(task, theirs), daemon=True)
    process.start()
    theirs.close()  # so that a sender that dies ends what waits for its word
    await asyncio.to_thread(ours.recv)
    ours.send(time.monotonic() + _LEAD_SECONDS)
    yield
    await asyncio.to_thread(ours.recv)
    process.join()


async def _send(task: Task, parent: Connection) -> None:
    ids, values = task.job.unfinished(task.count, task.start)
    log = open_log(task.url)
    appender, ticker = log.appender(), Ticker()
    await appender.append([])
    parent.send("ready")
    begin = await asyncio.to_thread(parent.recv)
    worst = await _paced(task, appender, ticker, ids, values, begin)
    await appender.close()
    await log.close()
    parent.send(worst)


async def _paced(
    task: Task, appender: Appender, ticker: Ticker, ids: list[bytes], values: list[bytes], begin: float
) -> float:
    from benchmarks.world import append

    sent, worst = 0, 0.0
    under_way: set[asyncio.Task[None]] = set()
    ts = time.time() - time.monotonic()
    while sent < task.count:
        now = time.monotonic()
        due = min(task.count, int((now - begin) * task.rate) + 1) if now >= begin else 0
        if due > sent:
            worst = max(worst, now - (begin + sent / task.rate))
            part = range(sent, due)
            whole = [values[i] + b"%d}" % int((ts + begin + i / task.rate) * 1000) for i in part]
            under_way.add(asyncio.create_task(append(appender, task.source, ids[sent:due], whole)))
            sent = due
        under_way = {some for some in under_way if not some.done() or some.result()}
        if len(under_way) >= _APPENDS_MAX:
            await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
        else:
            await ticker.until(max(begin + sent / task.rate, now + _TICK_SECONDS / 2))
    if under_way:
        await asyncio.wait(under_way)
    return worst


# ---- the receiver's process


def receiver(task: Task, parent: Connection) -> None:
    """Note when each event's record arrives; sends arrivals (time.monotonic(), 0 if none) and repeats."""
    run_async(_receive(task, parent))


async def _receive(task: Task, parent: Connection) -> None:
    log = open_log(task.url)
    tps = [TopicPartition(task.target, number) for number in range(PARTITIONS)]
    ends = await log.admin().end_offsets(tps)
    scanner = log.scanner()
    for tp in tps:
        scanner.seek(tp, ends[tp])
    await scanner.poll(100)
    parent.send("ready")
    begin: float = await asyncio.to_thread(parent.recv)
    deadline = begin + task.count / task.rate + _STRAGGLE_SECONDS
    arrivals = np.zeros(task.count)
    found = repeats = 0
    while found < task.count and time.monotonic() < deadline:
        for chunk in await scanner.poll(200):
            now = time.monotonic()
            for text in _NUMBER.findall(b"\n".join(filter(None, chunk.values))):
                at = int(text) - task.start
                if arrivals[at]:
                    repeats += 1
                else:
                    arrivals[at] = now
                    found += 1
    await scanner.close()
    await log.close()
    parent.send((arrivals, repeats))


# ---- the parent


def measure(task: Task, warm_up: float, pids: dict[str, int]) -> Result:
    """Run sender and receiver; percentiles in ms of the events scheduled after the warm-up."""
    context = multiprocessing.get_context("spawn")
    pairs = []
    for target in (receiver, sender):
        ours, theirs = context.Pipe()
        process = context.Process(target=target, args=(task, theirs), daemon=True)
        process.start()
        theirs.close()
        pairs.append((process, ours))
    for _, pipe in pairs:
        pipe.recv()
    begin = time.monotonic() + _LEAD_SECONDS
    for _, pipe in pairs:
        pipe.send(begin)
    time.sleep(max(0.0, begin + warm_up - time.monotonic()))
    before, since = {name: cpu_seconds(pid) for name, pid in pids.items()}, time.monotonic()
    time.sleep(max(0.0, begin + task.count / task.rate - time.monotonic()))
    wall = time.monotonic() - since
    cpu = {f"{name}_busy": (cpu_seconds(pid) - before[name]) / wall for name, pid in pids.items()}
    arrivals, repeats = pairs[0][1].recv()
    worst = pairs[1][1].recv()
    for process, _ in pairs:
        process.join()
    return _figures(task, arrivals, begin, warm_up) | {
        "duplicates": repeats, "sender_late_max_ms": worst * 1e3, **cpu,
    }  # fmt: skip


def _figures(task: Task, arrivals: npt.NDArray[np.float64], begin: float, warm_up: float) -> Result:
    scheduled = begin + np.arange(task.count) / task.rate
    counted = scheduled >= begin + warm_up
    there = counted & (arrivals > 0)
    latency = (arrivals[there] - scheduled[there]) * 1e3
    out: Result = {"rate": task.rate, "events": int(counted.sum()), "missing": int((arrivals == 0).sum())}
    if len(latency):
        names = ("p50", "p95", "p99", "p99.9", "max")
        out |= dict(zip(names, np.percentile(latency, (50, 95, 99, 99.9, 100)).tolist(), strict=True))
        thirds = np.array_split(latency, 3)
        out["p50_by_third"] = [float(np.median(third)) for third in thirds if len(third)]  # rising: it cannot keep up
    return out


def run(
    on: World, log: str, variant: str, rates: Sequence[int], warm_up: float, seconds: float, job: Job | None = None,
    *, options: Sequence[str] = (), floor: bool = True,
) -> list[Result]:  # fmt: skip
    """Floor (if wanted), then engine, at each rate; one worker serves all rates, each with events of its own.

    `options`: more of `run`.
    """
    name, job = fresh(f"latency-{variant.lower()}"), job or Job()
    url, topic = on.url(log, "latency"), fresh("transactions")
    path = pipeline(on.directory, variant, name, topic)
    plan = plan_of(path)

    async def topics() -> str:
        events_ = open_log(url)
        echo = fresh("floor")
        await events_.admin().ensure_topics([TopicSpec(echo, PARTITIONS), TopicSpec(topic, PARTITIONS)])
        await prepare_outputs(events_, plan)
        await events_.close()
        return echo

    echo, results, start = run_async(topics()), list[Result](), 0
    broker = {"broker": on.broker_pid} if on.broker_pid else {}
    for rate in rates if floor else ():
        count = int(rate * (warm_up + seconds))
        results.append({"what": "floor", "log": log} | measure(
            Task(url, echo, echo, job, rate, start, count), warm_up, broker
        ))  # fmt: skip
        start += count
    start = 0
    with Worker(on, path, url, name, *options) as worker:
        worker.await_ready()
        for rate in rates:
            count, before = int(rate * (warm_up + seconds)), worker.metrics()
            task = Task(url, topic, plan.topics.decisions, job, rate, start, count)
            found = measure(task, warm_up, {"worker": worker.pid, **broker})
            found |= stages(before, worker.metrics()) | worker.memory()
            results.append({"what": variant, "log": log} | found)
            print(f"  latency {log} {variant} at {rate}/s: {found.get('p50', 0):.1f} ms", file=sys.stderr)
            start += count
    return results


def warm(on: World) -> None:
    """A run that nobody counts: a JVM that has not yet seen thousands of small transactions takes twice as long."""
    drain.warm(on)
    if on.broker is not None:
        run(on, "kafka", "R", [1_000], 0, _WARM_SECONDS)


def main() -> None:
    parser = argparse.ArgumentParser(description="Open-loop latency.")
    parser.add_argument("--rate", nargs="+", type=int, default=list(RATES))
    parser.add_argument("--warm-up", type=float, default=10.0)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--log", choices=("kafka", "embedded"), default="kafka")
    parser.add_argument("--variant", choices=("R", "M"), default="R")
    parser.add_argument("--free-broker", action="store_true", help="let the broker use the worker's core too")
    chosen = parser.parse_args()
    with world(kafka=chosen.log == "kafka", pin_broker=not chosen.free_broker) as on:
        warm(on)
        for result in run(on, chosen.log, chosen.variant, chosen.rate, chosen.warm_up, chosen.seconds):
            print(json.dumps(result))


if __name__ == "__main__":
    main()
