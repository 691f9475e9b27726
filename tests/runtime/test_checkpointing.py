"""A worker writes checkpoints while it decides, and a pod without a disk goes on from them."""

from __future__ import annotations

import asyncio
import copy
import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest
from structlog.testing import capture_logs

from operators.plan import Plan
from state.checkpoint import Checkpoints
from state.errors import ConfigError
from state.memory import MemoryBlobs, MemoryDisk
from streamproc.clock import SystemClock
from streamproc.eventlog.contract import TopicPartition
from streamproc.eventlog.simulated import Faults, VirtualTimeLoop
from streamproc.language import compile_pipeline, load_pipeline
from streamproc.runtime import candidates
from streamproc.runtime import checkpointer as checkpointing
from streamproc.runtime.checkpointer import Checkpointer
from streamproc.runtime.executor import ThreadExecutor
from streamproc.runtime.metrics import WorkerMetrics
from streamproc.runtime.partition_task import PartitionTask, Phase
from streamproc.runtime.state_keeper import StateKeeper
from streamproc.runtime.stored_state import LocalMeta
from tests.simulation.test_damage import damage_rows
from tests.simulation.traffic import traffic
from tests.simulation.world import World

PIPELINE = Path(__file__).parents[2] / "configs" / "bench_v1" / "pipeline.yaml"
SEEDS = 40
pytestmark = pytest.mark.blocking  # the simulated threads are the loop itself, and snapshots are real files
Change = Callable[[World], None]


@pytest.fixture(scope="module")
def plan() -> Plan:
    return compile_pipeline(load_pipeline(PIPELINE))


def world_of(plan: Plan, directory: Path, seed: int) -> World:
    rng = random.Random(seed)
    world = World(plan, rng, Faults(rng, latency_s=(0.0, 0.01), timeout_s=0.5))
    world.blobs = MemoryBlobs(rng)
    world.directory = directory
    return world


def scenario(plan: Plan, directory: Path, *between: Change, seed: int = 5) -> World:
    """Two thirds of the traffic by a pod that stops twice; then each of `between` happens, and another pod goes on."""

    async def run() -> World:
        world = world_of(plan, directory, seed)
        records = traffic(world.rng, 300, 12)
        for part in (records[:100], records[100:200]):
            await world.feed(part)
            assert await world.work(batch_rows_max=10, flush_rows=1, flush_seconds=0.01)
        for change in (lose_disk, *between):
            change(world)
        await world.feed(records[200:])
        assert await world.work(batch_rows_max=20)
        verdict = await world.judge()
        assert not verdict.wrong, verdict.wrong[:3]
        return world

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(run())


def lose_disk(world: World) -> None:
    world.disk = MemoryDisk(world.rng)


def expire_log(world: World) -> None:
    """The journal no longer reaches back to the beginning: only a checkpoint can help."""
    for partition in range(world.partitions):
        world.cluster.truncate(TopicPartition(world.plan.topics.journal, partition), 3)


def manifests(world: World) -> list[str]:
    assert world.blobs is not None
    return sorted(name for name in world.blobs.blobs if "/manifests/" in name)


def damage_newest(world: World) -> None:
    assert world.blobs is not None
    for task in range(world.partitions):
        newest = [name for name in manifests(world) if f"task-{task:05d}" in name][-1]
        world.blobs.flip_bit(newest)


def hollow_newest(world: World) -> None:
    """Whole, but of a folder that was not a store's."""
    assert world.blobs is not None
    checkpoints = Checkpoints(world.blobs, world.plan.pipeline)
    for task in range(world.partitions):
        newest = checkpoints.checkpoints(task).found[0]
        checkpoints.discard(newest)
        other = world.directory / "other"
        other.mkdir(exist_ok=True)
        (other / "note").write_bytes(b"hello")
        checkpoints.write(task, newest.cut, other)


def damage_files(world: World) -> None:
    assert world.blobs is not None
    for name in [name for name in world.blobs.blobs if "/files/" in name]:
        world.blobs.truncate(name)


@pytest.mark.parametrize("seed", [5, 10, 15])
def test_a_pod_without_a_disk_goes_on_from_a_checkpoint(plan: Plan, tmp_path: Path, seed: int) -> None:
    world = scenario(plan, tmp_path, expire_log, seed=seed)
    assert len(manifests(world)) >= 2 * world.partitions
    assert not list(tmp_path.iterdir())  # no snapshot is left behind


def test_pods_that_live_shortly_clear_up(plan: Plan, tmp_path: Path) -> None:
    async def run() -> World:
        world = world_of(plan, tmp_path, 5)
        for start in range(0, 240, 20):
            await world.feed(traffic(random.Random(start), 20, 12))
            assert await world.work(batch_rows_max=10, flush_rows=1, flush_seconds=0.01)
        return world

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        world = runner.run(run())
    assert 3 < len(manifests(world)) <= world.partitions * 5


def test_the_next_older_checkpoint_is_taken(plan: Plan, tmp_path: Path) -> None:
    scenario(plan, tmp_path, damage_newest, expire_log)


def test_one_without_a_database_is_passed_over(plan: Plan, tmp_path: Path) -> None:
    scenario(plan, tmp_path, hollow_newest, expire_log)


def test_damaged_checkpoints_are_passed_over_for_the_log(plan: Plan, tmp_path: Path) -> None:
    scenario(plan, tmp_path, damage_files)


def test_damaged_checkpoints_and_an_expired_log_are_a_refusal(plan: Plan, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no longer begins at the first record"):
        scenario(plan, tmp_path, damage_files, expire_log)


def test_a_damaged_row_costs_a_checkpoint_and_not_the_worker(plan: Plan, tmp_path: Path) -> None:
    """A snapshot that meets damage nobody has read yet: whoever reads it will restore the task."""

    async def run() -> None:
        world = world_of(plan, tmp_path, 6)
        await world.feed(traffic(world.rng, 300, 12))
        assert await world.work()
        assert damage_rows(world)
        assert await world.work()
        assert world.count("failed_checkpoints")
        verdict = await world.judge()
        assert not verdict.wrong, verdict.wrong[:3]

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(run())


def test_sound_local_state_is_not_given_up_for_a_checkpoint_of_another_history(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is far behind, and the checkpoint seems fresher; without it there is nothing to begin from."""
    monkeypatch.setattr(candidates, "_NEAR_ROWS", 0)

    async def run() -> None:
        old = world_of(plan, tmp_path, 1)
        await old.feed(traffic(random.Random(1), 150, 12))
        assert await old.work(batch_rows_max=10, flush_rows=1)
        world = world_of(plan, tmp_path, 2)
        world.blobs = None
        records = traffic(random.Random(2), 400, 12)
        await world.feed(records[:80])
        assert await world.work(batch_rows_max=10)
        behind = copy.deepcopy(world.disk.volumes)
        await world.feed(records[80:300])
        assert await world.work(batch_rows_max=5)
        world.disk.volumes = behind
        world.blobs = old.blobs
        expire_log(world)
        await world.feed(records[300:])
        with capture_logs() as logs:
            assert await world.work()
        verdict = await world.judge()
        assert not verdict.wrong
        said = [entry["event"] for entry in logs if entry["log_level"] == "error"]
        assert set(said) == {"checkpoint passed over: the journal does not have, or not any more, what it is of"}

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(run())


def test_a_checkpoint_helps_where_the_input_that_local_state_needs_is_gone(plan: Plan, tmp_path: Path) -> None:
    """A pod comes back with a disk that is a little behind: another one had its tasks meanwhile."""

    async def run() -> None:
        world = world_of(plan, tmp_path, 2)
        records = traffic(random.Random(2), 400, 12)
        await world.feed(records[:80])
        assert await world.work(batch_rows_max=10, flush_rows=1)
        behind = copy.deepcopy(world.disk.volumes)
        await world.feed(records[80:300])
        assert await world.work(batch_rows_max=5, flush_rows=1)
        decided = await world.judge()
        assert not decided.wrong
        world.disk.volumes = behind
        sources = [TopicPartition(plan.stream.topic, partition) for partition in range(world.partitions)]
        for tp, end in (await world.client().admin().end_offsets(sources)).items():
            world.cluster.truncate(tp, end)
        await world.feed(records[300:])
        with capture_logs() as logs:
            assert await world.work()
        assert not [entry["event"] for entry in logs if entry["log_level"] == "error"]
        assert world.metrics[-1].registry.get_sample_value("streamproc_failed_tasks_total") == 0

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(run())


def test_checkpoints_of_a_longer_history_are_removed(plan: Plan, tmp_path: Path) -> None:
    """The topics were made anew, and the store was not emptied."""

    async def run() -> None:
        old = world_of(plan, tmp_path, 1)
        await old.feed(traffic(random.Random(1), 400, 12))
        assert await old.work(batch_rows_max=5, flush_rows=1)
        world = world_of(plan, tmp_path, 2)
        world.blobs = old.blobs
        records = traffic(random.Random(2), 100, 12)
        await world.feed(records[:50])
        world.checkpoint_seconds = 1e9
        assert await world.work((8, 2)) is False  # killed: no checkpoint of its own yet
        foreign = manifests(world)
        lose_disk(world)
        await world.feed(records[50:])
        assert await world.work()
        verdict = await world.judge()
        assert not verdict.wrong
        for task in range(world.partitions):
            newest = [name for name in manifests(world) if f"task-{task:05d}" in name][-1]
            assert newest not in foreign

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(run())


class OneFile:
    """A store of one file."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    async def snapshot(self, task: int, directory: Path) -> bytes:
        directory.mkdir()
        (directory / "rows").write_bytes(self.content)
        return LocalMeta(3, b"chain", 0, 0, "plan", 2).encode()


def checkpointer_of(blobs: MemoryBlobs, directory: Path, content: bytes) -> tuple[Checkpointer, ThreadExecutor]:
    sender = ThreadExecutor()
    states = cast(StateKeeper, OneFile(content))
    made = Checkpointer(
        Checkpoints(blobs, "p"), states, sender=sender, clock=SystemClock(), metrics=WorkerMetrics(),
        directory=directory, every_s=30,
    )  # fmt: skip
    return made, sender


def running_task() -> PartitionTask:
    task = PartitionTask(0, TopicPartition("in", 0))
    task.enter(Phase.RUNNING)
    return task


def test_a_store_that_hangs_does_not_hold_up_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The group is to be left, and the state closed, before the pod is killed for taking too long."""
    monkeypatch.setattr(checkpointing, "_LAST_SECONDS", 0.05)
    blobs, answer, answered = MemoryBlobs(random.Random(0)), threading.Event(), list[str]()

    def hang(verb: str, _: str) -> None:
        if verb == "put":
            answer.wait(5)
            answered.append(verb)

    blobs.before = hang

    async def run() -> None:
        checkpointer, sender = checkpointer_of(blobs, tmp_path / "work", b"rows")
        await checkpointer.take_last([running_task()])
        assert not answered
        answer.set()
        await asyncio.to_thread(sender.close)

    asyncio.run(run())
    assert answered


def test_a_restore_is_stopped_while_its_checkpoint_is_fetched(tmp_path: Path) -> None:
    """A new assignment waits for it, and so do the live tasks."""

    class StoppedError(Exception):
        pass

    async def run() -> None:
        checkpointer, sender = checkpointer_of(MemoryBlobs(random.Random(0)), tmp_path / "work", bytes(5000))
        await checkpointer.take(running_task())
        (manifest,) = await checkpointer.newest_first(0, lambda: None)
        pieces = 0

        def go_on() -> None:
            nonlocal pieces
            pieces += 1
            if pieces == 3:
                raise StoppedError

        with pytest.raises(StoppedError):  # the state in place is not touched
            await checkpointer.install(manifest, go_on)
        assert pieces == 3
        assert not list((tmp_path / "work").iterdir())
        await asyncio.to_thread(sender.close)

    asyncio.run(run())


@pytest.mark.parametrize("block", range(4))
def test_pods_that_die_with_their_disks(plan: Plan, tmp_path: Path, block: int) -> None:
    """Any crash takes the disk with it; the blob store fails now and then."""

    async def campaign(seed: int) -> None:
        world = world_of(plan, tmp_path, seed)
        assert world.blobs is not None
        rng = world.rng
        await world.feed(traffic(rng, 300, 12))
        for _ in range(3):
            for verb in rng.sample(("put", "create", "get", "list", "delete"), rng.randrange(3)):
                world.blobs.fail(verb, happened=rng.random() < 0.5)
            await world.work((rng.randrange(1, 9), rng.randrange(2, 12)), batch_rows_max=10, flush_rows=5)
            lose_disk(world)
        world.blobs._failing.clear()
        assert await world.work(batch_rows_max=64)
        verdict = await world.judge()
        assert not verdict.wrong, f"seed {seed}: {verdict.wrong[:3]}"

    for seed in range(block * SEEDS // 4, (block + 1) * SEEDS // 4):
        with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
            runner.run(campaign(seed))
