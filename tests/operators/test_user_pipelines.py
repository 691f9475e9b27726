"""Operators of the user in a pipeline, by file and by dotted path, in the engine and in the real worker."""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path
from typing import Any

import pytest

from operators.deduplicate import Deduplicator
from operators.expressions import ExpressionOperator
from operators.operator import Operator
from operators.plan import Plan
from operators.windows.operator import WindowOperator
from state.hashing import partition_of
from streamproc.cli.compose import build_engine
from streamproc.cli.preparing import prepare
from streamproc.eventlog.contract import Chunk, TopicPartition
from streamproc.eventlog.simulated import Faults, VirtualTimeLoop
from streamproc.language import compile_pipeline, load_pipeline
from streamproc.runtime.outputs import OutputEncoder
from streamproc.runtime.rows import TaskInput, decode_rows
from tests.simulation.traffic import Record
from tests.simulation.world import World

START = 1_600_000_000_000
EVENTS = """
import msgspec
from operators.event_operator import BOOL, INT64, STRING, Event, EventOperator, InputField, OutputField

class Tally(msgspec.Struct):
    total: int = 0

class Running(EventOperator):
    outputs = (OutputField("running", INT64, nullable=False),)
    key, state = "card", Tally

    def __init__(self, of, poison=13):
        self.inputs = (InputField("card", STRING), InputField(of, INT64))
        self.of, self.poison = of, poison

    def on_event(self, event: Event, state):
        state.total += event[self.of]
        if event[self.of] == self.poison:
            raise ValueError(f"secret {event[self.of]}")
        return {"running": state.total}
"""
COLUMNS = """
import numpy as np
from operators.batch import Column
from operators.operator import INT64, InputField, Operator, OutputField
from state.table import TableSpec

class Running(Operator):
    inputs = ()
    outputs = (OutputField("running", INT64, nullable=False),)
    tables = (TableSpec("running", "card", ("total",)),)

    def __init__(self, of, poison=13):
        self.inputs = ("card", InputField(of, INT64))
        self.of, self.poison = of, poison

    def process(self, batch, context):
        table = context.table("running")
        slots = table.slots(batch.tasks, batch.columns["card"].values.tolist())
        table.touch(np.unique(slots))
        running = []
        for slot, number in zip(slots.tolist(), batch.columns[self.of].values.tolist()):
            table.rows[slot, 0] += number
            if number == self.poison:
                raise ValueError("secret")
            running.append(int(table.rows[slot, 0]))
        batch.columns["running"] = Column(INT64, np.array(running, np.int64))
"""
PIPELINE = """
pipeline: p
streams:
  payments:
    id: id
    event_time: at
    deduplicate: 24h
    fields:
      id: string
      card: string
      number: {type: int64, required: true}
      at: timestamp
partition_by: card
operators:
  totals: {operator: "REFERENCE", of: number, poison: 13}
features:
  total: running
  payments: {count: "*", over: 1h}
rules:
  - {id: much, when: running > 20, then: review}
decision: {severity: [review, approve], otherwise: approve, include: [running, payments]}
"""
Shape = tuple[str, str]
SHAPES = [("file", EVENTS), ("package", EVENTS), ("file", COLUMNS), ("package", COLUMNS)]


@pytest.fixture(params=SHAPES, ids=["event-file", "event-package", "columns-file", "columns-package"])
def plan(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """The same pipeline with the same operator, written and named in four ways."""
    kind, source = request.param
    if kind == "file":
        (tmp_path / "ops.py").write_text(source)
        reference = "./ops.py:Running"
    else:
        package = f"acme_{len(source)}"
        (tmp_path / "site" / package).mkdir(parents=True)
        (tmp_path / "site" / package / "__init__.py").touch()
        (tmp_path / "site" / package / "fraud.py").write_text(source)
        monkeypatch.syspath_prepend(tmp_path / "site")
        reference = f"{package}.fraud:Running"
    path = tmp_path / "pipeline.yaml"
    path.write_text(PIPELINE.replace("REFERENCE", reference))
    return compile_pipeline(load_pipeline(path))


def test_each_step_is_asked_to_prepare_and_what_knows_ids(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared: list[Operator | OutputEncoder | Deduplicator] = []
    for each in (Operator, ExpressionOperator, WindowOperator, OutputEncoder, Deduplicator):
        monkeypatch.setattr(each, "prepare", lambda part: prepared.append(part))
    prepare(build_engine(plan, bytes(32))[0])
    *steps, outputs, last = prepared
    assert steps == list(plan.steps)
    assert any(isinstance(step, WindowOperator) for step in steps)
    assert isinstance(outputs, OutputEncoder)
    assert isinstance(last, Deduplicator)


def event(number: int, card: str, value: int) -> bytes:
    return json.dumps({"id": f"t{number}", "card": card, "number": value, "at": START + 1000 * number}).encode()


def traffic(values: list[int]) -> list[Record]:
    cards = ("a", "b", "d")
    return [Record(cards[n % 3], event(n, cards[n % 3], value)) for n, value in enumerate(values)]


def expected(records: list[Record]) -> tuple[dict[str, Any], list[str]]:
    """By a plain loop: (running total and count by id), ids that are lost."""
    totals: dict[str, int] = {}
    counts: dict[str, int] = {}
    found: dict[str, Any] = {}
    lost = []
    for card, value in records:
        row = json.loads(value)
        if row["number"] == 13:
            lost.append(row["id"])
            continue
        totals[card] = totals.get(card, 0) + row["number"]
        counts[card] = counts.get(card, 0) + 1
        found[row["id"]] = (totals[card], counts[card], "review" if totals[card] > 20 else "approve")
    return found, lost


VALUES = [1, 13, 5, 7, 2, 13, 13, 4, 9, 3, 3, 3, 8, 13, 1, 2, 2, 2, 13]


@pytest.mark.parametrize("cut", [1, 4, 100])
def test_through_the_engine(plan: Plan, cut: int) -> None:
    engine, state = build_engine(plan, b"k" * 32)
    records = traffic(VALUES)
    tp = TopicPartition(plan.stream.topic, 0)
    found: dict[str, Any] = {}
    refused = []
    for start in range(0, len(records), cut):
        part = records[start : start + cut]
        offsets = list(range(start, start + len(part)))
        keys: list[bytes | None] = [card.encode() for card, _ in part]
        chunk = Chunk(tp, offsets, keys, [value for _, value in part], [START] * len(part), offsets[-1] + 1)
        judged = engine.judge(decode_rows(engine.decoder, [TaskInput(0, tp, [chunk])]))
        engine.publish()
        columns = judged.batch.columns
        actions = [judged.decided.action_names[action] for action in judged.actions]
        running = columns["running"].values.tolist()
        counts = columns["payments"].values.tolist()
        found |= dict(zip(judged.rows.ids, zip(running, counts, actions, strict=True), strict=True))
        refused += [(f"t{one.offset}", one.reason) for one in judged.rows.refused]
        assert not any("secret" in one.detail for one in judged.rows.refused)
    wanted, lost = expected(records)
    assert found == wanted
    assert sorted(refused) == sorted((one, "operator_failed") for one in lost)
    assert state.live_keys == 3 * len(plan.tables) + len(found)  # deduplication holds one entry a decided row


async def decided(plan: Plan, crash: tuple[int, int] | None) -> tuple[dict[str, Any], dict[str, str], int]:
    """Run the real worker over the traffic; a crash and a second worker if asked. Decisions, dead letters, restarts."""
    rng = random.Random(3)
    world = World(plan, rng, Faults(rng))
    records = traffic(VALUES * 3)
    await world.feed(records)
    starts = 0
    for attempt in (crash, None):
        starts += 1
        if await world.work(attempt, batch_rows_max=8, flush_rows=1):
            break
    found: dict[str, Any] = {}
    letters: dict[str, str] = {}
    for partition in range(world.partitions):
        source = [json.loads(v)["id"] for _, v, _ in await world.read(plan.stream.topic, partition)]
        for _, value, _ in await world.read(plan.topics.decisions, partition):
            row = json.loads(value)
            assert row["id"] not in found
            found[row["id"]] = (row["running"], row["payments"], row["decision"])
        for _, value, _ in await world.read(plan.topics.dead_letters, partition):
            letter = json.loads(value)
            assert "secret" not in value.decode()
            letters[source[letter["offset"]]] = letter["reason"]
    return found, letters, starts


@pytest.mark.parametrize("step", [None, 1, 4, 5, 7, 8])
def test_a_row_that_raises_is_lost_alone(plan: Plan, step: int | None) -> None:
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        found, letters, starts = runner.run(decided(plan, (step, 2) if step else None))
    wanted, lost = expected(traffic(VALUES * 3))
    assert found == wanted
    assert letters == dict.fromkeys(lost, "operator_failed")
    assert starts == (2 if step else 1)  # nothing restarts for a row


def test_the_cards_are_on_both_partitions() -> None:
    assert {partition_of(card.encode(), 2) for card in ("a", "b", "d")} == {0, 1}
