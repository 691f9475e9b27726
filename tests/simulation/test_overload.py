"""Ten times as many payments as can be decided, in virtual time: what waits in a worker is bounded, nothing is lost."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections.abc import Iterable
from unittest import mock

import pytest

from streamproc.runtime.collector import Collector
from streamproc.runtime.restorer import Restorer
from tests.simulation.deadlines import deadline_plans
from tests.simulation.fleet import Fleet, run_fleet
from tests.simulation.loop import SeededLoop
from tests.simulation.test_in_step import steady
from tests.simulation.traffic import Record

pytestmark = [pytest.mark.blocking, pytest.mark.timeout(240)]
BATCH = 20
COUNT = 4_000
FED_S = 1.0  # virtual; a worker takes about 60 ms for 20 payments then
SLOW_S = 0.01
POLL = 4 * 40
"""Records that one read of the log brings at most: 4,000 bytes of each partition."""


def payments_by(key: str, records: Iterable[Record]) -> list[Record]:
    """By another field than their card."""
    events = [json.loads(record.value) for record in records]
    return [Record(event[key], json.dumps(event).encode()) for event in events]


@pytest.mark.parametrize(("stages", "key"), [(1, "card_id"), (2, "device_id")])
@pytest.mark.parametrize("restoring", [False, True], ids=["live", "restoring"])
def test_what_waits_is_bounded_under_ten_times_the_load(stages: int, key: str, restoring: bool) -> None:
    """Also while a partition is restored: no batch is computed ahead then."""
    waiting: list[int] = []
    real = Collector._harvest

    def harvest(self: Collector) -> None:
        real(self)
        waiting.append(self.queue.rows)

    async def play(loop: SeededLoop) -> None:
        fleet = Fleet(deadline_plans()[stages], 1, loop, settings={"batch_rows_max": BATCH})
        fleet.feed([])
        fleet.start(slow_s=SLOW_S)
        await asyncio.sleep(2.0)
        records, (run,) = payments_by(key, steady(random.Random(1), COUNT, apart_ms=50)), fleet.shared.runs
        for at in range(0, COUNT, 100):
            fleet.feed(records[at : at + 100])
            await asyncio.sleep(FED_S * 100 / COUNT)
        assert run.metrics.records._value.get() < COUNT / 10, "so the load was ten times as much"
        async with asyncio.timeout(600):  # virtual
            while run.metrics.records._value.get() < COUNT:  # noqa: ASYNC110 - virtual time is cheap
                await asyncio.sleep(1.0)
        fleet.stop()
        assert await fleet.ended() == ["stopped"]
        assert fleet.judge() == []

    with mock.patch.object(Collector, "_harvest", harvest), contextlib.ExitStack() as more:
        if restoring:
            more.enter_context(mock.patch.object(Restorer, "active", mock.PropertyMock(return_value=True)))
        run_fleet(play, 1)
    assert max(waiting) <= 2 * BATCH + POLL
