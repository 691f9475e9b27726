"""A later stage's partition whose input rests tells what is due, though other partitions never rest."""

from __future__ import annotations

import asyncio
import json
import random
from typing import Any

import pytest

from state.hashing import partition_of
from streamproc.eventlog.contract import OutputRecords, TopicPartition
from streamproc.eventlog.simulated import (
    Faults,
    SimulatedCluster,
    SimulatedEventLog,
    VirtualClock,
    VirtualTimeLoop,
)
from streamproc.language import compile_stages, read_pipeline
from streamproc.runtime.settings import WorkerSettings
from streamproc.runtime.topics import prepare_topics
from tests.runtime.chain_world import worker_of

PIPELINE = """\
pipeline: p
partitions: 2
streams:
  payments: {id: id, event_time: at, fields: {id: string, device: string, card: string, at: timestamp}}
stages:
  - {name: first, partition_by: device}
  - name: last
    partition_by: card
    watermark: {idle: 500ms}
    absences: {no_more: {after: id = 'alone', without: id <> 'alone', within: 2s}}
"""
APART_S, ALONE_MS, WITHIN_MS, IDLE_MS = 0.005, 1000, 2000, 500
BOUND_S = 1.5
SEEDS = 3


def key_of(prefix: str, partition: int) -> str:
    return next(key for n in range(50) if partition_of((key := f"{prefix}{n}").encode(), 2) == partition)


async def feed(log: SimulatedEventLog, clock: VirtualClock, seconds: float) -> None:
    """One payment of the resting partition's card, and another partition's all the time, by the same device."""
    appender, device = log.appender(), key_of("d", 0)
    tp, begin = TopicPartition("p.payments", 0), clock.monotonic()
    number = 0
    while (now := clock.monotonic() - begin) < seconds:
        at = ALONE_MS + int(1000 * now)
        row = {"id": f"n{number}", "device": device, "card": key_of("c", 1), "at": at}
        if number == 3:
            row |= {"id": "alone", "card": key_of("c", 0), "at": ALONE_MS}
        await appender.append([OutputRecords(tp, [device.encode()], [json.dumps(row).encode()], clock.now_ms())])
        number += 1
        await asyncio.sleep(APART_S)
    await appender.close()


async def told(seed: int, seconds: float) -> list[tuple[int, dict[str, Any]]]:
    """Alerts while there was load: after how long, ms."""
    rng, clock = random.Random(seed), VirtualClock()
    log = SimulatedCluster(clock, rng, Faults(rng, latency_s=(0.0, 0.02))).client("one")
    plans = compile_stages(read_pipeline(PIPELINE, "p.yaml"))
    await prepare_topics(log, *plans)
    began = clock.now_ms()
    worker = worker_of(plans, log, rng, WorkerSettings())
    running = asyncio.ensure_future(worker.run())
    await feed(log, clock, seconds)
    worker.stop()
    await running
    tps = [TopicPartition(plans[1].topics.alerts, partition) for partition in range(2)]
    ends, scanner, found = await log.admin().end_offsets(tps), log.scanner(), list[tuple[int, dict[str, Any]]]()
    for tp in tps:
        scanner.seek(tp, 0)
    while any(scanner.position(tp) < ends[tp] for tp in tps):
        for chunk in await scanner.poll(10):
            for value, at in zip(chunk.values, chunk.timestamps, strict=True):
                found.append((at - began, json.loads(value or b"")))
    await scanner.close()
    await log.close()
    return found


@pytest.mark.blocking
def test_a_resting_partition_tells_in_time_while_others_have_work() -> None:
    for seed in range(SEEDS):
        with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
            found = runner.run(told(seed, WITHIN_MS / 1000 + BOUND_S + 2))
        assert [alert["alert"] for _, alert in found] == ["no_more"], f"seed {seed}"
        ((after, _),) = found
        assert WITHIN_MS <= after <= WITHIN_MS + IDLE_MS + 1000 * BOUND_S, f"seed {seed}"
