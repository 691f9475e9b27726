"""A worker with nothing to do writes what it has decided, once; killed then, it has nothing to replay."""

from __future__ import annotations

import asyncio
import errno
import random
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from operators.plan import Plan
from state.errors import StateCorruptedError
from state.memory import MemoryDisk, MemoryRowStores
from state.rowformat import META_KEY
from streamproc.eventlog.contract import TopicPartition
from streamproc.eventlog.simulated import Faults, VirtualTimeLoop
from streamproc.language import compile_pipeline, load_pipeline
from streamproc.runtime.settings import WorkerSettings
from streamproc.runtime.stored_state import LocalMeta
from tests.simulation.traffic import traffic
from tests.simulation.world import World

PIPELINE = Path(__file__).parents[2] / "configs" / "bench_v1" / "pipeline.yaml"


@pytest.fixture(scope="module")
def plan() -> Plan:
    return compile_pipeline(load_pipeline(PIPELINE))


class Disk(MemoryDisk):
    """Counts writes; the first one raises `error`, if there is one."""

    def __init__(self, error: Exception | None) -> None:
        super().__init__(random.Random(1))
        self.writes = 0
        self.error = error

    def write(self, *given: Any, **more: Any) -> None:
        self.writes += 1
        error, self.error = self.error, None
        if error is not None:
            raise error
        super().write(*given, **more)


async def killed_after_a_quiet_minute(world: World, disk: Disk) -> tuple[int, int]:
    """How often its stores were written when all was decided for ten seconds, and for a minute."""
    rng = random.Random(7)
    log, stores, dead = world.client(), MemoryRowStores(disk), False
    settings = WorkerSettings(flush_seconds=1.0, flush_rows=10**9, batch_rows_max=50)
    worker, watch = world._worker(log, stores, lambda: not dead, lambda _: None, settings)
    running = asyncio.ensure_future(worker.run())
    await world.feed(traffic(rng, 200, 12))
    await asyncio.sleep(10)
    early = disk.writes
    await asyncio.sleep(60)
    assert not running.done()
    dead = True
    log.crash()
    stores.kill()
    for task in (running, watch):
        task.cancel()
    await asyncio.wait([running, watch])
    disk.crash()
    return early, disk.writes


async def behind(world: World) -> list[int]:
    """Records of each partition that are decided and that the stored state does not know of."""
    sources = [TopicPartition(world.plan.stream.topic, p) for p in (0, 1)]
    committed = await world.client().admin().committed(world.plan.pipeline, sources)
    stores, found = MemoryRowStores(world.disk), []
    for source in sources:
        store = stores.open(source.partition)
        stored = store.get_many([META_KEY])[0]
        store.close()
        assert committed[source].offset > 20
        found.append(committed[source].offset - (LocalMeta.decode(stored).position if stored else 0))
    return found


@pytest.mark.parametrize("error", [None, OSError(errno.ENOSPC, "full"), StateCorruptedError("a block is damaged")])
def test_a_kill_after_a_quiet_minute_replays_nothing(plan: Plan, error: Exception | None) -> None:
    """Also if the first write fails, and if it finds the store damaged: its task is restored, without a next record."""

    async def scenario() -> None:
        rng = random.Random(3)
        world = World(plan, rng, Faults(rng))
        world.disk = disk = Disk(error)
        early, late = await killed_after_a_quiet_minute(world, disk)
        assert await behind(world) == [0, 0]
        assert early == late, "what is written is not written again"

    with capture_logs() as logs, asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(scenario())
    said = [entry["event"] for entry in logs if entry["log_level"] == "error"]
    wanted = {OSError: ["state could not be written, will try again"], StateCorruptedError: ["local state discarded"]}
    assert said == ([] if error is None else wanted[type(error)])
