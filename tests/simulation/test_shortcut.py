"""Rows that go through the next stage in the transaction that writes them, whoever else writes to that topic."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Mapping
from unittest import mock

import pytest

from streamproc.eventlog.contract import EventLog, TopicPartition
from streamproc.runtime import ending, progress
from tests.simulation.fleet import Fleet, run_fleet
from tests.simulation.loop import SeededLoop
from tests.simulation.test_in_step import decided_at, steady
from tests.simulation.variants import simulated_plans

pytestmark = [pytest.mark.blocking, pytest.mark.timeout(120)]
COUNT = 200
EVERY = 25


def shown(seed: int, stages: int, *, disturbed: bool) -> Counter[str]:
    """What the workers did while one payment after the other came; `disturbed`: somebody's transactions, that all were
    aborted, lie between the rows handed on.
    """

    async def play(loop: SeededLoop) -> Counter[str]:
        fleet = Fleet(simulated_plans()[stages], seed, loop, settings={})
        topics = [plan.stream.topic for plan in fleet.shared.plans[1:]]
        fleet.feed([])
        fleet.start()
        await asyncio.sleep(2.0)
        for number, record in enumerate(steady(random.Random(seed), COUNT, apart_ms=50)):
            if disturbed and number % EVERY == EVERY - 1:
                fleet.abort(topics)
            fleet.feed([record])
            await asyncio.sleep(0.003)
        await asyncio.sleep(5.0)
        fleet.stop()
        assert await fleet.ended() == ["stopped"]
        assert fleet.judge() == []
        assert len(decided_at(fleet)) == COUNT
        return fleet.shared.reached

    return run_fleet(play, seed)


@pytest.mark.parametrize("stages", [2, 3])
@pytest.mark.parametrize("seed", range(2))
def test_most_rows_of_a_worker_that_is_alone_go_this_way(seed: int, stages: int) -> None:
    reached = shown(seed, stages, disturbed=False)
    assert reached["rows by the shortcut"] > 0.9 * COUNT * (stages - 1)
    assert reached["failed transactions"] == 0


@pytest.mark.parametrize("seed", range(4))
def test_what_others_write_between_undoes_a_transaction_and_loses_nothing(seed: int) -> None:
    reached = shown(seed, 2, disturbed=True)
    assert reached["rows by the shortcut"] > COUNT // 4
    assert COUNT // EVERY // 2 <= reached["failed transactions"] <= 2 * COUNT // EVERY


def test_who_takes_over_goes_by_the_log_where_others_have_written_meanwhile() -> None:
    async def play(loop: SeededLoop) -> Counter[str]:
        fleet = Fleet(simulated_plans()[2], 1, loop, settings={"leave": True})
        fleet.feed([])
        fleet.start()
        fleet.start()
        await asyncio.sleep(2.0)
        for number, record in enumerate(steady(random.Random(1), 2 * COUNT, apart_ms=50)):
            if number == COUNT:
                fleet.shared.runs[1].worker.stop()
            fleet.feed([record])
            await asyncio.sleep(0.01)
        await asyncio.sleep(5.0)
        fleet.stop()
        assert await fleet.ended() == ["stopped"] * 2
        assert fleet.judge() == []
        assert len(decided_at(fleet)) == 2 * COUNT
        return fleet.shared.reached

    reached = run_fleet(play, 1)
    assert reached["rows by the shortcut"] > COUNT // 2, "it is alone for the second half"
    assert reached["failed transactions"] == 0


def test_what_lies_behind_these_rows_is_known_without_reading_it() -> None:
    """A transaction's mark, in each partition that a row was handed on to."""
    plans, scanned = simulated_plans()[3], list[TopicPartition]()

    async def nothing_between(log: EventLog, gaps: Mapping[TopicPartition, tuple[int, int]]) -> bool:
        scanned.extend(tp for tp in gaps if tp.topic == plans[1].stream.topic)
        return await ending.nothing_between(log, gaps)

    async def play(loop: SeededLoop) -> None:
        fleet = Fleet(plans, 1, loop, settings={})
        fleet.feed([])
        fleet.start()
        await asyncio.sleep(2.0)
        for record in steady(random.Random(1), COUNT, apart_ms=50):
            fleet.feed([record])
            await asyncio.sleep(0.5)
        fleet.stop()
        assert await fleet.ended() == ["stopped"]
        assert fleet.judge() == []
        assert fleet.shared.reached["rows by the shortcut"] > COUNT

    with mock.patch.object(progress, "nothing_between", nothing_between):
        run_fleet(play, 1)
    assert len(scanned) <= COUNT // 20
