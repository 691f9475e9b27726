"""The demo from the outside: one decision a payment, every kind of fraud found, its folder treated with care."""

from __future__ import annotations

import json
import shlex
import shutil
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq
import pytest

from streamproc.cli.compose import open_log
from streamproc.cli.demo import PIPELINE
from streamproc.cli.demo_folder import DemoFolder
from streamproc.cli.demo_reader import DecisionReader
from streamproc.cli.demo_summary import Timing, _next, summarize
from streamproc.cli.options import load_stages
from streamproc.clock import SystemClock
from streamproc.services.generator import (
    FRAUD_KINDS,
    GeneratorOptions,
    generate,
    write_account_events,
    write_labels,
    write_parquet,
)
from tests.cli.conftest import Cli, finish, start


@pytest.mark.timeout(120)
def test_demo(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    outcome = finish("demo", "--json", "--events", 3000, "--dir", folder)
    assert outcome.code == 0, outcome.err
    (line,) = outcome.lines
    said: dict[str, Any] = json.loads(line)
    assert (said["events"], said["fed"], said["decided"]) == (3000, 3000, 3000)
    assert (said["missing"], said["doubled"], said["dead_letters"], said["worker_exit"]) == (0, 0, 0, 0)
    assert sum(said["decisions"].values()) == 3000
    assert set(said["frauds"]) == set(FRAUD_KINDS)
    for kind, found in said["frauds"].items():
        assert found["attacks_found"] >= 1, kind
        assert found["found"] + found["missed"] == found["payments"]
    assert said["false_positive_rate"] < 0.01
    assert 0 <= said["latency_ms"]["p50"] <= said["latency_ms"]["p99"]
    assert said["latency_events"] == 600
    decided = [json.loads(text) for text in (folder / "decisions.ndjson").read_text().splitlines()]
    ids = Counter(decision["transaction_id"] for decision in decided)
    assert len(ids) == 3000
    assert set(ids.values()) == {1}
    assert Counter(decision["decision"] for decision in decided) == Counter(said["decisions"])
    assert json.loads((folder / "summary.json").read_text()) == said
    logged = map(json.loads, (folder / "worker.log").read_text().splitlines())
    assert {line["event"] for line in logged} <= {"not waited for any longer: it is behind"}  # of a machine that stalls


@pytest.mark.timeout(120)
def test_a_second_run_starts_over_and_decides_the_same(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    outcomes = [finish("demo", "--events", 600, "--dir", folder) for _ in range(2)]
    assert [outcome.code for outcome in outcomes] == [0, 0], outcomes
    for outcome in outcomes:
        assert outcome.lines[0].startswith("600 of 600 payments decided")
        assert "each exactly once" in outcome.lines[0]
        assert "Try next" in outcome.out
        rules = [line.split() for line in outcome.out.partition("Rules hit\n")[2].partition("\n\n")[0].splitlines()]
        assert len(rules) == 40 + 1  # those of the file, and the one that comes with its model
        assert [words[1] for words in rules if words[0] == "night_abroad"] == ["(shadow)"]
        assert any(words[-1] == "0" for words in rules)
    assert len((folder / "decisions.ndjson").read_text().splitlines()) == 600


@pytest.mark.timeout(120)
@pytest.mark.parametrize("after", [0.9, 3.0])
def test_ctrl_c_ends_it_with_what_there_is(tmp_path: Path, after: float) -> None:
    folder = tmp_path / "demo"
    process = start("demo", "--events", 400_000, "--dir", folder)
    began = time.monotonic()
    while not folder.exists() and time.monotonic() - began < 30:
        time.sleep(0.05)
    time.sleep(after)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=50)
    assert process.returncode == 0, err
    head = (out or err).splitlines()[0]
    assert head.startswith("interrupted")
    if not (folder / "summary.json").exists():
        assert err == "interrupted before any payment was decided\n"
        return
    said = json.loads((folder / "summary.json").read_text())
    assert said["interrupted"]
    assert said["doubled"] == 0
    assert sum(said["decisions"].values()) == said["decided"] <= said["fed"] < 400_000
    assert "missing" not in head
    assert ("not yet decided" in head) == bool(said["missing"] and said["decided"])
    assert said["decided"] or out.count("\n") == 1


def test_the_summary_of_nothing_is_one_line(tmp_path: Path) -> None:
    plan, folder = load_stages(str(PIPELINE))[-1], DemoFolder(tmp_path)
    log = open_log(f"file:{tmp_path}/log")
    reader = DecisionReader(log, plan, SystemClock())
    timing = Timing(started=0.0, interrupted=True)
    made = summarize(
        plan, reader, timing, pipeline=PIPELINE, folder=folder, options=GeneratorOptions(events=500), traffic=None
    )
    assert made.text() == f"interrupted before any payment was decided (0 are in {folder.log})\n"
    some = msgspec.structs.replace(made, fed=300, decided=200, missing=100)
    assert some.text().splitlines()[0] == "interrupted: 200 of 300 payments decided in 0.0 s, 100 not yet decided"


@pytest.mark.parametrize("on_path", [True, False])
def test_what_to_try_next_can_be_pasted(
    on_path: bool, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = DemoFolder(tmp_path / "my demo")
    scripts = Path(sys.executable).parent
    monkeypatch.setenv("PATH", f"{scripts}:/usr/bin:/bin" if on_path else "/usr/bin:/bin")
    tail, backtest, copy = (shlex.split(line, comments=True) for line in _next(PIPELINE, folder))
    for words in (tail, backtest):
        assert (words[0] == "streamproc") == on_path
        assert Path(shutil.which(words[0]) or "").absolute() == scripts / "streamproc"
    assert (tail[-2], copy[:2]) == (f"file:{folder.log}", ["cp", "-r"])
    folder.path.mkdir()
    traffic = generate(GeneratorOptions(events=500))
    write_parquet(traffic, folder.payments)
    write_account_events(traffic, folder.account_events)
    assert cli(*backtest[1:]).code == 0


@pytest.mark.parametrize("seed", [1, 7])
def test_the_rule_for_stolen_cards_finds_the_planted_ones(seed: int, cli: Cli, tmp_path: Path) -> None:
    traffic = generate(GeneratorOptions(events=20_000, seed=seed))
    write_parquet(traffic, tmp_path / "transactions.parquet")
    write_labels(traffic, tmp_path / "labels.parquet")
    output = tmp_path / "o.parquet"
    assert cli("backtest", PIPELINE, "--input", tmp_path / "transactions.parquet", "--output", output).code == 0
    reason = next(rule.reason for rule in load_stages(str(PIPELINE))[-1].rules if rule.id == "stolen_card")
    decided = pq.read_table(output, columns=["transaction_id", "reasons"]).to_pylist()
    hit = {row["transaction_id"] for row in decided if reason in row["reasons"]}
    labels = {row["transaction_id"]: row for row in pq.read_table(tmp_path / "labels.parquet").to_pylist()}
    attacks = {row["attack"] for row in labels.values() if row["fraud"] == "stolen_card"}
    found = {row["attack"] for of, row in labels.items() if row["fraud"] == "stolen_card" and of in hit}
    assert len(found) > 0.6 * len(attacks)  # those on the black list are ended by its rule
    assert len(hit - labels.keys()) <= 20_000 * 0.0005


@pytest.mark.timeout(120)
def test_its_payments_fed_again_are_known(cli: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    assert finish("demo", "--events", 600, "--dir", folder).code == 0
    before = (folder / "decisions.ndjson").read_text().splitlines()
    shared = ["--pipeline", PIPELINE, "--log", f"file:{folder / 'log'}"]
    fed = cli("feed", "transactions", folder / "transactions.parquet", *shared)
    assert fed.code == 0
    assert "of event time, `deduplicate:` 1d: fed again, only the newest are known" in fed.err
    rows = cli("tail", "transactions", *shared, "--until-end").lines
    assert len(rows) == 1200
    assert set(Counter(rows).values()) == {2}  # to the byte
    handed = [json.loads(line) for line in cli("tail", "user", *shared, "--until-end").lines]
    assert len(handed) == 600
    assert handed[0].keys() >= {"merchant_count_15m", "device_count_15m"}
    told = {stage: cli("tail", f"features.{stage}", *shared, "--until-end").lines for stage in ("merchant", "device")}
    assert {stage: len(lines) for stage, lines in told.items()} == {"merchant": 600, "device": 600}
    assert all("merchant_count_15m" in line for line in told["merchant"])
    state = ("--state", folder / "state", "--instance", "demo")
    assert finish("run", PIPELINE, "--log", f"file:{folder / 'log'}", *state, "--until-end").code == 0
    after = [json.loads(line) for line in cli("tail", "decisions", *shared, "--until-end").lines]
    assert len(after) == 2 * len(before)
    assert not any("id_reused" in decision["reasons"] for decision in after)
    assert any(decision.get("duplicate") for decision in after)


def test_a_folder_with_other_files_is_left_alone(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    outcome = cli("demo", "--dir", tmp_path)
    assert outcome.code == 2
    assert "holds other files" in outcome.err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_one_demo_a_folder(cli: Cli, tmp_path: Path) -> None:
    with DemoFolder(tmp_path / "demo"):
        outcome = cli("demo", "--dir", tmp_path / "demo")
    assert outcome.code == 2
    assert "another demo runs" in outcome.err


def test_starting_over_keeps_what_the_demo_did_not_make(tmp_path: Path) -> None:
    with DemoFolder(tmp_path / "demo") as folder:
        folder.log.mkdir()
        (folder.path / "backtest.parquet").write_bytes(b"mine")
    with DemoFolder(tmp_path / "demo"):
        left = {path.name for path in folder.path.iterdir()}
    assert left == {".gitignore", ".streamproc-demo", "backtest.parquet"}
