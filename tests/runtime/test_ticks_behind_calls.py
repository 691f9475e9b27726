"""A stage behind a call does not take its input to rest while rows on their way to it are asked about."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Sequence
from typing import Any

from structlog.testing import capture_logs

from operators.plan import Plan
from state.hashing import partition_of
from streamproc.cli.calls import beside
from streamproc.eventlog.contract import OutputRecords, TopicPartition
from streamproc.eventlog.simulated import Faults, SimulatedCluster, SimulatedEventLog, VirtualClock, VirtualTimeLoop
from streamproc.language import compile_stages, read_pipeline
from streamproc.runtime.caller import Caller
from streamproc.runtime.metrics import WorkerMetrics
from streamproc.runtime.observe import watch_tasks
from streamproc.runtime.settings import WorkerSettings
from streamproc.runtime.topics import prepare_topics
from streamproc.runtime.watchdog import Watchdog
from tests.runtime.chain_world import worker_of

PIPELINE = """\
pipeline: p
partitions: 1
streams:
  payments: {id: id, event_time: at, fields: {id: string, device: string, at: timestamp}}
stages:
  - {name: first, partition_by: device}
  - name: reputation
    call: {url: "http://127.0.0.1:9/?d={device}", in_flight: 4}
    returns: {reputation: int64}
  - name: last
    partition_by: device
    watermark: {idle: 500ms}
    windows: {paid: {tumble: 2s}}
    absences: {no_good: {after: reputation = 1, without: reputation = 2, within: 2s}}
"""
SLOW_SECONDS, STALLED_SECONDS, SEEDS = 20.0, 45.0, 20


class Slow:
    """Answers the first row at once, and the second long after it."""

    def __init__(self, seconds: float = SLOW_SECONDS) -> None:
        self.seconds = seconds

    def answer(self, record: bytes | None) -> bytes | asyncio.Future[bytes]:
        assert record is not None
        if json.loads(record)["id"] == "first":
            return b'"reputation":1,"reputation_failed":false'
        return asyncio.ensure_future(self._later())

    def waiting(self, rows: int) -> None: ...

    async def _later(self) -> bytes:
        await asyncio.sleep(self.seconds)
        return b'"reputation":2,"reputation_failed":false'


async def read(log: SimulatedEventLog, topic: str) -> list[dict[str, Any]]:
    tp, scanner, found = TopicPartition(topic, 0), log.scanner(), list[dict[str, Any]]()
    ends = await log.admin().end_offsets([tp])
    scanner.seek(tp, 0)
    while scanner.position(tp) < ends[tp]:
        found += [json.loads(value or b"") for chunk in await scanner.poll(10) for value in chunk.values]
    await scanner.close()
    return found


async def feed(log: SimulatedEventLog, plans: Sequence[Plan], now_ms: int) -> None:
    """Two rows that are in time for each other."""
    await prepare_topics(log, *plans)
    assert partition_of(b"d", 1) == 0
    values = [b'{"id":"first","device":"d","at":1000}', b'{"id":"second","device":"d","at":1500}']
    await log.appender().append([OutputRecords(TopicPartition("p.payments", 0), [b"d"] * 2, list(values), now_ms)])


async def lags(seconds: float) -> tuple[float | None, float | None]:
    """Records of the call's topic that are said to wait, and partitions that are said to stand still, after so long."""
    rng, clock, metrics = random.Random(1), VirtualClock(), WorkerMetrics()
    log = SimulatedCluster(clock, rng, Faults(rng, latency_s=(0.01, 0.2))).client("one")
    plans = compile_stages(read_pipeline(PIPELINE, "p.yaml"))
    await feed(log, plans, clock.now_ms())
    (spec,) = plans[1].calls
    worker = worker_of(plans, log, rng, WorkerSettings())
    caller = Caller(spec, plans, log, Slow(STALLED_SECONDS), clock=clock, settings=WorkerSettings())
    running = asyncio.ensure_future(beside(worker, [caller]))
    watching = asyncio.ensure_future(
        watch_tasks(log.admin(), worker, {}, metrics=metrics, clock=clock, watchdog=Watchdog(), callers=[caller])
    )
    await asyncio.sleep(seconds)
    worker.stop()
    await running
    watching.cancel()
    await asyncio.wait([watching])
    await log.close()
    said = metrics.registry.get_sample_value
    lag = said("streamproc_lag_records", {"topic": "p.reputation", "partition": "0"})
    return lag, said("streamproc_stalled_tasks")


def test_what_is_not_answered_is_seen_to_wait() -> None:
    """The row that is asked about, and the mark of the transaction that wrote it, as in the lag of tasks."""
    found = []
    with capture_logs() as logs:
        for seconds in (10, STALLED_SECONDS - 5, STALLED_SECONDS + 30):
            with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
                found.append(runner.run(lags(seconds)))
    assert found == [(2, 0), (2, 1), (0, 0)]
    stood = [line for line in logs if line["event"] == "a task stands still"]
    assert {(line["topic"], line["task"], line["phase"]) for line in stood} == {("p.reputation", 0, "asking")}


async def told(seed: int, seconds: float) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Alerts and late rows after so long."""
    rng, clock = random.Random(seed), VirtualClock()
    log = SimulatedCluster(clock, rng, Faults(rng, latency_s=(0.0, 0.2))).client("one")
    plans = compile_stages(read_pipeline(PIPELINE, "p.yaml"))
    await feed(log, plans, clock.now_ms())
    settings = WorkerSettings()
    (spec,) = plans[1].calls
    worker = worker_of(plans, log, rng, settings)
    running = asyncio.ensure_future(beside(worker, [Caller(spec, plans, log, Slow(), clock=clock, settings=settings)]))
    await asyncio.wait([running], timeout=seconds)
    worker.stop()
    await running
    found = await read(log, plans[1].topics.alerts), await read(log, plans[1].topics.late)
    await log.close()
    return found


def test_what_is_asked_about_is_still_to_come() -> None:
    for seed in range(SEEDS):
        with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
            alerts, late = runner.run(told(seed, SLOW_SECONDS + 30))
        assert late == [], f"seed {seed}"
        assert [(one["alert"], one.get("count")) for one in alerts] == [("paid", 2)], f"seed {seed}"
