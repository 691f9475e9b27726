"""Windows that wait for time on both sides of a call: a run and a backtest that ask the same service agree.

What is told is worked out here from the rows and from what the service says, by nothing of the product.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.calls.server import Server, in_a_thread, reputation_of
from tests.cli.conftest import Cli, finish
from tests.cli.test_calls import by_id, ndjson, payments

PIPELINE = """\
pipeline: shop
partitions: 1
streams:
  payments:
    id: id
    event_time: at
    deduplicate: 24h
    fields: {id: string, card: string, device: string, amount: decimal(2), at: timestamp}
stages:
  - name: card
    partition_by: card
    features: {spend: {of: amount, aggregates: [count], over: [1h]}}
    windows: {spent: {tumble: 1m, of: amount, aggregates: [count, sum]}}
  - name: device_reputation
    call: {url: "http://127.0.0.1:PORT/reputation?device={device}", timeout: 20s, in_flight: 8}
    returns: {reputation: float64, known_bad: bool}
    default: {reputation: 0.5, known_bad: false}
  - name: device
    partition_by: device
    windows: {doubtful: {tumble: 1m, of: amount, aggregates: [count, sum], where: reputation < 0.5}}
    absences: {no_good: {after: known_bad, without: reputation < 0.5 and not known_bad, within: 2m}}
  - name: shop
    partition_by: card
    windows: {bad: {cumulate: 2m, every: 1m, of: amount, aggregates: [sum], where: known_bad}}
rules:
  - {id: bad, when: known_bad, then: decline}
decision: {severity: [decline, approve], otherwise: approve, include: [reputation, spend_count_1h]}
"""
MINUTE = 60_000


@pytest.fixture
def server() -> Iterator[Server]:
    with in_a_thread(Server()) as server:
        yield server


@pytest.fixture
def pipeline(tmp_path: Path, server: Server) -> Path:
    path = tmp_path / "shop.yaml"
    path.write_text(PIPELINE.replace("PORT", str(server.port)))
    return path


def told_by_run(pipeline: Path, log: str, topic: str) -> list[str]:
    seen = finish("tail", topic, "--pipeline", pipeline, "--log", log, "--from-start", "--until-end")
    assert seen.code == 0, seen.err
    return sorted(seen.lines)


def is_doubtful(row: dict[str, Any]) -> bool:
    return row["device"] is not None and reputation_of(row["device"]) < 0.5


def sums(rows: list[dict[str, Any]], key: str) -> dict[tuple[str, int], tuple[int, int]]:
    """Of each key and minute that is over when the last row comes: count, sum."""
    found: defaultdict[tuple[str, int], tuple[int, int]] = defaultdict(lambda: (0, 0))
    for row in rows:
        at = row["at"] // MINUTE * MINUTE
        count, total = found[row[key], at]
        found[row[key], at] = count + 1, total + row["amount"]
    return dict(found)


@pytest.mark.timeout(180)
def test_a_run_tells_what_a_backtest_tells(pipeline: Path, server: Server, tmp_path: Path, cli: Cli) -> None:
    rows, log, output = payments(400), f"file:{tmp_path}/log", tmp_path / "out.parquet"
    inputs = ndjson(tmp_path / "in.ndjson", rows)
    live = cli("backtest", pipeline, "--input", inputs, "--output", output, "--json", "--calls", "live")
    assert live.code == 0, live.err
    assert cli("feed", "payments", inputs, "--pipeline", pipeline, "--log", log).code == 0
    server.delay_s = 0.002
    ran = finish("run", pipeline, "--log", log, "--state", tmp_path / "state", "--until-end", "--log-level", "error")
    assert (ran.code, ran.err) == (0, "")

    alerts = told_by_run(pipeline, log, "alerts")
    assert alerts == sorted(output.with_suffix(".alerts.ndjson").read_text().splitlines())
    assert told_by_run(pipeline, log, "late") == []
    assert not output.with_suffix(".late.ndjson").exists()
    assert told_by_run(pipeline, log, "dead_letters") == []
    on_their_way = [json.loads(line) for line in told_by_run(pipeline, log, "device_reputation")]
    assert len(on_their_way) == len(rows)
    assert not any("reputation" in row for row in on_their_way)

    fresh = rows[:400]  # the last ten repeat the first ones
    over = fresh[-1]["at"] // MINUTE * MINUTE
    by_alert: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for line in alerts:
        by_alert[json.loads(line)["alert"]].append(json.loads(line))
    assert set(by_alert) == {"spent", "doubtful", "no_good", "bad"}
    for name, key, taken in (("spent", "card", fresh), ("doubtful", "device", list(filter(is_doubtful, fresh)))):
        found = {(one["key"], one["window_start"]): (one["count"], one["sum"]) for one in by_alert[name]}
        assert found == sums([row for row in taken if row["at"] < over], key)
    bad = [row for row in fresh if row["device"] == "bad one"]
    waits = {row["id"] for row in bad if row["at"] + 2 * MINUTE <= fresh[-1]["at"]}
    assert {one["id"] for one in by_alert["no_good"]} == waits

    decisions = by_id([json.loads(line) for line in told_by_run(pipeline, log, "decisions")])
    table = {(row["id"], row["duplicate"]): row for row in pq.read_table(output).to_pylist()}
    assert decisions.keys() == table.keys()
    for row in fresh:
        decision, replayed = decisions[row["id"], False], table[row["id"], False]
        answer = None if row["device"] is None else reputation_of(row["device"])
        assert (decision["reputation"], replayed["reputation"]) == (answer, answer)
        assert decision["decision"] == replayed["decision"] == ("decline" if row in bad else "approve")
        assert decision["spend_count_1h"] == replayed["spend_count_1h"]
        assert "failed_calls" not in decision


@pytest.mark.timeout(180)
def test_a_later_stage_knows_which_call_failed(pipeline: Path, server: Server, tmp_path: Path, cli: Cli) -> None:
    """Nothing names the column there, and a stage lies between."""
    rows, log = payments(50), f"file:{tmp_path}/log"
    server.mode = "status 500"
    inputs = ndjson(tmp_path / "in.ndjson", rows)
    assert cli("feed", "payments", inputs, "--pipeline", pipeline, "--log", log).code == 0
    ran = finish("run", pipeline, "--log", log, "--state", tmp_path / "state", "--until-end")
    assert ran.code == 0, ran.err
    found = by_id([json.loads(line) for line in told_by_run(pipeline, log, "decisions")])
    assert told_by_run(pipeline, log, "dead_letters") == []
    for row in rows[:50]:
        asked = ["device_reputation"] if row["device"] else None
        assert found[row["id"], False].get("failed_calls") == asked


def test_explain_reckons_calls_and_what_waits_for_time(pipeline: Path, cli: Cli) -> None:
    said = json.loads(cli("explain", pipeline, "--json").out)
    card, device, shop = said["stages"]
    assert [stage["to"] for stage in said["stages"]] == ["device_reputation", "shop", "decisions"]
    assert (card["calls"], device["calls"], shop["calls"]) == ([], ["device_reputation"], [])
    hops = [{(work["what"] == "call", work["hops"]) for work in stage["work"]} for stage in said["stages"]]
    assert hops == [{(False, 0)}, {(True, 1), (False, 2)}, {(False, 3)}], "a row is asked about one hop before"
    assert said["hops"] == 3
    kinds = {(work["what"], work["name"]) for stage in said["stages"] for work in stage["work"]}
    assert {("window", "spent"), ("window", "doubtful"), ("absence", "no_good"), ("window", "bad")} <= kinds
    assert not any(what == "operator" for what, _ in kinds)
    drawn = cli("explain", pipeline).lines[2]
    assert drawn == (
        "  payments -> [card by card] -> (device_reputation) -> [device by device] -> [shop by card] -> decisions"
    )
