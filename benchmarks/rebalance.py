"""Rebalances: how long a member that comes, or leaves, stops the partitions that stay where they are.

    python -m benchmarks.rebalance [--rate 1000] [--rounds 3]

Two pods share four partitions under a steady feed; a third joins, takes one of them, and leaves again (`--leave`). The
pause of a partition is the longest time without a committed decision, from the start (or the SIGTERM) until two
seconds after the third is ready (or gone). All partitions are revoked and given again: what is to be reached for those
that stay is one heartbeat, until their owners hear of it, a transaction's p99, and 300 ms. A pod's start takes a good
second of a core: with fewer cores than processes that is in the figure, so the same span without a rebalance, but with
a process that starts, stands beside it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import msgspec

from benchmarks import drain, latency, reference
from benchmarks.drain import WRONG
from benchmarks.job import PARTITIONS, Job, pipeline, plan_of
from benchmarks.world import Watched, Worker, World, fresh, prepare_outputs, read_back, watch, world
from operators.plan import Plan
from streamproc.cli.compose import open_log
from streamproc.cli.loops import run_async
from streamproc.eventlog.contract import Chunk, TopicSpec
from streamproc.eventlog.kafka.settings import Settings

Result = dict[str, Any]
RATE = 1_000
_SETTLE_SECONDS = 3.0
_AFTER_SECONDS = 2.0
_ROUND_SECONDS = 18.0
_SLACK_MS = 300.0


class Commits(msgspec.Struct):
    """When a reader saw committed decisions, by partition (time.monotonic())."""

    seen: dict[int, list[float]] = msgspec.field(default_factory=lambda: defaultdict(list))

    def note(self, chunks: list[Chunk]) -> None:
        now = time.monotonic()
        for chunk in chunks:
            self.seen[chunk.tp.partition].append(now)

    def pauses(self, begin: float, end: float) -> dict[int, float]:
        """ms of the longest gap of each partition that ends in the span."""
        longest = {}
        for partition, times in self.seen.items():
            gaps = [b - a for a, b in zip(times, [*times[1:], end], strict=True) if a < end and b > begin]
            longest[partition] = max(gaps, default=end - begin) * 1e3
        return longest


class Third(msgspec.Struct):
    """The pod that comes and goes, and what the log of its `run` says it has restored."""

    worker: Worker
    read: int = 0

    def start(self) -> None:
        """Until it has its partitions."""
        self.worker.start()
        self.worker.await_ready()

    def restored(self) -> set[int]:
        """Tasks it has got since it was last asked."""
        lines = self.worker.log.read_text().splitlines()
        new, self.read = lines[self.read :], len(lines)
        return {json.loads(line)["task"] for line in new if '"task restored"' in line}


async def _span(work: Callable[[], object]) -> tuple[float, float]:
    """Begin and end of the span that `work` belongs to."""
    begin = time.monotonic()
    await asyncio.to_thread(work)
    await asyncio.sleep(_AFTER_SECONDS)
    return begin, time.monotonic()


def _import_only() -> None:
    """What a pod's start costs the machine, without a pod."""
    subprocess.run([sys.executable, "-c", "import streamproc.cli.compose, streamproc.runtime.worker"], check=True)


async def _rounds(third: Third, commits: Commits, rounds: int) -> list[Result]:
    await asyncio.sleep(_SETTLE_SECONDS)
    found: list[Result] = []
    for number in range(rounds):
        moved: set[int] = set()
        for what, work in (("no rebalance", _import_only), ("join", third.start), ("leave", third.worker.stop)):
            span = await _span(work)
            moved = third.restored() if what == "join" else moved
            pauses = commits.pauses(*span)
            stay = [pause for partition, pause in pauses.items() if what == "no rebalance" or partition not in moved]
            row: Result = {"what": what, "round": number, "stay_pause_ms": max(stay, default=float("nan"))}
            if what != "no rebalance":
                row |= {"moved": len(moved), "moved_pause_ms": max((pauses[p] for p in moved), default=0.0)}
            found.append(row)
            print(f"  rebalance: {row}", file=sys.stderr)
    return found


def p99_ms(metrics: dict[str, float]) -> float:
    """A transaction's, by the histogram: the bound of the bucket it is in."""
    name = "transaction_seconds_bucket"
    bounds = sorted((float(key.split('"')[1]), count) for key, count in metrics.items() if key.startswith(name))
    return next(bound for bound, count in bounds if count >= 0.99 * bounds[-1][1]) * 1e3


async def _measured(plan: Plan, third: Third, url: str, task: latency.Task, rounds: int) -> list[Result]:
    commits, log = Commits(), open_log(url)
    async with latency.feeding(task):
        rounds_ = asyncio.create_task(_rounds(third, commits, rounds))

        def over(seen: Watched) -> bool:
            return seen.count >= task.count or (rounds_.done() and rounds_.exception() is not None)

        await watch(log, plan.topics.decisions, over, on_chunks=commits.note)
        await log.close()
        if not rounds_.done():
            raise RuntimeError("the feed has ended before the last rebalance: the machine is too slow for this rate")
    return await rounds_


def run(on: World, rate: int, rounds: int) -> list[Result]:
    """One row a rebalance; the wrong decisions of the whole run are in the last."""
    name, topic, url, job = fresh("rebalance"), fresh("transactions"), on.url("kafka"), Job()
    path = pipeline(on.directory, "R", name, topic)
    plan = plan_of(path)
    cores = on.cores.others | {on.cores.worker}

    async def topics() -> None:
        log = open_log(url)
        await log.admin().ensure_topics([TopicSpec(topic, PARTITIONS)])
        await prepare_outputs(log, plan)
        await log.close()

    run_async(topics())
    a, b, c = [Worker(on, path, url, f"{name}-{letter}", "--leave", cores=cores) for letter in "abc"]
    task = latency.Task(url, topic, plan.topics.decisions, job, rate, 0, int(rate * (_ROUND_SECONDS * rounds + 5)))
    with a, b:
        a.await_ready()
        b.await_ready()
        try:
            found = run_async(_measured(plan, Third(c), url, task, rounds))
        finally:
            c.stop()
        bound = Settings().heartbeat_interval_ms + p99_ms(a.metrics()) + _SLACK_MS
    verdict = reference.check(reference.expected(job, task.count), run_async(read_back(url, plan.topics.decisions)))
    for row in found:
        if row["what"] != "no rebalance":
            row |= {"bound_ms": bound, "within": row["stay_pause_ms"] <= bound}
    found[-1] |= {wrong: getattr(verdict, wrong) for wrong in WRONG}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="The pause of a rebalance.")
    parser.add_argument("--rate", type=int, default=RATE)
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    with world(kafka=True) as on:
        drain.warm(on)
        for result in run(on, chosen.rate, chosen.rounds):
            print(json.dumps(result))


if __name__ == "__main__":
    main()
