"""Most rows dead is said loudly; a feed that is broken off says what went in."""

from __future__ import annotations

import json
import re
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


def test_a_backtest_says_where_its_dead_letters_are(cli: Cli, pipeline: Path, tmp_path: Path) -> None:
    path, output = ndjson(tmp_path / "x.ndjson", payments(20), WRONG), tmp_path / "o.parquet"
    given = ["backtest", pipeline, "--input", path, "--output", output]
    letters = tmp_path / "o.dead_letters.ndjson"
    assert f"dead letters: wrong_type 1, listed in {letters}\n" in cli(*given).err
    assert json.loads(cli(*given, "--json").out)["dead_letters_output"] == str(letters)


def test_rows_that_are_no_records_count(cli: Cli, pipeline: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("Payment,Card,Amount,Country,At\n" + "p,c\n" * 9)
    fed = cli("feed", "payments", path, "--pipeline", pipeline, "--log", f"file:{tmp_path}/log").err
    assert "WARNING: ALL 9 records looked at will be dead letters, most often (9): wrong_cells" in fed


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_feed_that_is_interrupted_says_what_went_in(
    number: signal.Signals, code: int, cli: Cli, pipeline: Path, tmp_path: Path
) -> None:
    path = ndjson(tmp_path / "x.ndjson", payments(400))
    shared = ["--pipeline", pipeline, "--log", f"file:{tmp_path}/log"]
    feeding = start("feed", "payments", path, *shared, "--rate", 20)
    database = tmp_path / "log" / "log.sqlite3"
    while not database.exists() or not cli("tail", "payments", *shared, "--until-end").lines:
        assert feeding.poll() is None
    feeding.send_signal(number)
    _, err = feeding.communicate(timeout=20)
    assert feeding.returncode == code
    (line,) = [line for line in err.splitlines() if line.startswith("broken off: ")]
    there = len(cli("tail", "payments", *shared, "--until-end").lines)
    assert there - 3 <= int(line.split()[2]) <= there
    said = "(what comes again is known by its payment_id for as long as `deduplicate:` says)"
    found = re.fullmatch(r"broken off: (\d+) records went in, perhaps some more; go on with --skip (\d+) (.*)", line)
    assert found is not None
    assert (found[1], found[3]) == (found[2], said)
    assert cli("feed", "payments", path, *shared, "--skip", found[2]).code == 0
    fed = cli("tail", "payments", *shared, "--until-end").lines
    assert {json.loads(text)["Payment"] for text in fed} == {f"p{n}" for n in range(400)}


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_backtest_that_is_ended_leaves_nothing(
    number: signal.Signals, code: int, pipeline: Path, tmp_path: Path
) -> None:
    path = ndjson(tmp_path / "x.ndjson", payments(20_000))
    output = tmp_path / "out" / "o.parquet"
    output.parent.mkdir()
    testing = start("backtest", pipeline, "--input", *[path] * 40, "--output", output)
    while not list(output.parent.iterdir()):
        assert testing.poll() is None
    testing.send_signal(number)
    _, err = testing.communicate(timeout=20)
    assert (testing.returncode, err) == (code, "")
    assert list(output.parent.iterdir()) == []


def test_skip_counts_rows_of_all_files(cli: Cli, pipeline: Path, tmp_path: Path) -> None:
    """Blank lines and rows that are no records are rows, too."""
    first, second = tmp_path / "1.csv", tmp_path / "2.csv"
    head = "Payment,Card,Amount,Country,At\n"
    rows = [f"p{n},c1,1.00,be,2026-05-01T00:00:0{n}Z\n" for n in range(6)]
    first.write_text(head + rows[0] + "no,record\n" + rows[1] + rows[2])
    second.write_text(head + "".join(rows[3:]))
    for skip, left in ((0, 6), (1, 5), (2, 5), (4, 3), (5, 2), (7, 0), (99, 0)):
        shared = ["--pipeline", pipeline, "--log", f"file:{tmp_path}/log{skip}"]
        outcome = cli("feed", "payments", first, second, *shared, "--skip", skip)
        assert outcome.code == 0
        there = [json.loads(text)["Payment"] for text in cli("tail", "payments", *shared, "--until-end").lines]
        assert there == [f"p{n}" for n in range(6)][6 - left :]


def test_a_file_that_outlasts_deduplication_is_warned_of_when_it_is_fed_again(
    cli: Cli, pipeline: Path, tmp_path: Path
) -> None:
    path = tmp_path / "x.csv"
    rows = [f"p{n},c1,1.00,be,2026-05-0{1 + n // 300}T00:00:00Z\n" for n in range(901)]
    path.write_text("Payment,Card,Amount,Country,At\n" + "".join(rows))
    shared = ["--pipeline", pipeline, "--log", f"file:{tmp_path}/log"]
    assert "warning" not in cli("feed", "payments", path, *shared).err
    (line,) = [text for text in cli("feed", "payments", path, *shared).err.splitlines() if "warning" in text]
    assert line.startswith("warning: the records span 3.0 days of event time, `deduplicate:` 1d: fed again, ")
    pipeline.write_text(pipeline.read_text().replace("deduplicate: 24h", "deduplicate: 3d"))
    assert "warning" not in cli("feed", "payments", path, *shared).err
