"""What a replay needs must not be removed: refused at start, said loudly every hour."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from pathlib import Path

import msgspec
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
    await prepare_topics(log, plan, replay_horizon_ms=horizon_ms)
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


DAY = str(24 * 3_600_000)
FOR_EVER = {"retention.ms": "-1"}


@pytest.mark.parametrize(
    ("says", "horizon_ms", "kept"),
    [
        ("", 0, FOR_EVER),
        ("", 90_000, FOR_EVER),
        ("there are no checkpoints, and topic", 0, {"retention.ms": DAY}),
        ("there are no checkpoints, and topic", 0, {"retention.bytes": "1000"}),
        ("", 90_000, {"retention.ms": "86490000"}),  # 24 h and 90 s
        ("keeps records for 86490 s: after an outage of more than 86389 s", 101_000, {"retention.ms": "86490000"}),
        ("keeps 1000 bytes a partition: under load", 90_000, {"retention.bytes": "1000"}),
    ],
)
def test_what_an_outage_or_a_lost_disk_would_cost_is_said(
    plan: Plan, says: str, horizon_ms: int, kept: dict[str, str]
) -> None:
    """And not refused: nothing is wrong as long as all goes well."""
    with capture_logs() as logs:
        run(plan, horizon_ms, input=kept, journal=kept)
    said = [entry["reason"] for entry in logs if entry["log_level"] == "warning"]
    assert len(said) == bool(says)
    assert says in "".join(said)


def test_who_restores_nothing_says_nothing(plan: Plan) -> None:
    async def fed() -> None:
        log = cluster().client("pod")
        topics = (plan.stream.topic, plan.topics.journal)
        await log.admin().ensure_topics([TopicSpec(name, 4, {"retention.ms": HOUR}) for name in topics])
        await prepare_topics(log, plan)

    with capture_logs() as logs, asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(fed())
    assert not logs


def test_a_change_while_it_runs_is_said_within_the_hour(plan: Plan) -> None:
    async def scenario() -> list[float]:
        world, metrics = cluster(), WorkerMetrics()
        log = world.client("pod")
        await prepare_topics(log, plan)
        watching = asyncio.ensure_future(
            watch_retention(log.admin(), [plan], 0, metrics=metrics, clock=VirtualClock(), warns=True)
        )
        seen = []
        for kept in (Retention(), Retention(compacted=True), Retention(), Retention(time_ms=1), Retention(time_ms=1)):
            world._retention[plan.stream.topic] = kept
            await asyncio.sleep(3_601)
            seen.append(metrics.registry.get_sample_value("streamproc_retention_too_short") or 0.0)
        watching.cancel()
        await asyncio.wait([watching])
        return seen

    with capture_logs() as logs, asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        assert runner.run(scenario()) == [0.0, 1.0, 0.0, 0.0, 0.0]
    assert [entry["log_level"] for entry in logs] == ["error", "warning"]


@pytest.mark.parametrize("warns", [True, False])
def test_one_worker_of_a_run_says_it(plan: Plan, warns: bool) -> None:
    """And the one that does says it of each stage."""
    later = msgspec.structs.replace(plan, stream=msgspec.structs.replace(plan.stream, topic="later"))

    async def scenario() -> None:
        log = cluster().client("pod")
        topics = (plan.stream.topic, later.stream.topic, plan.topics.journal)
        await log.admin().ensure_topics([TopicSpec(name, 4, {"retention.ms": HOUR}) for name in topics])
        await prepare_topics(log, plan, later, replay_horizon_ms=0, warns=warns)
        watch = watch_retention(
            log.admin(), [plan, later], 0, metrics=WorkerMetrics(), clock=VirtualClock(), warns=warns
        )
        watching = asyncio.ensure_future(watch)
        await asyncio.sleep(2 * 3_601)
        watching.cancel()
        await asyncio.wait([watching])

    with capture_logs() as logs, asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(scenario())
    named = [topic for entry in logs for topic in (plan.stream.topic, "later") if f"topic {topic} " in entry["reason"]]
    assert named == [plan.stream.topic, "later"] * 2 * warns, "at the start, and after an hour; not again an hour later"


def test_one_stage_of_several_is_enough_to_be_too_short(plan: Plan) -> None:
    later = msgspec.structs.replace(plan, stream=msgspec.structs.replace(plan.stream, topic="later"))

    async def scenario() -> float | None:
        world, metrics = cluster(), WorkerMetrics()
        log = world.client("pod")
        await prepare_topics(log, plan, later)
        world._retention[plan.stream.topic] = Retention(compacted=True)
        watch = watch_retention(log.admin(), [plan, later], 0, metrics=metrics, clock=VirtualClock(), warns=True)
        watching = asyncio.ensure_future(watch)
        await asyncio.sleep(3_601)
        watching.cancel()
        await asyncio.wait([watching])
        return metrics.registry.get_sample_value("streamproc_retention_too_short")

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        assert runner.run(scenario()) == 1.0


def test_a_topic_of_several_stages_is_asked_for_once(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker refuses a request that names a topic twice."""
    later = msgspec.structs.replace(plan, stream=msgspec.structs.replace(plan.stream, topic="later"))
    asked: list[str] = []
    make = SimulatedCluster.ensure_topics

    def noted(self: SimulatedCluster, specs: Sequence[TopicSpec]) -> None:
        asked.extend(spec.name for spec in specs)
        make(self, specs)

    monkeypatch.setattr(SimulatedCluster, "ensure_topics", noted)
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(prepare_topics(cluster().client("pod"), plan, later))
    assert sorted(asked) == sorted(set(asked))
    assert "later" in asked
