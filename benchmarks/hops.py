"""What a hop costs: latency at 1,000 events a second of pipelines of one, two and three stages, open loop.

    python -m benchmarks.hops [--log kafka embedded] [--rate 1000] [--seconds 20] [--stages 1 2 3]

The first stage is the job's, by card; each further one is by another key and adds a window. A row goes through a
transaction a stage: the hop should cost what a transaction takes, and 5 ms more at most at the 99th percentile.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import latency
from benchmarks.job import CONFIGS, PARTITIONS, VARIANTS, Job
from benchmarks.world import Worker, World, fresh, prepare_outputs, stages, world
from operators.plan import Plan
from streamproc.cli.common import load_stages
from streamproc.cli.compose import open_log
from streamproc.cli.loops import run_async
from streamproc.eventlog.contract import TopicSpec

Result = dict[str, Any]
STAGES = (1, 2, 3)
RATE = 1_000
_KEYS = ("device_id", "merchant_id")
_WARM_UP = 5.0


def chain(directory: Path, name: str, topic: str, count: int) -> Path:
    """The job's pipeline with `count` stages."""
    head, _, tail = (CONFIGS / VARIANTS["R"]).read_text().partition("partition_by: card_id\nfeatures:\n")
    features, _, rules = tail.partition("rules:\n")
    fields = "    fields:\n" + "".join(f"      {key}: string\n" for key in _KEYS)
    head = head.replace("pipeline: bench_v1", f"pipeline: {name}").replace("    fields:\n", fields)
    head = head.replace("    event_time: event_time\n", f"    event_time: event_time\n    topic: {topic}\n")
    text = [head, "stages:\n", "  - name: card\n    partition_by: card_id\n    features:\n"]
    text += [f"    {line}\n" for line in features.splitlines()]
    for key in _KEYS[: count - 1]:
        of = key.removesuffix("_id")
        text.append(f"  - name: {of}\n    partition_by: {key}\n    features:\n")
        text.append(f"      {of}: {{of: amount, aggregates: [count, sum], over: [5m, 1h]}}\n")
    path = directory / f"{name}.yaml"
    path.write_text("".join(text) + "rules:\n" + rules)
    return path


def one(on: World, log: str, count: int, rate: int, seconds: float) -> Result:
    """Percentiles of a pipeline of `count` stages."""
    name, topic, job = fresh(f"hops-{count}"), fresh("transactions"), Job()
    url, path = on.url(log, name), chain(on.directory, name, topic, count)
    plans = load_stages(str(path))
    run_async(_topics(url, topic, plans[-1]))
    events = int(rate * (_WARM_UP + seconds))
    broker = {"broker": on.broker_pid} if on.broker_pid else {}
    with Worker(on, path, url, name) as worker:
        worker.await_ready()
        before = worker.metrics()
        task = latency.Task(url, topic, plans[-1].topics.decisions, job, rate, 0, events)
        found = latency.measure(task, _WARM_UP, {"worker": worker.pid, **broker})
        after = worker.metrics()
    sent = after["transaction_seconds_count"] - before.get("transaction_seconds_count", 0.0)
    return {
        "log": log, "stages": count, **found, **stages(before, after), "transactions_per_s": sent / events * rate,
    }  # fmt: skip


async def _topics(url: str, topic: str, plan: Plan) -> None:
    log = open_log(url)
    await log.admin().ensure_topics([TopicSpec(topic, PARTITIONS)])
    await prepare_outputs(log, plan)
    await log.close()


def run(on: World, log: str, counts: Sequence[int], rate: int, seconds: float) -> list[Result]:
    """One pipeline after the other; `hop_p50`, `hop_p99`: more than one stage less."""
    found: list[Result] = []
    for count in counts:
        row = one(on, log, count, rate, seconds)
        for figure in ("p50", "p99") if found and figures(found[-1]) and figures(row) else ():
            row[f"hop_{figure}"] = row[figure] - found[-1][figure]
        found.append(row)
        print(f"  hops {log} {count} stages: p50 {row.get('p50', 0):.1f} ms", file=sys.stderr)
    return found


def figures(row: Result) -> bool:
    """Whether anything arrived."""
    return "p50" in row


def main() -> None:
    parser = argparse.ArgumentParser(description="What a hop costs.")
    parser.add_argument("--log", nargs="+", choices=("kafka", "embedded"), default=["kafka", "embedded"])
    parser.add_argument("--stages", nargs="+", type=int, choices=STAGES, default=list(STAGES))
    parser.add_argument("--rate", type=int, default=RATE)
    parser.add_argument("--seconds", type=float, default=20.0)
    chosen = parser.parse_args()
    with world(kafka="kafka" in chosen.log) as on:
        latency.warm(on)
        for log in chosen.log:
            for result in run(on, log, chosen.stages, chosen.rate, chosen.seconds):
                print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
