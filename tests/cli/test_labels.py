"""Labels as a stream by `label_at`: against brute force, against the delayed column, and live against the backtest."""

from __future__ import annotations

import json
import random
import secrets
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.cli.conftest import Cli, finish

DAY = 86_400_000
START = 1_600_000_000_000
PAYMENTS = """\
  payments:
    id: id
    event_time: at
    fields: {id: string, terminal: string, amount: decimal(2), fraud_later: int64, at: timestamp}
"""
REST = """\
partition_by: terminal
features:
  risk: {of: FRAUD, aggregates: [count, sum, mean], over: [1d, 7d, 30d]DELAY}
decision: {severity: [approve], otherwise: approve}
"""
LABELS = """\
  labels:
    id: label
    event_time: label_at
    fields: {label: string, terminal: string, fraud: int64, label_at: timestamp}
"""
STREAM = f"pipeline: NAME\nstreams:\n{PAYMENTS}{LABELS}{REST}".replace("FRAUD", "fraud").replace("DELAY", "")
COLUMN = f"pipeline: NAME\nstreams:\n{PAYMENTS}{REST}".replace("FRAUD", "fraud_later").replace("DELAY", ", delay: 7d")
NAMES = [f"risk_{what}_{days}d" for days in (1, 7, 30) for what in ("count", "sum", "mean")]
Row = dict[str, Any]


def payments(seed: int, size: int = 400) -> list[Row]:
    chance = random.Random(seed)
    times = sorted(chance.sample(range(40 * DAY), size))
    return [
        {"id": f"p{n}", "terminal": f"t{chance.randrange(5)}", "amount": 1, "fraud_later": int(chance.random() < 0.2),
         "at": START + time}
        for n, time in enumerate(times)
    ]  # fmt: skip


def labels(rows: list[Row], seed: int, after: int | None = None) -> list[Row]:
    """By the time at which each became known: `after` its payment, or some days later or never."""
    chance = random.Random(seed)
    found = [
        {
            "label": row["id"], "terminal": row["terminal"], "fraud": row["fraud_later"],
            "label_at": row["at"] + (chance.randrange(30 * DAY) if after is None else after),
        }
        for row in rows
        if after is not None or chance.random() < 0.7
    ]  # fmt: skip
    return sorted(found, key=lambda label: label["label_at"])


def write(folder: Path, name: str, rows: list[Row]) -> Path:
    path = folder / f"{name}.ndjson"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def backtest(cli: Cli, folder: Path, text: str, *inputs: Path) -> dict[str, Row]:
    pipeline, output = folder / "shop.yaml", folder / "out.parquet"
    pipeline.write_text(text.replace("NAME", "shop"))
    done = cli("backtest", pipeline, "--input", *inputs, "--output", output)
    assert done.code == 0, done.err
    return {row["id"]: {name: row[name] for name in NAMES} for row in pq.read_table(output).to_pylist()}


def brute_force(rows: list[Row], told: list[Row]) -> dict[str, Row]:
    found = {}
    for row in rows:
        known = [one for one in told if one["terminal"] == row["terminal"] and one["label_at"] < row["at"]]
        mine: Row = {}
        for days in (1, 7, 30):
            within = [one["fraud"] for one in known if one["label_at"] > row["at"] - days * DAY]
            mine[f"risk_count_{days}d"] = len(within)
            mine[f"risk_sum_{days}d"] = sum(within) if within else None
            mine[f"risk_mean_{days}d"] = sum(within) / len(within) if within else None
        found[row["id"]] = mine
    return found


@pytest.mark.parametrize("seed", range(3))
def test_a_payment_sees_the_labels_of_its_time(cli: Cli, tmp_path: Path, seed: int) -> None:
    rows = payments(seed)
    told = labels(rows, seed)
    got = backtest(cli, tmp_path, STREAM, write(tmp_path, "payments", rows), write(tmp_path, "labels", told))
    assert got == brute_force(rows, told)
    assert sum(row["risk_sum_7d"] or 0 for row in got.values()) > 100


def test_labels_of_a_column_and_a_delay_are_the_same(cli: Cli, tmp_path: Path) -> None:
    rows = payments(5)
    told = labels(rows, 5, after=7 * DAY)
    assert not {row["at"] for row in rows} & {label["label_at"] for label in told}
    paths = write(tmp_path, "payments", rows), write(tmp_path, "labels", told)
    assert backtest(cli, tmp_path, COLUMN, paths[0]) == backtest(cli, tmp_path, STREAM, *paths)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("log", ["file", pytest.param("kafka", marks=pytest.mark.kafka)])
def test_live_as_in_the_backtest(cli: Cli, tmp_path: Path, request: pytest.FixtureRequest, log: str) -> None:
    """Two workers, a stop in the middle, and the state lost there."""
    rows = payments(9)
    told = labels(rows, 9)
    wanted = backtest(cli, tmp_path, STREAM, write(tmp_path, "payments", rows), write(tmp_path, "labels", told))
    url = f"file:{tmp_path}/log" if log == "file" else f"kafka://{request.getfixturevalue('kafka_bootstrap')}"
    pipeline = tmp_path / "live.yaml"
    pipeline.write_text(STREAM.replace("NAME", f"shop-{secrets.token_hex(4)}"))
    shared = ("--pipeline", pipeline, "--log", url)
    middle = START + 20 * DAY
    for late in (False, True):
        parts = {
            "labels": [label for label in told if (label["label_at"] >= middle) is late],
            "payments": [row for row in rows if (row["at"] >= middle) is late],
        }
        for stream, part in parts.items():
            assert cli("feed", stream, write(tmp_path, f"{stream}-part", part), *shared).code == 0
        done = finish("run", pipeline, *shared[2:], "--state", tmp_path / "state", "--workers", 2, "--until-end")
        assert done.code == 0, done.err
        shutil.rmtree(tmp_path / "state")
    found = [json.loads(line) for line in cli("tail", "features", *shared, "--from-start", "--until-end").lines]
    assert len(found) == len(rows)
    assert {row["id"]: {name: row[name] for name in NAMES} for row in found} == wanted
