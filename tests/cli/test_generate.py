"""`streamproc generate`: the generator's payments, in files that `backtest` and `feed` read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from tests.cli.conftest import Cli

CARD_FRAUD = Path(__file__).parents[2] / "configs" / "card_fraud" / "pipeline.yaml"


@pytest.fixture
def db() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        yield connection


def test_both_kinds_hold_the_same_payments(cli: Cli, tmp_path: Path, db: duckdb.DuckDBPyConnection) -> None:
    for kind in ("parquet", "ndjson"):
        done = cli("generate", tmp_path / f"p.{kind}", "--events", 600, "--seed", 3, "--labels", tmp_path / f"l.{kind}")
        assert (done.code, done.out) == (0, "")
        assert done.err.startswith("600 payments, ")
    found = []
    for kind in ("parquet", "ndjson"):
        ids = "select transaction_id, amount::decimal(12, 2), mcc::varchar from"
        payments = db.execute(f"{ids} '{tmp_path}/p.{kind}' order by 1").fetchall()
        labels = db.execute(f"select transaction_id, fraud from '{tmp_path}/l.{kind}' order by 1").fetchall()
        found.append((payments, labels))
    assert found[0] == found[1]
    payments, labels = found[0]
    assert len(payments) == 600
    assert 0 < len(labels) < 100
    assert {one[0] for one in labels} < {one[0] for one in payments}


def test_a_backtest_decides_all_of_them(cli: Cli, tmp_path: Path) -> None:
    files = [tmp_path / "transactions.ndjson", tmp_path / "account_events.ndjson"]
    assert cli("generate", files[0], "--account-events", files[1], "--events", 500).code == 0
    done = cli("backtest", CARD_FRAUD, "--input", *files, "--output", tmp_path / "o.parquet", "--json")
    said = json.loads(done.out)
    assert (said["rows"], said["dead_letters"]) == (500, {})


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["p.csv"], "error: p.csv: its kind is not known (FILE.parquet or FILE.ndjson)"),
        (["no/p.parquet"], "error: the folder of no/p.parquet is missing"),
        (["dir.parquet"], "error: dir.parquet is a directory"),
        (["p.parquet", "--labels", "l.txt"], "error: l.txt: its kind is not known"),
        (["p.parquet", "--labels", "./p.parquet"], "error: one FILE cannot hold two things"),
        (["p.parquet", "--events", "499"], "--events"),
        ([], "Missing argument 'FILE'"),
        (["/sys/kernel/p.ndjson"], "error: /sys/kernel/p.ndjson cannot be written: "),
    ],
)
def test_wrong_use(
    arguments: list[str], said: str, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dir.parquet").mkdir()
    done = cli("generate", *arguments)
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert said in done.err
