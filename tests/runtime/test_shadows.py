"""Shadows that had no time are told of."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from operators.plan import Plan
from operators.served_score import ServedScoreOperator
from operators.serving import Roles
from streamproc.eventlog.simulated import VirtualTimeLoop
from streamproc.eventlog.simulated.time import VirtualClock
from streamproc.language import compile_pipeline, load_pipeline
from streamproc.runtime.metrics import WorkerMetrics
from streamproc.runtime.shadows import watch_shadows
from tests.models.registered import register

PIPELINE = """\
pipeline: shop
streams:
  payments: {id: id, event_time: at, fields: {id: string, card: string, amount: float64, at: timestamp}}
partition_by: card
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
    assert capsys.readouterr().out.count("a shadow has no time") == 1


def test_it_ends_where_there_is_no_registered_model(plan: Plan) -> None:
    asyncio.run(watch_shadows([msgspec.structs.replace(plan, steps=())], WorkerMetrics(), VirtualClock()))
