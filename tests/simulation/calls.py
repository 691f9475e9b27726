"""Calls out in a simulated process: the service, and what its answers must be."""

from __future__ import annotations

__all__ = ["Calls", "calls_behind", "without_answers"]

import asyncio
import json
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from prometheus_client import CollectorRegistry

from operators.plan import Plan, calls_of
from streamproc.calls.metrics import CallRegistry
from streamproc.calls.request import Request
from streamproc.calls.service import CallError, Service
from streamproc.cli.calls import beside
from streamproc.clock import Clock
from streamproc.eventlog.contract import TopicPartition
from streamproc.eventlog.simulated import SimulatedCluster, SimulatedEventLog
from streamproc.runtime.caller import Caller
from streamproc.runtime.settings import WorkerSettings
from streamproc.runtime.transaction import Probe
from streamproc.runtime.worker import Worker
from tests.oracle.limits import reputation
from tests.simulation.committed import Record, input_end

_ADDED = ("reputation", "reputation_failed")


class _Reputations:
    """Says what a device is worth; late now and then, or not at all."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    async def send(self, request: Request) -> bytes:
        """See `Transport`."""
        await asyncio.sleep(self._rng.choice((0.0, 0.01, 0.03, 0.1)))
        if self._rng.random() < 0.3:
            raise CallError("refused", retriable=True)
        return json.dumps({"reputation": reputation(request.url.rpartition("=")[2])}).encode()

    async def close(self) -> None:
        """Nothing is open."""


class Calls:
    """The callers of one process, which run beside its worker."""

    def __init__(
        self, plans: Sequence[Plan], log: SimulatedEventLog, settings: WorkerSettings, *, clock: Clock,
        rng: random.Random, probe: Probe,
    ) -> None:  # fmt: skip
        self._registry = CollectorRegistry()
        metrics = CallRegistry(self._registry)
        self._services = {
            call.name: Service(call, _Reputations(rng), clock, metrics.of(call.name))
            for call in calls_of(plans)
        }  # fmt: skip
        self._callers = [
            Caller(call, plans, log, self._services[call.name], clock=clock, settings=settings, probe=probe)
            for call in calls_of(plans)
        ]  # fmt: skip

    async def beside(self, worker: Worker) -> None:
        """Run all, until the worker ends."""
        await beside(worker, self._callers)

    async def close(self) -> None:
        """End what is in flight."""
        for service in self._services.values():
            await service.close()

    def results(self) -> Counter[str]:
        """How rows were answered."""
        found: Counter[str] = Counter()
        for family in self._registry.collect():
            for sample in family.samples:
                if sample.name == "streamproc_calls_total":
                    found[f"call {sample.labels['result']}"] += int(sample.value)
        return found


def calls_behind(cluster: SimulatedCluster, plan: Plan, task: int) -> dict[str, Any]:
    """What waits before calls."""
    lag = {}
    for call in plan.calls:
        tp = TopicPartition(call.source, task)
        offset, end = cluster.group(call.group).offsets.get(tp), input_end(cluster, tp)
        if end and (offset is None or offset.offset < end):
            lag[f"{call.name} {task}"] = (offset, end)
    return lag


def without_answers(
    plan: Plan, found: Mapping[int, Sequence[Record]]
) -> tuple[Mapping[int, Sequence[Record]], list[str]]:
    """What came out of the calls before a stage, as the stage before them wrote it; which answers are wrong."""
    if not plan.calls:
        return found, []
    wrong = []
    plain: dict[int, list[Record]] = {}
    for task, records in found.items():
        plain[task] = []
        for record in records:
            row = json.loads(record.value)
            value, failed = (row.pop(name, "none") for name in _ADDED)
            if (value, failed) not in {(reputation(row["device_id"]), False), (None, True)}:
                wrong.append(f"{plan.stage} {task}: the answer is {value}, failed: {failed}, for {row['device_id']}")
            plain[task].append(record._replace(value=msgspec.json.encode(row)))
    return plain, wrong[:3]
