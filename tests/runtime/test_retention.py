"""What a replay needs must not be removed: refused at start, said loudly every hour."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from operators.plan import Plan
from state.errors import ConfigError
from streamproc.eventlog.contract import EventLog, Retention, TopicSpec
from streamproc.eventlog.simulated import SimulatedCluster, VirtualClock, VirtualTimeLoop
from streamproc.language import compile_pipeline, load_pipeline
from streamproc.runtime.metrics import WorkerMetrics
from streamproc.runtime.retention import watch_retention
from streamproc.runtime.topics import prepare_topics

PIPELINE = Path(__file__).parents[2] / "configs" / "bench_v1" / "pipeline.yaml"
HOUR = "3600000"


@pytest.fixture(scope="module")
def plan() -> Plan:
    return compile_pipeline(load_pipeline(PIPELINE))


def cluster() -> SimulatedCluster:
    return SimulatedCluster(VirtualClock(), random.Random(1))


async def prepared(plan: Plan, horizon_ms: int = 0, **configs: dict[str, str]) -> EventLog:
    log = cluster().client("pod")
    names = {"input": plan.stream.topic, "journal": plan.topics.journal}
    await log.admin().ensure_topics([TopicSpec(names[of], 4, config) for of, config in configs.items()])
    await prepare_topics(log, plan, horizon_ms)
    return log


def run(plan: Plan, horizon_ms: int = 0, **configs: dict[str, str]) -> None:
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(prepared(plan, horizon_ms, **configs))


def test_what_keeps_enough_is_taken(plan: Plan) -> None:
    run(plan)
    run(plan, input={"retention.ms": HOUR}, journal={"retention.ms": HOUR})
    run(plan, 3_600_000, input={"retention.ms": HOUR})
    run(plan, 10**12, input={"cleanup.policy": "delete", "retention.ms": "-1"})


@pytest.mark.parametrize(
    ("says", "horizon_ms", "configs"),
    [
        ("is compacted", 0, {"input": {"cleanup.policy": "compact"}}),
        ("is compacted", 0, {"journal": {"cleanup.policy": "compact,delete"}}),
        ("is kept for a shorter time than its input", 0, {"journal": {"retention.ms": HOUR}}),
        ("is kept for a shorter time than its input", 0, {"journal": {"retention.bytes": "1000"}}),
        ("keeps records for 3600 s", 3_600_001, {"input": {"retention.ms": HOUR}}),
    ],
)
def test_what_does_not_is_refused(plan: Plan, says: str, horizon_ms: int, configs: dict[str, dict[str, str]]) -> None:
    with pytest.raises(ConfigError, match=says) as refused:
        run(plan, horizon_ms, **configs)
    assert refused.value.hint


def test_a_change_while_it_runs_is_said_within_the_hour(plan: Plan) -> None:
    async def scenario() -> tuple[float, float, float]:
        world, metrics = cluster(), WorkerMetrics()
        log = world.client("pod")
        await prepare_topics(log, plan)
        watching = asyncio.ensure_future(watch_retention(log.admin(), plan, 0, metrics=metrics, clock=VirtualClock()))
        seen = []
        for kept in (Retention(), Retention(compacted=True), Retention()):
            world._retention[plan.stream.topic] = kept
            await asyncio.sleep(3_601)
            seen.append(metrics.registry.get_sample_value("streamproc_retention_too_short") or 0.0)
        watching.cancel()
        await asyncio.wait([watching])
        return seen[0], seen[1], seen[2]

    with capture_logs() as logs, asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        assert runner.run(scenario()) == (0.0, 1.0, 0.0)
    assert [entry["log_level"] for entry in logs] == ["error"]
