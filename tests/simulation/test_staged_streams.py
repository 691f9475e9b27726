"""Stages and streams together: crashes, failed calls, lost disks, a second worker, one that is taken for dead."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from unittest import mock

import msgspec
import pytest

from operators.plan import Plan
from state.memory import MemoryDisk
from streamproc.eventlog.simulated import Fault, Faults, VirtualTimeLoop
from streamproc.language import compile_stages, read_pipeline
from streamproc.runtime import merging_reader, outputs, recovery
from streamproc.runtime.journal import JournalEntry, encode_entry
from tests.bank import NAMES, STAGES, traffic
from tests.simulation.staged_streams_world import StagedStreamsWorld
from tests.simulation.streams_world import slow_partitions

BLOCKS, SEEDS, ROWS = 3, 9, 60
FORGOTTEN = 6
CALLS = ("open", "begin", "append", "offsets", "delivered", "commit", "poll", "committed")
PATIENCE_S = 600.0  # virtual
LIVE_S = 60.0  # virtual
SHOWN = ", ".join(name for name in NAMES if name != "card_n_1h")
INCLUDE = f"decision: {{severity: [decline, review, approve], otherwise: approve, include: [{SHOWN}]}}\n"


@pytest.fixture(scope="module")
def plans() -> Sequence[Plan]:
    return compile_stages(read_pipeline(STAGES + INCLUDE, str(Path(__file__).parent / "bank.yaml")))


async def campaign(plans: Sequence[Plan], rng: random.Random, seed: int) -> StagedStreamsWorld:
    faults = Faults(rng, latency_s=(0.0, 0.01), timeout_s=0.5)
    world = StagedStreamsWorld(plans, rng, faults)
    world.cluster._poll_bytes_max = rng.choice((300, 2_000, 1 << 20))
    world.memory_bytes = seed % 2
    rows = traffic(seed, ROWS)
    await world.feed_streams({name: some[: len(some) // 2] for name, some in rows.items()})
    for attempt in range(2):
        crash = ((seed + attempt) % 8 + 1, rng.randrange(1, 8)) if rng.random() < 0.7 else None
        for _ in range(rng.randrange(3)):
            call = rng.choice(CALLS)
            fault = rng.choice([Fault.LOST_REQUEST, Fault.LOST_REPLY, *([Fault.TORN] if call == "append" else [])])
            faults.plan(call, fault, skip=rng.randrange(6))
        await world.work(crash, batch_rows_max=rng.choice((7, 40)), flush_rows=rng.choice((1, 50)))
        if rng.random() < 0.3:
            world.disk = MemoryDisk(rng)
    faults.heal()
    await world.feed_streams({name: some[len(some) // 2 :] for name, some in rows.items()})
    works = []
    for name in ("one", "two"):
        works.append(asyncio.ensure_future(world.work(instance=name, batch_rows_max=rng.choice((3, 20)))))
        await asyncio.sleep(rng.choice((0.0, 0.3)))
        world.disk = MemoryDisk(rng)
    log = world.logs[-1]  # of the second
    for _ in range(rng.randrange(FORGOTTEN)):
        await asyncio.sleep(rng.uniform(0.05, 2.0))
        log.forget()
    assert all(await asyncio.gather(*works))
    return world


@pytest.mark.timeout(240)
@pytest.mark.parametrize("block", range(BLOCKS))
def test_every_payment_is_decided_once_over_the_rows_before_it(plans: Sequence[Plan], block: int) -> None:
    crashes: Counter[int] = Counter()
    for seed in range(block, SEEDS, BLOCKS):
        rng = random.Random(f"staged streams {seed}")
        sizes = mock.patch.multiple(merging_reader, _HELD_ROWS_MAX=rng.choice((4, 50_000)))
        slices = mock.patch.multiple(recovery, _REPLAY_ROWS=rng.choice((5, 30, 8192)))

        async def run(rng: random.Random = rng, seed: int = seed) -> StagedStreamsWorld:
            async with asyncio.timeout(PATIENCE_S):
                world = await campaign(plans, rng, seed)
            assert await world.wrongs() == [], f"seed {seed}"
            return world

        with sizes, slices, slow_partitions(rng, 0.4), asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
            crashes += runner.run(run()).crashes
    assert crashes


def test_a_journal_that_tells_another_order_is_seen(plans: Sequence[Plan]) -> None:
    """The judge of these worlds is worth something."""

    def payments_first(entry: JournalEntry, chain: bytes) -> object:
        ranges = sorted(entry.ranges, key=lambda one: one.topic, reverse=True)
        return encode_entry(msgspec.structs.replace(entry, ranges=tuple(ranges)), chain)

    async def run() -> list[str]:
        rng = random.Random(1)
        world = StagedStreamsWorld(plans, rng, Faults(rng))
        await world.feed_streams(traffic(1, ROWS))
        assert await world.work()
        return await world.wrongs()

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        assert runner.run(run()) == []
    with (
        mock.patch.object(outputs, "encode_entry", payments_first),
        asyncio.Runner(loop_factory=VirtualTimeLoop) as runner,
    ):
        assert any("decided" in line for line in runner.run(run()))


@pytest.mark.parametrize("seed", range(3))
def test_a_live_payment_takes_the_shortcut_where_the_other_streams_are_caught_up(
    plans: Sequence[Plan], seed: int
) -> None:
    async def run() -> StagedStreamsWorld:
        rng = random.Random(f"shortcut {seed}")
        world = StagedStreamsWorld(plans, rng, Faults(rng, latency_s=(0.0, 0.004)))
        rows = traffic(seed, ROWS)
        await world.feed_streams({name: some[: len(some) // 2] for name, some in rows.items()})
        working = asyncio.ensure_future(world.work(seconds=LIVE_S))
        await asyncio.sleep(LIVE_S / 2)
        late = {name: some[len(some) // 2 :] for name, some in rows.items()}
        for number, payment in enumerate(late["payments"]):
            now = {"payments": [payment], "logins": late["logins"][number // 3 : number // 3 + (number % 3 == 0)]}
            await world.feed_streams(now | {"account_changes": []})
            await asyncio.sleep(0.2)
        assert await working
        assert await world.work()
        return world

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        world = runner.run(run())
        assert runner.run(world.wrongs()) == []
    assert world.count("shortcut_records") > ROWS // 10
    assert world.count("failed_transactions") == 0
