"""Whatever a stage decides to hand on, the next one takes: nothing is judged a second time."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from typing import Any

import pytest

from operators.plan import Plan, lean
from state.memory import MemoryDisk, MemoryRowStores
from state.worker_state import WorkerState
from streamproc.eventlog.contract import Chunk, TopicPartition
from streamproc.language import compile_stages, load_pipeline, read_pipeline
from streamproc.runtime.engine import Engine
from streamproc.runtime.partition_task import PartitionTask
from streamproc.runtime.results import AtHand, Computed
from streamproc.runtime.rows import TaskInput
from tests.simulation.variants import STAGES

DAY_MS = 86_400_000
NOW_MS = 1_700_000_000_000
EVENT = {
    "transaction_id": "t1", "device_id": "d1", "terminal_id": "x", "card_id": "c1", "amount": 1, "lat": 1.5, "lon": 2,
    "event_time": NOW_MS,
}  # fmt: skip


def compute(plan: Plan, values: list[bytes], now_ms: int, at_ms: int, at_hand: AtHand | None = None) -> Computed:
    """The only batch of the first task; all were logged at `at_ms`."""
    state = WorkerState(plan.tables)
    state.add_task(0, MemoryRowStores(MemoryDisk(random.Random(1))).open(0))
    engine = Engine(plan, state, None, digest_key=bytes(32))
    source, count = TopicPartition(plan.stream.topic, 0), len(values)
    chunk = Chunk(source, list(range(count)), [None] * count, list(values), [at_ms] * count, count)
    return engine.compute([TaskInput(0, source, [chunk])], {source: PartitionTask(0, source)}, now_ms, at_hand)


def handed_on(*events: Mapping[str, Any], behind_ms: int = 0) -> list[dict[str, Any]]:
    """What two stages make of payments; the first one's clock is behind by so much."""
    first, second, _ = compile_stages(load_pipeline(STAGES))
    values = [json.dumps(EVENT | dict(event)).encode() for event in events]
    for plan in (first, second):
        assert plan.handoff is not None
        computed = compute(plan, values, NOW_MS - behind_ms, NOW_MS if plan is first else NOW_MS - behind_ms)
        assert computed.judged.rows.refused == []
        outputs = [output for output in computed.outputs if output.tp.topic == plan.handoff.topic]
        values = [value or b"" for output in outputs for value in output.values]
    return sorted(map(json.loads, values), key=lambda row: row["transaction_id"])


def test_an_event_time_is_judged_by_the_log_that_it_first_came_to() -> None:
    (row,) = handed_on({"event_time": NOW_MS + DAY_MS - 1}, behind_ms=2_000)
    assert row["event_time"] == NOW_MS + DAY_MS - 1


def test_a_row_whose_next_key_is_empty_has_a_partition_too() -> None:
    rows = handed_on(
        {"terminal_id": ""}, {"transaction_id": "t2", "terminal_id": None}, {"transaction_id": "t3", "terminal_id": ""}
    )
    assert [(row["terminal_id"], row["terminal_n_1h"]) for row in rows] == [("", 1), (None, 0), ("", 2)]


def test_a_feature_may_be_larger_than_a_field() -> None:
    huge = 90_000_000_000_000
    rows = handed_on(
        {"amount": huge}, {"transaction_id": "t2", "amount": huge}, {"transaction_id": "t3", "amount": 0.01}
    )
    assert [row["device_s_24h"] for row in rows] == [huge, 2 * huge, 2 * huge + 0.01]


LEVELS = """\
pipeline: levels
streams:
  payments:
    id: id
    event_time: at
    fields: {id: string, card: string, user: string, shop: string, amount: int64, at: timestamp}
  logins: {id: login, event_time: came, fields: {login: string, card: string, level: string, came: timestamp}}
"""
PER_CARD = "  - {name: card, partition_by: card, features: {n: {count: '*', over: 1h}}}\n"
IN_ANOTHER_STREAM = f"""\
{LEVELS}  accounts:
    id: account
    event_time: since
    fields: {{account: string, user: string, level: int64, since: timestamp}}
stages:
{PER_CARD}  - {{name: user, partition_by: user, features: {{most: {{max: level, over: 1h}}}}}}
"""
A_FEATURE = f"""\
{LEVELS}stages:
{PER_CARD}  - {{name: user, partition_by: user, features: {{level: amount * 2}}}}
  - {{name: shop, partition_by: shop, features: {{m: {{count: '*', over: 1h}}}}}}
rules: [{{id: high, when: level > 1, then: review}}]
"""


@pytest.mark.parametrize("text", [IN_ANOTHER_STREAM, A_FEATURE], ids=["in another stream", "a feature"])
def test_what_only_rows_of_other_streams_have_is_not_handed_on(text: str) -> None:
    """Columns at hand are those of the records: later stages may call something of their own so."""
    plans = [lean(plan) for plan in compile_stages(read_pipeline(text, "levels.yaml"))]
    row = {"id": "p1", "card": "c", "user": "u", "shop": "s", "amount": 1, "at": NOW_MS}
    values, at_hand = [json.dumps(row).encode()], None
    for plan in plans:
        read = compute(plan, values, NOW_MS, NOW_MS)
        known = compute(plan, values, NOW_MS, NOW_MS, at_hand)
        assert [(out.tp, out.values, out.headers) for out in known.outputs] == [
            (out.tp, out.values, out.headers) for out in read.outputs
        ]
        if plan.handoff is not None and known.handed is not None:
            (sent,) = (out for out in known.outputs if out.tp.topic == plan.handoff.topic)
            values, at_hand = [value or b"" for value in sent.values], known.handed.at_hand([sent.tp])


def test_only_rows_that_this_worker_placed_are_not_asked_whether_they_belong_here() -> None:
    """They lie where their keys' hash put them; what comes beside them may be anybody's."""
    first, second, _ = compile_stages(load_pipeline(STAGES))
    computed = compute(first, [json.dumps(EVENT).encode()], NOW_MS, NOW_MS)
    assert first.handoff is not None
    assert computed.handed is not None
    (sent,) = (out for out in computed.outputs if out.tp.topic == first.handoff.topic)
    at_hand, value = computed.handed.at_hand([sent.tp]), sent.values[0] or b""
    stray = value.replace(b'"_route":"x"', b'"_route":"y"')
    strays = [stray, stray.replace(b'"t1"', b'"t2"')]
    task = sent.tp.partition
    for values, refused in (([value], 0), ([value, strays[1]], 1), (strays, 2)):
        state = WorkerState(second.tables)
        state.add_task(task, MemoryRowStores(MemoryDisk(random.Random(1))).open(task))
        engine = Engine(second, state, None, digest_key=bytes(32), partitions=4)
        chunk = Chunk(sent.tp, range(len(values)), [None] * len(values), values, [NOW_MS] * len(values), len(values))
        given = [TaskInput(task, sent.tp, [chunk])]
        found = engine.compute(given, {sent.tp: PartitionTask(task, sent.tp)}, NOW_MS, at_hand)
        reasons = [letter.reason for letter in found.judged.rows.refused]
        assert reasons == ["wrong_partition"] * refused
