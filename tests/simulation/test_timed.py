"""Windows, absences and clock ticks in a worker that crashes, restores and rests: alerts and late rows come once, and
are those that the oracle makes of the input and of the ticks that the journal names.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from operators.plan import Plan
from operators.timed.operator import TimedOperator
from operators.timed.spec import AbsenceSpec, TimedSpec
from state.hashing import partition_of
from state.memory import MemoryBlobs, MemoryDisk
from streamproc.eventlog.contract import OutputRecords, TopicPartition
from streamproc.eventlog.simulated import Fault, Faults, SimulatedEventLog, VirtualTimeLoop
from streamproc.language import compile_pipeline
from streamproc.language.load import read_pipeline
from streamproc.runtime.journal import CHAIN_START, JournalHead, chain_after, decode_entry
from streamproc.runtime.topics import prepare_topics
from tests.oracle.timed import say
from tests.simulation.world import World

PIPELINE = """
pipeline: timed
streams:
  payments:
    id: id
    event_time: at
    deduplicate: 1d
    fields: {id: string, card: string, amount: decimal(2), login: bool, at: timestamp}
partition_by: card
watermark: {disorder: 2s, idle: 1s}
features:
  n: {count: "*", over: 1m}
windows:
  tumbling: {tumble: 5s, of: amount, aggregates: [count, sum, mean, min, max], where: not login, lateness: 3s}
  hopping: {hop: 9s, every: 3s, of: amount, aggregates: [sum]}
  growing: {cumulate: 8s, every: 2s, lateness: 1s}
  session: {session: 4s, of: amount, aggregates: [count, max], lateness: 5s}
absences:
  silence: {after: amount > 50, without: login, within: 6s}
"""
BASE = 1_600_000_000_000
SEEDS = 20
CALLS = ("append", "offsets", "delivered", "commit", "poll", "committed")


@pytest.fixture(scope="module")
def plan() -> Plan:
    return compile_pipeline(read_pipeline(PIPELINE, "timed.yaml"))


def payments(rng: random.Random, size: int, begin: int) -> list[dict[str, Any]]:
    """Event times go on by 0 to 3 s; some rows are late, a few of them too late."""
    found, time = [], BASE + begin
    for number in range(size):
        time += rng.choice((0, 1, 200, 900, 3000))
        found.append(
            {
                "id": f"p{rng.randrange(1 << 40)}-{number:03}",
                "card": f"c{rng.randrange(6)}",
                "amount": rng.randrange(1, 10_000) / 100 if rng.random() < 0.9 else None,
                "login": rng.random() < 0.3,
                "at": time - rng.choice((0, 0, 0, 1000, 2500, 9000)),
            }
        )
    return found


async def feed(world: World, records: list[dict[str, Any]]) -> None:
    log = world.client()
    await prepare_topics(log, world.plan)
    appender = log.appender()
    for record in records:
        key = record["card"].encode()
        tp = TopicPartition(world.plan.stream.topic, partition_of(key, world.partitions))
        await appender.append([OutputRecords(tp, [key], [json.dumps(record).encode()], world.clock.now_ms())])
    await appender.close()
    await log.close()


async def feed_slowly(world: World, records: list[tuple[float, dict[str, Any]]]) -> None:
    for pause, record in records:
        await asyncio.sleep(pause)
        await feed(world, [record])


async def campaign(plan: Plan, rng: random.Random, faults: Faults, seed: int) -> World:
    world = World(plan, rng, faults)
    world.memory_bytes = seed % 2
    begin = 0
    for attempt in range(3):
        await feed(world, payments(rng, rng.randrange(10, 40), begin))
        begin += rng.choice((0, 20_000, 60_000))
        crash = ((seed + attempt) % 8 + 1, rng.randrange(1, 6)) if rng.random() < 0.7 else None
        if rng.random() < 0.4:
            faults.plan(rng.choice(CALLS), rng.choice((Fault.LOST_REQUEST, Fault.LOST_REPLY)), skip=rng.randrange(6))
        working = world.work(
            crash, seconds=rng.choice((3.0, 15.0)), batch_rows_max=rng.choice((1, 7, 64)),
            flush_rows=rng.choice((1, 50)), commit_interval_ms=rng.choice((0.0, 300.0)),
        )  # fmt: skip
        trickle = [(rng.uniform(0, 1.6), record) for record in payments(rng, rng.randrange(20), begin + 5_000)]
        await asyncio.gather(working, feed_slowly(world, trickle))
    faults.heal()
    assert await world.work(batch_rows_max=64)
    return world


async def rows_of(world: World, spec: TimedSpec, partition: int) -> tuple[list[dict[str, Any]], int]:
    """The task's rows and ticks in the journal's order, as the oracle takes them; and how many ticks there are."""
    source = {offset: json.loads(value) for offset, value, _ in await world.read(world.plan.stream.topic, partition)}
    rows: list[dict[str, Any]] = []
    ticks = 0
    for headers in await journal(world, partition):
        entry, _, _ = decode_entry(headers)
        assert not entry.rejected
        for part in entry.ranges:
            rows += [row(spec, source[offset]) for offset in range(part.start, part.stop) if offset in source]
        if entry.tick is not None:
            rows.append({"tick": entry.tick})
            ticks += 1
    return rows, ticks


async def journal(world: World, partition: int) -> list[Any]:
    log = world.client()
    scanner, tp = log.scanner(), TopicPartition(world.plan.topics.journal, partition)
    end = (await log.admin().end_offsets([tp]))[tp]
    scanner.seek(tp, 0)
    found: list[Any] = []
    while scanner.position(tp) < end:
        for chunk in await scanner.poll(10):
            found += chunk.headers or []
    await scanner.close()
    await log.close()
    return found


def row(spec: TimedSpec, record: dict[str, Any]) -> dict[str, Any]:
    amount = None if record["amount"] is None else round(record["amount"] * 100)
    return {
        "key": record["card"],
        "time": record["at"],
        "value": amount,
        "where": spec.name != "tumbling" or not record["login"],
        "after": amount is not None and amount > 5000,
        "without": record["login"],
        "id": record["id"],
    }


def expected(spec: TimedSpec, rows: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[tuple[Any, ...]]]:
    """Alerts as JSON has them, and of each late row (key, missed, windows)."""
    alerts, late = [], []
    for _, key, what, *rest in say(spec.rule, spec.disorder, rows):
        if what == "missed":
            late.append((key, rest[0], rest[1]))
        elif what == "absent":
            alerts.append({"key": key, "event_time": rest[0], "deadline": rest[1], "id": rest[2]})
        else:
            start, end, values, revision, replaces = rest
            assert not isinstance(spec.rule, AbsenceSpec)
            told = {"key": key, "window_start": start, "window_end": end}
            for name, value in zip(map(str, spec.rule.aggregates), values, strict=True):
                shown = value[0] / value[1] if isinstance(value, tuple) else value
                told[name] = shown if shown is None or name == "count" or spec.rule.of is None else shown / 100
            told |= {"revision": revision} if revision else {}
            told |= {"replaces": [list(one) for one in replaces]} if replaces else {}
            alerts.append(told)
    return alerts, late


async def check_journal(world: World, partition: int, records: list[Any]) -> None:
    """It covers each record of the input once, in a chain whose end the group's offset names: what follows believes
    it.
    """
    source = TopicPartition(world.plan.stream.topic, partition)
    chain, at = CHAIN_START, 0
    for number, headers in enumerate(records):
        entry, body, after = decode_entry(headers)
        chain = chain_after(chain, body)
        assert (entry.sequence, after) == (number, chain), f"record {number} does not follow"
        for part in entry.ranges:
            assert part.start == at, f"record {number} begins at {part.start}, expected {at}"
            at = part.stop
    log = world.client()
    end = (await log.admin().end_offsets([source]))[source]
    committed = (await log.admin().committed(world.plan.pipeline, [source])).get(source)
    await log.close()
    assert at == end, f"the journal ends at {at}, the input at {end}"
    named = None if committed is None else (committed.offset, JournalHead.parse(committed.metadata).chain)
    assert named == ((at, chain) if end else None), "the group's offset does not name the journal's end"


async def judge(world: World) -> Counter[str]:
    seen: Counter[str] = Counter()
    for partition in range(world.partitions):
        await check_journal(world, partition, await journal(world, partition))
        source, decided = [
            await world.read(topic, partition) for topic in (world.plan.stream.topic, world.plan.topics.decisions)
        ]
        assert [json.loads(value)["id"] for _, value, _ in decided] == [
            json.loads(value)["id"] for _, value, _ in source
        ]
        alerts = [json.loads(value) for _, value, _ in await world.read(world.plan.topics.alerts, partition)]
        late = [json.loads(value) for _, value, _ in await world.read(world.plan.topics.late, partition)]
        for step in world.plan.timed:
            assert isinstance(step, TimedOperator)
            spec = step.spec
            rows, ticks = await rows_of(world, spec, partition)
            wanted, missed = expected(spec, rows)
            mine = [one for one in alerts if one["alert"] == spec.name]
            got = [{k: v for k, v in one.items() if k not in ("alert", "kind", "per", "reason")} for one in mine]
            assert len(got) == len(wanted)
            for found, want in zip(got, wanted, strict=True):
                assert {k: pytest.approx(v) if isinstance(v, float) else v for k, v in want.items()} == found
            assert [(o["key"], o["missed"], o["windows"]) for o in late if o["window"] == spec.name] == missed
            seen += Counter({"alerts": len(wanted), "late": len(missed), "ticks": ticks})
    return seen


async def lived(plan: Plan, seed: int) -> Counter[str]:
    rng = random.Random(seed)
    faults = Faults(rng, latency_s=(0.0, 0.01), timeout_s=0.5)
    world = await campaign(plan, rng, faults, seed)
    seen = await judge(world)
    seen["crashes"] = world.crashes.total()
    return seen


@pytest.mark.timeout(400)
def test_alerts_are_the_oracles_whatever_fails(plan: Plan) -> None:
    seen: Counter[str] = Counter()
    for seed in range(SEEDS):
        with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
            seen += runner.run(lived(plan, seed))
    assert seen["alerts"] > 3000
    assert min(seen["late"], seen["ticks"], seen["crashes"]) >= 10, seen


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda records: records[1:], "does not follow"),
        (lambda records: records[:1] + records[2:], "does not follow"),
        (lambda records: records + records[-1:], "does not follow"),
        (lambda records: records[:-1], "ends at|does not name"),
    ],
    ids=["begin", "hole", "twice", "end"],
)
def test_a_journal_that_is_not_whole_is_seen(plan: Plan, damage: Callable[[list[Any]], list[Any]], said: str) -> None:
    """Else rows that were lost or taken twice would be missing, or be there twice, in what is expected, too."""

    async def run() -> None:
        rng = random.Random(0)
        world = World(plan, rng, Faults(rng))
        await feed(world, payments(rng, 60, 0))
        assert await world.work(batch_rows_max=7)
        records = await journal(world, 0)
        await check_journal(world, 0, records)
        with pytest.raises(AssertionError, match=said):
            await check_journal(world, 0, damage(records))

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(run())


class Shared(World):
    """A world that knows its workers' connections."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.logs: list[SimulatedEventLog] = []

    def _worker(self, log: SimulatedEventLog, *given: Any) -> Any:
        self.logs.append(log)
        return super()._worker(log, *given)


async def shared(plan: Plan, seed: int, directory: Path) -> Counter[str]:
    """Two workers with disks of their own, one of which comes, is taken for dead and goes; input rests meanwhile. Two
    of three seeds have checkpoints.
    """
    rng = random.Random(f"shared {seed}")
    faults = Faults(rng, latency_s=(0.0, 0.01), timeout_s=0.5)
    world = Shared(plan, rng, faults)
    world.memory_bytes = seed % 2
    if seed % 3:
        world.blobs, world.directory = MemoryBlobs(rng), directory
    await feed(world, payments(rng, rng.randrange(10, 40), 0))
    settings = {"batch_rows_max": rng.choice((1, 7, 64)), "flush_rows": rng.choice((1, 50))}
    trickle = [(rng.uniform(0, 1.6), record) for record in payments(rng, 30, 5_000)]
    works: list[asyncio.Future[Any]] = [asyncio.ensure_future(feed_slowly(world, trickle))]
    for name in ("one", "two", "two"):
        crash = (rng.randrange(1, 9), rng.randrange(1, 9)) if name == "two" and rng.random() < 0.5 else None
        works.append(asyncio.ensure_future(world.work(crash, seconds=40.0, instance=name, **settings)))
        await asyncio.sleep(rng.choice((0.0, 0.3, 5.0)))
        log, world.disk = world.logs[-1], MemoryDisk(rng)
        if name == "two":
            for _ in range(rng.randrange(5)):
                await asyncio.sleep(rng.uniform(0.05, 4.0))
                log.forget()
            await asyncio.wait([works[-1]], timeout=rng.uniform(0, 45))
            if not works[-1].done():
                break
    await asyncio.gather(*works)
    assert await world.work(batch_rows_max=64)
    seen = await judge(world)
    seen["restored"] = int(world.count("restored_tasks"))
    return seen


@pytest.mark.blocking
@pytest.mark.timeout(400)
def test_alerts_are_the_oracles_though_partitions_change_hands(plan: Plan, tmp_path: Path) -> None:
    """Whoever restores a partition obeys the ticks that another's clock made."""
    seen: Counter[str] = Counter()
    with capture_logs() as logs:
        for seed in range(SEEDS // 2):
            with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
                seen += runner.run(shared(plan, seed, tmp_path / str(seed)))
    assert sum(line["event"] == "checkpoint installed" for line in logs) >= 5
    assert min(seen["alerts"], seen["ticks"]) > 500
    assert seen["restored"] > 60
