"""A cluster on a clock that stands still, with faults, and what tests do with it."""

from __future__ import annotations

import random

from streamproc.eventlog.contract import Membership, OutputRecords, TopicPartition, TopicSpec
from streamproc.eventlog.simulated import (
    Faults,
    ManualClock,
    SimulatedCluster,
    SimulatedEventLog,
    Timeouts,
    Without,
)
from streamproc.eventlog.simulated.reader import SimulatedReader
from streamproc.eventlog.simulated.writer import SimulatedWriter
from tests.eventlog.clients import Recorder

IN, OUT, OTHER = TopicPartition("in", 0), TopicPartition("out", 0), TopicPartition("other", 0)


class World:
    """`faults` is to be planned by the test."""

    def __init__(self, *without: Without) -> None:
        self.clock = ManualClock()
        self.random = random.Random(7)
        self.faults = Faults(self.random, delay_s=(2.0, 2.0))
        self.cluster = SimulatedCluster(
            self.clock,
            self.random,
            self.faults,
            timeouts=Timeouts(transaction_s=5, session_s=10, rebalance_s=6, call_s=30),
            without=frozenset(without),
        )
        self.cluster.ensure_topics([TopicSpec("in", 4), TopicSpec("out", 1), TopicSpec("other", 1)])
        self.client = self.cluster.client("one")

    async def writer(self, name: str = "w", client: SimulatedEventLog | None = None) -> SimulatedWriter:
        writer = (client or self.client).writer(name)
        await writer.open()
        return writer

    async def seen(self, tp: TopicPartition = OUT) -> list[bytes | None]:
        """What a fresh scanner finds now."""
        scanner = self.cluster.client("reader").scanner()
        scanner.seek(tp, 0)
        values: list[bytes | None] = []
        while chunks := await scanner.poll(0):
            values += [value for chunk in chunks for value in chunk.values]
        return values


class Worker:
    """A group member that commits nothing by itself."""

    def __init__(self, world: World, name: str, client: SimulatedEventLog | None = None) -> None:
        self.client = client or world.cluster.client(name)
        self.recorder = Recorder()
        self.reader: SimulatedReader = self.client.reader("g", ["in"], self.recorder, instance=name, index=0, count=1)

    @property
    def membership(self) -> Membership:
        assert self.recorder.membership is not None
        return self.recorder.membership

    @property
    def share(self) -> set[int]:
        return {tp.partition for tp in self.recorder.assigned}


async def settle(*workers: Worker) -> None:
    """Let all follow their group."""
    for _ in range(3):
        for worker in workers:
            await worker.reader.poll(0)


def one(tp: TopicPartition, value: bytes) -> OutputRecords:
    return OutputRecords(tp, [b"k"], [value], 0)
