"""What calls out cost: a call's processor time; what a hop, and one with a call, adds to the latency of an open loop.
A call is one of an HTTP service, or of a database.

python -m benchmarks.calls [--log kafka] [--rate 1000] [--seconds 20] [--service-ms 1] [--calls 50000]

Service and database are processes of their own on the drivers' cores. A stage more, of the same key, is the hop.
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
from contextlib import contextmanager, nullcontext
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import msgspec
from prometheus_client import CollectorRegistry

from benchmarks import latency
from benchmarks.job import PARTITIONS, Job
from benchmarks.machine import pin
from benchmarks.world import Worker, World, fresh, prepare_outputs, world
from operators.call import CallSpec, HttpRequest, SqlQuery
from operators.schema import DataType, FieldSpec, Kind
from streamproc.calls.http import HttpTransport
from streamproc.calls.metrics import CallRegistry
from streamproc.calls.postgres import PostgresTransport
from streamproc.calls.service import Service
from streamproc.cli.compose import open_log
from streamproc.cli.loops import run_async
from streamproc.cli.options import load_stages
from streamproc.clock import SystemClock
from streamproc.eventlog.contract import TopicSpec
from streamproc.runtime.topics import prepare_topics
from tests.calls.postgres import Postgres, missing
from tests.calls.server import Server

Result = dict[str, Any]
_WARM_UP = 5.0
_AT_ONCE = 1_000
_SLOW_SECONDS = 0.5
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
_QUERY = """\
  - name: reputation
    call:
      sql: select reputation, known_bad from devices where id = {device_id}
      database: DATABASE
      timeout: 500ms
    returns: {reputation: float64, known_bad: bool}
    default: {reputation: 0.5}
"""
SHAPES = {
    "one stage": _STREAM, "a hop": _STREAM + _LAST, "a hop with a call": _STREAM + _CALL + _LAST,
    "a hop with a query": _STREAM + _QUERY + _LAST,
}  # fmt: skip
_DEVICES = """\
create table devices (id text primary key, reputation float8, known_bad boolean);
insert into devices select 'd' || n, n / 100000.0, n % 7 = 0 from generate_series(0, 99999) n;
analyze devices;
"""


# ---- the service's process


def _serve(pipe: Connection, cores: frozenset[int], delay_s: float) -> None:
    pin(0, cores)

    async def serve() -> None:
        async with Server(delay_s=delay_s) as server:
            pipe.send(server.port)
            await asyncio.to_thread(pipe.recv)

    run_async(serve())


@contextmanager
def served(cores: frozenset[int], delay_s: float) -> Iterator[int]:
    """The port of a service on these cores."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, cores, delay_s), daemon=True)
    process.start()
    try:
        yield ours.recv()
    finally:
        ours.send("end")
        process.join(10)


@contextmanager
def queried(cores: frozenset[int]) -> Iterator[str]:
    """The address of a database of 100,000 devices on these cores."""
    before = os.sched_getaffinity(0)
    pin(0, cores)
    with Postgres() as server:
        server.execute(_DEVICES)
        pin(0, before)
        yield server.url


# ---- a call


def http_spec(port: int, **changes: Any) -> CallSpec:
    """A call of the service at this port."""
    http = HttpRequest((f"http://127.0.0.1:{port}/r?device=", "device", ""))
    return _spec(http, in_flight=_AT_ONCE, **changes)


def sql_spec(url: str, **changes: Any) -> CallSpec:
    """A query of the database at this address; on as many connections as usual."""
    query = SqlQuery(url, "select reputation from devices where id = $1::text", ("device",))
    return _spec(query, in_flight=10, **changes)


def _spec(asks: HttpRequest | SqlQuery, **changes: Any) -> CallSpec:
    returns = (FieldSpec("reputation", DataType(Kind.FLOAT64), "reputation"),)
    spec = CallSpec("p", "c", "p.c", "p.d", asks, returns, (0.5,), timeout_ms=60_000)
    return msgspec.structs.replace(spec, **changes)


def _records(calls: int, devices: int) -> list[bytes]:
    return [b'{"id":"t%d","device":"d%d","_route":"r"}' % (n, n % devices) for n in range(calls)]


def asked_us(spec: CallSpec, calls: int = 4_000) -> tuple[float, float]:
    """Processor microseconds of a call alone, and of one of many at a time."""
    records = _records(calls, calls)
    found = []
    for at_once, some in ((1, records[: calls // 4]), (2 * _AT_ONCE, records)):
        _, cpu, failed = run_async(_asked(spec, some, at_once))
        assert not failed
        found.append(cpu / len(some) * 1e6)
    return found[0], found[1]


async def _asked(spec: CallSpec, records: list[bytes], at_once: int = 2 * _AT_ONCE) -> tuple[float, float, float]:
    """Wall and processor seconds of answering all, so many at once; and the share of defaults."""
    registry = CollectorRegistry()
    transport = PostgresTransport if isinstance(spec.asks, SqlQuery) else HttpTransport
    service = Service(spec, transport(spec, {}), SystemClock(), CallRegistry(registry).of("c"))
    try:
        wall, cpu, failed = time.perf_counter(), time.process_time(), 0
        for at in range(0, len(records), at_once):
            answers = [service.answer(record) for record in records[at : at + at_once]]
            done = [answer if isinstance(answer, bytes) else await answer for answer in answers]
            failed += sum(members.endswith(b"true") for members in done)
        return time.perf_counter() - wall, time.process_time() - cpu, failed / len(records)
    finally:
        await service.close()


def alone(on: World, calls: int) -> Iterator[Result]:
    """Each row asked about; all but a hundredth of them answered by the cache; nobody there; a slow service:
    how many calls are in flight. And of a database.
    """
    some, few = _records(calls, calls), _records(calls, calls // 100)
    with served(on.cores.others, 0.0) as port, _worker_core(on):
        given = [("asked", http_spec(port), some), ("cached", http_spec(port, cache_ms=600_000), few)]
        for what, spec, records in (*given, ("left alone", http_spec(9), some)):
            yield _row(what, spec, records)
    with served(on.cores.others, _SLOW_SECONDS) as port, _worker_core(on):
        found = _row("asked, a slow service", http_spec(port), some)
        yield found | {"in_flight": round(found["rows_per_s"] * _SLOW_SECONDS)}  # Little's law
    if not missing():
        with queried(on.cores.others) as url, _worker_core(on):
            yield _row("asked, a database", sql_spec(url), some)


@contextmanager
def _worker_core(on: World) -> Iterator[None]:
    before = os.sched_getaffinity(0)
    pin(0, {on.cores.worker})
    try:
        yield
    finally:
        pin(0, before)


def _row(what: str, spec: CallSpec, records: list[bytes]) -> Result:
    wall, cpu, failed = run_async(_asked(spec, records))
    each = len(records)
    return {"what": what, "rows_per_s": round(each / wall), "cpu_us_a_row": cpu / each * 1e6, "failed": failed}


# ---- a hop


def hop(on: World, log: str, shape: str, rate: int, seconds: float, port: int, database: str = "") -> Result:
    """An open loop through a worker."""
    name, topic, job = fresh("calls"), fresh("transactions"), Job()
    path = Path(on.directory, f"{name}.yaml")
    text = SHAPES[shape] + _RULES
    for word, meant in {"NAME": name, "TOPIC": topic, "PORT": str(port), "DATABASE": database}.items():
        text = text.replace(word, meant)
    path.write_text(text)
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
        base = queried(on.cores.others) if not missing() else nullcontext("")
        with served(on.cores.others, chosen.service_ms / 1000) as port, base as database:
            for shape, text in SHAPES.items():
                if "DATABASE" in text and not database:
                    continue
                print(f"  {shape} ...", file=sys.stderr)
                found = hop(on, chosen.log, shape, chosen.rate, chosen.seconds, port, database)
                print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
