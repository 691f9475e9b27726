"""Workers without a nemesis: some pods, all of whose input lies there when they start."""

from __future__ import annotations

__all__ = ["Fleet", "dealt_out_apart", "run_fleet"]

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from unittest import mock

import msgspec

from operators.plan import Plan
from state.hashing import partition_of
from state.memory import MemoryBlobs, MemoryDisk
from streamproc.eventlog.contract import OutputRecords, TopicPartition, TopicSpec
from streamproc.eventlog.simulated import Fault, SimulatedCluster, Timeouts, VirtualClock
from streamproc.eventlog.simulated.group import Group
from tests.simulation.judge import judge
from tests.simulation.loop import STEPS_MAX, SeededLoop, run_in
from tests.simulation.pod import JumpingClock, Run, Shared
from tests.simulation.scenario import Scenario
from tests.simulation.traffic import Record

R = TypeVar("R")


class Fleet:
    """One deployment of `plans`. `calls`: faults of calls to the log, by their chance."""

    def __init__(
        self, plans: Sequence[Plan], seed: int, loop: SeededLoop, *, partitions: int = 4,
        calls: dict[Fault, float] | None = None, settings: dict[str, Any],
    ) -> None:  # fmt: skip
        rng = random.Random(f"fleet {seed}")
        scenario = Scenario(
            seed=seed, stages=len(plans), records=0, cards=0, partitions=partitions, pods=0, one_machine=False,
            timeouts=Timeouts(transaction_s=5.0, session_s=2.0, rebalance_s=2.0, call_s=5.0), poll_bytes_max=4_000,
            latency_s=0.004, feed_s=0.0, settings=settings, memory_bytes=0, flush_s=0.01, checkpoint_s=0.0,
            calls=calls or {}, actions=(), pause_s=1.0,
        )  # fmt: skip
        cluster = SimulatedCluster(
            VirtualClock(), rng, scenario.faults(rng), timeouts=scenario.timeouts, poll_bytes_max=4_000
        )
        plans = [msgspec.structs.replace(plan, topic_partitions=partitions) for plan in plans]
        self.shared = Shared(plans, scenario, loop, cluster, MemoryBlobs(rng), Path())
        self.machines: list[_Machine] = []
        self._rng = rng

    def feed(self, records: Sequence[Record], *, ago_s: float = 0.0) -> None:
        """All at once; they came to the log so long ago."""
        topic, partitions = self.shared.plans[0].stream.topic, self.shared.scenario.partitions
        cluster = self.shared.cluster
        cluster.ensure_topics([TopicSpec(topic, partitions)])
        for record in records:
            key = record.card.encode()
            tp, logged_ms = TopicPartition(topic, partition_of(key, partitions)), cluster.clock.now_ms() - ago_s * 1000
            cluster.append([OutputRecords(tp, [key], [record.value], round(logged_ms))], None)

    def start(self, *, slow_s: float = 0.0) -> None:
        """One more worker, on a machine of its own; each of its calls to the log takes `slow_s` longer."""
        machine = _Machine(f"pod-{len(self.machines)}", self.shared, MemoryDisk(self._rng), JumpingClock())
        self.machines.append(machine)
        run = Run(machine, 0, None)
        arrive: Any = run.log._arrive

        async def late() -> None:
            await asyncio.sleep(slow_s)
            await arrive()

        if slow_s:
            run.log._arrive = late  # type: ignore[method-assign]

    def stop(self) -> None:
        """All of them."""
        for run in self.shared.runs:
            run.worker.stop()

    async def ended(self) -> list[str]:
        """How each worker has ended; the last transactions are known to all by then."""
        ends = await asyncio.gather(*(run.ended for run in self.shared.runs))
        await asyncio.sleep(self.shared.scenario.timeouts.transaction_s)
        self.shared.cluster.tick()
        return list(ends)

    def abort(self, topics: Sequence[str]) -> None:
        """A transaction of somebody, in all of their partitions."""
        cluster, owner = self.shared.cluster, ("somebody", self.shared.cluster.claim("somebody"))
        for topic in topics:
            for partition in range(self.shared.scenario.partitions):
                tp = TopicPartition(topic, partition)
                cluster.append([OutputRecords(tp, [b"k"] * 3, [b"{}"] * 3, cluster.clock.now_ms())], owner)
        cluster.end(*owner, commit=False)

    def judge(self) -> list[str]:
        """What is wrong, when all have ended."""
        return judge(self.shared, [machine.disk for machine in self.machines])


class _Machine(msgspec.Struct):
    """See `Place`."""

    name: str
    shared: Shared
    disk: MemoryDisk
    clock: JumpingClock
    sync: bool = False


@contextmanager
def dealt_out_apart(seed: int) -> Iterator[None]:
    """Whoever gets a partition of one stage need not get that of another: a worker may have one stage only."""
    rng = random.Random(f"assignments {seed}")

    def assign(self: Any) -> None:
        self.generation += 1
        members = [self._members[instance] for instance in sorted(self._members)]
        for member in members:
            member.assigned = frozenset()
        for topic in sorted({topic for member in members for topic in member.topics}):
            for partition in range(self._partitions.get(topic, 0)):
                rng.choice(members).assigned |= {TopicPartition(topic, partition)}
        self._changed()

    with mock.patch.object(Group, "_assign", assign):
        yield


def run_fleet(make: Callable[[SeededLoop], Awaitable[R]], seed: int) -> R:
    """The result of what is made in a loop of the seed's."""
    loop = SeededLoop(random.Random(f"loop {seed}"), steps_max=3 * STEPS_MAX)

    async def main() -> R:
        return await make(loop)

    result = run_in(loop, main())
    assert loop.stray == []
    return result
