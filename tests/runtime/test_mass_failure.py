"""An operator that fails on every row, or a text that cannot be encoded: rows are lost one by one, the loop lives."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import msgspec
import numpy as np
import pytest

from operators.batch import Batch, Column
from operators.operator import Operator, OperatorContext, OutputField
from operators.plan import Plan
from operators.schema import DataType, Kind
from streamproc.eventlog.simulated import Faults, VirtualTimeLoop
from streamproc.language import compile_pipeline, load_pipeline
from tests.simulation.traffic import Record
from tests.simulation.world import World

PIPELINE = Path(__file__).parents[2] / "configs" / "bench_v1" / "pipeline.yaml"
NOTE = OutputField("note", DataType(Kind.STRING), nullable=False)


class AlwaysFails(Operator):
    """Fails on every batch, and does not say on which row."""

    calls = 0

    @property
    def inputs(self) -> tuple[str, ...]:
        return ("amount",)

    @property
    def outputs(self) -> tuple[OutputField, ...]:
        return ()

    def process(self, batch: Batch, context: OperatorContext) -> None:
        self.calls += 1
        if batch.size:
            raise ValueError


class NotUnicode(AlwaysFails):
    """Adds a text that no encoder can write, for even amounts."""

    @property
    def outputs(self) -> tuple[OutputField, ...]:
        return (NOTE,)

    def process(self, batch: Batch, context: OperatorContext) -> None:
        even = batch.columns["amount"].values % 200 == 0
        batch.columns["note"] = Column(NOTE.type, np.where(even, "\ud800", "fine").astype(object))


def records(count: int) -> list[Record]:
    made = []
    for number in range(count):
        text = (
            f'{{"transaction_id":"t{number}","card_id":"c{number % 7}","amount":{1 + number % 2},'
            f'"lat":0,"lon":0,"event_time":{1_600_000_000_000 + number},"ts":1}}'
        )
        made.append(Record(f"c{number % 7}", text.encode()))
    return made


def counts(plan: Plan, count: int) -> tuple[int, int]:
    """Decisions and dead letters of a run over `count` records."""

    async def scenario() -> tuple[int, int]:
        rng = random.Random(1)
        world = World(plan, rng, Faults(rng))
        await world.feed(records(count))
        assert await world.work()
        decided = [await world.read(plan.topics.decisions, partition) for partition in (0, 1)]
        dead = [await world.read(plan.topics.dead_letters, partition) for partition in (0, 1)]
        return sum(map(len, decided)), sum(map(len, dead))

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(scenario())


@pytest.fixture(scope="module")
def plan() -> Plan:
    return compile_pipeline(load_pipeline(PIPELINE))


def test_every_row_fails(plan: Plan) -> None:
    failing = AlwaysFails()
    assert counts(msgspec.structs.replace(plan, steps=(failing, *plan.steps)), 400) == (0, 400)
    assert failing.calls < 400 * 12


def test_what_cannot_be_encoded_is_the_rows_fault(plan: Plan) -> None:
    decision = msgspec.structs.replace(plan.decision, include=(*plan.decision.include, "note"))
    spoiled = msgspec.structs.replace(plan, steps=(NotUnicode(), *plan.steps), decision=decision)
    assert counts(spoiled, 60) == (30, 30)
