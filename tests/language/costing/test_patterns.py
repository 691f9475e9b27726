"""What `explain` says of sequence patterns, beside what they keep."""

from __future__ import annotations

import numpy as np
import pytest

from operators.batch import Batch, TaskRows
from operators.patterns.operator import PatternOperator
from state.due import ENTRY_BYTES
from state.worker_state import WorkerState
from streamproc.language import compile_pipeline, compile_stages, read_pipeline
from streamproc.language.costing import predict
from streamproc.language.costing.patterns import pattern_state
from tests.operators.samples import column

PIPELINE = """\
pipeline: p
streams:
  s: {id: i, event_time: t, fields: {i: string, card: string, shop: string, amount: decimal(2), t: timestamp}}
partition_by: card
ttl: 30d
patterns:
  testing: >
    MEASURES COUNT(A.*) AS tries, LAST(A.shop) AS shop
    PATTERN (A (-> A){2,} -> B) WITHIN INTERVAL '1' HOUR DEFINE A AS amount < 5, B AS amount > 100 * MAX(A.amount)
  twice: PATTERN (A A | A B) DEFINE A AS amount < 5
  left:
    match: "PATTERN (A -> B) WITHIN INTERVAL '1' HOUR DEFINE A AS amount < 5, B AS amount > 10"
    timeout: nothing came
"""
KEYS = 200


def test_a_key_keeps_what_is_said() -> None:
    plan = compile_pipeline(read_pipeline(PIPELINE, "p.yaml"))
    state = WorkerState(plan.tables)
    keys = [f"card-{i:012d}" for i in range(KEYS)]
    columns = {
        "i": column("string", keys),
        "card": column("string", keys),
        "shop": column("string", ["merchant-00001234"] * KEYS),
        "amount": column("decimal(2)", [123] * KEYS),
    }
    times = np.full(KEYS, 1_767_225_600_000, np.int64)
    batch = Batch(KEYS, (TaskRows(0, 0, KEYS),), times, keys, columns)
    for step in plan.steps:
        step.process(batch, state)
    steps = [step for step in plan.steps if isinstance(step, PatternOperator)]
    assert [len(step.specs) for step in steps] == [2, 1]
    for step, timer in zip(steps, (0, ENTRY_BYTES), strict=True):
        (spec,) = step.tables
        kept, table = pattern_state(step), state.table(spec.name)
        used = table.blob_bytes / KEYS + table.text_bytes / KEYS + table.key_bytes
        assert kept.bytes - timer == pytest.approx(used, rel=0.05)
        assert kept.entries == len(step.specs)


def test_patterns_are_reckoned_once_a_key_and_each() -> None:
    pipeline = read_pipeline(PIPELINE, "p.yaml")
    (stage,) = predict(pipeline, compile_stages(pipeline)).stages
    parts = {(work.what, work.name): work for work in stage.work if work.what in ("pattern", "key")}
    assert set(parts) == {("key", "card"), *(("pattern", name) for name in ("testing", "twice", "left"))}
    assert min(min(work.us, work.us_alone) for work in parts.values()) > 0
    assert {key.table for key in stage.keys} == {"pattern.card", "pattern.card_2"}
