"""Restarts: kill -9 in mid-drain and at a steady rate, a cold start, and how fast a lost state is replayed.

    python -m benchmarks.kill [--records 300000] [--log kafka embedded] [--variant R] [--rate 5000] [--repeats 3]

At a steady rate the pod comes back at once, once under its name with its disk, and (on Kafka) once as another pod
without either: then the group waits for the dead member's session to end, and its state is replayed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import msgspec

from benchmarks import latency, reference
from benchmarks.drain import WRONG
from benchmarks.job import PARTITIONS, Job, pipeline, plan_of
from benchmarks.machine import pin
from benchmarks.replay import restore
from benchmarks.world import Watched, Worker, World, fresh, prepare_outputs, prepared, read_back, watch, world
from streamproc.cli.compose import open_log
from streamproc.cli.loops import run_async
from streamproc.eventlog.contract import Chunk, EventLog, TopicSpec

Result = dict[str, Any]
RATE = 5_000
_FIRST = 1_000
_STEADY_SECONDS = 24


class Victim(msgspec.Struct):
    """Watches decisions, kills the worker at one of them and starts its successor (itself, again) at once."""

    worker: Worker
    successor: Worker
    at: int
    killed: float = 0.0
    first_after: float = 0.0

    def seen(self, seen: Watched, stamp: float) -> None:
        if not self.killed and seen.count >= self.at:
            self.killed = time.time()
            self.worker.kill()
            self.successor.start()
        elif self.killed and not self.first_after and stamp > self.killed:
            # Written after the death: what was committed before it may still be on its way to us.
            self.first_after = seen.last_arrival

    async def watch(self, events: EventLog, topic: str, count: int) -> None:
        """Until so many decisions have arrived."""
        newest = [0.0]

        def until(seen: Watched) -> bool:
            self.seen(seen, newest[0])
            return seen.count >= count

        def note(chunks: list[Chunk]) -> None:
            newest[0] = max(max(chunk.timestamps) for chunk in chunks) / 1000

        await watch(events, topic, until, on_chunks=note)

    @property
    def gap(self) -> float:
        """Seconds from the SIGKILL to the first new committed decision."""
        return self.first_after - self.killed if self.first_after else float("nan")


def kill(on: World, log: str, variant: str, count: int) -> Result:
    """Seconds from the SIGKILL to the first new committed decision, and what the whole output is worth."""
    name, topic, job = fresh("kill"), fresh("transactions"), Job()
    url = on.url(log, name)
    path = pipeline(on.directory, variant, name, topic)
    plan = plan_of(path)
    prepared(url, topic, job, count)

    async def work() -> Result:
        events = open_log(url)
        await prepare_outputs(events, plan)
        with Worker(on, path, url, name) as worker:
            victim = Victim(worker, worker, count // 3)
            await victim.watch(events, plan.topics.decisions, count)
        await events.close()
        verdict = reference.check(
            reference.expected(job, count, model=variant == "M"), await read_back(url, plan.topics.decisions)
        )
        return {"what": "kill -9", "log": log, "variant": variant, "records": count, "kill_to_first_s": victim.gap} | {
            name: getattr(verdict, name) for name in WRONG
        }

    return run_async(work()) | replay(on, path, url)


def steady(on: World, log: str, variant: str, rate: int, *, same_pod: bool) -> Result:
    """The same of a worker that keeps up with an open loop."""
    name, topic, job = fresh("steady"), fresh("transactions"), Job()
    url, count = on.url(log, name), rate * _STEADY_SECONDS
    path = pipeline(on.directory, variant, name, topic)
    plan = plan_of(path)

    async def work() -> Result:
        events = open_log(url)
        await events.admin().ensure_topics([TopicSpec(topic, PARTITIONS)])
        await prepare_outputs(events, plan)
        worker = Worker(on, path, url, name)
        successor = worker if same_pod else Worker(on, path, url, f"{name}-other")
        victim = Victim(worker, successor, count // 3)
        try:
            worker.start()
            await asyncio.to_thread(worker.await_ready)
            async with latency.feeding(latency.Task(url, topic, plan.topics.decisions, job, rate, 0, count)):
                await victim.watch(events, plan.topics.decisions, count)
        finally:
            worker.stop()
            successor.stop()
        await events.close()
        verdict = reference.check(
            reference.expected(job, count, model=variant == "M"), await read_back(url, plan.topics.decisions)
        )
        what = "kill -9 at a rate, " + ("same pod" if same_pod else "another pod")
        return {"what": what, "log": log, "variant": variant, "rate": rate, "kill_to_first_s": victim.gap} | {
            name: getattr(verdict, name) for name in WRONG
        }

    return run_async(work())


def cold(on: World, log: str, variant: str) -> Result:
    """Seconds from starting `run` in a world without its topics' outputs and state to its first decision."""
    name, topic = fresh("cold"), fresh("transactions")
    url = on.url(log, name)
    path = pipeline(on.directory, variant, name, topic)
    prepared(url, topic, Job(), _FIRST)

    async def work() -> Result:
        events = open_log(url)
        await prepare_outputs(events, plan_of(path))
        with Worker(on, path, url, name) as worker:
            seen = await watch(events, f"{name}.decisions", lambda seen: seen.count > 0, worker=worker)
        await events.close()
        return {
            "what": "cold start", "log": log, "variant": variant, "start_to_first_s": seen.last_arrival - worker.started
        }  # fmt: skip

    return run_async(work())


# ---- replay


def replay(on: World, path: Path, url: str) -> Result:
    """Events a second of restoring all tasks from nothing, in a process of its own on the worker's core."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(_replay, (path, url, on.directory / fresh("replayed"), on.cores.worker))


def _replay(path: Path, url: str, directory: Path, core: int) -> Result:
    pin(0, {core})
    return run_async(_restored(path, url, directory))


async def _restored(path: Path, url: str, directory: Path) -> Result:
    found = await restore(plan_of(path), url, directory)
    shutil.rmtree(directory, ignore_errors=True)
    return {"replay_per_s": found["wall_events_per_s"], "replay_cpu_us": found["cpu_us"]}


def run(on: World, count: int, logs: Sequence[str], variant: str, repeats: int, rate: int = RATE) -> list[Result]:
    """Medians of the repeats; what must be 0 is summed."""
    results = []
    for log in logs:
        cases: list[Callable[[], Result]] = [partial(kill, on, log, variant, count), partial(cold, on, log, variant)]
        cases += [
            partial(steady, on, log, variant, rate, same_pod=same) for same in (True, False)[: 1 + (log == "kafka")]
        ]
        for measured in cases:
            runs = [measured() for _ in range(repeats)]
            print(f"  {runs[0]['what']} {log}: {runs[-1]}", file=sys.stderr)
            middle = {
                name: sum(run[name] for run in runs) if name in WRONG
                else median(run[name] for run in runs) if isinstance(value, float) else value
                for name, value in runs[0].items()
            }  # fmt: skip
            results.append(middle | {"runs": repeats})
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description="kill -9, cold start and replay.")
    parser.add_argument("--records", type=int, default=300_000)
    parser.add_argument("--log", nargs="+", choices=("kafka", "embedded"), default=["kafka", "embedded"])
    parser.add_argument("--variant", choices=("R", "M"), default="R")
    parser.add_argument("--rate", type=int, default=RATE)
    parser.add_argument("--repeats", type=int, default=1)
    chosen = parser.parse_args()
    with world(kafka="kafka" in chosen.log) as on:
        latency.warm(on)
        for result in run(on, chosen.records, chosen.log, chosen.variant, chosen.repeats, chosen.rate):
            print(json.dumps(result))


if __name__ == "__main__":
    main()
