"""Virtual time, and a whole run from one seed: twice the same, and never half a transaction."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest

from state.errors import EventLogError, FencedError
from streamproc.eventlog.contract import CommittedOffset, OutputRecords, TopicPartition, TopicSpec
from streamproc.eventlog.simulated import (
    Crash,
    Fault,
    Faults,
    ManualClock,
    SimulatedCluster,
    VirtualClock,
    VirtualTimeLoop,
)
from tests.eventlog.clients import Recorder

R = TypeVar("R")
IN, OUT = TopicPartition("in", 0), TopicPartition("out", 0)


def run(main: Coroutine[Any, Any, R]) -> R:
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(main)


async def test_a_manual_clock_wakes_sleepers_in_order() -> None:
    clock, woken = ManualClock(), []

    async def sleep(seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append((seconds, clock.monotonic()))
        if seconds == 1:
            await sleep(0.5)

    sleepers = [asyncio.create_task(sleep(seconds)) for seconds in (3, 1, 2)]
    before = clock.now_ms()
    await clock.advance(2.5)
    assert woken == [(1, 1), (0.5, 1.5), (2, 2)]
    assert clock.now_ms() - before == 2500
    await clock.advance(1)
    await asyncio.gather(*sleepers)


def test_a_year_passes_at_once() -> None:
    async def year() -> float:
        clock = VirtualClock()
        begun = clock.monotonic()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(365 * 86400):
                await asyncio.Event().wait()
        return clock.monotonic() - begun

    assert run(year()) == pytest.approx(365 * 86400)


def test_a_deadlock_is_told() -> None:
    async def forever() -> None:
        await asyncio.Event().wait()

    loop = VirtualTimeLoop()
    task = loop.create_task(forever())
    with pytest.raises(RuntimeError, match="deadlock"):
        loop.run_until_complete(task)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        loop.run_until_complete(task)
    loop.close()


INPUTS = 60
NOT_HERE = {Fault.FENCED, Fault.COORDINATOR_MOVES}  # the first ends the copy, the second fails other calls too
NOT_FELT = {Fault.MARKERS_LAG, Fault.UNSTABLE_OFFSETS, Fault.DELAYED_INTO_LATER}


class Simulation:
    """One copying worker, `in` to `out`, exactly once, that is restarted whenever it fails."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        rates: dict[Fault, float] = {fault: 0.01 for fault in Fault if fault not in NOT_HERE}
        self.faults = Faults(self.random, rates, latency_s=(0.0, 0.01), timeout_s=1.0)
        self.cluster = SimulatedCluster(VirtualClock(), self.random, self.faults)
        self.crashes = 0

    async def main(self) -> tuple[list[bytes | None], int, float]:
        feed = self.cluster.client("feed")
        await feed.admin().ensure_topics([TopicSpec("in", 1), TopicSpec("out", 1)])
        for n in range(INPUTS):
            await feed.appender().append([OutputRecords(IN, [b"k"], [b"%d" % n], 0)])
        async with asyncio.timeout(10_000):
            while not await self.life():
                self.crashes += 1
        values: list[bytes | None] = []
        scanner = feed.scanner()
        scanner.seek(OUT, 0)
        while scanner.position(OUT) < self.cluster.end_offset(OUT):
            values += [value for chunk in await scanner.poll(1000) for value in chunk.values]
        return values, self.crashes, self.cluster.clock.monotonic()

    async def life(self) -> bool:
        """One process, until all is copied (True) or an error."""
        client = self.cluster.client("worker")
        recorder = Recorder()
        reader = client.reader("g", ["in"], recorder, instance="i", index=0, count=1)
        writer = client.writer("w")
        try:
            await reader.start()
            await writer.open()
            while recorder.membership is None:
                await reader.poll(100)
            position = (await reader.committed([IN])).get(IN, CommittedOffset(0, "")).offset
            reader.resume(IN, position)
            while position < INPUTS:
                for chunk in await reader.poll(100):
                    position = chunk.next_offset
                    await writer.begin()
                    await writer.append([OutputRecords(OUT, chunk.keys, chunk.values, 0)])
                    await writer.offsets({IN: CommittedOffset(position, "")}, recorder.membership)
                    await writer.delivered()
                    await writer.commit()
        except FencedError:
            raise
        except (EventLogError, Crash):
            client.crash()
            return False
        return True


def simulate(seed: int) -> tuple[list[bytes | None], int, float, Counter[tuple[str, Fault]]]:
    simulation = Simulation(seed)
    simulation.cluster._poll_bytes_max = 8  # a few records a transaction
    return *run(simulation.main()), simulation.faults.fired


def test_a_copy_is_exactly_once_under_every_fault() -> None:
    fired: Counter[tuple[str, Fault]] = Counter()
    for seed in range(60):
        values, crashes, _, faults = simulate(seed)
        assert values == [b"%d" % n for n in range(INPUTS)], f"seed {seed}"
        felt = sum(count for (_, fault), count in faults.items() if fault not in NOT_FELT)
        assert felt - faults["append", Fault.UNDELIVERED] <= crashes <= felt  # its process may die before it is told
        fired += faults
    assert {fault for _, fault in fired} >= set(Fault) - NOT_HERE - {Fault.UNSTABLE_OFFSETS, Fault.DELAYED_INTO_LATER}
    assert {step for step, _ in fired} >= {"open", "begin", "append", "offsets", "commit", "poll", "committed"}


def test_a_seed_gives_the_same_run() -> None:
    assert simulate(3) == simulate(3)
    assert simulate(3)[2] != simulate(4)[2]
