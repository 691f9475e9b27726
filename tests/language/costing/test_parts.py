"""Stages side by side: each more of them costs a record, and each part of a row its gathering."""

from __future__ import annotations

import pytest

from streamproc.language import compile_stages, read_pipeline
from streamproc.language.costing import Cost, Costs, predict

PIPELINE = """\
pipeline: parts
streams:
  payments:
    {id: id, event_time: at, deduplicate: 1d, fields: {id: string, card: string, shop: string, at: timestamp}}
stages:
  - {name: first, partition_by: card, features: {n: {count: "*", over: 1h}}}
  - parallel:
STAGES
  - {name: last, partition_by: card, features: {all_n: {count: "*", over: 1h}}}
rules:
  - {id: many, when: all_n > 3, then: decline}
"""
_FREE = "decode", "deduplicate", "expressions", "encode", "journal", "block", "decide", "window", "kernel"


@pytest.mark.parametrize("count", [2, 4])
def test_it_is_reckoned_by_the_stages_beside_each_other(count: int) -> None:
    stage = "      - {{name: s{0}, partition_by: shop, features: {{n{0}: {{count: '*', over: 1h}}}}}}"
    text = PIPELINE.replace("STAGES", "\n".join(stage.format(number) for number in range(count)))
    pipeline = read_pipeline(text, "parts.yaml")
    units = dict.fromkeys(_FREE, Cost()) | {
        "handoff": Cost(0, 1),
        "handoff:beside": Cost(0, 10),
        "gather": Cost(0, 100),
    }
    found = predict(pipeline, compile_stages(pipeline), costs=Costs({"cpu": ""}, units))
    assert found.us == (1 + count) + 10 * (count - 1) + 100 * count
    assert found.hops == 2
