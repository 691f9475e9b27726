"""Blocks as the last of several stages writes them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("onnx")

from state.hashing import stable_hashes64
from streamproc.language import compile_stages, load_pipeline
from streamproc.services.watching.blocks import BlockReader
from tests.models.registered import register
from tests.runtime.test_handed_on_rows import NOW_MS, compute

PIPELINE = """\
pipeline: shop
streams:
  payments: {id: id, event_time: at, fields: {id: string, card: string, user: string, amount: float64, at: timestamp}}
stages:
  - {name: card, partition_by: card, features: {n: {count: "*", over: 1h}}}
  - {name: user, partition_by: user, features: {m: {count: "*", over: 1h}}}
models:
  fraud: {registry: reg, version: 1, features: [amount, n]}
decision: {severity: [decline, approve], otherwise: approve}
"""


def test_a_payment_of_several_stages_is_whose_the_first_one_says(tmp_path: Path) -> None:
    register(tmp_path / "reg", "fraud", {"amount": 1.0, "n": 0.5})
    (tmp_path / "shop.yaml").write_text(PIPELINE)
    first, last = compile_stages(load_pipeline(tmp_path / "shop.yaml"))
    assert first.handoff is not None
    cards = {f"p{n}": f"c{n % 2}" for n in range(5)}
    paid = [{"id": one, "card": card, "user": "u", "amount": 1, "at": NOW_MS} for one, card in cards.items()]
    handed = compute(first, [json.dumps(one).encode() for one in paid], NOW_MS, NOW_MS).outputs
    values = [value or b"" for out in handed if out.tp.topic == first.handoff.topic for value in out.values]
    outputs = compute(last, values, NOW_MS, NOW_MS).outputs
    (block,) = [value or b"" for out in outputs if out.tp.topic == last.topics.journal for value in out.values]
    rows = BlockReader(last).read(block)
    hashed = (stable_hashes64(list(names)).tolist() for names in (cards.keys(), cards.values()))
    assert dict(zip(rows.ids.tolist(), rows.cards.tolist(), strict=True)) == dict(zip(*hashed, strict=True))
    assert rows.names == ("amount", "n")
