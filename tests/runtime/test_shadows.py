"""Shadows that had no time are told of."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import pytest

from operators.plan import Plan
from operators.served_score import ServedScoreOperator
from operators.serving import Roles
from streamproc.cli.compose import RunOptions, open_log, run_worker
from streamproc.eventlog.contract import OutputRecords, TopicPartition
from streamproc.eventlog.simulated import VirtualTimeLoop
from streamproc.eventlog.simulated.time import VirtualClock
from streamproc.language import compile_pipeline, load_pipeline
from streamproc.runtime.metrics import WorkerMetrics
from streamproc.runtime.settings import WorkerSettings
from streamproc.runtime.shadows import watch_shadows
from streamproc.runtime.topics import prepare_topics
from tests.models.registered import register

PIPELINE = """\
pipeline: shop
streams:
  payments: {id: id, event_time: at, fields: {id: string, card: string, amount: float64, at: timestamp}}
partition_by: card
partitions: 1
models:
  fraud: {registry: reg, version: 1, shadow: 2, shadow_budget: 1ms, features: [amount]}
decision: {severity: [decline, approve], otherwise: approve}
"""


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    register(tmp_path / "reg", "fraud", {"amount": 1.0})
    register(tmp_path / "reg", "fraud", {"amount": 2.0})
    (tmp_path / "shop.yaml").write_text(PIPELINE)
    return compile_pipeline(load_pipeline(tmp_path / "shop.yaml"))


def test_what_was_shed_is_counted_and_said(plan: Plan, capsys: pytest.CaptureFixture[str]) -> None:
    (step,) = [step for step in plan.steps if isinstance(step, ServedScoreOperator)]
    assert step.served.lineup.roles == Roles(1, shadows=(2,))
    step.prepare()
    metrics = WorkerMetrics()

    async def watched() -> None:
        watching = asyncio.ensure_future(watch_shadows([plan], metrics, VirtualClock()))
        await asyncio.sleep(1)
        step.budget.took(2, 10, 0.001)  # 100 us a row
        assert step.budget.allows(2, 10, 0.0)
        assert not step.budget.allows(2, 11, 0.0)
        assert not step.budget.allows(2, 5, 0.0006)
        await asyncio.sleep(9)
        watching.cancel()

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(watched())
    labels = {"model": "fraud", "version": "2"}
    assert metrics.registry.get_sample_value("streamproc_shed_shadow_rows_total", labels) == 16
    said = capsys.readouterr().out
    assert said.count("a shadow has no time") == said.count("a model scores") == 1
    assert "'2': 'onnxruntime: its input does not go to one ensemble of trees alone'" in said


def test_it_ends_where_there_is_no_registered_model(plan: Plan) -> None:
    asyncio.run(watch_shadows([msgspec.structs.replace(plan, steps=())], WorkerMetrics(), VirtualClock()))


async def test_in_a_worker_it_is_shed_told_of_at_the_end_and_all_is_decided(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It takes 20 ms of the 1 ms that it has: the first batch tells, the second is decided without it."""
    (step,) = [step for step in plan.steps if isinstance(step, ServedScoreOperator)]
    (shadow,) = step.served.lineup.shadows
    asked: list[int] = []

    def slow(matrix: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        asked.append(len(matrix))
        until = time.monotonic() + 0.02
        while time.monotonic() < until:
            pass
        return np.zeros(len(matrix))

    monkeypatch.setattr(shadow.model, "score", slow)
    url = f"file:{tmp_path / 'log'}"
    log = open_log(url)
    await prepare_topics(log, plan)
    for name in ("a", "b"):
        records = [b'{"id": "%b%d", "card": "c", "amount": 1.0, "at": 1}' % (name.encode(), n) for n in range(8)]
        tp = TopicPartition(plan.stream.topic, 0)
        await log.appender().append([OutputRecords(tp, [b"c"] * 8, list(records), 1)])
        await run_worker([plan], RunOptions(url, tmp_path / "state"), WorkerSettings(until_end=True))
    tp = TopicPartition(plan.topics.decisions, 0)
    assert (await log.admin().end_offsets([tp]))[tp] == 16
    await log.close()
    assert asked == [8]
    assert "a shadow has no time" in capsys.readouterr().out
