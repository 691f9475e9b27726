"""The watchdog names the task that stands still, and no other: by rule, and on the real worker in virtual time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from operators.plan import Plan
from state.memory import MemoryRowStores
from streamproc.cli.compose import RunOptions, run_worker
from streamproc.eventlog.contract import OutputRecords, TopicPartition
from streamproc.eventlog.simulated import Faults, VirtualTimeLoop
from streamproc.eventlog.simulated.cluster import Timeouts
from streamproc.language import compile_pipeline, load_pipeline
from streamproc.runtime.metrics import WorkerMetrics
from streamproc.runtime.observe import watch_tasks
from streamproc.runtime.partition_task import PartitionTask
from streamproc.runtime.settings import WorkerSettings
from streamproc.runtime.watchdog import Watchdog
from tests.simulation.traffic import traffic
from tests.simulation.world import World

PIPELINE = Path(__file__).parents[2] / "configs" / "bench_v1" / "pipeline.yaml"
LOOKS = 15
LOOK_SECONDS = 2.0
SOURCES = [TopicPartition("payments", p) for p in range(2)]


@pytest.fixture
def logs() -> Iterator[list[Any]]:
    with capture_logs() as found:
        yield found


def named(logs: list[Any]) -> list[tuple[str, int]]:
    return [
        (line["event"], line["task"]) for line in logs if line["event"] in {"a task stands still", "the task goes on"}
    ]


def test_a_task_that_stands_still_is_named_once_until_it_goes_on(logs: list[Any]) -> None:
    still, moving = (PartitionTask(tp.partition, tp) for tp in SOURCES)
    ends = dict.fromkeys(SOURCES, 100)
    watchdog = Watchdog()
    for look in range(1, 3 * LOOKS):
        moving.position += 1
        watchdog.look([still, moving], set(SOURCES), ends)
        assert watchdog.stalled == ({still.source} if look >= LOOKS else set())
    still.position = 100
    watchdog.look([still, moving], {moving.source}, ends)
    assert watchdog.stalled == set()
    assert named(logs) == [("a task stands still", 0), ("the task goes on", 0)]
    assert (logs[0]["position"], logs[0]["end"], logs[0]["phase"]) == (0, 100, "restoring")


def test_a_task_without_input_and_one_that_was_given_up_are_not_named(logs: list[Any]) -> None:
    idle, lost = (PartitionTask(tp.partition, tp) for tp in SOURCES)
    watchdog = Watchdog()
    for look in range(3 * LOOKS):
        watchdog.look([idle, lost] if look < LOOKS - 1 else [idle], {lost.source}, {})
    assert watchdog.stalled == set()
    assert logs == []


def test_input_that_comes_late_is_given_its_time(logs: list[Any]) -> None:
    """An hour without input is no standing still."""
    task = PartitionTask(0, SOURCES[0])
    watchdog = Watchdog()
    for look in range(3 * LOOKS):
        watchdog.look([task], {task.source} if look >= 2 * LOOKS + 1 else set(), {})
    assert logs == []


# ---- the real worker


class _Run:
    """A worker on a simulated log, with the watcher that looks after it."""

    def __init__(self, plan: Plan) -> None:
        self.world = world = World(plan, random.Random(1), Faults(random.Random(1)))
        self.log = world.client()
        stores = MemoryRowStores(world.disk, sync=False)
        self.worker, _ = world._worker(self.log, stores, lambda: True, lambda _: None, WorkerSettings())
        self.metrics: WorkerMetrics = world.metrics[-1]
        self.watchdog = Watchdog()

    async def feed(self) -> None:
        await self.world.feed(traffic(random.Random(2), 60, 12))

    async def open_transaction(self) -> Any:
        """Somebody's, on one partition of the input: what follows it cannot be read until it ends."""
        writer = self.world.client().writer("a producer")
        await writer.open()
        await writer.begin()
        tp = TopicPartition(self.world.plan.stream.topic, 0)
        await writer.append([OutputRecords(tp, [b"c"], [b"poison"], self.world.clock.now_ms())])
        await writer.delivered()
        return writer

    @property
    def stalled(self) -> float | None:
        return self.metrics.registry.get_sample_value("streamproc_stalled_tasks")

    @property
    def decided(self) -> float:
        return self.metrics.registry.get_sample_value("streamproc_records_total") or 0.0

    async def run(self, looks: int) -> None:
        await asyncio.sleep(looks * LOOK_SECONDS)

    async def during(self, scenario: Any) -> None:
        watch = watch_tasks(
            self.log.admin(), self.worker, {"main": self.world.state},
            metrics=self.metrics, clock=self.world.clock, watchdog=self.watchdog,
        )  # fmt: skip
        watching, running = asyncio.ensure_future(watch), asyncio.ensure_future(self.worker.run())
        await scenario(self)
        self.worker.stop()
        await running
        watching.cancel()
        await asyncio.wait([watching])
        verdict = await self.world.judge()
        assert not verdict.wrong, verdict.wrong[:3]


@pytest.mark.blocking
@pytest.mark.parametrize("watcher", ["health.watch_loop", "observe.watch_tasks", "retention.watch_retention"])
async def test_a_watcher_that_dies_ends_the_worker_with_its_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, watcher: str
) -> None:
    """A mistake of ours: a watchdog that is gone must not look like one that has found nothing."""

    async def dies(*_: object, **__: object) -> None:
        raise ValueError("a mistake")

    monkeypatch.setattr(f"streamproc.runtime.{watcher}", dies)
    plan = compile_pipeline(load_pipeline(PIPELINE))
    options = RunOptions(f"file:{tmp_path / 'log'}", tmp_path / "state")
    with pytest.raises(ValueError, match="a mistake"):
        await asyncio.wait_for(run_worker([plan], options, WorkerSettings()), 20)


def simulate(scenario: Any) -> None:
    plan = compile_pipeline(load_pipeline(PIPELINE))
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(_simulated(plan, scenario))


async def _simulated(plan: Plan, scenario: Any) -> None:
    run = _Run(plan)
    await run.feed()
    await run.during(scenario)


def test_a_partition_behind_an_endless_transaction_is_named(logs: list[Any]) -> None:
    """The other one goes on; what one producer leaves open is nobody's fault of ours, and nobody else says so."""

    async def scenario(run: _Run) -> None:
        run.world.cluster.timeouts = Timeouts(transaction_s=600.0)
        await run.run(2)
        writer, decided = await run.open_transaction(), run.decided
        await run.feed()
        await run.run(LOOKS + 2)
        assert run.decided > decided
        assert run.stalled == 1.0
        assert {tp.partition for tp in run.watchdog.stalled} == {0}
        await writer.commit()
        await run.run(2)
        assert run.stalled == 0.0
        assert not run.watchdog.stalled

    simulate(scenario)
    assert named(logs) == [("a task stands still", 0), ("the task goes on", 0)]


def test_a_transaction_of_another_that_was_aborted_is_no_input(logs: list[Any]) -> None:
    """Its mark takes an offset that nobody ever decides: a partition that ends with one does not stand still."""

    async def scenario(run: _Run) -> None:
        await run.run(2)
        await (await run.open_transaction()).abort()
        await run.run(3 * LOOKS)
        assert run.stalled == 0.0

    simulate(scenario)


def test_a_worker_that_stopped_deciding_is_found_out(logs: list[Any]) -> None:
    """A mistake of ours: what is there is never taken."""

    async def nothing() -> bool:
        await asyncio.sleep(0.1)
        return False

    async def scenario(run: _Run) -> None:
        await run.run(2)
        run.worker._collect = nothing  # type: ignore[method-assign]
        await run.feed()
        await run.run(LOOKS + 2)
        assert run.stalled == 2.0
        del run.worker._collect
        await run.run(2)
        assert run.stalled == 0.0

    simulate(scenario)
