"""`streamproc explain`: stages, hops, microseconds and bytes, for people and as JSON."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from streamproc.cli.common import load_stages
from tests.cli.conftest import Cli
from tests.language.costing.test_timed import PIPELINE as WAITING

STAGES = """\
pipeline: shop
streams:
  payments:
    id: payment_id
    event_time: at
    deduplicate: 1h
    fields: {payment_id: string, card: string, terminal: string, amount: decimal(2), at: timestamp}
partitions: 6
stages:
  - name: card
    partition_by: card
    features:
      spend: {of: amount, aggregates: [count, sum], over: [1h, 24h]}
  - name: terminal
    partition_by: terminal
    ttl: 30d
    features:
      busy: {count: "*", over: 1h}
      share: amount / spend_sum_24h
rules:
  - {id: many, when: spend_count_1h >= 4 and busy > 100, then: decline}
  - {id: dear, when: share > 0.9, then: review}
"""


@pytest.fixture
def stages(tmp_path: Path) -> Path:
    path = tmp_path / "stages.yaml"
    path.write_text(STAGES)
    return path


@pytest.fixture
def said(stages: Path, cli: Cli) -> dict[str, Any]:
    done = cli("explain", stages, "--rate", 10, "--json")
    assert (done.code, done.err, len(done.lines)) == (0, "", 1)
    found: dict[str, Any] = json.loads(done.out)
    return found


def test_each_feature_and_rule_has_its_line(said: dict[str, Any], stages: Path) -> None:
    for stage, plan, hops in zip(said["stages"], load_stages(str(stages)), (0, 1), strict=True):
        features = [work["name"] for work in stage["work"] if work["what"] == "feature"]
        assert [name for name in features if not name.startswith("_")] == [field.name for field in plan.features]
        assert [work["name"] for work in stage["work"] if work["what"] == "rule"] == [rule.id for rule in plan.rules]
        assert {work["hops"] for work in stage["work"]} == {hops}


def test_the_whole_is_the_sum_of_its_parts(said: dict[str, Any]) -> None:
    for unit in ("us", "us_alone"):
        for stage in said["stages"]:
            assert stage[unit] == pytest.approx(sum(work[unit] for work in stage["work"]))
        assert said[unit] == pytest.approx(sum(stage[unit] for stage in said["stages"]))
        assert said[unit] > 0


def test_stages_keys_and_hops(said: dict[str, Any]) -> None:
    first, second = said["stages"]
    assert (said["pipeline"], said["stream"], said["partitions"], said["hops"]) == ("shop", "payments", 6, 1)
    assert [first[key] for key in ("stage", "reads", "partition_by", "to")] == [
        "card", "shop.payments", "card", "terminal",
    ]  # fmt: skip
    assert [second[key] for key in ("stage", "reads", "partition_by", "to")] == [
        "terminal", "shop.terminal", "terminal", "decisions",
    ]  # fmt: skip
    assert [work["what"] for work in first["work"]].count("hop") == 1
    assert {"decide", "encode"} & {work["what"] for work in first["work"]} == set()


def test_state_at_a_rate(said: dict[str, Any]) -> None:
    """Ten events a day: 25 hours are 11 entries; two hours are one.

    Numbers of an entry: the time, and running totals of what is not NULL and of amounts.
    """
    (card,), (terminal,) = (stage["keys"] for stage in said["stages"])
    assert (card["key"], card["kept_ms"], card["entries"], card["entry_bytes"]) == ("card", 25 * 3_600_000, 11, 24)
    assert (terminal["key"], terminal["entries"], terminal["entry_bytes"]) == ("terminal", 1, 8)
    assert (card["ttl_ms"], terminal["ttl_ms"]) == (0, 30 * 86_400_000)
    assert card["bytes"] > terminal["bytes"]


def test_a_stream_that_is_not_decided_is_named(cli: Cli, stages: Path) -> None:
    more = "  logins: {id: login_id, event_time: at, fields: {login_id: string, card: string, at: timestamp}}\n"
    one = STAGES.replace("partitions: 6\n", more + "partitions: 6\n").split("  - name: terminal")[0]
    stages.write_text(one + "rules:\n  - {id: dear, when: spend_sum_24h > 9000, then: review}\n")
    (stage,) = json.loads(cli("explain", stages, "--json").out)["stages"]
    assert (stage["reads"], stage["also"]) == ("shop.payments", ["logins"])
    assert "brought forward by logins, too" in cli("explain", stages).out


def test_the_drawing(cli: Cli, stages: Path) -> None:
    done = cli("explain", stages)
    assert (done.code, done.err) == (0, "")
    assert done.lines[0] == "pipeline shop: 1 hop, 6 partitions"
    assert done.lines[2] == "  payments -> [card by card] -> [terminal by terminal] -> decisions"
    assert re.search(r"^  feature +spend_sum_24h +\d+\.\d\d +\d+ +0  sum of amount over 1d$", done.out, re.MULTILINE)
    assert re.search(r"^  feature +busy +\d+\.\d\d +\d+ +1  count of rows over 1h$", done.out, re.MULTILINE)
    assert "\nstate of stage terminal, at 1 event a key a day\n" in done.out
    assert re.search(r"^  terminal .* 2h +30d$", done.out, re.MULTILINE)
    assert done.lines[-1].startswith("Costs: ")
    assert done.out.isascii()


def test_more_costs_more(cli: Cli, stages: Path) -> None:
    before = json.loads(cli("explain", stages, "--json").out)
    stages.write_text(STAGES.replace("[count, sum], over: [1h, 24h]", "[count, sum, stddev, max], over: [1h, 24h, 7d]"))
    after = json.loads(cli("explain", stages, "--json").out)
    assert after["us"] > before["us"]
    assert after["stages"][0]["keys"][0]["bytes"] > before["stages"][0]["keys"][0]["bytes"]


def test_what_is_not_measured_says_so(cli: Cli, stages: Path, tmp_path: Path) -> None:
    (tmp_path / "ops.py").write_text(
        "from operators.event_operator import EventOperator\n"
        "from operators.operator import INT64, OutputField\n"
        "class Mine(EventOperator):\n    outputs = (OutputField('one', INT64),)\n"
        "    def on_event(self, event, state):\n        return (1,)\n"
    )
    stages.write_text(STAGES + "operators: {mine: {operator: './ops.py:Mine'}}\n")
    done = cli("explain", stages)
    assert "of your own: not measured" in done.out, done.err


def test_explain_reckons_calls_and_what_waits(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "shop.yaml"
    path.write_text(WAITING)
    told = json.loads(cli("explain", path, "--rate", 3, "--json").out)
    device: dict[str, Any] = told["stages"][1]
    parts = {(work["what"], work["name"]): work for work in device["work"]}
    waits = [("call", "reputation"), ("call", "owner"), ("window", "turnover"), ("absence", "quiet")]
    assert [parts[one]["hops"] for one in waits] == [1, 2, 3, 3]
    assert min(min(parts[one]["us"], parts[one]["us_alone"]) for one in waits) > 0
    assert device["us"] == pytest.approx(sum(work["us"] for work in device["work"]))
    assert [key["table"] for key in device["keys"]] == ["timed.turnover", "timed.quiet"]
    assert min(key["bytes"] for key in device["keys"]) > 100
    text = cli("explain", path).out
    assert "not reckoned" not in text
    assert "a request for each row, but for those the cache answers" in text


@pytest.mark.parametrize("rate", ["0", "-1", "many"])
def test_a_wrong_rate(rate: str, cli: Cli, stages: Path) -> None:
    done = cli("explain", stages, "--rate", rate)
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert "--rate" in done.err


def test_a_wrong_pipeline(cli: Cli, stages: Path) -> None:
    stages.write_text(STAGES.replace("busy > 100", "bussy > 100"))
    done = cli("explain", stages)
    assert done.code == 2
    assert done.err.startswith(f"error: {stages}:21:")
    assert "did you mean busy?" in done.err
