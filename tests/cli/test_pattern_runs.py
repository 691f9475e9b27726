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


def said(row: dict[str, Any]) -> list[Any]:
    return [row["rising.steps"], float(row["rising.lowest"]), float(row["rising.highest"])]
