"""Stored rows that turn out damaged while a worker is at work: the task is restored, and nothing is lost."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from operators.batch import Batch
from operators.plan import Plan
from operators.windows.operator import WindowOperator
from state.errors import StateCorruptedError
from state.rowformat import LAYOUT_KEY, META_KEY
from state.worker_state import WorkerState
from streamproc.eventlog.simulated import Crash, Faults, VirtualTimeLoop
from streamproc.language import compile_pipeline, load_pipeline
from streamproc.runtime.stage import Stage
from tests.simulation.traffic import Record, traffic
from tests.simulation.world import World

PIPELINE = Path(__file__).parents[2] / "configs" / "bench_v1" / "pipeline.yaml"
SEEDS = 12


@pytest.fixture(scope="module")
def plan() -> Plan:
    return compile_pipeline(load_pipeline(PIPELINE))


def damage_rows(world: World) -> int:
    """Every stored row of a key; what a restore reads first stays whole."""
    count = 0
    for volume in world.disk.volumes.values():
        for key in [key for key in volume.rows if key[:1] != b"d" and key not in {META_KEY, LAYOUT_KEY}]:
            value, checksum = volume.rows[key]
            volume.rows[key] = volume.synced[key] = (value, checksum ^ 1)
            count += 1
    return count


async def trickle(world: World, records: list[Record]) -> None:
    for start in range(0, len(records), 7):
        await world.feed(records[start : start + 7])
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_task_is_restored_under_its_own_traffic(plan: Plan, seed: int) -> None:
    async def run() -> None:
        rng = random.Random(seed)
        world = World(plan, rng, Faults(rng, latency_s=(0.0, 0.01), timeout_s=0.5))
        records = traffic(rng, 300, 12)
        await world.feed(records[:120])
        assert await world.work(batch_rows_max=20)
        assert damage_rows(world)
        feeding = asyncio.ensure_future(trickle(world, records[120:]))
        await asyncio.sleep(0.1)
        assert await world.work(batch_rows_max=20)
        await feeding
        assert await world.work(batch_rows_max=20)
        verdict = await world.judge()
        assert not verdict.wrong, verdict.wrong[:3]

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(run())


def test_a_flush_never_holds_rows_of_a_batch_that_is_not_committed(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    """R: state may be behind the committed offsets, never ahead. A batch computed ahead meets a damaged row half-way,
    when deduplication has remembered its ids; the batch before it is published and flushed; then the process is killed.
    """
    real = WindowOperator.process
    chance = random.Random(7)
    failures: list[int] = []

    def process(self: WindowOperator, batch: Batch, state: WorkerState) -> None:
        if state._sealed and not failures and chance.random() < 0.2:
            error = StateCorruptedError("simulated: a row's checksum is wrong")
            error.task = 0
            failures.append(1)
            raise error
        real(self, batch, state)

    async def run(seed: int) -> None:
        rng = random.Random(seed)
        world = World(plan, rng, Faults(rng, latency_s=(0.0, 0.01), timeout_s=0.5))
        world.flush_seconds = (
            0.03  # often under way when a batch is computed ahead, and over when the older is published
        )
        monkeypatch.setattr(world.disk, "crash", lambda: None)  # the process is killed, the machine goes on
        monkeypatch.setattr(Stage, "lose_damaged", _killed)
        records = traffic(rng, 300, 12)
        await world.feed(records)
        monkeypatch.setattr(WindowOperator, "process", process)
        await world.work(batch_rows_max=12, flush_rows=1)
        monkeypatch.undo()
        with capture_logs() as logs:
            assert await world.work(batch_rows_max=8)
        assert not [entry for entry in logs if entry["log_level"] == "error"], f"seed {seed}: what was flushed is whole"
        verdict = await world.judge()
        assert not verdict.wrong, f"seed {seed}: {verdict.wrong[:2]}"

    for seed in range(2 * SEEDS):
        failures.clear()
        with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
            runner.run(run(seed))


async def _killed(_: Stage) -> None:
    await asyncio.sleep(1.0)  # the flush under way ends
    raise Crash


@pytest.mark.parametrize("seed", range(SEEDS))
def test_damage_that_a_flush_meets_restores_its_task(plan: Plan, seed: int) -> None:
    """As a compaction would: the write is refused, the store is not to be trusted; the run goes on."""

    async def run() -> None:
        rng = random.Random(seed)
        world = World(plan, rng, Faults(rng, latency_s=(0.0, 0.01), timeout_s=0.5))
        records = traffic(rng, 300, 12)
        await world.feed(records[:120])
        assert await world.work(batch_rows_max=20)
        damage: Any = StateCorruptedError("simulated: a compaction met a damaged table")
        world.disk.fail_write(damage)
        feeding = asyncio.ensure_future(trickle(world, records[120:]))
        await asyncio.sleep(0.05)
        with capture_logs() as logs:
            assert await world.work(batch_rows_max=7, flush_rows=1)
            await feeding
            assert await world.work(batch_rows_max=20)
        discarded = [entry for entry in logs if entry["event"] == "local state discarded"]
        assert [entry["reason"] for entry in discarded] == [str(damage)]
        verdict = await world.judge()
        assert not verdict.wrong, verdict.wrong[:3]

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(run())
