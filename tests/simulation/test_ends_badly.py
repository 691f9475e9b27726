"""A worker of several stages that ends in the midst of what follows a commit: its last flush tells the truth."""

from __future__ import annotations

import random
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest

from operators.deduplicate import Deduplicator
from state.errors import StateDiskError
from state.persistence import Persistence
from state.worker_state import WorkerState
from streamproc.runtime.engine import Engine
from streamproc.runtime.flush import Flusher
from streamproc.runtime.stage import Part
from streamproc.runtime.stage import finish as finish_stages
from tests.simulation.fleet import Fleet, run_fleet
from tests.simulation.loop import SeededLoop
from tests.simulation.pod import Run
from tests.simulation.traffic import staged_traffic
from tests.simulation.variants import simulated_plans

pytestmark = [pytest.mark.blocking, pytest.mark.timeout(120)]
START_MS = 1_600_000_000_000
COUNT = 150
STAGES = 2
SEEDS = 6


def fed(seed: int, loop: SeededLoop) -> Fleet:
    """What a worker of two stages is to decide until its end."""
    settings = {"batch_rows_max": 10, "until_end": True, "flush_seconds": 0.05}
    fleet = Fleet(simulated_plans()[STAGES], seed, loop, settings=settings)
    fleet.feed(staged_traffic(random.Random(seed), COUNT, 12, START_MS))
    return fleet


async def goes_on(fleet: Fleet, ended: str) -> None:
    """A second process on the first one's disk finishes, and all is as if nothing had failed."""
    await Run(fleet.machines[0], 1, None).ended
    assert await fleet.ended() == [ended, "stopped"]
    assert fleet.judge() == []


@pytest.mark.parametrize(("owner", "name"), [(Flusher, "publish"), (Engine, "make_room")], ids=["flush", "eviction"])
@pytest.mark.parametrize("failing", range(STAGES))
@pytest.mark.parametrize("seed", range(SEEDS))
def test_what_follows_a_commit_fails_in_one_stage(owner: type, name: str, failing: int, seed: int) -> None:
    """The others' state is of the transaction that has committed, or does not say so."""
    real: Callable[..., None] = getattr(owner, name)
    calls, last = 0, STAGES * (4 + 2 * seed) + failing

    def fails(self: object, *given: Any, **more: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == last + 1:
            raise StateDiskError("simulated")
        real(self, *given, **more)

    async def play(loop: SeededLoop) -> None:
        fleet = fed(seed, loop)
        with mock.patch.object(owner, name, fails):
            fleet.start()
            (ended,) = await fleet.ended()
        assert ended.startswith("StateDiskError")
        await goes_on(fleet, ended)

    run_fleet(play, seed)


async def test_each_stage_finishes_also_if_one_before_it_fails() -> None:
    finished, taken = list[int](), list[int]()

    def stage(number: int) -> Any:
        async def finish() -> None:
            finished.append(number)
            if number == 0:
                raise StateDiskError("simulated")

        async def take_last() -> None:
            taken.append(number)

        return SimpleNamespace(finish=finish, take_last=take_last)

    with pytest.raises(StateDiskError):
        await finish_stages([stage(0), stage(1)], orderly=True)
    assert (finished, taken) == ([0, 1], [0, 1])


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (Persistence, "publish"),
        (Deduplicator, "publish"),
        (Part, "advance"),
        (WorkerState, "publish"),
        (Persistence, "seal"),
    ],
    ids=["table", "ids", "task", "state", "seal"],
)
@pytest.mark.parametrize("seed", range(8))
def test_a_commit_that_is_not_taken_over_whole_is_not_written(owner: type, name: str, seed: int) -> None:
    """No memory left in its midst, or a mistake of ours: the state in memory is of no transaction then."""
    real: Callable[..., None] = getattr(owner, name)
    calls, last, after = 0, (1 if name == "seal" else 4) + seed, seed % 2

    def fails(self: object, *given: Any, **more: Any) -> None:
        nonlocal calls
        calls += 1
        if after:
            real(self, *given, **more)
        if calls == last + 1:
            raise MemoryError("simulated")
        if not after:
            real(self, *given, **more)

    async def play(loop: SeededLoop) -> None:
        fleet = fed(seed, loop)
        with mock.patch.object(owner, name, fails):
            fleet.start()
            (ended,) = await fleet.ended()
        if calls <= last:
            assert name == "seal"  # which is rare
            return
        assert ended.startswith("BUG MemoryError")
        await goes_on(fleet, ended)

    run_fleet(play, seed)
