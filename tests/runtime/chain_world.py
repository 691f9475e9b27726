"""A chain of stages of one pipeline on a simulated log, for tests of how a worker of it ends."""

from __future__ import annotations

__all__ = ["ROWS", "decided", "fed_chain", "worker_of"]

import random

from operators.plan import Plan
from state.hashing import partition_of
from state.memory import MemoryDisk, MemoryRowStores
from streamproc.cli.compose import build_engine
from streamproc.eventlog.contract import OutputRecords, TopicPartition
from streamproc.eventlog.simulated import Faults, SimulatedCluster, SimulatedEventLog, VirtualClock
from streamproc.language import compile_stages, read_pipeline
from streamproc.runtime.metrics import WorkerMetrics
from streamproc.runtime.settings import WorkerSettings
from streamproc.runtime.stage import StageParts
from streamproc.runtime.state_keeper import StateKeeper
from streamproc.runtime.topics import prepare_topics
from streamproc.runtime.worker import Worker
from tests.simulation.world import VirtualExecutor

ROWS = 4


def worker_of(
    plans: tuple[Plan, ...], log: SimulatedEventLog, rng: random.Random, settings: WorkerSettings,
    metrics: WorkerMetrics | None = None,
) -> Worker:  # fmt: skip
    executor = VirtualExecutor(lambda: rng.uniform(0, 0.05), lambda: True)
    parts = []
    for plan in plans:
        engine, state = build_engine(plan, bytes(32))
        keeper = StateKeeper(state, MemoryRowStores(MemoryDisk(rng)), plan.state_fingerprint, executor)
        parts.append(StageParts(plan, engine, keeper))
    return Worker(
        "p", log, parts, clock=VirtualClock(), executor=executor, metrics=metrics or WorkerMetrics(), settings=settings
    )  # fmt: skip


async def fed_chain(text: str, rng: random.Random, clock: VirtualClock) -> tuple[tuple[Plan, ...], SimulatedEventLog]:
    """The plans of a pipeline of two partitions, and a log on which `ROWS` payments wait for it."""
    log = SimulatedCluster(clock, rng, Faults(rng, latency_s=(0.0, 0.2))).client("one")
    plans = compile_stages(read_pipeline(text, "p.yaml"))
    await prepare_topics(log, *plans)
    appender = log.appender()
    for partition in range(2):
        keys = [key for n in range(20) if (key := b"d%d" % n) and partition_of(key, 2) == partition]
        its = [keys[n % len(keys)] for n in range(ROWS // 2)]
        values = [b'{"id":"%d-%d","device":"%b","at":1}' % (partition, n, key) for n, key in enumerate(its)]
        tp = TopicPartition(plans[0].stream.topic, partition)
        await appender.append([OutputRecords(tp, its, list(values), clock.now_ms())])
    return plans, log


async def decided(log: SimulatedEventLog, plan: Plan) -> int:
    """How many decisions of its two partitions can be read."""
    tps = [TopicPartition(plan.topics.decisions, partition) for partition in range(2)]
    scanner, found = log.scanner(), 0
    ends = await log.admin().end_offsets(tps)
    for tp in tps:
        scanner.seek(tp, 0)
    while any(scanner.position(tp) < ends[tp] for tp in tps):
        found += sum(len(chunk.offsets) for chunk in await scanner.poll(10))
    await scanner.close()
    return found
