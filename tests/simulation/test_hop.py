"""What a stage hands on goes through the next one in the same transaction; by way of the log, in the very next one. And
what is written is announced to the log before it is computed.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from unittest import mock

import pytest

from streamproc.eventlog.contract import OutputRecords, TopicPartition
from streamproc.runtime.shortcut import Shortcut
from streamproc.runtime.stage import Part
from streamproc.runtime.transaction import TransactionProtocol
from streamproc.runtime.worker import Worker
from tests.simulation.fleet import Fleet, run_fleet
from tests.simulation.loop import SeededLoop
from tests.simulation.pod import JumpingClock
from tests.simulation.test_in_step import steady
from tests.simulation.test_overload import payments_by
from tests.simulation.variants import deadline_plans

pytestmark = [pytest.mark.blocking, pytest.mark.timeout(120)]
COUNT = 400
APART_S = 0.003


class Transactions:
    """What a worker of two stages did: rows of each stage, what was announced, and what was written."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, int]] = []
        self.announced: list[set[TopicPartition]] = []
        self.written: list[set[TopicPartition]] = []

    @contextmanager
    def watched(self) -> Iterator[None]:
        transact, announce, run = Worker._transact, TransactionProtocol.announce, TransactionProtocol.run

        async def transacting(worker: Worker, parts: list[Part], *args: Any) -> None:
            rows = {part.stage: part.computed.judged.rows.size for part in parts}
            first, second = (rows.get(stage, 0) for stage in worker._stages)
            await transact(worker, parts, *args)
            self.rows.append((first, second))

        async def announcing(own: TransactionProtocol, expected: list[TopicPartition], *args: Any) -> None:
            self.announced.append(set(expected))
            await announce(own, expected, *args)

        async def running(
            own: TransactionProtocol, outputs: list[OutputRecords], *args: Any
        ) -> dict[TopicPartition, int]:
            self.written.append({output.tp for output in outputs})
            return await run(own, outputs, *args)

        with (
            mock.patch.object(Worker, "_transact", transacting),
            mock.patch.object(TransactionProtocol, "announce", announcing),
            mock.patch.object(TransactionProtocol, "run", running),
        ):
            yield


def steadily_fed(seed: int) -> Transactions:
    """A worker of two stages, while one payment after the other comes."""

    async def play(loop: SeededLoop) -> None:
        fleet = Fleet(deadline_plans()[2], seed, loop, settings={})
        fleet.feed([])
        fleet.start()
        await asyncio.sleep(2.0)
        for record in payments_by("device_id", steady(random.Random(seed), COUNT, apart_ms=50)):
            fleet.feed([record])
            await asyncio.sleep(APART_S)
        await asyncio.sleep(5.0)
        fleet.stop()
        assert await fleet.ended() == ["stopped"]
        assert fleet.judge() == []

    found = Transactions()
    with found.watched():
        run_fleet(play, seed)
    return found


def by_the_log() -> Any:
    """No shortcut, as where another worker has some of the partitions."""
    return mock.patch.object(Shortcut, "is_open", False)


@pytest.mark.parametrize("seed", range(3))
def test_a_row_takes_one_transaction(seed: int) -> None:
    found = steadily_fed(seed).rows
    apart = sum(abs(first - second) for first, second in found)
    assert sum(first for first, _ in found) == sum(second for _, second in found) == COUNT
    assert apart <= COUNT // 20, "but for the first rows of each partition"


@pytest.mark.parametrize("seed", range(3))
def test_by_way_of_the_log_a_row_takes_one_transaction_a_stage(seed: int) -> None:
    with by_the_log():
        found = steadily_fed(seed).rows
    handed_on, waited, left = 0, 0, 0
    for first, second in found:
        waited += max(0, left - second)  # those of the transaction before that did not come along
        left = max(0, left - second) + first
        handed_on += first
    assert handed_on == sum(second for _, second in found) == COUNT
    assert waited <= COUNT // 20


@pytest.mark.parametrize("way", [contextlib.nullcontext, by_the_log])
def test_what_is_handed_on_is_announced_for_the_most_part(way: Callable[[], AbstractContextManager[object]]) -> None:
    with way(), mock.patch.object(JumpingClock, "work", return_value=0.0):  # commits last longer: no batch ahead
        found = steadily_fed(1)
    missed = sum(bool(wrote - told) for told, wrote in zip(found.announced, found.written, strict=True))
    assert len(found.written) > 50
    assert missed <= len(found.written) // 4
