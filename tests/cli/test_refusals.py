"""Most rows dead is said loudly; a feed that is broken off says what went in."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.cli.conftest import Cli, payments, start
from tests.cli.test_round_trip import ndjson

WRONG = b'{"Payment":"x","Card":"c","Amount":"dear","At":0}'


@pytest.mark.parametrize(("good", "said"), [(0, "ALL 20 "), (21, "20 of 41 "), (19, "20 of 39 ")])
def test_more_dead_than_decided_is_said_loudly(good: int, said: str, cli: Cli, pipeline: Path, tmp_path: Path) -> None:
    path = ndjson(tmp_path / "x.ndjson", payments(good)[:good], *[WRONG] * 20)
    output = tmp_path / "o.parquet"
    ran = [cli("backtest", pipeline, "--input", path, "--output", output, *more) for more in ([], ["--json"])]
    tested = [outcome.err for outcome in ran]
    assert {outcome.code for outcome in ran} == {0 if good else 1}
    assert output.exists()
    code, _, fed = cli("feed", "payments", path, "--pipeline", pipeline, "--log", f"file:{tmp_path}/log")
    assert code == 0  # they are in the log: what becomes of them is for `run`
    for err, are in ((tested[0], "rows are"), (tested[1], "rows are"), (fed, "records looked at will be")):
        line = f"WARNING: {said}{are} dead letters, most often (20): wrong_type, amount: expected decimal(2)\n"
        assert (line in err) == (good < 20)
        assert ("WARNING" in err) == (good < 20)


def test_a_backtest_of_no_rows_is_no_failure(cli: Cli, pipeline: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("Payment,Card,Amount,Country,At\n")
    assert cli("backtest", pipeline, "--input", path, "--output", tmp_path / "o.parquet").code == 0


def test_rows_that_are_no_records_count(cli: Cli, pipeline: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("Payment,Card,Amount,Country,At\n" + "p,c\n" * 9)
    fed = cli("feed", "payments", path, "--pipeline", pipeline, "--log", f"file:{tmp_path}/log").err
    assert "WARNING: ALL 9 records looked at will be dead letters, most often (9): wrong_cells" in fed


def test_a_feed_that_is_interrupted_says_what_went_in(cli: Cli, pipeline: Path, tmp_path: Path) -> None:
    path = ndjson(tmp_path / "x.ndjson", payments(400))
    shared = ["--pipeline", pipeline, "--log", f"file:{tmp_path}/log"]
    feeding = start("feed", "payments", path, *shared, "--rate", 20)
    database = tmp_path / "log" / "log.sqlite3"
    while not database.exists() or not cli("tail", "payments", *shared, "--until-end").lines:
        assert feeding.poll() is None
    feeding.send_signal(signal.SIGINT)
    _, err = feeding.communicate(timeout=20)
    assert feeding.returncode == 130
    (line,) = [line for line in err.splitlines() if line.startswith("broken off: ")]
    there = len(cli("tail", "payments", *shared, "--until-end").lines)
    assert there - 3 <= int(line.split()[2]) <= there
    assert line.endswith(
        "a new start begins at the first row (what comes again is known by its payment_id"
        " for as long as `deduplicate:` says)"
    )
