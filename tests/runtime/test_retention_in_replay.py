"""Retention takes the input while a replay reads it."""

from __future__ import annotations

import asyncio
import copy
import random
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from operators.plan import Plan
from state.errors import ConfigError
from streamproc.eventlog.simulated import VirtualTimeLoop
from streamproc.runtime import recovery
from streamproc.runtime.recovery import Recovery
from tests.runtime.test_checkpointing import plan, world_of
from tests.simulation.traffic import traffic
from tests.simulation.world import World

__all__ = ["plan"]
pytestmark = pytest.mark.blocking


async def behind(plan: Plan, directory: Path) -> World:
    """A world whose disk is a little behind its checkpoints, with nothing new to decide."""
    world = world_of(plan, directory, 2)
    records = traffic(random.Random(2), 300, 12)
    await world.feed(records[:80])
    assert await world.work(batch_rows_max=10)
    volumes = copy.deepcopy(world.disk.volumes)
    await world.feed(records[80:])
    assert await world.work(batch_rows_max=5, flush_rows=1)
    world.disk.volumes = volumes
    return world


def trim_after_a_slice(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of the input goes once the first records of a task are replayed."""
    monkeypatch.setattr(recovery, "_REPLAY_ROWS", 7)
    real = Recovery._slice

    async def slice_and_trim(self: Recovery, task: Any, feed: Any, pending: Any) -> None:
        await real(self, task, feed, pending)
        world.cluster.truncate(task.source, 10_000)
        for feed_of in feed._feeds.values():
            feed_of._rest.clear()  # what was fetched before does not count
            feed_of._scanner.seek(task.source, feed_of._at[task.source])

    monkeypatch.setattr(Recovery, "_slice", slice_and_trim)


@pytest.mark.parametrize("checkpoints", [True, False])
def test_a_fresher_checkpoint_is_taken_or_it_is_said_what_to_do(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, checkpoints: bool
) -> None:
    async def run() -> None:
        world = await behind(plan, tmp_path)
        trim_after_a_slice(world, monkeypatch)
        if not checkpoints:
            world.blobs = None
            with pytest.raises(ConfigError, match=r"begins at offset \d+, but a replay needs [1-9]\d*") as refused:
                await world.work()
            assert "raise the topic's retention.ms" in str(refused.value.hint)
            return
        with capture_logs() as logs:
            assert await world.work()
        said = [entry["event"] for entry in logs if entry["log_level"] in ("warning", "error")]
        assert said.count("the log has no longer what a replay needs") == world.partitions
        assert set(said) == {"the log has no longer what a replay needs"}
        assert world.metrics[-1].registry.get_sample_value("streamproc_failed_tasks_total") == 0

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(run())
