"""A call step under faults: each row goes on once, with its answer, in the order it came, whatever fails when."""

from __future__ import annotations

import asyncio
import json
import random
import zlib
from collections import Counter
from typing import Any

import pytest

from operators.plan import Plan
from streamproc.eventlog.contract import NO_OFFSET, CommittedOffset, OutputRecords, TopicPartition
from streamproc.eventlog.simulated import (
    Crash,
    Fault,
    Faults,
    SimulatedCluster,
    SimulatedEventLog,
    VirtualClock,
    VirtualTimeLoop,
)
from streamproc.language import compile_stages, read_pipeline
from streamproc.runtime.caller import Caller
from streamproc.runtime.settings import WorkerSettings
from streamproc.runtime.topics import prepare_topics

PIPELINE = """\
pipeline: p
partitions: 3
streams:
  payments:
    id: id
    event_time: at
    fields: {id: string, device: string, at: timestamp}
stages:
  - {name: first, partition_by: device}
  - name: reputation
    call: {url: "http://127.0.0.1:9/?d={device}", in_flight: 4}
    returns: {reputation: int64}
  - {name: last, partition_by: device}
"""
SEEDS = 80
STEPS = (5, 6, 7, 8)
CALLS = ("open", "begin", "append", "offsets", "delivered", "commit", "poll", "committed")


def reputation(record: bytes) -> bytes:
    return b'"reputation":%d,"reputation_failed":false' % zlib.crc32(record)


class Oracle:
    """Answers each record with a function of it, sooner or later or at once."""

    def __init__(self, rng: random.Random, slow_s: float = 0.3) -> None:
        self.rng, self.slow_s = rng, slow_s
        self.asked: Counter[bytes] = Counter()
        self.tasks: set[asyncio.Task[bytes]] = set()
        self.most = 0

    def answer(self, record: bytes | None) -> bytes | asyncio.Future[bytes]:
        assert record is not None
        self.asked[record] += 1
        if self.rng.random() < 0.3:
            return reputation(record)
        task = asyncio.get_running_loop().create_task(self._later(record, self.rng.uniform(0, self.slow_s)))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        self.most = max(self.most, len(self.tasks))
        return task

    def waiting(self, rows: int) -> None:
        assert rows >= 0

    async def _later(self, record: bytes, seconds: float) -> bytes:
        await asyncio.sleep(seconds)
        return reputation(record)


class World:
    """The topics before and behind a call step, and callers that come and go."""

    def __init__(self, rng: random.Random, faults: Faults) -> None:
        self.plans: tuple[Plan, ...] = compile_stages(read_pipeline(PIPELINE, "p.yaml"))
        (self.spec,) = self.plans[1].calls
        self.rng, self.faults, self.clock = rng, faults, VirtualClock()
        self.cluster = SimulatedCluster(self.clock, rng, faults)
        self.oracle = Oracle(rng)
        self.fed: dict[int, list[bytes]] = {partition: [] for partition in range(3)}
        self.crashes: Counter[int] = Counter()
        self.names = 0

    def client(self) -> SimulatedEventLog:
        self.names += 1
        return self.cluster.client(f"process-{self.names}")

    async def feed(self, records: int, pause_s: float = 0.0) -> None:
        """By a client that nothing happens to, in pieces."""
        log = self.client()
        await prepare_topics(log, *self.plans)
        appender = log.appender()
        while records > 0:
            partition, size = self.rng.randrange(3), self.rng.randint(1, 5)
            number = sum(map(len, self.fed.values()))
            values = [b'{"id":"%d","device":"d%d"}' % (number + i, self.rng.randrange(9)) for i in range(size)]
            tp = TopicPartition(self.spec.source, partition)
            await appender.append([OutputRecords(tp, [b"k%d" % i for i in range(size)], list(values), 1)])
            self.fed[partition] += values
            records -= size
            await asyncio.sleep(self.rng.uniform(0, pause_s))
        await appender.close()
        await log.close()

    async def work(
        self, instance: str, seconds: float, crash_at: tuple[int, int] | None = None, after_s: float = 0.0
    ) -> None:
        """One caller for a while; `crash_at` (step, n) kills it the n-th time it comes to that step."""
        log, seen = self.client(), Counter[int]()
        await asyncio.sleep(after_s)

        def probe(step: int) -> None:
            seen[step] += 1
            if crash_at == (step, seen[step]):
                self.crashes[step] += 1
                log.crash()
                raise Crash

        settings = WorkerSettings(instance=instance, batch_rows_max=self.rng.choice((3, 64)))
        caller = Caller(self.spec, self.plans, log, self.oracle, clock=self.clock, settings=settings, probe=probe)
        running = asyncio.ensure_future(caller.run())
        await asyncio.wait([running], timeout=seconds)
        caller.stop()
        try:
            await running
        except Crash:
            log.crash()
            return
        except Exception:
            if not self.faults.fired:
                raise
        await log.close()

    async def end(self) -> None:
        """Whether all is answered."""
        log = self.client()
        tps = [TopicPartition(self.spec.source, partition) for partition in range(3)]
        while True:
            ends = await log.admin().end_offsets(tps)
            done = await log.admin().committed(self.spec.group, tps)
            if all(done.get(tp, CommittedOffset(NO_OFFSET, "")).offset >= ends[tp] or not ends[tp] for tp in tps):
                break
            await asyncio.sleep(0.5)
        await log.close()

    async def written(self, partition: int) -> list[bytes]:
        log, tp, found = self.client(), TopicPartition(self.spec.target, partition), list[bytes]()
        end = (await log.admin().end_offsets([tp]))[tp]
        scanner = log.scanner()
        scanner.seek(tp, 0)
        while scanner.position(tp) < end:
            for chunk in await scanner.poll(10):
                found += [value or b"" for value in chunk.values]
        await scanner.close()
        await log.close()
        return found

    async def judge(self) -> None:
        for partition, fed in self.fed.items():
            expected = [{**json.loads(record), "reputation": zlib.crc32(record)} for record in fed]
            found = [json.loads(record) for record in await self.written(partition)]
            assert [record.pop("reputation_failed") for record in found] == [False] * len(found)
            assert found == expected


def run(scenario: Any) -> None:
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(scenario)


async def campaign(seed: int) -> World:
    rng = random.Random(seed)
    faults = Faults(rng, latency_s=(0.0, 0.01), timeout_s=0.5)
    world = World(rng, faults)
    await world.feed(30)
    for attempt in range(3):
        crash = (STEPS[(seed + attempt) % len(STEPS)], rng.randrange(1, 4)) if rng.random() < 0.7 else None
        for _ in range(rng.randrange(1, 5)):
            call = rng.choice(CALLS)
            fault = rng.choice([Fault.LOST_REQUEST, Fault.LOST_REPLY, *([Fault.TORN] * 2 if call == "append" else [])])
            faults.plan(call, fault, skip=rng.randrange(4), client=f"process-{world.names + 1}")
        others = [world.work("b", rng.uniform(0.1, 3), None, rng.uniform(0, 2))] if rng.random() < 0.7 else []
        await asyncio.gather(world.work("a", rng.uniform(0.2, 4), crash), *others, world.feed(60, 0.2))
    faults.heal()
    last = asyncio.ensure_future(world.work("a", 600))
    await asyncio.wait_for(world.end(), 500)
    await world.judge()
    last.cancel()
    await asyncio.wait([last])
    return world


@pytest.mark.parametrize("block", range(4))
def test_each_row_goes_on_once_and_in_order_whatever_fails(block: int) -> None:
    crashes: Counter[int] = Counter()
    fired: Counter[Fault] = Counter()
    again = 0

    async def scenario() -> None:
        nonlocal again
        for seed in range(block * SEEDS // 4, (block + 1) * SEEDS // 4):
            try:
                world = await campaign(seed)
            except AssertionError as error:
                raise AssertionError(f"seed {seed}") from error
            crashes.update(world.crashes)
            fired.update(fault for _, fault in world.faults.fired.elements())
            again += sum(times > 1 for times in world.oracle.asked.values())

    run(scenario())
    assert set(crashes) == set(STEPS)
    assert min(fired[fault] for fault in (Fault.LOST_REQUEST, Fault.LOST_REPLY, Fault.TORN)) > 0
    assert again > 0, "services are asked again after a crash"


def test_a_slow_row_holds_back_its_partition_and_no_other() -> None:
    async def scenario() -> None:
        world = World(random.Random(1), Faults(random.Random(1)))
        await world.feed(30)
        late = world.fed[1][2]
        answer = world.oracle.answer
        never: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        world.oracle.answer = lambda record: never if record == late else answer(record)  # type: ignore[method-assign]
        working = asyncio.ensure_future(world.work("a", 60))
        await asyncio.sleep(30)
        assert [len(await world.written(partition)) for partition in range(3)] == [
            len(world.fed[0]), 2, len(world.fed[2]),
        ]  # fmt: skip
        never.set_result(reputation(late))
        await world.end()
        await world.judge()
        await working

    run(scenario())


def test_memory_is_bounded_while_answers_are_slow() -> None:
    async def scenario() -> None:
        world = World(random.Random(1), Faults(random.Random(1)))
        world.oracle.slow_s = 1.0
        await world.feed(1_000)
        await asyncio.gather(world.work("a", 400), world.end())
        await world.judge()
        assert 0 < world.oracle.most <= 64

    run(scenario())


def test_a_record_that_no_stage_wrote_goes_on_as_it_is() -> None:
    """The next stage makes a dead letter of it, and says why."""

    async def scenario() -> None:
        world = World(random.Random(1), Faults(random.Random(1)))
        await world.feed(1)
        answer = world.oracle.answer
        world.oracle.answer = lambda record: answer(record) if record and b"id" in record else b""  # type: ignore[method-assign]
        log = world.client()
        tp = TopicPartition(world.spec.source, 0)
        await log.appender().append([OutputRecords(tp, [None, b"k"], [None, b"nonsense"], 1)])
        await asyncio.gather(world.work("a", 5), world.end())
        assert (await world.written(0))[-2:] == [b"", b"nonsense"]

    run(scenario())
