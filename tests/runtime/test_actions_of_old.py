"""A pipeline whose `severity` became shorter: its state keeps codes of actions that there are no more."""

from __future__ import annotations

import json
import random

from operators.deduplicate import Deduplicator
from operators.plan import Plan
from state.memory import MemoryDisk, MemoryRowStores
from state.worker_state import WorkerState
from streamproc.eventlog.contract import Chunk, TopicPartition
from streamproc.runtime.engine import Engine
from streamproc.runtime.metrics import WorkerMetrics
from streamproc.runtime.partition_task import PartitionTask
from streamproc.runtime.rows import TaskInput
from tests.language.helpers import compiled_stages

PIPELINE = """\
pipeline: shop
streams:
  payments:
    id: id
    event_time: at
    deduplicate: 24h
    fields: {id: string, card: string, amount: decimal(2), at: timestamp}
partition_by: card
rules:
  - {id: large, when: amount > 1000, then: decline, reason: large}
"""
SOURCE = TopicPartition("payments", 0)
NOW = 1_767_225_600_000
PAYMENT = json.dumps({"id": "t1", "card": "c", "amount": 5, "at": NOW}).encode()


def plan(severity: str) -> Plan:
    (found,) = compiled_stages(f"{PIPELINE}decision: {{severity: [{severity}]}}\n")
    return found


def test_a_repeat_of_an_action_that_is_no_more_is_told_the_usual_one() -> None:
    before, now = plan("decline, review, challenge, approve"), plan("decline, pass")
    assert before.state_fingerprint == now.state_fingerprint
    ids = Deduplicator(before.stream.deduplicate_ms)
    state = WorkerState(before.tables, [ids])
    state.add_task(0, MemoryRowStores(MemoryDisk(random.Random(1))).open(0))
    said = []
    for offset, one in enumerate((before, now)):
        engine = Engine(one, state, ids, digest_key=bytes(32))
        chunk = Chunk(SOURCE, [offset], [None], [PAYMENT], [NOW], offset + 1)
        computed = engine.compute([TaskInput(0, SOURCE, [chunk])], {SOURCE: PartitionTask(0, SOURCE)}, NOW)
        engine.publish()
        WorkerMetrics().committed([("", computed.judged)], [], 0.0, NOW)
        said += [
            json.loads(v or b"")["decision"]
            for out in computed.outputs
            if out.tp.topic == "shop.decisions"
            for v in out.values
        ]
    assert said == ["approve", "pass"]
