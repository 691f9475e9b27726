"""Explanations of a reader that dies and is started again, at any record, alone or beside another; on both logs."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest
from prometheus_client import CollectorRegistry

import streamproc.services.explanations.follow as following
from operators.plan import Plan
from streamproc.cli.compose import open_log
from streamproc.clock import SystemClock
from streamproc.eventlog.contract import Appender, EventLog, OutputRecords, TopicPartition, TopicSpec
from streamproc.services.explanations.explain import BlockExplainer, Explanation
from streamproc.services.explanations.follow import Follower, key_of, topic_of
from streamproc.services.explanations.metrics import ExplanationMetrics
from tests.services.test_explanations import Blocks

RECORDS = ([b"a1", b"a2 a3 a4", b"", b"a5"], [b"b1 b2", b"b3 b4 b5 b6"])
"""Of each of two partitions; "" explains nothing."""
WANTED = sorted(word.decode() for records in RECORDS for record in records for word in record.split())


class KilledError(Exception):
    """In the place of SIGKILL: nothing that was to be written after it is written."""


class Mortal:
    """A log whose appender dies once it has written so many records; as Kafka, it takes partitions one by one."""

    def __init__(self, log: EventLog, records: int, *, backwards: bool) -> None:
        self._log, self._left, self._backwards = log, records, backwards

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    def appender(self) -> Appender:
        return cast("Appender", SimpleNamespace(append=self._append, close=self._log.appender().close))

    async def _append(self, outputs: Sequence[OutputRecords]) -> None:
        appender = self._log.appender()
        try:
            for output in reversed(outputs) if self._backwards else outputs:
                some = msgspec.structs.replace(
                    output, keys=output.keys[: self._left], values=output.values[: self._left]
                )
                await appender.append([some])
                self._left -= len(some.keys)
                if len(some.keys) < len(output.keys):
                    raise KilledError
        finally:
            await appender.close()


class Shop:
    """A pipeline of two partitions whose decisions stand in the journal."""

    def __init__(self, log: EventLog, name: str, journal: str = "") -> None:
        self.log = log
        self.plan = cast(
            "Plan",
            SimpleNamespace(
                pipeline=name, topics=SimpleNamespace(journal=journal or f"{name}.journal"), topic_config={},
                decision=SimpleNamespace(otherwise="approve"),
            ),
        )  # fmt: skip

    async def decided(self) -> None:
        """A transaction a record, and before each one that is aborted."""
        await self.log.admin().ensure_topics([TopicSpec(self.plan.topics.journal, len(RECORDS), {})])
        writer = self.log.writer(f"{self.plan.pipeline}-worker")
        await writer.open()
        for partition, records in enumerate(RECORDS):
            tp = TopicPartition(self.plan.topics.journal, partition)
            for record in records:
                for block, end in ((b"undone", writer.abort), (record, writer.commit)):
                    await writer.begin([tp])
                    await writer.append([OutputRecords(tp, [None], [block], 1_000)])
                    await writer.delivered()
                    await end()
        await writer.abandon()

    async def explain(self, log: EventLog | None = None) -> int:
        """What one reader has written, to the journal's end."""
        clock = SystemClock()
        metrics = ExplanationMetrics(CollectorRegistry(), clock)
        follower = Follower(
            self.plan, log or self.log, cast("BlockExplainer", Blocks()), clock, metrics, everything=False
        )
        await follower.run(until_end=True)
        return follower.written

    async def killed(self, records: int, *, backwards: bool = False) -> bool:
        """Whether a reader died; it has written so many records."""
        try:
            await self.explain(cast("EventLog", Mortal(self.log, records, backwards=backwards)))
        except KilledError:
            return True
        return False

    async def explained(self) -> dict[bytes, list[bytes]]:
        """What stands in the topic under each key."""
        tps = [TopicPartition(topic_of(self.plan), partition) for partition in range(len(RECORDS))]
        found: dict[bytes, list[bytes]] = {}
        scanner, ends = self.log.scanner(), await self.log.admin().end_offsets(tps)
        for tp in tps:
            scanner.seek(tp, 0)
        while any(scanner.position(tp) < ends[tp] for tp in tps):
            for chunk in await scanner.poll(200):
                for key, value in zip(chunk.keys, chunk.values, strict=True):
                    found.setdefault(key or b"", []).append(value or b"")
        await scanner.close()
        return found


@asynccontextmanager
async def shop(url: str) -> AsyncIterator[Shop]:
    log = open_log(url)
    try:
        found = Shop(log, f"shop-{secrets.token_hex(4)}")
        await found.decided()
        yield found
    finally:
        await log.close()


def on(url: str, body: Callable[[Shop], Awaitable[None]]) -> None:
    async def run() -> None:
        async with shop(url) as one:
            await body(one)

    asyncio.run(run())


def whole(found: dict[bytes, list[bytes]], times: int) -> None:
    """Each decision is explained, at most so many times, always by the same bytes under its own key."""
    said = {key: [msgspec.json.decode(value, type=Explanation) for value in values] for key, values in found.items()}
    assert sorted(values[0].id for values in said.values()) == WANTED
    for key, values in said.items():
        assert len(values) <= times
        assert len(set(found[key])) == 1
        assert key == key_of(values[0])


def test_killed_at_any_record_it_loses_none_and_writes_none_twice(tmp_path: Path) -> None:
    async def at_each(decided: Shop) -> None:
        for records in range(len(WANTED) + 1):
            one = Shop(decided.log, f"shop-{records}", decided.plan.topics.journal)
            assert await one.killed(records, backwards=records % 2 == 1) is (records < len(WANTED))
            assert sum(map(len, (await one.explained()).values())) == records
            assert await one.explain() == len(WANTED) - records
            whole(await one.explained(), 1)
            assert await one.explain() == 0

    on(f"file:{tmp_path}/log", at_each)


def test_killed_again_and_again_it_comes_to_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where one record has more explanations than are read of the topic's end at first."""
    monkeypatch.setattr(following, "_TAIL", 1)

    async def one_by_one(one: Shop) -> None:
        deaths = 0
        while await one.killed(1):
            deaths += 1
        assert deaths == len(WANTED) - 1
        whole(await one.explained(), 1)

    on(f"file:{tmp_path}/log", one_by_one)


def test_what_is_no_explanation_in_the_topic_hinders_nobody(tmp_path: Path) -> None:
    async def strange(one: Shop) -> None:
        assert await one.killed(5)
        appender, tp = one.log.appender(), TopicPartition(topic_of(one.plan), 0)
        strangers: list[bytes | None] = [b"\xff", b"{}", b'{"at": "soon"}', None]
        await appender.append([OutputRecords(tp, [b"k"] * 4, strangers, 1_000)])
        assert await one.explain() == len(WANTED) - 5
        found = await one.explained()
        assert found.pop(b"k") == [b"\xff", b"{}", b'{"at": "soon"}', b""]
        whole(found, 1)

    on(f"file:{tmp_path}/log", strange)


def test_of_two_at_a_time_either_may_die(tmp_path: Path) -> None:
    """What both have written stands there twice, under one key: compaction leaves one."""

    async def beside(decided: Shop) -> None:
        for records in range(0, len(WANTED) + 1, 3):
            one = Shop(decided.log, f"shop-{records}", decided.plan.topics.journal)
            await asyncio.gather(one.killed(records), one.killed(len(WANTED) - records, backwards=True))
            await one.explain()
            whole(await one.explained(), 3)

    on(f"file:{tmp_path}/log", beside)


@pytest.mark.kafka
def test_on_kafka_what_was_aborted_is_not_explained_and_what_was_decided_is(kafka_bootstrap: str) -> None:
    async def killed_twice(one: Shop) -> None:
        assert await one.killed(3)
        assert await one.killed(2, backwards=True)
        assert await one.explain() == len(WANTED) - 5
        whole(await one.explained(), 1)
        assert await one.explain() == 0

    on(f"kafka://{kafka_bootstrap}", killed_twice)
