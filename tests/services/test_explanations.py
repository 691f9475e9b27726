"""Where decisions are looked for, and what a follower does that cannot read the registry: blocks are made up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from models.registry import OutOfReachError
from operators.plan import Plan
from streamproc.cli.compose import open_log
from streamproc.clock import SystemClock
from streamproc.eventlog.contract import EventLog, OutputRecords, TopicPartition, TopicSpec
from streamproc.services.explanations.explain import BlockExplainer, BlockRows, Explanation
from streamproc.services.explanations.follow import Follower, find_decision
from streamproc.services.explanations.metrics import ExplanationMetrics

JOURNAL = "shop.journal"
PLAN = cast(
    "Plan",
    SimpleNamespace(
        pipeline="shop", topics=SimpleNamespace(journal=JOURNAL), topic_config={},
        decision=SimpleNamespace(otherwise="approve"),
    ),
)  # fmt: skip


class Blocks:
    """An explainer of blocks like b"p1 p2": ids of declined payments. `gone`: what the registry does not give now."""

    def __init__(self) -> None:
        self.looked: list[tuple[int, int]] = []
        self.gone = b"nothing"

    def explain(self, block: bytes, partition: int, at: int, wanted: Callable[[str, str], bool]) -> list[Explanation]:
        return self.explain_all([self.read(block, partition, at, wanted)])

    def explain_all(self, blocks: list[BlockRows]) -> list[Explanation]:
        return [one for block in blocks for one in block.said]

    def read(self, block: bytes, partition: int, at: int, wanted: Callable[[str, str], bool]) -> BlockRows:
        self.looked.append((partition, at))
        if self.gone in block.split():
            raise OutOfReachError("the registry cannot be read: 503")
        ids = block.decode().split()
        return BlockRows([Explanation(one, "decline", "", partition, at) for one in ids if wanted(one, "decline")], [])


class QuickClock(SystemClock):
    """Each look at it is a second later."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.looks = 0

    def told(self, name: str, **labels: str) -> float:
        found = self.registry.get_sample_value(f"streamproc_explanation{name}", labels)
        assert found is not None
        return found

    def monotonic(self) -> float:
        self.looks += 1
        return float(self.looks)


async def journaled(log: EventLog, records: list[tuple[int, int, bytes]]) -> None:
    """(partition, time, block) each."""
    await log.admin().ensure_topics([TopicSpec(JOURNAL, 2, {})])
    appender = log.appender()
    for partition in (0, 1):
        for at, block in [(at, block) for mine, at, block in records if mine == partition]:
            await appender.append([OutputRecords(TopicPartition(JOURNAL, partition), [None], [block], at)])
    await appender.close()


def found(records: list[tuple[int, int, bytes]], wanted: str, tmp_path: Any) -> tuple[Explanation | None, Blocks]:
    blocks = Blocks()

    async def run() -> Explanation | None:
        log = open_log(f"file:{tmp_path}/log")
        try:
            await journaled(log, records)
            return await find_decision(PLAN, log, cast("BlockExplainer", blocks), wanted)
        finally:
            await log.close()

    return asyncio.run(run()), blocks


def test_the_newest_decision_of_an_id_is_found_first(tmp_path: Any) -> None:
    """Its id in other blocks, too: older ones, which are not opened, and one of the other partition."""
    records = [(0, n, b"p7" if n in (0, 310) else b"x%d" % n) for n in range(320)]
    records += [(1, 5, b"p7"), (1, 6, b"y")]
    one, blocks = found(records, "p7", tmp_path)
    assert one is not None
    assert (one.partition, one.at) == (0, 310)
    assert (0, 0) not in blocks.looked


@pytest.mark.parametrize("at", [0, 1, 63, 64, 319])
def test_it_is_found_wherever_it_stands_and_once(at: int, tmp_path: Any) -> None:
    one, blocks = found([(1, n, b"p7" if n == at else b"x%d" % n) for n in range(320)], "p7", tmp_path)
    assert one is not None
    assert (one.partition, one.at) == (1, at)
    assert blocks.looked == [(1, at)]
    assert found([], "p8", tmp_path)[0] is None


async def written(log: EventLog) -> list[str]:
    """The ids that were explained, in their order; partition after partition."""
    scanner, tps = log.scanner(), [TopicPartition("shop.explanations", partition) for partition in (0, 1)]
    ends, found = await log.admin().end_offsets(tps), dict[int, list[str]]()
    for tp in tps:
        scanner.seek(tp, 0)
    while any(scanner.position(tp) < ends[tp] for tp in tps):
        for chunk in await scanner.poll(10):
            ids = [msgspec.json.decode(value or b"", type=Explanation).id for value in chunk.values]
            found.setdefault(chunk.tp.partition, []).extend(ids)
    return [one for _, ids in sorted(found.items()) for one in ids]


def test_only_what_a_registry_does_not_give_is_waited_for(tmp_path: Any) -> None:
    """p3 and what comes behind it in its partition wait; what came before, and the other partition, go on."""
    blocks, clock = Blocks(), QuickClock()
    blocks.gone = b"p3"

    async def run() -> None:
        log = open_log(f"file:{tmp_path}/log")
        metrics, now = ExplanationMetrics(clock.registry, clock), clock.now_ms()
        follower = Follower(PLAN, log, cast("BlockExplainer", blocks), clock, metrics, everything=False)

        async def until(count: int) -> None:
            while follower.written < count:
                await asyncio.sleep(0.01)
                assert not following.done()

        try:
            await journaled(log, [(0, now - 50_000, b"p1 p2"), (0, now - 40_000, b"p3"), (0, now - 2_000, b"p4 p5")])
            await journaled(log, [(1, now, b"q1")])
            with pytest.raises(OutOfReachError):
                await follower.run(until_end=True)
            assert await written(log) == ["p1", "p2", "q1"]
            following = asyncio.ensure_future(follower.run(until_end=False))
            await journaled(log, [(0, now, b"p6"), (1, now, b"q2")])
            await until(4)
            assert await written(log) == ["p1", "p2", "q1", "q2"]
            assert 40 <= clock.told("s_behind_seconds") < 100
            assert clock.told("s_waiting_partitions") == 1
            blocks.gone = b"nothing"
            await until(8)
            assert await written(log) == ["p1", "p2", "p3", "p4", "p5", "p6", "q1", "q2"]
            following.cancel()
            await asyncio.wait([following])
        finally:
            await log.close()

    with capture_logs() as logs:
        asyncio.run(run())
    assert clock.told("s_behind_seconds") == clock.told("s_waiting_partitions") == 0
    assert (clock.told("s_total", result="explained"), clock.told("s_total", result="refused")) == (8, 0)
    assert [clock.told("_lag_seconds_bucket", le=bound) for bound in ("30.0", "60.0", "300.0")] == [5, 8, 8]
    said = [line for line in logs if line["log_level"] == "error"]
    assert {(line["event"], line["partition"]) for line in said} == {("explanations wait for the registry", 0)}


def test_a_registry_that_is_out_of_reach_is_asked_once_in_a_while(tmp_path: Any) -> None:
    """By one of the partitions that wait, not by all of them; once it answers, all go on."""
    blocks, clock = Blocks(), QuickClock()
    blocks.gone = b"p"

    async def run() -> None:
        log = open_log(f"file:{tmp_path}/log")
        metrics = ExplanationMetrics(clock.registry, clock)
        follower = Follower(PLAN, log, cast("BlockExplainer", blocks), clock, metrics, everything=False)
        await journaled(log, [(0, 1, b"p"), (1, 1, b"p")])
        following = asyncio.ensure_future(follower.run(until_end=False))
        while len(blocks.looked) < 6:
            await asyncio.sleep(0.01)
            assert not following.done()
        looks, asked = clock.looks, blocks.looked[2:6]
        blocks.gone = b"nothing"
        while follower.written < 2:
            await asyncio.sleep(0.01)
            assert not following.done()
        following.cancel()
        await asyncio.wait([following])
        await log.close()
        assert asked == [(0, 0), (1, 0)] * 2
        assert looks >= 4 * 5

    asyncio.run(run())
