"""How long after its decision an explanation is there: card_fraud at a steady rate, `explain-decisions` beside it.

    python -m benchmarks.explaining_lag [--rate 200 1000] [--seconds 20] [--log kafka embedded] [--all]

Both are processes of their own, as in production: the worker on its core, what explains it on the others with broker,
sender and reader. One reader of committed records follows decisions and explanations; the lag of an explanation is the
time from the arrival of its decision to its own. Each card pays once or twice: more would look like fraud, as fourteen
days of payments come in half a minute. Decisions other than approve, and with `--all` every one, must be explained:
`missing` and `refused` count those that are not.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from benchmarks.card_fraud import Payments, pipeline
from benchmarks.job import PARTITIONS
from benchmarks.latency import Task, feeding
from benchmarks.machine import cpu_seconds
from benchmarks.world import Worker, World, fresh, prepare_outputs, world
from operators.plan import Plan
from streamproc.cli.common import load_stages
from streamproc.cli.compose import open_log
from streamproc.cli.loops import run_async
from streamproc.eventlog.contract import EventLog, TopicPartition, TopicSpec
from streamproc.services.explanations.follow import spec_of, topic_of

Result = dict[str, Any]
RATES = (200, 1_000)
_WARM_UP = 10.0
_STRAGGLE_SECONDS = 15.0


class _Decision(msgspec.Struct):
    transaction_id: str
    decision: str


class _Explanation(msgspec.Struct):
    id: str
    refused: str = ""


class Seen(msgspec.Struct):
    """time.monotonic() at which each id's decision and explanation arrived; actions; who has none, and a reason."""

    decided: dict[str, float] = {}
    explained: dict[str, float] = {}
    actions: dict[str, str] = {}
    refused: set[str] = set()

    def wanted(self, quiet: str) -> list[str]:
        """Ids of decisions that must be explained."""
        return [one for one, action in self.actions.items() if action != quiet]


@contextmanager
def explaining(on: World, path: Path, url: str, name: str, *options: str) -> Iterator[int]:
    """`explain-decisions` as a child beside the broker; its pid."""
    command = [sys.executable, "-m", "streamproc.cli.main", "explain-decisions", str(path), "--log", url, *options]
    with (on.directory / f"{name}-explaining.log").open("ab") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    os.sched_setaffinity(process.pid, on.cores.others)
    try:
        yield process.pid
        if process.poll() is not None:
            raise RuntimeError(f"explain-decisions has ended: {Path(log.name).read_text()[-2000:]}")
    finally:
        process.terminate()
        process.wait()


async def _follow(log: EventLog, plan: Plan, enough: Callable[[Seen], bool], deadline: float) -> Seen:
    """Decisions and explanations from the topics' beginning on."""
    seen, scanner = Seen(), log.scanner()
    decisions, explanations = plan.topics.decisions, topic_of(plan)
    for topic in (decisions, explanations):
        for number in range(PARTITIONS):
            scanner.seek(TopicPartition(topic, number), 0)
    decision, explanation = msgspec.json.Decoder(_Decision).decode, msgspec.json.Decoder(_Explanation).decode
    while not enough(seen) and time.monotonic() < deadline:
        for chunk in await scanner.poll(200):
            now = time.monotonic()
            for value in filter(None, chunk.values):
                if chunk.tp.topic == decisions:
                    found = decision(value)
                    seen.decided.setdefault(found.transaction_id, now)
                    seen.actions[found.transaction_id] = found.decision
                else:
                    said = explanation(value)
                    seen.explained.setdefault(said.id, now)
                    if said.refused:
                        seen.refused.add(said.id)
    await scanner.close()
    return seen


async def _run(task: Task, plan: Plan, quiet: str) -> Seen:
    """Payments at the task's rate, until all that must be explained is."""

    def enough(seen: Seen) -> bool:
        return len(seen.decided) >= task.count and all(one in seen.explained for one in seen.wanted(quiet))

    log = open_log(task.url)
    try:
        async with feeding(task):
            deadline = time.monotonic() + task.count / task.rate + _STRAGGLE_SECONDS
            return await _follow(log, plan, enough, deadline)
    finally:
        await log.close()


async def _topics(url: str, plans: Sequence[Plan]) -> None:
    log = open_log(url)
    await log.admin().ensure_topics([TopicSpec(plans[0].stream.topic, PARTITIONS), spec_of(plans[-1], PARTITIONS)])
    await prepare_outputs(log, plans[-1])
    await log.close()


def one(on: World, log: str, rate: int, seconds: float, *, everything: bool = False) -> Result:
    """Percentiles of the lag at one rate, ms; the first ten seconds are not counted."""
    name = fresh("explaining")
    path, url = pipeline(on.directory, name), on.url(log, name)
    plans = load_stages(str(path))
    plan, quiet = plans[-1], "" if everything else plans[-1].decision.otherwise
    run_async(_topics(url, plans))
    count = int(rate * (_WARM_UP + seconds))
    task = Task(url, plans[0].stream.topic, plan.topics.decisions, Payments(a_card=1), rate, 0, count)
    options = ("--all",) if everything else ()
    with Worker(on, path, url, name) as worker, explaining(on, path, url, name, *options) as pid:
        worker.await_ready()
        before, begun = cpu_seconds(pid), time.monotonic()
        seen = run_async(_run(task, plan, quiet))
        busy = (cpu_seconds(pid) - before) / (time.monotonic() - begun)
    figures = _figures(seen, quiet)
    print(f"  explanations {log} at {rate}/s: p99 {figures.get('p99_ms', 0):.0f} ms", file=sys.stderr)
    return {"log": log, "rate": rate, "all": everything, **figures, "explainer_busy": busy}


def _figures(seen: Seen, quiet: str) -> Result:
    begun, wanted = min(seen.decided.values(), default=0.0), seen.wanted(quiet)
    lags = [
        (seen.explained[one] - seen.decided[one]) * 1e3
        for one in wanted
        if one in seen.explained and seen.decided[one] >= begun + _WARM_UP
    ]
    out: Result = {
        "decisions": len(seen.decided), "explained": len(lags),
        "missing": sum(one not in seen.explained for one in wanted), "refused": len(seen.refused),
    }  # fmt: skip
    names = ("p50_ms", "p99_ms", "max_ms")
    return out | (dict(zip(names, np.percentile(lags, (50, 99, 100)).tolist(), strict=True)) if lags else {})


def run(on: World, logs: Sequence[str], rates: Sequence[int], seconds: float) -> list[Result]:
    """Each log at each rate, as `explain-decisions` does it by itself; then every decision at the lowest one."""
    found = [one(on, log, rate, seconds) for log in logs for rate in rates]
    return found + [one(on, log, min(rates), seconds, everything=True) for log in logs]


def main() -> None:
    parser = argparse.ArgumentParser(description="How long after its decision an explanation is there.")
    parser.add_argument("--log", nargs="+", choices=("kafka", "embedded"), default=["kafka", "embedded"])
    parser.add_argument("--rate", nargs="+", type=int, default=list(RATES))
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--all", action="store_true", help="every decision")
    chosen = parser.parse_args()
    with world(kafka="kafka" in chosen.log) as on:
        for log in chosen.log:
            for rate in chosen.rate:
                print(json.dumps(one(on, log, rate, chosen.seconds, everything=chosen.all)), flush=True)


if __name__ == "__main__":
    main()
