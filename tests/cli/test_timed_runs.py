"""Windows and absences through `run`: as a backtest tells them, once, whatever is lost; ticks; more partitions."""

from __future__ import annotations

import json
import secrets
import shutil
import signal
import time
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import PIPELINE, START, Cli, finish, payments, start
from tests.cli.test_round_trip import ndjson

pytestmark = [pytest.mark.blocking, pytest.mark.timeout(180)]
TIMED = """\
watermark: {disorder: 30m}
windows:
  turnover: {tumble: 2h, of: amount, aggregates: [count, sum, mean, min, max], lateness: 1h, when: count > 0}
  rolling: {hop: 3h, every: 1h, of: amount, aggregates: [sum], where: country = 'be'}
  today: {cumulate: 12h, every: 3h}
  visits: {session: 45m, of: amount, aggregates: [count, max], lateness: 4h}
absences:
  no_belgian: {after: amount > 60, without: country = 'be', within: 90m}
partition_by:"""


@pytest.fixture
def timed(pipeline: Path) -> Path:
    pipeline.write_text(PIPELINE.replace("partition_by:", TIMED, 1))
    return pipeline


def in_order(count: int, seed: int = 1, first: int = 0, hours: int = 0) -> list[dict[str, Any]]:
    """Rows of 24 hours from `hours` on, in the order of their times."""
    rows = sorted(payments(count, seed, first)[:count], key=lambda row: row["At"])
    return [{**row, "At": row["At"] + timedelta(hours=hours)} for row in rows]


def told(cli: Cli, pipeline: Path, log: str) -> dict[str, list[str]]:
    found = {}
    for topic in ("alerts", "late"):
        out = cli("tail", topic, "--pipeline", pipeline, "--log", log, "--until-end")
        assert out.code == 0, out.err
        found[topic] = sorted(out.lines)
    return found


def backtested(cli: Cli, pipeline: Path, *inputs: Path) -> dict[str, list[str]]:
    output = inputs[0].with_name("backtest.parquet")
    done = cli("backtest", pipeline, "--input", *inputs, "--output", output, "--json")
    assert done.code == 0, done.err
    said = json.loads(done.out)
    found = {}
    for topic in ("alerts", "late"):
        path = output.with_suffix(f".{topic}.ndjson")
        found[topic] = sorted(path.read_text().splitlines()) if path.exists() else []
        assert sum(said[topic].values()) == len(found[topic])
        assert said[f"{topic}_output"] == (str(path) if found[topic] else None)
    return found


def run(pipeline: Path, log: str, state: Path, *more: object) -> None:
    ran = finish("run", pipeline, "--log", log, "--state", state, "--until-end", "--log-level", "error", *more)
    assert (ran.code, ran.err) == (0, "")


@pytest.mark.parametrize("lose", [False, True])
def test_a_run_tells_what_a_backtest_tells(cli: Cli, timed: Path, tmp_path: Path, lose: bool) -> None:
    log, state = f"file:{tmp_path}/log", tmp_path / "state"
    inputs = [ndjson(tmp_path / f"{n}.ndjson", payments(150, n, 150 * n)) for n in range(3)]
    for path in inputs:
        assert cli("feed", "payments", path, "--pipeline", timed, "--log", log).code == 0
        if lose:
            shutil.rmtree(state, ignore_errors=True)
        run(timed, log, state)
    found, wanted = told(cli, timed, log), backtested(cli, timed, *inputs)
    assert found == wanted
    assert {json.loads(line)["alert"] for line in found["alerts"]} == {"turnover", "rolling", "today", "visits",
                                                                       "no_belgian"}  # fmt: skip
    assert len(found["late"]) > 100


STAGES = """\
stages:
  - name: card
    partition_by: card
    watermark: {disorder: 1h}
    windows: {turnover: {tumble: 2h, of: amount, aggregates: [count, sum]}}
  - name: country
    partition_by: country
    watermark: {disorder: 30d}
    windows: {by_country: {tumble: 2h, of: amount, aggregates: [count, sum, max]}}
"""


def test_each_stage_has_windows_of_its_own(cli: Cli, pipeline: Path, tmp_path: Path) -> None:
    """Rows of several partitions may reach a later stage a day apart: within its disorder nothing is lost."""
    head, rest = PIPELINE.split("partition_by: card\n")
    pipeline.write_text(head + STAGES + "rules:\n  - {id: dear, when: amount > 90, then: review}\n")
    assert rest
    log = f"file:{tmp_path}/log"
    inputs = []
    for number, rows in enumerate((in_order(300), in_order(60, 2, 300, 24 * 60))):
        inputs.append(ndjson(tmp_path / f"{number}.ndjson", [row for row in rows if row["Country"]]))
        assert cli("feed", "payments", inputs[-1], "--pipeline", pipeline, "--log", log).code == 0
        run(pipeline, log, tmp_path / "state")
    until = 1000 * (START + timedelta(hours=26)).timestamp()
    found, wanted = (
        [line for line in lines["alerts"] if json.loads(line)["window_end"] <= until]
        for lines in (told(cli, pipeline, log), backtested(cli, pipeline, *inputs))
    )
    assert found == wanted
    counts = Counter(json.loads(line)["alert"] for line in found)
    assert counts["by_country"] == 2 * 12
    assert counts["turnover"] > 50


def rest_and_replay(cli: Cli, pipeline: Path, log: str, state: Path) -> None:
    """Sessions end though no row comes; a worker without state tells nothing again."""
    windows = "watermark: {idle: 200ms}\nwindows: {quick: {session: 400ms}}\npartition_by:"
    pipeline.write_text(
        PIPELINE.replace("partition_by:", windows, 1).replace("shop", f"shop-{secrets.token_hex(4)}", 1)
    )
    rows = [{**row, "At": START} for row in payments(20)[:20]]
    path = ndjson(pipeline.with_name("in.ndjson"), rows)
    assert cli("feed", "payments", path, "--pipeline", pipeline, "--log", log).code == 0
    process = start("run", pipeline, "--log", log, "--state", state, "--log-level", "error")
    try:
        sessions = len({row["Card"] for row in rows})
        until = time.monotonic() + 90
        while len(told(cli, pipeline, log)["alerts"]) < sessions:
            assert time.monotonic() < until
            time.sleep(0.5)
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
    assert process.returncode == 0
    before = told(cli, pipeline, log)
    journal = cli("tail", "journal", "--pipeline", pipeline, "--log", log, "--until-end").lines
    ticks = [line for line in map(json.loads, journal) if line["tick"] is not None]
    assert ticks
    assert {(line["records"], line["ranges"][0]["start"] == line["ranges"][0]["stop"]) for line in ticks} == {(0, True)}
    shutil.rmtree(state)
    run(pipeline, log, state)
    assert told(cli, pipeline, log) == before
    assert len(before["alerts"]) == sessions
    assert cli("state", "verify", pipeline, "--state", state).code == 0


def test_a_clock_ticks_where_the_input_rests_and_a_replay_obeys(cli: Cli, pipeline: Path, tmp_path: Path) -> None:
    rest_and_replay(cli, pipeline, f"file:{tmp_path}/log", tmp_path / "state")


@pytest.mark.kafka
@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_clock_ticks_on_kafka_too(kafka_bootstrap: str, cli: Cli, pipeline: Path, tmp_path: Path) -> None:
    """Its partitions end with marks of transactions, which are no records."""
    rest_and_replay(cli, pipeline, f"kafka://{kafka_bootstrap}", tmp_path / "state")


def generation(pipeline: Path, name: str, partitions: int) -> Path:
    path = pipeline.with_name(f"{name}.yaml")
    path.write_text(pipeline.read_text().replace("pipeline: shop", f"pipeline: {name}\npartitions: {partitions}"))
    return path


def test_more_partitions_go_on_with_the_windows_that_are_open(cli: Cli, timed: Path, tmp_path: Path) -> None:
    log, state = f"file:{tmp_path}/log", tmp_path / "state"
    old, new, odd = (generation(timed, name, count) for name, count in (("old", 2), ("new", 4), ("odd", 3)))
    halves = in_order(300), in_order(300, 2, 300, 24)
    inputs = [ndjson(tmp_path / f"{n}.ndjson", half) for n, half in enumerate(halves)]
    assert cli("feed", "payments", inputs[0], "--pipeline", old, "--log", log).code == 0
    run(old, log, state)
    refused = cli("repartition", old, "--to", odd, "--log", log, "--state", state)
    assert refused.code == 2
    assert "partitions whose event times differ would be joined" in refused.err
    moved = cli("repartition", old, "--to", new, "--log", log, "--state", state)
    assert moved.code == 0, moved.err
    assert cli("feed", "payments", inputs[1], "--pipeline", new, "--log", log).code == 0
    run(new, log, state)
    until = 1000 * (START + timedelta(hours=40)).timestamp()

    def closed(lines: list[str]) -> list[str]:
        found = map(json.loads, lines)
        return sorted(str(one) for one in found if one.get("window_end", one.get("deadline")) <= until)

    found = told(cli, old, log)["alerts"] + told(cli, new, log)["alerts"]
    assert closed(found) == closed(backtested(cli, timed, *inputs)["alerts"])


def test_what_waits_by_another_key_cannot_be_repartitioned(cli: Cli, timed: Path, tmp_path: Path) -> None:
    timed.write_text(timed.read_text().replace("visits: {", "visits: {per: country, "))
    log, state = f"file:{tmp_path}/log", tmp_path / "state"
    old, new = generation(timed, "old", 2), generation(timed, "new", 4)
    path = ndjson(tmp_path / "in.ndjson", in_order(50))
    assert cli("feed", "payments", path, "--pipeline", old, "--log", log).code == 0
    run(old, log, state)
    refused = cli("repartition", old, "--to", new, "--log", log, "--state", state)
    assert refused.code == 2
    assert "table timed.visits: what waits for time is not kept by the partition's key" in refused.err


BANK = """\
pipeline: bank
streams:
  payments:
    id: payment_id
    event_time: at
    deduplicate: 24h
    fields: {payment_id: string, user_id: string, amount: decimal(2), at: timestamp}
  logins:
    id: login_id
    event_time: logged_in_at
    fields: {login_id: int64, user_id: string, outcome: string, logged_in_at: timestamp}
partition_by: user_id
watermark: {disorder: 1m}
windows:
  failed: {tumble: 10m, where: outcome = 'failed'}
  spent: {tumble: 1h, of: amount, aggregates: [sum]}
  rows: {tumble: 1h, where: "stream in ('payments', 'logins')"}
absences:
  no_login: {after: amount > 500, without: outcome = 'ok', within: 10m}
  no_payment: {after: outcome = 'ok', without: amount > 0, within: 10m}
"""
PAYMENTS = """\
payment_id,user_id,amount,at
p1,ann,600,2026-05-01T10:00:00Z
p2,bob,700,2026-05-01T10:00:00Z
p3,ann,5,2026-05-01T10:14:59Z
p3,ann,5,2026-05-01T10:14:59Z
p4,bob,5,2026-05-01T12:00:00Z
p5,ann,5,2026-05-01T12:00:00Z
"""
LOGINS = """\
login_id,user_id,outcome,logged_in_at
1,ann,ok,2026-05-01T10:05:00Z
2,bob,failed,2026-05-01T10:05:00Z
3,bob,failed,2026-05-01T10:06:00Z
4,bob,ok,2026-05-01T10:10:00Z
5,bob,failed,2026-05-01T10:30:00Z
"""
AT = 1777629600000  # 10:00


def test_streams_of_a_stage_wait_for_each_other(cli: Cli, tmp_path: Path) -> None:
    pipeline, log = tmp_path / "bank.yaml", f"file:{tmp_path}/log"
    pipeline.write_text(BANK)
    inputs = [tmp_path / "payments.csv", tmp_path / "logins.csv"]
    for path, text in zip(inputs, (PAYMENTS, LOGINS), strict=True):
        path.write_text(text)
        assert cli("feed", path.stem, path, "--pipeline", pipeline, "--log", log).code == 0
    run(pipeline, log, tmp_path / "state")
    found = told(cli, pipeline, log)
    assert found == backtested(cli, pipeline, *inputs)
    alerts = [json.loads(line) for line in found["alerts"]]
    absent = sorted((a["alert"], a["key"], a["id"], a["event_time"] - AT) for a in alerts if a["kind"] == "absence")
    minute = 60_000
    assert absent == [("no_login", "bob", "p2", 0), ("no_payment", "bob", "4", 10 * minute)]
    counts = {(a["alert"], a["key"], (a["window_start"] - AT) // minute): a.get("count", a.get("sum")) for a in alerts
              if a["kind"] == "tumble"}  # fmt: skip
    assert counts == {
        ("failed", "bob", 0): 2,
        ("failed", "bob", 30): 1,
        ("spent", "ann", 0): 605.0,
        ("spent", "bob", 0): 700.0,
        ("rows", "ann", 0): 3,
        ("rows", "bob", 0): 5,
    }
    shutil.rmtree(tmp_path / "state")
    run(pipeline, log, tmp_path / "state")
    assert told(cli, pipeline, log) == found
