"""What calls out cost: a call's processor time; what a hop, and one with a call, adds to the latency of an open loop.

python -m benchmarks.calls [--log kafka] [--rate 1000] [--seconds 20] [--service-ms 1] [--calls 50000]

The service is a process of its own on the drivers' cores. A stage more, keyed by the same field, is the hop.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import msgspec
from prometheus_client import CollectorRegistry

from benchmarks import latency
from benchmarks.job import PARTITIONS, Job
from benchmarks.machine import pin
from benchmarks.world import Worker, World, fresh, prepare_outputs, world
from operators.call import CallSpec, HttpRequest
from operators.schema import DataType, FieldSpec, Kind
from streamproc.calls.http import HttpTransport
from streamproc.calls.metrics import CallRegistry
from streamproc.calls.service import Service
from streamproc.cli.compose import open_log
from streamproc.cli.loops import run_async
from streamproc.cli.options import load_stages
from streamproc.clock import SystemClock
from streamproc.eventlog.contract import TopicSpec
from streamproc.runtime.topics import prepare_topics
from tests.calls.server import Server

Result = dict[str, Any]
_WARM_UP = 5.0
_AT_ONCE = 1_000
_STREAM = """\
pipeline: NAME
streams:
  transactions:
    id: transaction_id
    event_time: event_time
    topic: TOPIC
    deduplicate: 24h
    fields: {transaction_id: string, card_id: string, device_id: string, amount: decimal(2), event_time: timestamp}
stages:
  - {name: first, partition_by: card_id, features: {money: {of: amount, aggregates: [count, sum], over: [5m, 24h]}}}
"""
_CALL = """\
  - name: reputation
    call: {url: "http://127.0.0.1:PORT/r?device={device_id}", timeout: 500ms}
    returns: {reputation: float64, known_bad: bool}
    default: {reputation: 0.5}
"""
_LAST = "  - {name: last, partition_by: card_id}\n"
_RULES = "rules:\n  - {id: fast, when: money_count_5m >= 9, then: decline}\n"
SHAPES = {"one stage": _STREAM, "a hop": _STREAM + _LAST, "a hop with a call": _STREAM + _CALL + _LAST}


# ---- the service's process


def _serve(pipe: Connection, cores: frozenset[int], delay_s: float) -> None:
    pin(0, cores)

    async def serve() -> None:
        async with Server(delay_s=delay_s) as server:
            pipe.send(server.port)
            await asyncio.to_thread(pipe.recv)

    run_async(serve())


@contextmanager
def served(on: World, delay_s: float) -> Iterator[int]:
    """The service's port."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, on.cores.others, delay_s), daemon=True)
    process.start()
    try:
        yield ours.recv()
    finally:
        ours.send("end")
        process.join(10)


# ---- a call


def _spec(port: int, **changes: Any) -> CallSpec:
    returns = (FieldSpec("reputation", DataType(Kind.FLOAT64), "reputation"),)
    http = HttpRequest((f"http://127.0.0.1:{port}/r?device=", "device", ""))
    spec = CallSpec("p", "c", "p.c", "p.d", http, returns, (0.5,), timeout_ms=60_000, in_flight=_AT_ONCE)
    return msgspec.structs.replace(spec, **changes)


async def _asked(spec: CallSpec, records: list[bytes]) -> tuple[float, float, float]:
    """Wall and processor seconds of answering all; and the share of defaults."""
    registry = CollectorRegistry()
    service = Service(spec, HttpTransport(spec, {}), SystemClock(), CallRegistry(registry).of("c"))
    try:
        wall, cpu, failed = time.perf_counter(), time.process_time(), 0
        for at in range(0, len(records), 2 * _AT_ONCE):
            answers = [service.answer(record) for record in records[at : at + 2 * _AT_ONCE]]
            done = [answer if isinstance(answer, bytes) else await answer for answer in answers]
            failed += sum(members.endswith(b"true") for members in done)
        return time.perf_counter() - wall, time.process_time() - cpu, failed / len(records)
    finally:
        await service.close()


def alone(on: World, calls: int) -> list[Result]:
    """Each row asked about; all but a hundredth of them answered by the cache; nobody there."""
    some = [b'{"id":"t%d","device":"d%d","_route":"r"}' % (n, n) for n in range(calls)]
    few = [b'{"id":"t%d","device":"d%d","_route":"r"}' % (n, n % (calls // 100)) for n in range(calls)]
    found, before = list[Result](), os.sched_getaffinity(0)
    with served(on, 0.0) as port:
        pin(0, {on.cores.worker})
        asked, cached, nobody = _spec(port), _spec(port, cache_ms=600_000), _spec(9)
        for what, spec, records in (("asked", asked, some), ("cached", cached, few), ("left alone", nobody, some)):
            wall, cpu, failed = run_async(_asked(spec, records))
            found.append({
                "what": what, "rows_per_s": round(calls / wall), "cpu_us_a_row": cpu / calls * 1e6, "failed": failed,
            })  # fmt: skip
        pin(0, before)
    return found


# ---- a hop


def hop(on: World, log: str, shape: str, rate: int, seconds: float, port: int) -> Result:
    """An open loop through a worker."""
    name, topic, job = fresh("calls"), fresh("transactions"), Job()
    path = Path(on.directory, f"{name}.yaml")
    text = SHAPES[shape] + _RULES
    path.write_text(text.replace("NAME", name).replace("TOPIC", topic).replace("PORT", str(port)))
    plans, url = load_stages(str(path)), on.url(log, name)

    async def topics() -> None:
        events = open_log(url)
        await events.admin().ensure_topics([TopicSpec(topic, PARTITIONS)])
        await prepare_outputs(events, plans[-1])
        await prepare_topics(events, *plans)
        await events.close()

    run_async(topics())
    count = int(rate * (_WARM_UP + seconds))
    with Worker(on, path, url, name) as worker:
        worker.await_ready()
        task = latency.Task(url, topic, plans[-1].topics.decisions, job, rate, 0, count)
        found = latency.measure(task, _WARM_UP, {"worker": worker.pid})
        metrics = worker.metrics()
    answered = sum(
        value for sample, value in metrics.items() if sample.startswith("calls_total") and '"answered"' in sample
    )
    kept = ("p50", "p99", "missing", "duplicates", "worker_busy")
    return {"what": shape, "log": log, "rate": rate, "answered": answered} | {key: found[key] for key in kept}


def main() -> None:
    parser = argparse.ArgumentParser(description="What calls out cost.")
    parser.add_argument("--log", choices=("kafka", "embedded"), default="kafka")
    parser.add_argument("--rate", type=int, default=1_000)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--service-ms", type=float, default=1.0)
    parser.add_argument("--calls", type=int, default=50_000)
    chosen = parser.parse_args()
    with world(kafka=chosen.log == "kafka") as on:
        for result in alone(on, chosen.calls):
            print(json.dumps(result))
        if chosen.log == "kafka":
            latency.warm(on)
        with served(on, chosen.service_ms / 1000) as port:
            for shape in SHAPES:
                print(f"  {shape} ...", file=sys.stderr)
                print(json.dumps(hop(on, chosen.log, shape, chosen.rate, chosen.seconds, port)), flush=True)


if __name__ == "__main__":
    main()
