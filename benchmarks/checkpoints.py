"""What checkpoints cost: latency and CPU of the same open loop without and with them, in turns.

python -m benchmarks.checkpoints [--rate 5000] [--seconds 20] [--every 5] [--pairs 3] [--log kafka]
"""

from __future__ import annotations

import argparse
import json
import sys
from statistics import median
from typing import Any

from benchmarks import latency
from benchmarks.job import PARTITIONS, Job, pipeline, plan_of
from benchmarks.world import Worker, World, fresh, prepare_outputs, total, world
from streamproc.cli.compose import open_log
from streamproc.cli.loops import run_async
from streamproc.eventlog.contract import TopicSpec

Result = dict[str, Any]
_WARM_UP = 5.0


def one(on: World, log: str, rate: int, seconds: float, every: float | None) -> Result:
    """One run; `every` seconds a checkpoint of each task, to a directory, or none."""
    name, job = fresh("checkpoints"), Job()
    url, topic = on.url(log, name), fresh("transactions")
    path = pipeline(on.directory, "R", name, topic)
    plan = plan_of(path)

    async def topics() -> None:
        events = open_log(url)
        await events.admin().ensure_topics([TopicSpec(topic, PARTITIONS)])
        await prepare_outputs(events, plan)
        await events.close()

    run_async(topics())
    store = on.directory / f"{name}-checkpoints"
    options = ["--checkpoints", str(store), "--checkpoint-seconds", str(every)] if every else []
    count = int(rate * (_WARM_UP + seconds))
    with Worker(on, path, url, name, *options) as worker:
        worker.await_ready()
        task = latency.Task(url, topic, plan.topics.decisions, job, rate, 0, count)
        found = latency.measure(task, _WARM_UP, {"worker": worker.pid})
        metrics = worker.metrics()
    written = total(metrics, "checkpoint_seconds_count")
    if every and not written:
        raise RuntimeError("no checkpoint was written")
    return {
        "p50": found["p50"], "p99": found["p99"], "cpu_s_per_1000": found["worker_busy"] / rate * 1000,
        "missing": found["missing"], "duplicates": found["duplicates"], "checkpoints": written,
        "bytes_sent": total(metrics, "checkpoint_bytes_total"),
    }  # fmt: skip


def run(on: World, log: str, rate: int, seconds: float, every: float, pairs: int) -> list[Result]:
    """Pairs in turns; medians, and the medians of the pairs' ratios."""
    runs = [(one(on, log, rate, seconds, None), one(on, log, rate, seconds, every)) for _ in range(pairs)]
    for without, with_ in runs:
        print(f"  p99 {without['p99']:.0f} ms without, {with_['p99']:.0f} with checkpoints", file=sys.stderr)
    ratio = {name: median(with_[name] / without[name] for without, with_ in runs) for name in ("p99", "cpu_s_per_1000")}
    wrong = sum(found["missing"] + found["duplicates"] for pair in runs for found in pair)
    return [{
        "log": log, "rate": rate, "every_s": every, "pairs": pairs, "wrong": wrong,
        "p99_without": median(pair[0]["p99"] for pair in runs), "p99_with": median(pair[1]["p99"] for pair in runs),
        "p99_ratio": ratio["p99"], "cpu_ratio": ratio["cpu_s_per_1000"],
        "checkpoints": median(pair[1]["checkpoints"] for pair in runs),
        "bytes_sent": median(pair[1]["bytes_sent"] for pair in runs),
    }]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description="What checkpoints cost.")
    parser.add_argument("--rate", type=int, default=5_000)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--every", type=float, default=5.0)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--log", choices=("kafka", "embedded"), default="kafka")
    parser.add_argument("--free-broker", action="store_true", help="let the broker use the worker's core too")
    chosen = parser.parse_args()
    with world(kafka=chosen.log == "kafka", pin_broker=not chosen.free_broker) as on:
        latency.warm(on)
        for result in run(on, chosen.log, chosen.rate, chosen.seconds, chosen.every, chosen.pairs):
            print(json.dumps(result))


if __name__ == "__main__":
    main()
