"""`--until-end` with a call between two stages: the end of a stage is not looked for before the calls are done."""

from __future__ import annotations

import asyncio
import random

from operators.plan import Plan
from state.hashing import partition_of
from state.memory import MemoryDisk, MemoryRowStores
from streamproc.cli.calls import beside
from streamproc.cli.compose import build_engine
from streamproc.eventlog.contract import OutputRecords, TopicPartition
from streamproc.eventlog.simulated import Faults, SimulatedCluster, SimulatedEventLog, VirtualClock, VirtualTimeLoop
from streamproc.language import compile_stages, read_pipeline
from streamproc.runtime.caller import Caller
from streamproc.runtime.metrics import WorkerMetrics
from streamproc.runtime.settings import WorkerSettings
from streamproc.runtime.stage import StageParts
from streamproc.runtime.state_keeper import StateKeeper
from streamproc.runtime.topics import prepare_topics
from streamproc.runtime.worker import Worker
from tests.runtime.test_caller import Oracle
from tests.simulation.world import VirtualExecutor

PIPELINE = """\
pipeline: p
partitions: 2
streams:
  payments: {id: id, event_time: at, fields: {id: string, device: string, at: timestamp}}
stages:
  - {name: first, partition_by: device}
  - name: reputation
    call: {url: "http://127.0.0.1:9/?d={device}", in_flight: 4}
    returns: {reputation: int64}
  - {name: last, partition_by: device}
"""
ROWS, SEEDS = 4, 80


def worker_of(plans: tuple[Plan, ...], log: SimulatedEventLog, rng: random.Random, settings: WorkerSettings) -> Worker:
    executor = VirtualExecutor(lambda: rng.uniform(0, 0.05), lambda: True)
    parts = []
    for plan in plans:
        engine, state = build_engine(plan, bytes(32))
        keeper = StateKeeper(state, MemoryRowStores(MemoryDisk(rng)), plan.state_fingerprint, executor)
        parts.append(StageParts(plan, engine, keeper))
    return Worker(
        "p", log, parts, clock=VirtualClock(), executor=executor, metrics=WorkerMetrics(), settings=settings
    )  # fmt: skip


async def decided(seed: int) -> int:
    """How many decisions there are when the worker says that it is at the end."""
    rng = random.Random(seed)
    clock = VirtualClock()
    cluster = SimulatedCluster(clock, rng, Faults(rng, latency_s=(0.0, 0.2)))
    log = cluster.client("one")
    plans = compile_stages(read_pipeline(PIPELINE, "p.yaml"))
    await prepare_topics(log, *plans)
    appender = log.appender()
    for partition in range(2):
        keys = [key for n in range(20) if (key := b"d%d" % n) and partition_of(key, 2) == partition]
        values = [
            b'{"id":"%d-%d","device":"%b","at":1}' % (partition, n, keys[n % len(keys)]) for n in range(ROWS // 2)
        ]
        tp = TopicPartition(plans[0].stream.topic, partition)
        its = [keys[n % len(keys)] for n in range(ROWS // 2)]
        await appender.append([OutputRecords(tp, its, list(values), clock.now_ms())])
    settings = WorkerSettings(until_end=True, batch_rows_max=rng.choice((5, 64)))
    (spec,) = plans[1].calls
    caller = Caller(spec, plans, log, Oracle(rng), clock=clock, settings=settings)
    await beside(worker_of(plans, log, rng, settings), [caller])
    tps = [TopicPartition(plans[1].topics.decisions, partition) for partition in range(2)]
    scanner, found = log.scanner(), 0
    ends = await log.admin().end_offsets(tps)
    for tp in tps:
        scanner.seek(tp, 0)
    while any(scanner.position(tp) < ends[tp] for tp in tps):
        found += sum(len(chunk.offsets) for chunk in await scanner.poll(10))
    await scanner.close()
    await log.close()
    return found


def test_at_the_end_all_is_decided() -> None:
    for seed in range(SEEDS):
        with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
            assert runner.run(decided(seed)) == ROWS, f"seed {seed}"
