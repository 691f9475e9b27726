"""Patterns through `run`: as a backtest finds them, whatever is stopped and lost in the middle of a match."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.cli.conftest import PIPELINE, Cli, finish, payments
from tests.cli.test_round_trip import ndjson

pytestmark = [pytest.mark.blocking, pytest.mark.timeout(180)]
PATTERNS = """\
patterns:
  rising: >
    MEASURES COUNT(*) AS steps, FIRST(amount) AS lowest, LAST(amount) AS highest
    PATTERN (A -> B -> B -> C) WITHIN INTERVAL '20' HOURS
    DEFINE B AS amount > LAST(amount, 1), C AS country = 'be' AND amount > LAST(B.amount)
  stuck:
    match: >
      MEASURES COUNT(*) AS steps, LAST(amount) AS highest
      PATTERN (A -> B -> C) WITHIN INTERVAL '20' MINUTE
      DEFINE B AS amount > LAST(amount, 1), C AS amount > 3 * LAST(B.amount)
    timeout: rose no further
partition_by:"""
RULES = "rules:\n  - {id: rising, when: matched(rising) and rising.steps = 4, then: review}\n"


@pytest.mark.parametrize("lose", [False, True])
def test_a_run_finds_what_a_backtest_finds(cli: Cli, pipeline: Path, tmp_path: Path, lose: bool) -> None:
    include = "include: [rising.steps, rising.lowest, rising.highest, "
    text = PIPELINE.replace("partition_by:", PATTERNS, 1).replace("rules:\n", RULES).replace("include: [", include)
    pipeline.write_text(text)
    log, state = f"file:{tmp_path}/log", tmp_path / "state"
    inputs = [ndjson(tmp_path / f"{n}.ndjson", payments(40, n, 40 * n)) for n in range(4)]
    for path in inputs:
        assert cli("feed", "payments", path, "--pipeline", pipeline, "--log", log).code == 0
        if lose:
            shutil.rmtree(state, ignore_errors=True)
        ran = finish("run", pipeline, "--log", log, "--state", state, "--until-end", "--log-level", "error")
        assert (ran.code, ran.err) == (0, "")
    tail = cli("tail", "decisions", "--pipeline", pipeline, "--log", log, "--until-end")
    found = {row["payment_id"]: said(row) for row in map(json.loads, tail.lines) if row["rising.steps"]}
    output = tmp_path / "o.parquet"
    assert cli("backtest", pipeline, "--input", *inputs, "--output", output).code == 0
    wanted = {row["payment_id"]: said(row) for row in pq.read_table(output).to_pylist() if row["rising.steps"]}
    assert found == wanted
    assert len(found) > 3
    told = cli("tail", "alerts", "--pipeline", pipeline, "--log", log, "--until-end")
    assert sorted(told.lines) == sorted((tmp_path / "o.alerts.ndjson").read_text().splitlines())
    steps = [json.loads(line)["measures"]["steps"] for line in told.lines]
    assert len(steps) > 3
    assert set(steps) == {1, 2}, "told with what had come so far"


def said(row: dict[str, Any]) -> list[Any]:
    return [row["rising.steps"], float(row["rising.lowest"]), float(row["rising.highest"])]


BANK = """\
pipeline: bank
decide: payments
streams:
  payments: {id: id, event_time: at, fields: {id: string, user: string, amount: decimal(2), at: timestamp}}
  logins: {id: login, event_time: at, fields: {login: string, user: string, outcome: string, at: timestamp}}
partition_by: user
patterns:
  takeover: >
    MEASURES COUNT(F.*) AS failures
    PATTERN (F (-> F){2,} -> S -> P) WITHIN INTERVAL '10' MINUTE
    DEFINE F AS stream = 'logins' AND outcome = 'failed', S AS stream = 'logins' AND outcome = 'ok',
           P AS stream = 'payments' AND amount > 1000
rules: [{id: takeover, when: matched(takeover), then: decline}]
decision: {severity: [decline, approve], otherwise: approve, include: [takeover.failures]}
"""


def test_a_pattern_goes_across_streams(cli: Cli, tmp_path: Path) -> None:
    def at(second: int) -> str:
        return f"2026-05-01T10:00:{second:02d}Z"

    logins = [
        {"login": f"l{i}", "user": "u", "outcome": "failed" if i < 4 else "ok", "at": at(10 * i)} for i in range(5)
    ]
    amounts = {15: 5, 25: 2000, 50: 2000, 55: 2000}
    paid = [{"id": f"p{second}", "user": "u", "amount": amount, "at": at(second)} for second, amount in amounts.items()]
    (tmp_path / "bank.yaml").write_text(BANK)
    for name, rows in (("logins", logins), ("payments", paid)):
        (tmp_path / f"{name}.ndjson").write_text("".join(json.dumps(row) + "\n" for row in rows))
    inputs = [f"{name}={tmp_path}/{name}.ndjson" for name in ("payments", "logins")]
    output = tmp_path / "o.parquet"
    assert cli("backtest", tmp_path / "bank.yaml", "--input", *inputs, "--output", output).code == 0
    found = {row["id"]: (row["decision"], row["takeover.failures"]) for row in pq.read_table(output).to_pylist()}
    assert found == {
        "p15": ("approve", None),
        "p25": ("approve", None),
        "p50": ("decline", 4),
        "p55": ("approve", None),
    }
