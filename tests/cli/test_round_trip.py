"""feed -> run -> tail on the embedded log, and backtest on the same files: all agree."""

from __future__ import annotations

import csv
import json
import signal
import time
from collections import Counter
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.cli.conftest import Cli, finish, payments, start

BROKEN = [b'{"Payment": "x1", "Card": "c1"', b'{"Payment":"x2","Card":"c2","At":0}', b'{"Card":"c3","At":0}', b"[]"]


def parquet(path: Path, rows: list[dict[str, Any]]) -> Path:
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    kinds = {"At": pa.timestamp("ms", "UTC")}
    pq.write_table(pa.table({n: pa.array(v, kinds.get(n)) for n, v in columns.items()}), path)
    return path


def as_csv(path: Path, rows: list[dict[str, Any]]) -> Path:
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows({**row, "At": row["At"].isoformat()} for row in rows)
    return path


def ndjson(path: Path, rows: list[dict[str, Any]], *more: bytes) -> Path:
    lines = [json.dumps({**row, "At": row["At"].isoformat()}).encode() for row in rows]
    path.write_bytes(b"".join(line + b"\n" for line in [*lines, *more]))
    return path


def plain(value: Any) -> Any:
    """A Parquet value as JSON has it."""
    if isinstance(value, datetime):
        return round(value.timestamp() * 1000)
    return float(value) if isinstance(value, Decimal) else value


ROWS = [payments(1000, seed, 1000 * seed) for seed in range(3)]


@pytest.fixture
def inputs(tmp_path: Path) -> list[Path]:
    return [
        parquet(tmp_path / "a.parquet", ROWS[0]),
        as_csv(tmp_path / "b.csv", ROWS[1]),
        ndjson(tmp_path / "c.ndjson", ROWS[2], *BROKEN),
    ]


def test_fed_records_come_back(cli: Cli, pipeline: Path, tmp_path: Path) -> None:
    path = ndjson(tmp_path / "c.ndjson", payments(500), *BROKEN)
    shared = ["--pipeline", pipeline, "--log", f"file:{tmp_path}/log"]
    fed = cli("feed", "payments", path, *shared)
    assert (fed.code, fed.out) == (0, "")
    assert "fed 529 records" in fed.err
    seen = cli("tail", "payments", *shared, "--from-start", "--until-end")
    assert (seen.code, seen.err) == (0, "")
    lines = path.read_text().splitlines()
    expected = [
        line if line.encode() != BROKEN[0] else json.dumps({"not_json": line}, separators=(",", ":")) for line in lines
    ]
    assert Counter(seen.lines) == Counter(expected)
    assert cli("tail", "decisions", *shared, "--until-end").lines == []


def test_a_rate_is_kept(cli: Cli, pipeline: Path, tmp_path: Path) -> None:
    path = ndjson(tmp_path / "c.ndjson", payments(95))
    started = time.monotonic()
    fed = cli("feed", "payments", path, "--pipeline", pipeline, "--log", f"file:{tmp_path}/log", "--rate", 200)
    assert fed.code == 0
    assert time.monotonic() - started >= 98 / 200


def test_tail_of_nothing_yet_says_so(cli: Cli, pipeline: Path, tmp_path: Path) -> None:
    log = f"file:{tmp_path}/log"
    other = tmp_path / "other.yaml"
    other.write_text(pipeline.read_text().replace("pipeline: shop", "pipeline: other"))
    fed = cli("feed", "payments", ndjson(tmp_path / "1.ndjson", payments(1)), "--pipeline", other, "--log", log)
    assert fed.code == 0
    outcome = cli("tail", "decisions", "--pipeline", pipeline, "--log", log, "--until-end")
    assert (outcome.code, outcome.out) == (0, "")
    assert outcome.err.count("\n") == 1
    assert "no topic shop.decisions" in outcome.err


def test_run_and_backtest_agree(cli: Cli, pipeline: Path, inputs: list[Path], tmp_path: Path) -> None:
    shared = ["--pipeline", pipeline, "--log", f"file:{tmp_path}/log"]
    assert cli("feed", "payments", *inputs, *shared).code == 0
    ran = finish("run", pipeline, "--log", f"file:{tmp_path}/log", "--until-end", "--workers", 2)
    assert (ran.code, ran.out) == (0, ""), ran.err

    output = tmp_path / "o.parquet"
    tested = cli("backtest", pipeline, "--input", *inputs, "--output", output, "--json")
    assert tested.code == 0, tested.err
    summary = json.loads(tested.out)
    table = pq.read_table(output)
    assert summary["rows"] == 3154
    assert summary["dead_letters"] == {"broken_json": 1, "missing_field": 1, "missing_id": 1, "wrong_type": 1}
    assert sum(summary["decisions"].values()) == table.num_rows == 3150
    assert summary["duplicates"] == 150
    assert all(summary["rules"][rule] > 10 for rule in ("many", "abroad", "dear"))

    expected = [{name: plain(value) for name, value in row.items()} for row in table.to_pylist()]
    decided = [json.loads(line) for line in cli("tail", "decisions", *shared, "--until-end").lines]
    by_id = {(row["payment_id"], row["duplicate"]): row for row in expected}
    assert_agree(decided, by_id)

    features = [json.loads(line) for line in cli("tail", "features", *shared, "--until-end").lines]
    assert len(features) == 3000
    assert_agree(features, by_id, but={"offset", "partition", "rules"})
    letters = [json.loads(line) for line in cli("tail", "dead_letters", *shared, "--until-end").lines]
    assert dict(Counter(letter["reason"] for letter in letters)) == summary["dead_letters"]
    listed = [json.loads(line) for line in (tmp_path / "o.dead_letters.ndjson").read_text().splitlines()]
    assert [(letter["row"], letter["reason"]) for letter in listed] == [
        (1051, "broken_json"), (1052, "missing_field"), (1053, "missing_id"), (1054, "wrong_type"),
    ]  # fmt: skip
    urgent = cli("tail", "urgent", *shared, "--until-end").lines
    assert len(urgent) == summary["rules"]["many"]
    journal = [json.loads(line) for line in cli("tail", "journal", *shared, "--until-end").lines]
    assert sum(entry["records"] for entry in journal) == 3154
    assert sum(entry["duplicates"] for entry in journal) == 150


def assert_agree(
    found: list[dict[str, Any]], by_id: dict[tuple[str, bool], Any], but: frozenset[str] | set[str] = frozenset()
) -> None:
    for record in found:
        twin = by_id[record["payment_id"], record.get("duplicate", False)]
        names = record.keys() - but
        assert {name: twin[name] for name in names} == {name: record[name] for name in names}
        assert twin["shadow"] == record.get("shadow", [] if "reasons" in record else twin["shadow"])


def test_a_backtest_is_deterministic_in_input_order_and_leaves_no_drafts(
    cli: Cli, pipeline: Path, inputs: list[Path], tmp_path: Path
) -> None:
    first, second = tmp_path / "1.parquet", tmp_path / "2.parquet"
    assert cli("backtest", pipeline, "--input", *inputs, "--output", first).code == 0
    assert (
        cli(
            "backtest",
            pipeline,
            "--input",
            f"payments={inputs[0]}",
            inputs[1],
            "--input",
            inputs[2],
            "--output",
            second,
        ).code
        == 0
    )
    assert first.read_bytes() == second.read_bytes()
    table = pq.read_table(first)
    given = [row["Payment"] for rows in ROWS for row in rows]
    assert table.column("payment_id").to_pylist() == given
    assert table.schema.names == [
        "payment_id", "card", "event_time", "amount", "spend_count_1h", "spend_sum_1h", "spend_mean_1h",
        "spend_count_24h", "spend_sum_24h", "spend_mean_24h", "share", "abroad", "country", "score", "decision",
        "reasons", "shadow", "duplicate",
    ]  # fmt: skip
    assert table.schema.field("amount").type == pa.decimal128(19, 2)
    assert table.column("amount")[0].as_py() == Decimal(str(ROWS[0][0]["Amount"]))
    clean = cli("backtest", pipeline, "--input", inputs[0], "--output", first)
    assert clean.code == 0
    assert "decisions: " in clean.err
    assert not (tmp_path / "1.dead_letters.ndjson").exists()
    assert sorted(path.name for path in tmp_path.glob(".*")) == []


def test_a_failed_backtest_leaves_the_old_output(cli: Cli, pipeline: Path, inputs: list[Path], tmp_path: Path) -> None:
    output = tmp_path / "o.parquet"
    output.write_bytes(b"old")
    broken = tmp_path / "z.parquet"
    broken.write_bytes(b"nothing")
    assert cli("backtest", pipeline, "--input", inputs[0], broken, "--output", output).code == 2
    assert output.read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.glob(".*")) == []


def test_run_stops_on_a_signal_and_goes_on_where_it_stopped(cli: Cli, pipeline: Path, tmp_path: Path) -> None:
    shared = ["--pipeline", pipeline, "--log", f"file:{tmp_path}/log"]
    first, second = ndjson(tmp_path / "1.ndjson", payments(400)), ndjson(tmp_path / "2.ndjson", payments(50, seed=2))
    assert cli("feed", "payments", first, *shared).code == 0
    running = start("run", pipeline, "--log", f"file:{tmp_path}/log")
    tailing = start("tail", "decisions", *shared, "--from-start")
    assert tailing.stdout is not None
    for _ in range(420):
        assert "payment_id" in tailing.stdout.readline()
    running.send_signal(signal.SIGTERM)
    tailing.send_signal(signal.SIGINT)
    assert running.wait(20) == 0
    assert tailing.wait(20) == 0
    assert cli("feed", "payments", second, *shared).code == 0
    again = finish("run", pipeline, "--log", f"file:{tmp_path}/log", "--until-end")
    assert again.code == 0, again.err
    assert len(cli("tail", "decisions", *shared, "--until-end").lines) == 420 + 52
    for process in (running, tailing):
        process.communicate()


def test_tail_prints_the_same_log_alike_each_time(cli: Cli, pipeline: Path, tmp_path: Path) -> None:
    given = ["--pipeline", pipeline, "--log", f"file:{tmp_path}/log"]
    assert cli("feed", "payments", ndjson(tmp_path / "x.ndjson", payments(40)), *given).code == 0
    told = set()
    for _ in range(2):  # with another hash seed each: see tests/processes.py
        process = start("tail", "payments", *given, "--until-end")
        told.add(process.communicate(timeout=50)[0])
    assert len(told) == 1
    assert told.pop().count("\n") >= 40


def test_tail_ends_when_its_reader_has_gone(cli: Cli, pipeline: Path, tmp_path: Path) -> None:
    shared = ["--pipeline", pipeline, "--log", f"file:{tmp_path}/log"]
    assert cli("feed", "payments", ndjson(tmp_path / "1.ndjson", payments(400)), *shared).code == 0
    tailing = start("tail", "payments", *shared, "--from-start")
    assert tailing.stdout is not None
    assert tailing.stderr is not None
    tailing.stdout.readline()
    tailing.stdout.close()
    assert tailing.wait(20) == 0
    assert tailing.stderr.read() == ""
    tailing.stderr.close()
