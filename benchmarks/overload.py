"""Overload: what a payment past its deadline costs, and a restored partition beside live ones.

    python -m benchmarks.overload [--rate 1000] [--records 300000] [--payments 20000]

`late`: the engines of the shipped pipeline, once with all payments in time, once with all of them late, so decided
without the model. `restored`: two pods share four partitions and have decided a backlog; under a steady feed one is
killed for good. The other takes its two partitions over, without their state: it replays all of their records, and
then decides what came while nobody had them. What is to be shown: its own two do not notice. Their latency from the
scheduled send, before the kill and from the take-over to the end of that backlog, stands side by side, from one run.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import sys
import time
from collections import defaultdict
from typing import Any

import msgspec
import numpy as np

from benchmarks import card_fraud, drain, latency, reference
from benchmarks.drain import WRONG
from benchmarks.job import PARTITIONS, Job, pipeline, plan_of
from benchmarks.world import Worker, World, fresh, prepare_outputs, prepared, read_back, watch, world
from streamproc.cli.common import load_stages
from streamproc.cli.compose import open_log
from streamproc.cli.loops import run_async
from streamproc.eventlog.contract import Chunk

Result = dict[str, Any]
RATE = 1_000
SIZES = (1, 64, 512)
_BEFORE_SECONDS, _AFTER_SECONDS = 10.0, 30.0
_CAUGHT_UP_MS = 250
_SETTLE_SECONDS = 5.0
_TS = re.compile(rb'"ts":(\d+)')


# ---- a late payment


def late(count: int = 20_000) -> list[Result]:
    """CPU of all stages by batch size, in time and late."""
    keys, values = card_fraud.Payments().records(2 * count)
    results = []
    for size in SIZES:
        spent = {}
        for what, deadline_ms in (("in time", 0), ("late", -1)):
            *others, last = load_stages(str(card_fraud.CONFIG / "pipeline.yaml"))
            decision = msgspec.structs.replace(last.decision, deadline_ms=deadline_ms)  # below 0: whenever it came
            chain = card_fraud.Chain([*others, msgspec.structs.replace(last, decision=decision)])
            for at in range(0, count, 2_000):
                chain.batch(keys[at : at + 2_000], values[at : at + 2_000])
            chain.cpu, rounds = 0.0, min(200, count // size)
            for at in range(count, count + rounds * size, size):
                chain.batch(keys[at : at + size], values[at : at + size])
            spent[what] = chain.cpu / rounds / size * 1e6
        results.append({"what": "late", "batch": size, "in_time_us": spent["in time"], "late_us": spent["late"]})
        print(f"  overload: {results[-1]}", file=sys.stderr)
    return results


# ---- a restored partition


class Seen(msgspec.Struct):
    """When decisions of live payments were seen, and when these were due: ms by the wall clock, by partition."""

    at: dict[int, list[tuple[float, int]]] = msgspec.field(default_factory=lambda: defaultdict(list))
    since: float = 0.0

    def note(self, chunks: list[Chunk]) -> None:
        """Of a poll."""
        now = time.time() * 1e3
        for chunk in chunks:
            due = map(int, _TS.findall(b"\n".join(filter(None, chunk.values))))
            self.at[chunk.tp.partition] += [(now, ts) for ts in due if ts >= self.since]

    def latencies(self, partition: int, begin: float, end: float) -> list[float]:
        """Of the payments that were due between the two, ms."""
        return [now - ts for now, ts in self.at[partition] if begin <= ts < end]


class Killed(msgspec.Struct):
    """The moments of a run, ms by the wall clock."""

    kill: float = 0.0
    caught_up: float = 0.0


def owned(worker: Worker) -> list[int]:
    """The partitions that it has, by what it shows of their lag."""
    shown = (re.search(r'^lag_records{.*partition="(\d+)"', name) for name in worker.metrics())
    return sorted(int(found[1]) for found in shown if found)


async def _kill(victim: Worker, lost: list[int], seen: Seen, killed: Killed) -> None:
    """In mid-feed; until the lost partitions' newest decisions are of payments just sent."""
    await asyncio.sleep(_BEFORE_SECONDS)
    killed.kill = time.time() * 1e3
    await asyncio.to_thread(victim.kill)
    while not killed.caught_up:
        await asyncio.sleep(0.1)
        newest = [max((one for one in seen.at[p] if one[0] > killed.kill + 1_000), default=None) for p in lost]
        if all(one is not None and one[0] - one[1] < _CAUGHT_UP_MS for one in newest):
            killed.caught_up = time.time() * 1e3


async def _measured(victim: Worker, task: latency.Task, before: int) -> Result:
    log, seen, killed = open_log(task.url), Seen(since=time.time() * 1e3), Killed()
    lost = owned(victim)
    kept = sorted(set(range(PARTITIONS)) - set(lost))
    async with latency.feeding(task):
        killing = asyncio.create_task(_kill(victim, lost, seen, killed))
        await watch(log, task.target, lambda all_: all_.count >= before + task.count, on_chunks=seen.note)
        killing.cancel()
    await log.close()
    if not lost or not kept or not killed.caught_up:
        raise RuntimeError("the pods did not share the partitions, or the feed ended before the lost ones caught up")
    taken = min((now for p in lost for now, _ in seen.at[p] if now > killed.kill + 1_000), default=killed.caught_up)
    calm = [ms for p in kept for ms in seen.latencies(p, seen.since + 3_000, killed.kill)]
    beside = [ms for p in kept for ms in seen.latencies(p, taken - 3_000, killed.caught_up)]
    found: Result = {"what": "restored", "rate": task.rate, "replayed": before // 2, "partitions": len(lost)}
    for name, some in (("before", calm), ("beside", beside)):
        found |= {f"{name}_p50_ms": float(np.percentile(some, 50)), f"{name}_p99_ms": float(np.percentile(some, 99))}
    waited = [ms for p in lost for ms in seen.latencies(p, killed.kill, killed.caught_up)]
    return found | {
        "beside_max_ms": max(beside), "p99_ratio": found["beside_p99_ms"] / found["before_p99_ms"],
        "taken_over_s": (taken - killed.kill) / 1e3, "caught_up_s": (killed.caught_up - killed.kill) / 1e3,
        "restored_longest_s": max(waited) / 1e3,
    }  # fmt: skip


def restored(on: World, rate: int, count: int) -> Result:
    """`count` records lie there first."""
    name, topic, url, job = fresh("restored"), fresh("transactions"), on.url("kafka"), Job()
    path = pipeline(on.directory, "R", name, topic)
    plan = plan_of(path)
    prepared(url, topic, job, count)

    async def ready() -> None:
        log = open_log(url)
        await prepare_outputs(log, plan)
        await log.close()

    async def decided() -> None:
        log = open_log(url)
        await watch(log, plan.topics.decisions, lambda seen: seen.count >= count)
        await log.close()

    run_async(ready())
    cores = on.cores.others | {on.cores.worker}
    live = int(rate * (_BEFORE_SECONDS + _AFTER_SECONDS))
    task = latency.Task(url, topic, plan.topics.decisions, job, rate, count, live)
    survivor, victim = (Worker(on, path, url, f"{name}-{letter}", cores=cores) for letter in "ab")
    with survivor, victim:
        survivor.await_ready()
        victim.await_ready()
        run_async(decided())
        time.sleep(_SETTLE_SECONDS)
        found = run_async(_measured(victim, task, count))
    verdict = reference.check(reference.expected(job, count + live), run_async(read_back(url, plan.topics.decisions)))
    print(f"  overload: {found}", file=sys.stderr)
    return found | {wrong: getattr(verdict, wrong) for wrong in WRONG}


def run(on: World, rate: int, count: int, payments: int) -> list[Result]:
    """Both; without Kafka the first."""
    found = late(payments)
    return [*found, restored(on, rate, count)] if on.broker is not None else found


def main() -> None:
    parser = argparse.ArgumentParser(description="Overload.")
    parser.add_argument("--rate", type=int, default=RATE)
    parser.add_argument("--records", type=int, default=300_000)
    parser.add_argument("--payments", type=int, default=20_000)
    chosen = parser.parse_args()
    with world(kafka=True) as on:
        drain.warm(on)
        for result in run(on, chosen.rate, chosen.records, chosen.payments):
            print(json.dumps(result))


if __name__ == "__main__":
    main()
