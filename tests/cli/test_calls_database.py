"""A pipeline that asks a database, on a real one: `run` and `backtest --calls live` say what lies there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.calls.postgres import Postgres, missing
from tests.cli.conftest import Cli, finish
from tests.cli.test_calls import by_id, ndjson, payments

pytestmark = [pytest.mark.skipif(missing(), reason="PostgreSQL is not installed"), pytest.mark.timeout(180)]
PIPELINE = """\
pipeline: shop
partitions: 2
streams:
  payments:
    id: id
    event_time: at
    fields: {id: string, card: string, device: string, amount: decimal(2), at: timestamp}
stages:
  - name: card
    partition_by: card
  - name: blocked
    call:
      sql: "select reason, bound from blocked where device = {device} and {amount} > bound and {at} > since"
      database: $BLOCKED
      timeout: 20s
    returns: {reason: string, bound: decimal(2)}
  - name: device
    partition_by: device
rules:
  - {id: stolen, when: reason is not null, then: decline}
  - {id: unasked, when: blocked_failed, then: review}
decision: {severity: [decline, review, approve], otherwise: approve, include: [reason, bound]}
"""
TABLE = """
create table blocked (device text, reason text, bound numeric(12, 2), since timestamptz);
insert into blocked values ('bad one', 'stolen', 10.50, '2020-01-01'), ('Zürich & co', 'lent', 40, '2020-01-01');
insert into blocked values ('d3', 'later', 0, '2099-01-01');
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with Postgres() as server:
        server.execute(TABLE)
        yield server


def test_decisions_are_made_by_what_lies_there(
    server: Postgres, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BLOCKED", server.url)
    pipeline, log, rows = tmp_path / "shop.yaml", f"file:{tmp_path}/log", payments(300)[:300]
    pipeline.write_text(PIPELINE)
    inputs, output = ndjson(tmp_path / "in.ndjson", rows), tmp_path / "out.parquet"
    live = cli("backtest", pipeline, "--input", inputs, "--output", output, "--calls", "live")
    assert live.code == 0, live.err
    assert cli("feed", "payments", inputs, "--pipeline", pipeline, "--log", log).code == 0
    ran = finish("run", pipeline, "--log", log, "--state", tmp_path / "state", "--until-end", "--log-level", "error")
    assert (ran.code, ran.err) == (0, "")
    seen = finish("tail", "decisions", "--pipeline", pipeline, "--log", log, "--from-start", "--until-end")
    found = by_id([json.loads(line) for line in seen.lines])
    replayed = {row["id"]: row for row in pq.read_table(output).to_pylist()}
    listed = {"bad one": ("stolen", 10.5), "Zürich & co": ("lent", 40.0)}
    hits = 0
    for row in rows:
        reason, bound = listed.get(row["device"], (None, None))
        if bound is None or row["amount"] <= bound:
            reason, bound = None, None
        hits += reason is not None
        decision = found[row["id"], False]
        assert (decision["reason"], decision["bound"]) == (reason, bound)
        assert decision["decision"] == replayed[row["id"]]["decision"] == ("decline" if reason else "approve")
        assert "failed_calls" not in decision
    assert hits > 3


def test_without_its_address_nothing_starts(tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BLOCKED", raising=False)
    pipeline = tmp_path / "shop.yaml"
    pipeline.write_text(PIPELINE)
    ran = finish("run", pipeline, "--log", f"file:{tmp_path}/log", "--state", tmp_path / "state", "--until-end")
    assert ran.code == 2, ran.err
    assert "call blocked: database is $BLOCKED, and the environment has no BLOCKED (set it)" in ran.err
