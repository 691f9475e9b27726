"""Rule tests about payments that come too late to be scored: what a fraud team may expect of an outage."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Cli
from tests.operators.test_score import logistic

PIPELINE = """\
pipeline: shop
tests: cases.yaml
deadline: 80ms
streams:
  payments:
    id: id
    event_time: at
    deduplicate: 1d
    fields: {id: string, card: string, amount: float64, fresh: bool, n: int64, at: timestamp}
  logins: {topic: logins, id: login, event_time: at, fields: {login: string, card: string, at: timestamp}}
decide: payments
partition_by: card
features: {spend: {count: "*", over: 1h}}
models: {fraud: {file: model.onnx, features: [amount, fresh, n], tiers: {low: 0, high: 60}, no_score: review}}
rules:
  - {id: friend, when: card = 'friend', then: approve, final: true}
  - {id: burst, when: spend >= 3, then: decline}
  - {id: high, when: score > 90, then: decline}
  - {id: blind, when: fraud.failed and amount > 0, then: decline}
decision: {severity: [decline, review, challenge, approve], otherwise: approve}
"""
CASES = """\
base: {card: c, amount: -9, fresh: true, n: 0}
cases:
  - name: an outage sends nothing to the review queue that rules do not send there
    events:
      - {event: in_time, id: p1}
      - {event: late, id: p2, late_answer: true}
      - {event: blind, card: d, fresh: null}
      - {event: late_and_blind, card: d, fresh: null, amount: 1, late_answer: true}
      - {event: high, card: e, amount: 900, late_answer: true}
      - {event: third, late_answer: true}
      - {event: again, id: p2}
    expect:
      in_time: {decision: approve, reasons: [], score: 0..1, risk_tier: low}
      late: {decision: approve, reasons: [], score: null, risk_tier: null, features: {fraud.failed: null}}
      blind: {decision: review, reasons: the model gives no score, score: null, hits: no_score}
      late_and_blind: {decision: approve, reasons: [], misses: [no_score, blind]}
      high: {decision: approve, misses: high}
      third: {decision: decline, reasons: burst, features: {spend: 3}}
      again: {decision: approve, duplicate: true}
"""


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    (tmp_path / "shop.yaml").write_text(PIPELINE)
    (tmp_path / "cases.yaml").write_text(CASES)
    logistic(tmp_path / "model.onnx")
    return tmp_path / "shop.yaml"


def test_late_payments_are_decided_by_rules_alone(cli: Cli, shop: Path) -> None:
    done = cli("test", shop)
    assert done.code == 0, done.out + done.err


def test_one_that_is_in_time_is_not(cli: Cli, shop: Path) -> None:
    (shop.parent / "cases.yaml").write_text(CASES.replace("id: p2, late_answer: true", "id: p2, late_answer: false"))
    done = cli("test", shop)
    assert done.code == 1
    rows = [line.split() for line in done.lines]
    found = {row[1] for row in rows if row[0] == "late"}
    assert found == {"fraud.failed", "fraud.score", "fraud.tier"}


@pytest.mark.parametrize(
    ("pipeline", "event", "said"),
    [
        (PIPELINE.replace("deadline: 80ms\n", ""), "id: p2, late_answer: true", "the pipeline has no deadline"),
        (PIPELINE, "stream: logins, late_answer: true", "this stream is not decided"),
    ],
    ids=["no deadline", "another stream"],
)
def test_what_cannot_be_late_is_refused(cli: Cli, shop: Path, pipeline: str, event: str, said: str) -> None:
    shop.write_text(pipeline)
    cases = f"cases:\n  - name: one\n    events: [{{{event}, card: c}}]\n    expect: {{}}\n"
    (shop.parent / "cases.yaml").write_text(cases)
    done = cli("test", shop)
    assert done.code == 2
    assert f"late_answer: {said}" in done.err
