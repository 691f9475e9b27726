"""Drain: a backlog of the job, one worker on one core, broker and driver beside it.

    python -m benchmarks.drain [--records 300000] [--log kafka embedded] [--variant R M] [--step 10] [--repeats 3]

records/s = N / (arrival of the last committed decision at a reader - time the first one was written). On Kafka the
broker writes that time (LogAppendTime), in the embedded log the worker does, just before it encodes. Every run is
checked against benchmarks/reference.py.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from statistics import median
from typing import Any

from benchmarks import reference
from benchmarks.job import Job, has_model, pipeline, plan_of
from benchmarks.machine import Usage
from benchmarks.world import (
    Worker,
    World,
    copied,
    fresh,
    prepare_outputs,
    prepared,
    read_back,
    stages,
    total,
    watch,
    world,
)
from streamproc.cli.compose import open_log
from streamproc.cli.loops import run_async

Result = dict[str, Any]
WRONG = ("missing", "duplicates", "unknown", "mismatches")


def drain(on: World, log: str, url: str, topic: str, variant: str, job: Job, count: int) -> Result:
    """One run on the input that lies in `topic`."""
    name = fresh(f"drain-{variant.lower()}")
    path = pipeline(on.directory, variant, name, topic)
    plan = plan_of(path)
    worker = Worker(on, path, url, name)

    async def work() -> Result:
        events = open_log(url)
        await prepare_outputs(events, plan)
        with worker:
            usages = (Usage(worker.pid), Usage(on.broker_pid or worker.pid))
            seen = await watch(
                events, plan.topics.decisions, lambda seen: seen.count >= count, worker=worker, usages=usages
            )
            memory, metrics = worker.memory(), worker.metrics()
        await events.close()
        verdict = reference.check(
            reference.expected(job, count, model=variant == "M"), await read_back(url, plan.topics.decisions)
        )
        seconds = seen.last_arrival - seen.first_stamp
        cpu = [usage.between(seen.first_stamp, seen.last_arrival) for usage in usages]
        return {
            "log": log, "variant": variant, "step_ms": job.step_ms, "records": count,
            "records_per_s": count / seconds, "cpu_s_per_1000": cpu[0] / count * 1000,
            "worker_core_busy": cpu[0] / seconds, "broker_cores_busy": cpu[1] / seconds if on.broker_pid else 0.0,
            "start_to_first_s": seen.arrivals[0][0] - worker.started, **memory,
            "state_mb": total(metrics, "state_bytes") / 2**20, **stages({}, metrics), **_flat(verdict),
        }  # fmt: skip

    return run_async(work())


def _flat(verdict: reference.Verdict) -> Result:
    return {name: getattr(verdict, name) for name in WRONG}


def middle(runs: Sequence[Result]) -> Result:
    """The median of every figure; of what must be 0, the sum."""
    out: Result = {}
    for name, value in runs[0].items():
        if name in WRONG:
            out[name] = sum(run[name] for run in runs)
        elif isinstance(value, float):
            out[name] = median(run[name] for run in runs)
        else:
            out[name] = value
    rates = [run["records_per_s"] for run in runs]
    return out | {"runs": len(runs), "slowest": min(rates), "fastest": max(rates)}


def run(
    on: World, count: int, logs: Sequence[str], variants: Sequence[str], steps: Sequence[int], repeats: int
) -> list[Result]:
    """All combinations; repeats of the variants take turns, so that a slow minute does not hit one of them."""
    runs: dict[tuple[str, str, int], list[Result]] = {}
    for step in steps:
        job = Job(step_ms=step)
        for log in logs:
            topic, source = fresh("transactions"), fresh("input")
            prepared(on.url(log, source), topic, job, count)
            for _ in range(repeats):
                for variant in variants:
                    url = on.url(log) if log == "kafka" else copied(on, source, fresh("copy"))
                    found = drain(on, log, url, topic, variant, job, count)
                    print(f"  drain {log} {variant} step {step}: {found['records_per_s']:,.0f}/s", file=sys.stderr)
                    runs.setdefault((log, variant, step), []).append(found)
    return [middle(some) for some in runs.values()]


def warm(on: World, count: int = 60_000) -> None:
    """A drain that nobody counts: a JVM that has just started compiles for a minute, on the core of the driver."""
    if on.broker is not None:
        print("  warming the broker", file=sys.stderr)
        run(on, count, ["kafka"], ["R"], [10], 1)


def main() -> None:
    parser = argparse.ArgumentParser(description="Drain a backlog.")
    parser.add_argument("--records", type=int, default=300_000)
    parser.add_argument("--log", nargs="+", choices=("kafka", "embedded"), default=["kafka", "embedded"])
    parser.add_argument("--variant", nargs="+", choices=("R", "M"), default=["R", "M"] if has_model() else ["R"])
    parser.add_argument("--step", nargs="+", type=int, default=[10])
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--free-broker", action="store_true", help="let the broker use the worker's core too")
    chosen = parser.parse_args()
    with world(kafka="kafka" in chosen.log, pin_broker=not chosen.free_broker) as on:
        warm(on)
        for result in run(on, chosen.records, chosen.log, chosen.variant, chosen.step, chosen.repeats):
            print(json.dumps(result))


if __name__ == "__main__":
    main()
