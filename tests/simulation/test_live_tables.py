"""A list that changes while workers crash, lose their disks and take partitions over from each other: each payment is
decided once, by the list as of the version that its journal entry names, a repeated one as it was the first time, and
no partition ever sees an older list than before. Judged by brute force over the topics.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from operators.plan import Plan
from state.hashing import partition_of
from state.memory import MemoryBlobs, MemoryDisk, MemoryRowStores
from streamproc.eventlog.contract import OutputRecords, TopicPartition
from streamproc.eventlog.simulated import Fault, Faults, SimulatedEventLog, VirtualTimeLoop
from streamproc.language import compile_pipeline
from streamproc.language.load import read_pipeline
from streamproc.runtime.journal import decode_entry
from streamproc.runtime.metrics import WorkerMetrics
from streamproc.runtime.settings import WorkerSettings
from streamproc.runtime.stage import StageParts
from streamproc.runtime.state_keeper import StateKeeper
from streamproc.runtime.topic_tables import TopicTables, prepare_table_topic
from streamproc.runtime.topics import prepare_topics
from streamproc.runtime.worker import Worker
from tests.simulation.world import VirtualExecutor, World

PIPELINE = """
pipeline: shop
streams:
  payments:
    id: id
    event_time: at
    deduplicate: 1d
    fields: {id: string, card: string, shop: string, at: timestamp}
partition_by: card
tables:
  blocked: {key: shop, file: blocked.csv, topic: shop.blocked, columns: {level: int64}}
features:
  n: {count: "*", over: 1h}
  level: table(blocked, shop).level
rules:
  - {id: listed, when: shop in table(blocked), then: decline}
  - {id: often, when: n > 8, then: review}
decision: {severity: [decline, review, approve], otherwise: approve, include: [n, level]}
"""
BASE, HOUR = 1_600_000_000_000, 3_600_000
SHOPS, SEEDS = 6, 16
TABLE = "shop.blocked"
CALLS = ("append", "offsets", "delivered", "commit", "poll", "committed")
Row = dict[str, Any]


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Plan]:
    """Made anew for each worker: each has tables of its own."""
    folder: Path = tmp_path_factory.mktemp("tables")
    (folder / "blocked.csv").write_text("shop,level\n")
    return lambda: compile_pipeline(read_pipeline(PIPELINE, str(folder / "shop.yaml")))


class TablesWorld(World):
    """Two partitions, and the table's topic."""

    def __init__(self, made: Callable[[], Plan], rng: random.Random, faults: Faults) -> None:
        super().__init__(made(), rng, faults)
        self.made, self.logs = made, list[SimulatedEventLog]()
        self.list: set[str] = set()

    def _worker(
        self, log: SimulatedEventLog, stores: MemoryRowStores, alive: Callable[[], bool],
        probe: Callable[[int], None], settings: WorkerSettings,
    ) -> tuple[Worker, asyncio.Future[Any]]:  # fmt: skip
        self.logs.append(log)
        plan = self.plan = msgspec.structs.replace(self.made(), topic_partitions=2)
        engine, state = self._engine(probe), self.state
        assert plan.live is not None
        executor = VirtualExecutor(lambda: self.rng.uniform(0, self.flush_seconds), alive)
        metrics = WorkerMetrics()
        self.metrics.append(metrics)
        tables = TopicTables(log, [plan.live], executor, clock=self.clock, metrics=metrics)
        states = StateKeeper(state, stores, plan.state_fingerprint, executor)
        checkpointer = self._checkpointer(states, alive)
        worker = Worker(
            plan.pipeline, log, [StageParts(plan, engine, states, checkpointer, tables)], clock=self.clock,
            executor=executor, metrics=metrics, settings=settings, probe=probe,
        )  # fmt: skip
        watches = [tables.watch(), *([checkpointer.watch(lambda: worker.tasks)] if checkpointer else [])]
        return worker, asyncio.ensure_future(_all(watches))

    async def publish(self, seconds: float) -> None:
        """Rows come and go for a while."""
        log = self.client()
        tp = await prepare_table_topic(log.admin(), TABLE)
        appender = log.appender()
        while seconds > 0:
            shops = self.rng.sample(range(SHOPS), self.rng.randrange(1, 4))
            values = [None if self.rng.random() < 0.5 else b'{"level": %d}' % self.rng.randrange(99) for _ in shops]
            await appender.append([OutputRecords(tp, [b"s%d" % shop for shop in shops], values, self.clock.now_ms())])
            pause = self.rng.choice((0.01, 0.2, 1.0))
            seconds -= pause
            await asyncio.sleep(pause)
        await appender.close()
        await log.close()

    async def pay(self, records: list[Row], pause_s: float) -> None:
        log = self.client()
        await prepare_topics(log, self.plan)
        appender = log.appender()
        for record in records:
            key = record["card"].encode()
            tp = TopicPartition(self.plan.stream.topic, partition_of(key, self.partitions))
            await appender.append([OutputRecords(tp, [key], [json.dumps(record).encode()], self.clock.now_ms())])
            await asyncio.sleep(self.rng.uniform(0, pause_s))
        await appender.close()
        await log.close()

    # ---- the judge

    async def judge_lists(self) -> Counter[str]:
        """Raises AssertionError; how much was seen."""
        seen: Counter[str] = Counter()
        changes = await self._changes()
        for partition in range(self.partitions):
            source = {at: json.loads(value) for at, value, _ in await self.read(self.plan.stream.topic, partition)}
            versions = await self._versions(partition)
            assert sorted(versions) == sorted(source)
            assert list(versions.values()) == sorted(versions.values()), "a partition saw an older list"
            found = [json.loads(value) for _, value, _ in await self.read(self.plan.topics.decisions, partition)]
            wanted = [_decided(source, at, versions, changes) for at in sorted(source)]
            assert len(found) == len(wanted)
            for one, want in zip(found, wanted, strict=True):
                assert {key: one.get(key) for key in want} == want, (one, want)
            seen.update(versions=len(set(versions.values())), decided=len(wanted))
            seen.update(declined=sum(want["decision"] == "decline" for want in wanted))
            seen.update(repeated=sum("duplicate" in want for want in wanted))
        return seen

    async def _changes(self) -> list[tuple[int, str, int | None]]:
        """(offset, shop, level or None) of each record of the table."""
        log, tp, found = self.client(), TopicPartition(TABLE, 0), list[tuple[int, str, int | None]]()
        end, scanner = (await log.admin().end_offsets([tp]))[tp], log.scanner()
        scanner.seek(tp, 0)
        while scanner.position(tp) < end:
            for chunk in await scanner.poll(10):
                for at, key, value in zip(chunk.offsets, chunk.keys, chunk.values, strict=True):
                    found.append((at, (key or b"").decode(), json.loads(value)["level"] if value else None))
        await scanner.close()
        await log.close()
        return found

    async def _versions(self, partition: int) -> dict[int, int]:
        """The version of the list by which each offset was decided, in the journal's order."""
        log, tp, found = self.client(), TopicPartition(self.plan.topics.journal, partition), dict[int, int]()
        end, scanner = (await log.admin().end_offsets([tp]))[tp], log.scanner()
        scanner.seek(tp, 0)
        there = {at for at, _, _ in await self.read(self.plan.stream.topic, partition)}
        while scanner.position(tp) < end:
            for chunk in await scanner.poll(10):
                for headers in chunk.headers or []:
                    entry, _, _ = decode_entry(headers)
                    for part in entry.ranges:
                        found |= {at: dict(entry.tables)[TABLE] for at in range(part.start, part.stop) if at in there}
        await scanner.close()
        await log.close()
        return found


async def _all(watches: list[Any]) -> None:
    await asyncio.gather(*watches)


def _decided(
    source: dict[int, Row], at: int, versions: dict[int, int], changes: list[tuple[int, str, int | None]]
) -> Row:
    row = source[at]
    first = next(one for one in sorted(source) if source[one]["id"] == row["id"])
    if first != at:
        return {"id": row["id"], "decision": _decided(source, first, versions, changes)["decision"], "duplicate": True}
    level = None
    for offset, shop, told in changes:
        if shop == row["shop"] and offset < versions[at]:
            level = told
    unique = {source[one]["id"]: source[one] for one in sorted(source, reverse=True) if one <= at}
    mine = [one["at"] for one in unique.values() if one["card"] == row["card"]]
    n = sum(row["at"] - HOUR < time <= row["at"] for time in mine)
    action = "decline" if level is not None else "review" if n > 8 else "approve"
    return {"id": row["id"], "decision": action, "n": n, "level": level}


def payments(rng: random.Random, size: int) -> list[Row]:
    """Some come twice."""
    found: list[Row] = []
    for number in range(size):
        if found and rng.random() < 0.15:
            found.append(rng.choice(found))
            continue
        at = BASE + number * 60_000 - rng.choice((0, 0, 300_000))
        found.append(
            {"id": f"p{number:03}", "card": f"c{rng.randrange(8)}", "shop": f"s{rng.randrange(SHOPS)}", "at": at}
        )
    return found


async def campaign(made: Callable[[], Plan], seed: int, directory: Path) -> Counter[str]:
    rng = random.Random(f"tables {seed}")
    faults = Faults(rng, latency_s=(0.0, 0.01), timeout_s=0.5)
    world = TablesWorld(made, rng, faults)
    world.memory_bytes = seed % 2
    if seed % 3:
        world.blobs, world.directory = MemoryBlobs(rng), directory
    works: list[asyncio.Future[Any]] = [
        asyncio.ensure_future(world.publish(25.0)), asyncio.ensure_future(world.pay(payments(rng, 150), 0.3)),
    ]  # fmt: skip
    await asyncio.sleep(0.5)
    for attempt in range(4):
        crash = ((seed + attempt) % 8 + 1, rng.randrange(1, 9)) if rng.random() < 0.7 else None
        if rng.random() < 0.4:
            faults.plan(rng.choice(CALLS), rng.choice((Fault.LOST_REQUEST, Fault.LOST_REPLY)), skip=rng.randrange(6))
        size = {"batch_rows_max": rng.choice((1, 7, 64)), "flush_rows": rng.choice((1, 50))}
        name = ("one", "two")[attempt % 2]
        works.append(asyncio.ensure_future(world.work(crash, seconds=rng.uniform(3, 14), instance=name, **size)))
        await asyncio.sleep(rng.choice((0.3, 3.0, 6.0)))
        if rng.random() < 0.4:
            world.logs[-1].forget()
        if len(works) > 3:
            await asyncio.wait([works[-2]])
        world.disk = MemoryDisk(rng) if rng.random() < 0.5 else world.disk
    await asyncio.wait(works)
    faults.heal()
    assert await world.work(batch_rows_max=64)
    seen = await world.judge_lists()
    seen.update(restored=int(world.count("restored_tasks")), crashes=world.crashes.total())
    return seen


@pytest.mark.blocking
@pytest.mark.timeout(300)
def test_decisions_are_those_of_the_list_that_the_journal_names(plan: Callable[[], Plan], tmp_path: Path) -> None:
    seen: Counter[str] = Counter()
    for seed in range(SEEDS):
        with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
            seen += runner.run(campaign(plan, seed, tmp_path / str(seed)))
    assert min(seen["versions"], seen["declined"], seen["repeated"], seen["restored"]) > 100, seen
    assert seen["crashes"] > 20
