"""`commit_interval_ms`: fewer transactions for the same decisions, and a full batch does not wait."""

from __future__ import annotations

import asyncio
import random
from itertools import pairwise

import pytest

from operators.plan import Plan
from streamproc.eventlog.simulated import Faults, VirtualTimeLoop
from streamproc.runtime.pace import Pace
from tests.simulation.test_rebalance import plan
from tests.simulation.traffic import traffic
from tests.simulation.world import World

__all__ = ["plan"]  # the fixture

INTERVAL_MS = 40
JITTER_MS = 12
"""A batch is stamped after its transaction was announced, which takes up to 10 ms here."""


def run(plan: Plan, seed: int, interval_ms: float, rows_max: int = 1_000) -> list[int]:
    """The times (ms) of the transactions that decided a stream of about 200 records a second."""

    async def work() -> list[int]:
        rng = random.Random(seed)
        world = World(plan, rng, Faults(rng, latency_s=(0.0, 0.01), timeout_s=0.5))
        records = traffic(rng, 300, 12)
        await world.feed(records[:5])
        feeding = asyncio.ensure_future(world.feed(records[5:]))
        assert await world.work(commit_interval_ms=interval_ms, batch_rows_max=rows_max)
        await feeding
        assert await world.work()
        verdict = await world.judge()
        assert not verdict.wrong, verdict.wrong[:3]
        stamps = {at for p in range(world.partitions) for _, _, at in await world.read(plan.topics.journal, p)}
        return sorted(stamps)

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(work())


@pytest.mark.parametrize("seed", range(5))
def test_transactions_keep_their_distance(plan: Plan, seed: int) -> None:
    usual, spaced = run(plan, seed, 0.0), run(plan, seed, INTERVAL_MS)
    assert min(later - earlier for earlier, later in pairwise(spaced[:-1])) >= INTERVAL_MS - JITTER_MS
    assert min(later - earlier for earlier, later in pairwise(usual)) < INTERVAL_MS - JITTER_MS
    assert len(spaced) * 1.3 < len(usual)


def test_a_full_batch_does_not_wait(plan: Plan) -> None:
    full = run(plan, 1, 1_000.0, rows_max=3)
    assert sorted(later - earlier for earlier, later in pairwise(full))[len(full) // 2] < INTERVAL_MS


def test_half_a_commits_work_is_no_full_batch(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    """Computing costs nothing here: a row is said to be half as much work as a commit."""
    monkeypatch.setattr(Pace, "ahead", lambda self, *, through_all: 1)
    spaced = run(plan, 1, INTERVAL_MS)
    assert min(later - earlier for earlier, later in pairwise(spaced[:-1])) >= INTERVAL_MS - JITTER_MS
