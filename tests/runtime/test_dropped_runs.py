"""A worker counts the runs that go because a key has too many: a pattern may miss matches then."""

from __future__ import annotations

import asyncio
import random

from operators.patterns.spec import RUNS_MAX
from streamproc.eventlog.contract import OutputRecords, TopicPartition
from streamproc.eventlog.simulated import Faults, SimulatedCluster, VirtualClock, VirtualTimeLoop
from streamproc.language import compile_stages, read_pipeline
from streamproc.runtime.metrics import WorkerMetrics
from streamproc.runtime.settings import WorkerSettings
from streamproc.runtime.topics import prepare_topics
from tests.runtime.chain_world import worker_of

PIPELINE = """\
pipeline: p
partitions: 1
streams:
  payments: {id: id, event_time: at, fields: {id: string, device: string, n: int64, at: timestamp}}
partition_by: device
patterns:
  climbs: PATTERN (A -> B) WITHIN INTERVAL '1' DAY DEFINE A AS n >= 0, B AS n = FIRST(n) + 1000
  rests: PATTERN (A -> B) WITHIN INTERVAL '1' DAY DEFINE A AS n = 0, B AS n < 0
"""
ROWS, BATCH = RUNS_MAX + 9, 16


async def counted() -> WorkerMetrics:
    """Of a worker that has read payments of one device, each of which begins a run of `climbs`, in several batches."""
    rng, clock = random.Random(1), VirtualClock()
    log = SimulatedCluster(clock, rng, Faults(rng, latency_s=(0.0, 0.2))).client("one")
    plans = compile_stages(read_pipeline(PIPELINE, "p.yaml"))
    await prepare_topics(log, *plans)
    values = [b'{"id":"%d","device":"d","n":%d,"at":%d}' % (n, n, n) for n in range(ROWS)]
    await log.appender().append(
        [OutputRecords(TopicPartition(plans[0].stream.topic, 0), [b"d"] * ROWS, list(values), clock.now_ms())]
    )
    metrics = WorkerMetrics()
    await worker_of(plans, log, rng, WorkerSettings(until_end=True, batch_rows_max=BATCH), metrics).run()
    await log.close()
    return metrics


def test_runs_that_went_are_counted_by_pattern() -> None:
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        said = runner.run(counted()).registry.get_sample_value
    assert said("streamproc_records_total") == ROWS
    assert said("streamproc_dropped_runs_total", {"pattern": "climbs"}) == ROWS - RUNS_MAX
    assert said("streamproc_dropped_runs_total", {"pattern": "rests"}) is None
