"""Several workers on one log, and the commit interval: throughput, latency, and what a transaction costs the broker.

    python -m benchmarks.workers [--workers 1 2 4] [--records 200000] [--intervals 0 5 20] [--rate 1000] [--seconds 10]

Drains: all cores for the workers (with fewer cores than processes they mostly share one out), the broker where it is in
the other parts. Intervals: one worker on its core, open loop; from the broker's CPU goes what it needs for the driver
alone, measured by reading the input back at the same rate.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

from benchmarks import latency, reference
from benchmarks.drain import WRONG
from benchmarks.job import Job, pipeline, plan_of
from benchmarks.machine import Usage
from benchmarks.world import Worker, World, fresh, prepare_outputs, prepared, read_back, watch, world
from streamproc.cli.compose import open_log
from streamproc.cli.loops import run_async

Result = dict[str, Any]
WORKERS = (1, 2, 4)
INTERVALS_MS = (0, 5, 20)
RATE = 1_000
_WARM_UP_SECONDS = 3.0


def drained(on: World, topic: str, workers: int, count: int) -> Result:
    """One drain of the input in `topic` by so many workers of one `run`."""
    name, url = fresh(f"workers-{workers}"), on.url("kafka")
    path = pipeline(on.directory, "R", name, topic)
    plan = plan_of(path)
    cores = on.cores.others | {on.cores.worker}

    async def work() -> Result:
        events = open_log(url)
        await prepare_outputs(events, plan)
        with Worker(on, path, url, name, "--workers", str(workers), cores=cores) as worker:
            usages = (Usage(worker.pid), Usage(on.broker_pid))
            seen = await watch(
                events, plan.topics.decisions, lambda seen: seen.count >= count, worker=worker, usages=usages
            )
            transactions = sum(worker.metrics(index)["batch_rows_count"] for index in range(workers))
        await events.close()
        verdict = reference.check(reference.expected(Job(), count), await read_back(url, plan.topics.decisions))
        seconds = seen.last_arrival - seen.first_stamp
        cpu, broker = (usage.between(seen.first_stamp, seen.last_arrival) for usage in usages)
        return {
            "what": "drain", "workers": workers, "records": count, "records_per_s": count / seconds,
            "cpu_s_per_1000": cpu / count * 1000, "rows": count / transactions,
            "broker_busy": broker / seconds, "broker_ms_a_transaction": broker / transactions * 1e3,
        } | {wrong: getattr(verdict, wrong) for wrong in WRONG}  # fmt: skip

    return run_async(work())


def intervals(on: World, given: Sequence[int], rate: int, seconds: float) -> list[Result]:
    """Latency and the broker's CPU at one rate, by commit interval."""
    results, floor = [], 0.0
    for number, interval in enumerate(given):
        found = latency.run(
            on, "kafka", "R", [rate], _WARM_UP_SECONDS, seconds,
            options=("--commit-interval", str(interval)), floor=number == 0,
        )  # fmt: skip
        if number == 0:
            floor = found[0]["broker_busy"]
        one = found[-1]
        transactions = rate / one["rows"]
        wanted = ("rate", "p50", "p99", "missing", "duplicates", "rows", "broker_busy", "worker_busy")
        results.append({"what": "commit interval", "commit_interval_ms": interval} | {n: one[n] for n in wanted} | {
            "transactions_per_s": transactions, "broker_busy_floor": floor,
            "broker_ms_a_transaction": (one["broker_busy"] - floor) / transactions * 1e3,
        })  # fmt: skip
    return results


def run(on: World, workers: Sequence[int], count: int, given: Sequence[int], rate: int, seconds: float) -> list[Result]:
    """Drains first, then the intervals."""
    topic = fresh("transactions")
    prepared(on.url("kafka"), topic, Job(), count)
    results = []
    for number in workers:
        results.append(drained(on, topic, number, count))
        print(f"  {number} workers: {results[-1]['records_per_s']:,.0f}/s", file=sys.stderr)
    return results + intervals(on, given, rate, seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description="Several workers, and the commit interval.")
    parser.add_argument("--workers", nargs="*", type=int, default=list(WORKERS))
    parser.add_argument("--records", type=int, default=200_000)
    parser.add_argument("--intervals", nargs="*", type=int, default=list(INTERVALS_MS), help="ms")
    parser.add_argument("--rate", type=int, default=RATE)
    parser.add_argument("--seconds", type=float, default=10.0)
    chosen = parser.parse_args()
    with world(kafka=True) as on:
        latency.warm(on)
        for result in run(on, chosen.workers, chosen.records, chosen.intervals, chosen.rate, chosen.seconds):
            print(json.dumps(result))


if __name__ == "__main__":
    main()
