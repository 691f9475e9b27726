"""The Fraud Detection Handbook's 14 features out of one pipeline, equal to its published data set; the same online.

Golden values: the handbook's transformed data, made by its authors' pandas code. Where one customer paid twice in
one second, its order is that of pandas' sort and ours that of the input: those rows are named by the data itself.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared" / "data"
RAW = DATA / "handbook_raw"
GOLDEN = DATA / "handbook_transformed" / "2018-08.parquet"
PIPELINE = ROOT / "configs" / "handbook" / "pipeline.yaml"
MONTHS = [RAW / f"2018-0{month}.parquet" for month in (4, 5, 6, 7, 8)]
WINDOWS = ("1day", "7day", "30day")
CUSTOMER_COUNTS = ["tx_during_weekend", "tx_during_night", *(f"customer_id_nb_tx_{w}_window" for w in WINDOWS)]
CUSTOMER_MEANS = [f"customer_id_avg_amount_{w}_window" for w in WINDOWS]
TERMINAL_COUNTS = [f"terminal_id_nb_tx_{w}_window" for w in WINDOWS]
TERMINAL_RISKS = [f"terminal_id_risk_{w}_window" for w in WINDOWS]
CUSTOMER = [*CUSTOMER_COUNTS, *CUSTOMER_MEANS]
TERMINAL = [*TERMINAL_COUNTS, *TERMINAL_RISKS]

pytestmark = [
    pytest.mark.skipif(not GOLDEN.exists(), reason="the handbook's data does not lie beside the checkout"),
    pytest.mark.timeout(300),
    pytest.mark.xdist_group("handbook"),
]


def streamproc(*arguments: str | Path, stdout: Path | None = None) -> None:
    """Run a command as a user would; its stdout into a file."""
    with open(stdout or os.devnull, "wb") as out:
        done = subprocess.run(
            [sys.executable, "-m", "streamproc.cli.main", *map(str, arguments)],
            stdout=out, stderr=subprocess.PIPE, check=False, cwd=ROOT, timeout=280,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()[-2000:]


def backtest(inputs: list[Path], output: Path) -> Path:
    streamproc("backtest", PIPELINE, "--input", *inputs, "--output", output)
    return output


@pytest.fixture(scope="module")
def april(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backtest of the first month."""
    return backtest(MONTHS[:1], tmp_path_factory.mktemp("april") / "april.parquet")


@pytest.fixture
def db() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        yield connection


def different(db: duckdb.DuckDBPyConnection, ours: Path, exact: list[str], close: list[str]) -> set[int]:
    """Ids of golden rows on which any of our columns differs."""
    tests = [f"o.{name} is distinct from g.{name.upper()}" for name in exact]
    tests += [f"o.{name} is null or abs(o.{name} - g.{name.upper()}) > 1e-9" for name in close]
    rows = db.execute(
        f"select g.TRANSACTION_ID from '{GOLDEN}' g left join '{ours}' o "
        f"on o.transaction_id::bigint = g.TRANSACTION_ID where {' or '.join(f'({test})' for test in tests)}"
    ).fetchall()
    return {row[0] for row in rows}


def tied(db: duckdb.DuckDBPyConnection) -> set[int]:
    """Ids of rows whose customer has another row in the same second."""
    rows = db.execute(
        f"select TRANSACTION_ID from '{GOLDEN}' qualify count(*) over (partition by CUSTOMER_ID, TX_DATETIME) > 1"
    ).fetchall()
    return {row[0] for row in rows}


def test_all_features_equal_the_published_ones(tmp_path: Path, db: duckdb.DuckDBPyConnection) -> None:
    ours = backtest(MONTHS, tmp_path / "handbook.parquet")
    wrong = different(db, ours, CUSTOMER_COUNTS, CUSTOMER_MEANS)
    assert wrong <= tied(db)
    assert len(wrong) <= 20
    assert different(db, ours, TERMINAL_COUNTS, TERMINAL_RISKS) == set()


def online_equals_backtest(
    db: duckdb.DuckDBPyConnection, april: Path, log: str, tmp: Path, workers: int
) -> None:  # fmt: skip
    """Feed April, run to the end, and compare decisions and the last stage's features with the backtest.

    The pipeline has a name, and so topics, of its own: all runs share one broker.
    """
    pipeline = tmp / "pipeline.yaml"
    pipeline.write_text(PIPELINE.read_text().replace("pipeline: handbook\n", f"pipeline: handbook_{workers}\n"))
    month, common = MONTHS[0], ("--pipeline", pipeline, "--log", log)
    streamproc("feed", "transactions", month, *common)
    options = ("--state", tmp / "state", "--until-end", "--log-level", "warning", "--workers", str(workers))
    streamproc("run", pipeline, "--log", log, *options)
    for topic, features in (("decisions", [*CUSTOMER, *TERMINAL]), ("features", TERMINAL)):
        lines = tmp / f"{topic}.ndjson"
        streamproc("tail", topic, *common, "--from-start", "--until-end", stdout=lines)
        columns = ", ".join(["transaction_id::bigint as transaction_id", "decision", *features])
        wanted = f"select {columns} from '{april}'"
        got = f"select {columns} from read_json('{lines}', format='newline_delimited')"
        for one, other in ((wanted, got), (got, wanted)):
            assert db.execute(f"select count(*) from (({one}) except all ({other}))").fetchone() == (0,), topic
    counted = db.execute(f"select count(*) from '{april}'").fetchone()
    assert counted == db.execute(f"select count(*) from '{month}'").fetchone()


@pytest.mark.parametrize("workers", [1, 4])
def test_a_month_online_on_the_embedded_log(
    workers: int, april: Path, tmp_path: Path, db: duckdb.DuckDBPyConnection
) -> None:
    online_equals_backtest(db, april, f"file:{tmp_path / 'log'}", tmp_path, workers)


@pytest.mark.kafka
@pytest.mark.parametrize("workers", [1, 4])
def test_a_month_online_on_kafka(
    workers: int, april: Path, tmp_path: Path, db: duckdb.DuckDBPyConnection, kafka_bootstrap: str
) -> None:
    online_equals_backtest(db, april, f"kafka://{kafka_bootstrap}", tmp_path, workers)
