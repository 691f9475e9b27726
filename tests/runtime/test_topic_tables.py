"""Tables followed on the simulated log, in virtual time."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence

import pytest
from structlog.testing import capture_logs

from operators.live_tables import IMPLIED, Follower, LiveTables, Row, TableRows, TopicTable
from operators.schema import DataType, Kind
from operators.tables import LookupTable, TableSchema
from state.errors import ConfigError
from streamproc.eventlog.contract import OutputRecords, TopicPartition, TopicSpec
from streamproc.eventlog.simulated import Faults, SimulatedCluster, SimulatedEventLog, VirtualClock, VirtualTimeLoop
from streamproc.runtime.metrics import WorkerMetrics
from streamproc.runtime.topic_tables import TopicTables
from tests.simulation.world import VirtualExecutor

TOPIC = "shop.limits"
SCHEMA = TableSchema("limits", "id", {"id": DataType(Kind.STRING), "top": DataType(Kind.INT64), **IMPLIED})
Records = list[tuple[str, int | None]]


class Shop:
    """A worker's tables, and a publisher on another connection."""

    def __init__(self, seed: int = 1, follower: Follower | None = None) -> None:
        rng = random.Random(seed)
        self.clock = VirtualClock()
        self.faults = Faults(rng, latency_s=(0.0, 0.1))
        self.cluster = SimulatedCluster(self.clock, rng, self.faults, poll_bytes_max=1)
        self.publisher = self.cluster.client("publisher")
        self.metrics = WorkerMetrics()
        self.lookups: dict[str, LookupTable] = {"limits": TableRows(SCHEMA).snapshot()}
        followers = {"limits": [follower]} if follower else {}
        self.live = LiveTables([TopicTable(TOPIC, SCHEMA)], self.lookups, followers)
        executor = VirtualExecutor(lambda: rng.uniform(0, 0.05), lambda: True)
        self.log: SimulatedEventLog = self.cluster.client("worker")
        self.tables = TopicTables(self.log, [self.live], executor, clock=self.clock, metrics=self.metrics)

    async def publish(self, records: Records) -> None:
        """In one transaction."""
        writer = self.publisher.writer("publish")
        await writer.open()
        await writer.begin()
        for key, top in records:  # one request each: they are not in one chunk
            value = None if top is None else json.dumps({"top": top}).encode()
            await writer.append([OutputRecords(TopicPartition(TOPIC, 0), [key.encode()], [value], 1)])
        await writer.delivered()
        await writer.commit()

    @property
    def seen(self) -> dict[str, int]:
        """What a batch would look up now."""
        self.live.apply()
        table = self.lookups["limits"]
        columns = [table.column(name, table.candidates(key)) for key in "abc" for name in ("id", "top")]
        return {
            i.values[0]: i_top.values[0] for i, i_top in zip(columns[::2], columns[1::2], strict=True) if len(i.values)
        }


def virtually(story: Callable[[Shop], Awaitable[None]], seed: int = 1, follower: Follower | None = None) -> None:
    async def run() -> None:
        shop = Shop(seed, follower)
        await story(shop)
        await shop.tables.close()

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(run())


@pytest.mark.parametrize("seed", range(20))
def test_catching_up_reads_what_was_committed_before(seed: int) -> None:
    async def story(shop: Shop) -> None:
        await shop.publisher.admin().ensure_topics([TopicSpec(TOPIC, 1, {"cleanup.policy": "compact"})])
        await shop.publish([("a", 1), ("b", 2)])
        await shop.tables.catch_up()
        assert shop.seen == {"a": 1, "b": 2}
        before = dict(shop.live.versions)
        await shop.publish([("a", None), ("c", 3)])
        assert shop.seen == {"a": 1, "b": 2}  # nobody follows
        await shop.tables.catch_up()
        assert shop.seen == {"b": 2, "c": 3}
        assert dict(shop.live.versions)[TOPIC] > before[TOPIC] > 0

    virtually(story, seed)


@pytest.mark.parametrize("seed", range(20))
def test_a_transaction_is_seen_whole_and_soon(seed: int) -> None:
    async def story(shop: Shop) -> None:
        await shop.tables.catch_up()
        assert (shop.seen, shop.live.versions) == ({}, ((TOPIC, 0),))
        watching = asyncio.ensure_future(shop.tables.watch())
        states = [dict[str, int]()]
        for number in range(4):
            wanted = {"a": number} if number % 2 else {"a": number, "b": number, "c": number}
            await shop.publish([(key, wanted.get(key)) for key in "abc"])
            for _ in range(200):
                await shop.clock.sleep(0.01)
                if shop.seen != states[-1]:
                    states.append(shop.seen)
            assert states[-1] == wanted
        assert len(states) == 5, "never a half of one"
        watching.cancel()
        await asyncio.wait([watching])

    virtually(story, seed)


def test_records_that_are_refused_are_counted_and_named() -> None:
    async def story(shop: Shop) -> None:
        await shop.tables.catch_up()
        appender = shop.publisher.appender()
        tp = TopicPartition(TOPIC, 0)
        await appender.append([OutputRecords(tp, [b"a", b"a", None], [b'{"top": 1}', b'{"top": "secret"}', b"{}"], 1)])
        with capture_logs() as logs:
            await shop.tables.catch_up()
        assert shop.seen == {"a": 1}
        lines = [line for line in logs if line["log_level"] == "error"]
        assert [(line["records"], line["first"].partition(":")[0]) for line in lines] == [
            (1, "offset 1"),
            (1, "offset 2"),
        ]
        assert lines[0]["first"] == "offset 1: a value of top is not int64"
        found = shop.metrics.registry.get_sample_value("streamproc_refused_table_records_total", {"table": "limits"})
        assert found == 2
        assert shop.metrics.registry.get_sample_value("streamproc_table_rows", {"table": "limits"}) == 1

    virtually(story)


@pytest.mark.parametrize(
    ("partitions", "config", "fault"),
    [
        (2, {"cleanup.policy": "compact"}, "has 2 partitions, that of a table has one"),
        (1, {"cleanup.policy": "delete", "retention.ms": "1000"}, "removes old records: a table would lose rows"),
    ],
)
def test_topics_that_cannot_be_a_table(partitions: int, config: dict[str, str], fault: str) -> None:
    async def story(shop: Shop) -> None:
        await shop.publisher.admin().ensure_topics([TopicSpec(TOPIC, partitions, config)])
        with pytest.raises(ConfigError, match=fault):
            await shop.tables.catch_up()

    virtually(story)


def test_an_empty_topic_is_said() -> None:
    async def story(shop: Shop) -> None:
        with capture_logs() as logs:
            await shop.tables.catch_up()
        assert [line["event"] for line in logs if line["log_level"] == "warning"] == [
            "the table's topic is empty: see `publish-table`"
        ]

    virtually(story)


class Needy:
    """Goes by the top of `a`, unless something is out of reach."""

    def __init__(self) -> None:
        self.out_of_reach = False
        self.asked = 0
        self.waiting = self.now = 0

    def prepare(self, rows: Mapping[str, Sequence[Row]]) -> str | None:
        self.asked += 1
        if self.out_of_reach:
            return "the registry cannot be read"
        self.waiting = rows["a"][0]["top"] if "a" in rows else 0
        return None

    def apply(self) -> None:
        self.now = self.waiting


def test_what_could_not_go_by_the_newest_rows_is_asked_again() -> None:
    needy = Needy()

    async def story(shop: Shop) -> None:
        await shop.tables.catch_up()
        watching = asyncio.ensure_future(shop.tables.watch())
        needy.out_of_reach = True
        await shop.publish([("a", 5)])
        with capture_logs() as logs:
            await shop.clock.sleep(35)
        shop.live.apply()
        assert needy.now == 0
        assert 2 <= needy.asked <= 6  # now and then, not all the time
        assert {line["reason"] for line in logs if line["log_level"] == "error"} == {"the registry cannot be read"}
        needy.out_of_reach = False
        await shop.clock.sleep(12)
        shop.live.apply()
        assert needy.now == 5
        asked = needy.asked
        await shop.clock.sleep(30)
        assert needy.asked == asked
        name = "streamproc_refused_table_records_total"
        assert shop.metrics.registry.get_sample_value(name, {"table": "limits"}) == 1
        watching.cancel()
        await asyncio.wait([watching])

    virtually(story, follower=needy)


def test_a_task_that_is_taken_over_asks_again_at_once() -> None:
    needy = Needy()

    async def story(shop: Shop) -> None:
        await shop.tables.catch_up()
        needy.out_of_reach = True
        await shop.publish([("a", 5)])
        await shop.tables.catch_up()
        needy.out_of_reach = False
        await shop.tables.catch_up()
        shop.live.apply()
        assert needy.now == 5

    virtually(story, follower=needy)
