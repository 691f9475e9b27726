"""What a restore says of the last transaction's decisions: compared where they must agree, and only reported."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, MutableMapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from structlog.testing import capture_logs

from operators.plan import Plan
from state.memory import MemoryDisk
from streamproc.eventlog.simulated import Faults, VirtualTimeLoop
from streamproc.language import compile_pipeline, load_pipeline
from streamproc.runtime import outputs
from streamproc.runtime.numerics import numerics_fingerprint
from streamproc.runtime.outputs import OutputEncoder
from tests.simulation.traffic import traffic
from tests.simulation.world import World

PIPELINE = Path(__file__).parents[2] / "configs" / "bench_v1" / "pipeline.yaml"
Logs = list[MutableMapping[str, Any]]


@pytest.fixture(scope="module")
def plan() -> Plan:
    return compile_pipeline(load_pipeline(PIPELINE))


def restored(plan: Plan, change: Callable[[World], None]) -> Logs:
    """The warnings of a restore after `change`; what is decided before and after it equals the oracle."""

    async def run() -> None:
        rng = random.Random(4)
        world = World(plan, rng, Faults(rng))
        records = traffic(rng, 300, 12)
        await world.feed(records[:200])
        assert await world.work(batch_rows_max=20)
        world.disk = MemoryDisk(world.rng)
        change(world)
        await world.feed(records[200:])
        assert await world.work(batch_rows_max=20)
        verdict = await world.judge()
        assert not verdict.wrong, verdict.wrong[:3]

    with capture_logs() as logs, asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(run())
    return [line for line in logs if line["log_level"] == "warning"]


def nothing(world: World) -> None:
    """The same machine, rules and models."""


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The digests that restores computed."""
    found: list[bytes] = []
    original = OutputEncoder.output_digest

    def spy(self: OutputEncoder, judged: Any) -> bytes:
        found.append(original(self, judged))
        return found[-1]

    monkeypatch.setattr(OutputEncoder, "output_digest", spy)
    return found


def test_equal_decisions_are_nothing_to_report(plan: Plan, compared: list[bytes]) -> None:
    assert restored(plan, nothing) == []
    assert len(set(compared)) == 2  # one a task


def test_other_decisions_are_reported_and_never_called_corruption(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    def drift(world: World) -> None:
        monkeypatch.setattr(OutputEncoder, "output_digest", lambda self, judged: bytes(32))

    warnings = restored(plan, drift)
    assert [line["task"] for line in warnings] == [0, 1]
    assert all("come out otherwise here" in line["event"] for line in warnings)
    assert all(line["journal"] == line["here"] == numerics_fingerprint() for line in warnings)
    assert all(line["output_here"] == "0" * 16 != line["journal_output"] for line in warnings)


def test_other_numerics_are_reported_with_both_fingerprints(
    plan: Plan, monkeypatch: pytest.MonkeyPatch, compared: list[bytes]
) -> None:
    def upgrade(world: World) -> None:
        monkeypatch.setattr(outputs, "numerics_fingerprint", lambda: "0ther001")

    warnings = restored(plan, upgrade)
    assert [(line["journal"], line["here"]) for line in warnings] == [(numerics_fingerprint(), "0ther001")] * 2
    assert all("another CPU level or library version" in line["event"] for line in warnings)
    assert compared == []


def test_changed_rules_are_not_compared(plan: Plan, compared: list[bytes]) -> None:
    def change(world: World) -> None:
        world.plan = msgspec.structs.replace(world.plan, decision_fingerprint="another")

    assert restored(plan, change) == []
    assert compared == []


def test_a_model_that_fails_does_not_keep_a_task_from_coming_back(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    def fail(self: OutputEncoder, judged: Any) -> bytes:
        raise RuntimeError("the model")

    monkeypatch.setattr(OutputEncoder, "output_digest", fail)
    warnings = restored(plan, nothing)
    assert [(line["event"], line["error"]) for line in warnings] == [
        ("the last transaction cannot be decided again here", "RuntimeError")
    ] * 2


def test_the_fingerprint_is_of_the_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = numerics_fingerprint()
    log = np.log
    monkeypatch.setattr(np, "log", lambda values: np.nextafter(log(values), 0))
    assert numerics_fingerprint() != mine
