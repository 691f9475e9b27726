"""A pipeline that calls a service, on real HTTP: `run`, `backtest` live and with the defaults agree where they must."""

from __future__ import annotations

import json
import random
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.calls.server import Server, in_a_thread, reputation_of
from tests.cli.conftest import Cli, finish, start

PIPELINE = """\
pipeline: shop
partitions: PARTITIONS
streams:
  payments:
    id: id
    event_time: at
    deduplicate: 24h
    fields: {id: string, card: string, device: string, amount: decimal(2), at: timestamp}
stages:
  - name: card
    partition_by: card
    features: {spend: {of: amount, aggregates: [count, sum], over: [1h]}}
  - name: device_reputation
    call: {url: "http://127.0.0.1:PORT/reputation?device={device}", timeout: TIMEOUT, cache: 10m}
    returns: {reputation: float64, known_bad: bool}
    default: {reputation: 0.5, known_bad: false}
  - name: device
    partition_by: device
    features:
      reputation: reputation
      known_bad: known_bad
      uses: {of: amount, aggregates: [count], over: [1h], where: reputation < 0.5}
rules:
  - {id: bad, when: known_bad, then: decline}
  - {id: doubtful, when: reputation < 0.2 and uses_count_1h > 2, then: review}
decision: {severity: [decline, review, approve], otherwise: approve, include: [reputation, known_bad, uses_count_1h]}
"""
Write = Callable[..., Path]
START = 1_770_000_000_000


def payments(count: int) -> list[dict[str, Any]]:
    chance = random.Random(4)
    names = [f"d{n}" for n in range(30)] + ["bad one", "Zürich & co", None]
    rows = [
        {"id": f"p{n}", "card": f"c{chance.randrange(9)}", "device": chance.choice(names), "amount": n % 90,
         "at": START + 900 * n}
        for n in range(count)
    ]  # fmt: skip
    return rows + rows[:10]


@pytest.fixture
def server() -> Iterator[Server]:
    with in_a_thread(Server()) as server:
        yield server


@pytest.fixture
def pipeline(tmp_path: Path, server: Server) -> Write:
    def write(timeout: str = "20s", partitions: int = 1) -> Path:
        """One partition: rows reach the last stage in the order of the file."""
        values = {"PORT": server.port, "TIMEOUT": timeout, "PARTITIONS": partitions}
        path, text = tmp_path / "shop.yaml", PIPELINE
        for name, value in values.items():
            text = text.replace(name, str(value))
        path.write_text(text)
        return path

    return write


def ndjson(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def fed(pipeline: Path, tmp_path: Path, rows: list[dict[str, Any]], log: str = "") -> None:
    log = log or f"file:{tmp_path}/log"
    done = finish("feed", "payments", ndjson(tmp_path / "in.ndjson", rows), "--pipeline", pipeline, "--log", log)
    assert done.code == 0, done.err


def ran(
    pipeline: Path, tmp_path: Path, rows: list[dict[str, Any]], workers: int = 1, log: str = ""
) -> list[dict[str, Any]]:
    """Fed and run to the end; the decisions, in no order."""
    log = log or f"file:{tmp_path}/log"
    shared = ["--pipeline", pipeline, "--log", log]
    fed(pipeline, tmp_path, rows, log)
    state = tmp_path / "log" / "state"
    done = finish("run", pipeline, "--log", log, "--state", state, "--until-end", "--workers", workers)
    assert done.code == 0, done.err
    seen = finish("tail", "decisions", *shared, "--from-start", "--until-end")
    letters = finish("tail", "dead_letters", *shared, "--from-start", "--until-end")
    assert letters.lines == []
    return [json.loads(line) for line in seen.lines]


def by_id(decisions: list[dict[str, Any]]) -> dict[tuple[str, bool], dict[str, Any]]:
    found = {(one["id"], one.get("duplicate", False)): one for one in decisions}
    assert len(found) == len(decisions)
    return found


def check_answers(rows: list[dict[str, Any]], found: dict[tuple[str, bool], dict[str, Any]]) -> None:
    """Each row has the service's answer about its own device."""
    for row in rows:
        decision, device = found[row["id"], False], row["device"]
        assert "failed_calls" not in decision
        known_bad = device == "bad one"
        answer = (None, None) if device is None else (reputation_of(device), known_bad)
        assert (decision["reputation"], decision["known_bad"]) == answer
        assert (decision["decision"] == "decline") is known_bad


@pytest.mark.timeout(180)
@pytest.mark.parametrize("workers", [1, 2])
def test_decisions_are_made_by_the_answers(pipeline: Write, server: Server, tmp_path: Path, workers: int) -> None:
    rows = payments(400)
    found = by_id(ran(pipeline(partitions=4), tmp_path, rows, workers))
    assert len(found) == 410
    check_answers(rows, found)
    assert max(decision["uses_count_1h"] or 0 for decision in found.values()) > 2
    assert all(found[row["id"], True]["decision"] == found[row["id"], False]["decision"] for row in rows[400:])
    most = workers  # each has a cache of its own
    assert set(server.asked.values()) <= set(range(1, most + 1))
    assert set(server.asked) == {row["device"] for row in rows} - {None}


@pytest.mark.kafka
@pytest.mark.timeout(180)
def test_on_kafka_too(pipeline: Write, server: Server, tmp_path: Path, kafka_bootstrap: str) -> None:
    rows, path = payments(400), pipeline(partitions=4)
    path.write_text(path.read_text().replace("pipeline: shop", f"pipeline: shop-{secrets.token_hex(4)}"))
    found = by_id(ran(path, tmp_path, rows, 2, f"kafka://{kafka_bootstrap}"))
    check_answers(rows, found)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("log", ["file", pytest.param("kafka", marks=pytest.mark.kafka)])
def test_a_kill_makes_no_row_twice(
    pipeline: Write, server: Server, tmp_path: Path, request: pytest.FixtureRequest, log: str
) -> None:
    """Three kills while calls are in flight: rows that were asked about are asked about again, and written once."""
    server.delay_s = 0.05
    rows, path = payments(3_000)[:3_000], pipeline(partitions=4)
    text = path.read_text().replace("pipeline: shop", f"pipeline: shop-{secrets.token_hex(4)}")
    path.write_text(text.replace("cache: 10m", "in_flight: 20"))
    url = f"file:{tmp_path}/log" if log == "file" else f"kafka://{request.getfixturevalue('kafka_bootstrap')}"
    fed(path, tmp_path, rows, url)
    for kill in range(3):
        asked = server.asked.total()
        process = start("run", path, "--log", url, "--state", tmp_path / "log" / "state")
        while server.asked.total() < asked + 150 * (kill + 1):
            assert process.poll() is None
            time.sleep(0.01)
        process.kill()  # its worker dies with it
        process.communicate()
    server.delay_s = 0
    found = by_id(ran(path, tmp_path, [], 1, url))
    assert len(found) == len(rows)
    check_answers(rows, found)
    assert server.asked.total() > len([row for row in rows if row["device"] is not None])


@pytest.mark.timeout(180)
def test_backtest_asks_only_when_it_is_told(pipeline: Write, server: Server, tmp_path: Path, cli: Cli) -> None:
    rows, path, output = payments(300), pipeline(), tmp_path / "out.parquet"
    inputs = ndjson(tmp_path / "in.ndjson", rows)
    plain = cli("backtest", path, "--input", inputs, "--output", output, "--json")
    assert plain.code == 0, plain.err
    assert "no service was asked: the declared defaults stand for device_reputation (--calls live asks)" in plain.err
    assert server.connections == 0
    decided = pq.read_table(output).to_pylist()
    known = [row for row, given in zip(decided, rows, strict=True) if given["device"] and not row["duplicate"]]
    assert {(row["reputation"], row["known_bad"], tuple(row["failed_calls"])) for row in known} == {
        (0.5, False, ("device_reputation",))
    }
    assert json.loads(plain.out)["failed_calls"] == {"device_reputation": len(known)}

    live = cli("backtest", path, "--input", inputs, "--output", output, "--json", "--calls", "live")
    assert live.code == 0, live.err
    assert "no service was asked" not in live.err
    assert json.loads(live.out)["failed_calls"] == {"device_reputation": 0}
    assert server.asked == dict.fromkeys({row["device"] for row in rows} - {None}, 1)
    found = by_id(ran(path, tmp_path, rows))
    for row in pq.read_table(output).to_pylist():
        decision = found[row["id"], row["duplicate"]]
        for name in ("decision", "reasons", "reputation", "known_bad"):
            assert decision[name] == row[name], name
        assert row["failed_calls"] == []


@pytest.mark.timeout(180)
def test_a_replay_calls_nobody(pipeline: Write, server: Server, tmp_path: Path) -> None:
    """The state is lost and rebuilt from what was answered then; the service would say otherwise now."""
    rows, path = payments(200), pipeline()
    first = by_id(ran(path, tmp_path, rows[:150]))
    for file in sorted((tmp_path / "log" / "state").rglob("*"), reverse=True):
        file.unlink() if file.is_file() else file.rmdir()
    server.mode = 'says {"reputation": 0.9, "known_bad": false}'
    asked = server.asked.total()
    found = by_id(ran(path, tmp_path, rows[150:200]))
    devices = {row["device"] for row in rows[150:200]} - {None}
    assert server.asked.total() - asked == len(devices)
    assert {key: found[key] for key in first} == first
    for row in rows[150:200]:
        before = [old for old in rows[:150] if old["device"] == row["device"]]
        low = row["device"] is not None and reputation_of(row["device"]) < 0.5
        assert found[row["id"], False]["uses_count_1h"] == (len(before) if low else 0)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("mode", ["hangs", "status 500", "hangs_up", "floods"])
def test_decisions_go_on_without_the_service(pipeline: Write, server: Server, tmp_path: Path, mode: str) -> None:
    server.mode = mode
    rows = payments(300)
    found = by_id(ran(pipeline("100ms", 4), tmp_path, rows))
    for row in rows[:300]:
        decision = found[row["id"], False]
        if row["device"] is not None:
            assert decision["failed_calls"] == ["device_reputation"]
            assert (decision["reputation"], decision["known_bad"]) == (0.5, False)
        else:
            assert "failed_calls" not in decision
    server.mode = "well"
