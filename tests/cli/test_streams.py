"""Several streams in a pipeline: backtest against brute force, and a run on the embedded log against the backtest."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from state.hashing import partition_of
from streamproc.cli.compose import open_log
from streamproc.cli.loops import run_async
from streamproc.eventlog.contract import TopicSpec
from tests.bank import HOUR, NAMES, PIPELINE, STAGES, START, Row, record, traffic
from tests.cli.conftest import Cli, finish
from tests.oracle.streams import features_of, merged


def write(folder: Path, rows: dict[str, list[Row]], part: str = "") -> dict[str, Path]:
    paths = {}
    for name, mine in rows.items():
        paths[name] = folder / f"{name}{part}.ndjson"
        paths[name].write_text("".join(json.dumps(record(name, row)) + "\n" for row in mine))
    return paths


def expected(rows: dict[str, list[Row]], partitions: int = 4) -> dict[str, Row]:
    """Features of each payment by brute force over the rows before it in its partition's merge."""
    found: dict[str, Row] = {}
    for partition in range(partitions):
        mine = [
            [row for row in some if partition_of(row["user_id"].encode(), partitions) == partition]
            for some in rows.values()
        ]
        seen: list[tuple[int, Row]] = []
        for stream, row in merged(mine):
            if "again" in row:
                continue
            seen.append((stream, row))
            if stream == 0:
                found[row["id"]] = features_of(row, [(s, r) for s, r in seen if r["user_id"] == row["user_id"]])
    return found


def plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return round(value.timestamp() * 1000)
    return float(value) if isinstance(value, Decimal) else value


def backtest(cli: Cli, pipeline: Path, folder: Path, *inputs: object) -> list[Row]:
    output = folder / "out.parquet"
    done = cli("backtest", pipeline, "--input", *inputs, "--output", output, "--json")
    assert done.code == 0, done.err
    return [{name: plain(value) for name, value in row.items()} for row in pq.read_table(output).to_pylist()]


def by_payment(rows: list[Row]) -> dict[str, Row]:
    return {
        row["payment_id"]: {name: row[name] for name in NAMES if name in row}
        for row in rows
        if not row.get("duplicate")
    }


def pipeline_in(folder: Path, text: str) -> Path:
    path = folder / "bank.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("seed", range(3))
def test_a_backtest_equals_brute_force(cli: Cli, tmp_path: Path, seed: int) -> None:
    rows = traffic(seed)
    paths = write(tmp_path, rows)
    found = backtest(cli, pipeline_in(tmp_path, PIPELINE), tmp_path, *paths.values())
    assert [row["payment_id"] for row in found] == [row["id"] for row in rows["payments"]]
    wanted = expected(rows)
    got = by_payment(found)
    assert len(got) == len(wanted) == 600
    for payment, features in wanted.items():
        assert got[payment] == pytest.approx(features, rel=1e-12, nan_ok=False), payment
    assert sum(features["password_reset"] for features in wanted.values()) > 30


def test_an_input_stream_that_is_left_out_has_no_rows(cli: Cli, tmp_path: Path) -> None:
    rows = traffic(1)
    paths = write(tmp_path, rows)
    pipeline = pipeline_in(tmp_path, PIPELINE)
    done = cli("backtest", pipeline, "--input", paths["payments"], "--output", tmp_path / "o.parquet", "--json")
    assert "there is no file of the stream logins: --input logins=FILE" in done.err
    assert json.loads(done.out)["other_rows"] == {"logins": 0, "account_changes": 0}
    got = by_payment(backtest(cli, pipeline, tmp_path, paths["payments"]))
    assert got == {k: pytest.approx(v) for k, v in expected({**rows, "logins": [], "account_changes": []}).items()}


def test_whose_a_file_is(cli: Cli, tmp_path: Path) -> None:
    paths = write(tmp_path, traffic(1, 60))
    pipeline = pipeline_in(tmp_path, PIPELINE)
    other = tmp_path / "may.ndjson"
    shutil.copy(paths["logins"], other)
    refused = cli("backtest", pipeline, "--input", paths["payments"], other, "--output", tmp_path / "o.parquet")
    assert refused.code == 2
    assert (
        f"may.ndjson is called after none of the streams payments, logins, account_changes (STREAM={other})"
        in refused.err
    )
    named = backtest(cli, pipeline, tmp_path, paths["payments"], f"logins={other}", paths["account_changes"])
    assert named == backtest(cli, pipeline, tmp_path, *paths.values())
    wrong = cli("feed", "login", other, "--pipeline", pipeline, "--log", f"file:{tmp_path}/log")
    assert (wrong.code, wrong.err.strip()) == (2, "error: the pipeline bank has no stream login (did you mean logins?)")


def test_bad_rows_of_any_stream_are_dead_letters(cli: Cli, tmp_path: Path) -> None:
    rows = traffic(1, 60)
    paths = write(tmp_path, rows)
    lines = paths["logins"].read_text().splitlines()
    lines[5:5] = ["{broken", json.dumps({"login_id": 9_999, "user_id": "u1", "logged_in_at": -5})]
    lines += [json.dumps({"login_id": 10_000, "logged_in_at": 1})]
    paths["logins"].write_text("\n".join(lines) + "\n")
    pipeline = pipeline_in(tmp_path, PIPELINE)
    found = backtest(cli, pipeline, tmp_path, *paths.values())
    assert by_payment(found) == {k: pytest.approx(v) for k, v in expected(rows).items()}
    letters = [json.loads(line) for line in (tmp_path / "out.dead_letters.ndjson").read_text().splitlines()]
    assert [(Path(x["file"]).name, x["row"], x["reason"]) for x in sorted(letters, key=lambda x: x["row"])] == [
        ("logins.ndjson", 6, "broken_json"),
        ("logins.ndjson", 7, "bad_time"),
        ("logins.ndjson", len(lines), "missing_key"),
    ]
    shared = feed(cli, pipeline, tmp_path / "log", paths)
    assert cli("run", pipeline, *shared[2:], "--until-end").code == 0
    told = [json.loads(line) for line in cli("tail", "dead_letters", *shared, "--until-end").lines]
    assert sorted((letter["topic"], letter["reason"]) for letter in told) == [
        ("bank.logins", "bad_time"), ("bank.logins", "broken_json"), ("bank.logins", "missing_key"),
    ]  # fmt: skip


def feed(cli: Cli, pipeline: Path, log: Path, paths: dict[str, Path]) -> list[object]:
    shared: list[object] = ["--pipeline", pipeline, "--log", f"file:{log}"]
    for name, path in paths.items():
        assert cli("feed", name, path, *shared).code == 0
    return shared


def run_features(cli: Cli, shared: list[object]) -> dict[str, Row]:
    rows = [json.loads(line) for line in cli("tail", "features", *shared, "--until-end").lines]
    assert len({row["payment_id"] for row in rows}) == len(rows)
    return by_payment(rows)


ONE_PARTITION = f"partitions: 1\n{STAGES}"
"""What partitions of one stage hand on to another is only about in order of event time."""


@pytest.mark.parametrize(
    ("text", "workers"), [(PIPELINE, 1), (PIPELINE, 2), (ONE_PARTITION, 1)], ids=["one", "two workers", "stages"]
)
def test_a_run_equals_the_backtest(cli: Cli, tmp_path: Path, text: str, workers: int) -> None:
    rows = traffic(7)
    paths = write(tmp_path, rows)
    pipeline = pipeline_in(tmp_path, text)
    shared = feed(cli, pipeline, tmp_path / "log", dict(reversed(paths.items())))
    done = finish("run", pipeline, "--log", f"file:{tmp_path}/log", "--until-end", "--workers", workers)
    assert done.code == 0, done.err
    wanted = backtest(cli, pipeline, tmp_path, *paths.values())
    found, stored = run_features(cli, shared), [name for name in NAMES if text is PIPELINE or name != "card_n_1h"]
    expected_here = {k: {name: v[name] for name in stored} for k, v in by_payment(wanted).items()}
    assert {k: (v, expected_here[k]) for k, v in found.items() if v != expected_here[k]} == {}
    assert len(found) == len(expected_here)
    decisions = [json.loads(line) for line in cli("tail", "decisions", *shared, "--until-end").lines]
    by_id = {row["payment_id"]: row for row in wanted if not row["duplicate"]}
    assert len(decisions) == len(rows["payments"])
    for decision in decisions:
        one = by_id[decision["payment_id"]]
        assert decision["decision"] == one["decision"]
        assert decision.get("duplicate") or decision["reasons"] == one["reasons"]
    inputs = [json.loads(line) for line in cli("tail", "logins", *shared, "--until-end").lines]
    assert len(inputs) == len(rows["logins"])


@pytest.mark.kafka
@pytest.mark.slow
@pytest.mark.timeout(180)
def test_on_kafka_too(cli: Cli, tmp_path: Path, kafka_bootstrap: str) -> None:
    """The topics are fed one after the other before anything runs: all streams lag at the start."""
    rows = traffic(7)
    paths = write(tmp_path, rows)
    name = f"bank-{random.randrange(1 << 40):x}"
    pipeline = pipeline_in(tmp_path, PIPELINE.replace("pipeline: bank", f"pipeline: {name}"))
    shared: list[object] = ["--pipeline", pipeline, "--log", f"kafka://{kafka_bootstrap}"]
    for stream, path in paths.items():
        assert cli("feed", stream, path, *shared).code == 0
    done = finish("run", pipeline, *shared[2:], "--until-end", "--workers", 2, "--state", tmp_path / "state")
    assert done.code == 0, done.err
    wanted = by_payment(backtest(cli, pipeline, tmp_path, *paths.values()))
    assert run_features(cli, shared) == wanted
    shutil.rmtree(tmp_path / "state")  # and from the journal, too
    more = {
        stream: [
            {
                **row,
                "id": f"{row['id']}-2" if stream == "payments" else row["id"] + 10_000,
                "time": row["time"] + 12 * HOUR,
            }
            for row in some[:100]
        ]
        for stream, some in rows.items()
    }
    for stream, path in write(tmp_path, more, "-more").items():
        assert cli("feed", stream, path, *shared).code == 0
    done = finish("run", pipeline, *shared[2:], "--until-end", "--state", tmp_path / "state")
    assert done.code == 0, done.err
    every = {stream: rows[stream] + more[stream] for stream in rows}
    assert run_features(cli, shared) == {k: pytest.approx(v) for k, v in expected(every).items()}


def test_two_stages_equal_brute_force_too(cli: Cli, tmp_path: Path) -> None:
    rows = traffic(4)
    paths = write(tmp_path, rows)
    wanted = expected(rows)
    got = by_payment(backtest(cli, pipeline_in(tmp_path, STAGES), tmp_path, *paths.values()))
    some = ["failed_logins_10m", "password_resets_30m", "moved_at", "jump", "n_1h", "countries_2h"]
    assert {k: {name: v[name] for name in some} for k, v in got.items()} == {
        k: pytest.approx({name: v[name] for name in some}) for k, v in wanted.items()
    }


def test_what_comes_behind_all_that_is_decided_may_enter_a_stage_before_the_last(cli: Cli, tmp_path: Path) -> None:
    first, behind = STAGES.partition("  - {name: card")[::2]
    card, _, user = behind.partition("\n")
    features, rules = user.split("rules:")
    pipeline = pipeline_in(tmp_path, f"{first}{features}  - {{name: card{card}\nrules:{rules}")
    rows = traffic(4, size=120)
    rows["logins"].append({**rows["logins"][-1], "id": "last", "time": START + 100 * HOUR})
    got = by_payment(backtest(cli, pipeline, tmp_path, *write(tmp_path, rows).values()))
    assert {k: v["failed_logins_10m"] for k, v in got.items()} == {
        k: v["failed_logins_10m"] for k, v in expected(rows).items()
    }


def halves(rows: dict[str, list[Row]], time: int) -> Iterator[dict[str, list[Row]]]:
    yield {name: [row for row in some if row["time"] < time] for name, some in rows.items()}
    yield {name: [row for row in some if row["time"] >= time] for name, some in rows.items()}


@pytest.mark.parametrize("lost", ["nothing", "state"])
def test_a_run_goes_on_where_it_stopped(cli: Cli, tmp_path: Path, lost: str) -> None:
    """The state is lost: it comes back by a silent replay of all three topics in the journal's order."""
    rows = traffic(5, late=0.0)
    pipeline = pipeline_in(tmp_path, PIPELINE)
    every = {name: list[Row]() for name in rows}
    shared: list[object] = []
    for part, half in enumerate(halves(rows, START + 4 * HOUR)):
        shared = feed(cli, pipeline, tmp_path / "log", write(tmp_path, half, f"-{part}"))
        assert cli("run", pipeline, *shared[2:], "--until-end").code == 0
        every = {name: every[name] + half[name] for name in rows}
        if lost == "state":
            shutil.rmtree(tmp_path / "log" / "state")
    assert run_features(cli, shared) == {k: pytest.approx(v) for k, v in expected(every).items()}


def test_topics_of_other_sizes_are_refused(cli: Cli, tmp_path: Path) -> None:
    paths = write(tmp_path, traffic(5, 60))
    pipeline = pipeline_in(tmp_path, PIPELINE)

    async def make() -> None:
        log = open_log(f"file:{tmp_path}/log")
        await log.admin().ensure_topics([TopicSpec("bank.payments", 2), TopicSpec("bank.logins", 3)])
        await log.close()

    (tmp_path / "log").mkdir()
    run_async(make())
    for command in (["feed", "logins", paths["logins"], "--pipeline", pipeline], ["run", pipeline]):
        refused = cli(*command, "--log", f"file:{tmp_path}/log")
        assert refused.code == 2
        assert "topic bank.logins has 3 partitions, bank.payments has 2: they must be equal" in refused.err


CASES = """\
base: {user_id: u1, card_id: c1, amount: 300.00}
cases:
  - name: merged by event time, whatever the order of the list
    events:
      - {event: paid, at: +10m}
      - {event: broken, stream: logins, record: "{no"}
      - {event: login, stream: logins, at: +2m, outcome: failed}
      - {stream: logins, at: +3m, outcome: failed}
      - {stream: logins, at: +11m, outcome: failed}
      - {stream: account_changes, at: +4m, password: 2, old_password: 1}
    expect:
      paid: {decision: decline, features: {failed_logins_10m: 2, password_resets_30m: 1, n_1h: 1}}
      broken: {dead_letter: broken_json}
"""


def test_rule_tests_give_events_of_any_stream(cli: Cli, tmp_path: Path) -> None:
    pipeline = pipeline_in(tmp_path, PIPELINE + "tests: cases.yaml\n")
    cases = tmp_path / "cases.yaml"
    cases.write_text(CASES)
    done = cli("test", pipeline)
    assert (done.code, done.err) == (0, "")
    cases.write_text(CASES.replace("broken: {dead_letter: broken_json}", "paid: {decision: decline}"))
    assert cli("test", pipeline).code == 2  # a key twice
    cases.write_text(CASES.replace("      broken: {dead_letter: broken_json}\n", ""))
    unexpected = cli("test", pipeline)
    assert unexpected.code == 1
    assert "broken_json" in unexpected.out
    for old, new, said in (
        ("broken: {dead_letter: broken_json}", "login: {decision: approve}",
         f"error: {cases}:13:7: an event of logins is not decided (expect a dead_letter of it, or nothing)"),
        ("{event: login, stream: logins,", "{event: login, stream: login,",
         "unknown stream 'login' (did you mean logins?)"),
        ("outcome: failed}\n      - {stream: logins, at: +3m", "amount: 1}\n      - {stream: logins, at: +3m",
         "unknown key 'amount' in the event"),
    ):  # fmt: skip
        assert CASES.count(old) == 1
        cases.write_text(CASES.replace(old, new))
        refused = cli("test", pipeline)
        assert refused.code == 2
        assert said in refused.err


def test_repartition_says_that_it_cannot(cli: Cli, tmp_path: Path) -> None:
    pipeline = pipeline_in(tmp_path, PIPELINE)
    other = tmp_path / "other.yaml"
    other.write_text(PIPELINE.replace("pipeline: bank", "pipeline: bank-8\npartitions: 8"))
    done = cli("repartition", pipeline, "--to", other, "--log", f"file:{tmp_path}/log", "--state", tmp_path)
    assert done.code == 2
    assert "several streams are not supported here yet" in done.err
