"""Calls before, within and behind branches side by side, on real HTTP: `run`, `backtest` and a replay agree."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.calls.server import Server, in_a_thread, reputation_of
from tests.cli.chain import ran
from tests.cli.conftest import Cli
from tests.cli.shops import PAGE, at_ends, example, payments, written

pytestmark = pytest.mark.timeout(240)
HUGE = 85_000_000_000_000.0


@pytest.fixture
def server() -> Iterator[Server]:
    with in_a_thread(Server()) as server:
        yield server


@pytest.mark.parametrize("placed", [example, at_ends])
def test_a_run_a_backtest_and_a_replay_agree(
    placed: Callable[[Path, int], Path], cli: Cli, server: Server, tmp_path: Path
) -> None:
    given, log, state = payments(60), f"file:{tmp_path}/log", tmp_path / "state"
    pipeline, output = placed(tmp_path, server.port), tmp_path / "out.parquet"
    files = [written(tmp_path / f"{n}.ndjson", piece) for n, piece in enumerate((given[:57], given[57:]))]
    done = cli("backtest", pipeline, "--input", *files, "--output", output, "--calls", "live")
    assert done.code == 0, done.err
    shown = [row for row in pq.read_table(output).to_pylist() if not row["duplicate"]]
    server.requests.clear()
    assert cli("feed", "payments", files[0], "--pipeline", pipeline, "--log", log).code == 0
    ran(pipeline, log, state)
    asked = [request for request, *_ in server.requests]
    assert 0 < sum("/watched/" in request for request in asked) <= 57  # once, for all branches
    shutil.rmtree(state / "shops")  # a start replays all stages from the log
    assert cli("feed", "payments", files[1], "--pipeline", pipeline, "--log", log).code == 0
    ran(pipeline, log, state)
    assert len(asked) < len(server.requests) <= len(asked) + 3 * len(given[57:])
    assert len(asked) > 3 * len(given[57:])
    tailed = cli("tail", "decisions", "--pipeline", pipeline, "--log", log, "--until-end")
    told = [json.loads(line) for line in tailed.lines]
    found = [row for row in told if not row.get("duplicate", False)]
    names = ["payment_id", "decision", *PAGE.split("include: [")[2].split("]")[0].split(", ")]
    assert [[row[name] for name in names] for row in found] == [[row[name] for name in names] for row in shown]
    assert len(found) == 60
    assert {row["decision"] for row in found} == {"approve", "review", "decline"}
    for row, one in zip(given, found, strict=False):
        assert one["reputation"] == (reputation_of(row["device"]) if row["device"] else None)
        assert (one["decision"] == "decline") is (row["user"] == "bad one")
        assert "failed_calls" not in one


def test_a_row_refused_within_a_branch_is_one_dead_letter(cli: Cli, tmp_path: Path) -> None:
    given = payments(12)[:12]
    given[4]["amount"] = HUGE
    doubtful = "              doubtful: reputation"
    pipeline = example(tmp_path, 9000, (doubtful, f"              scaled: amount * 100000\n{doubtful}"))
    file, output = written(tmp_path / "a.ndjson", given), tmp_path / "out.parquet"
    assert cli("backtest", pipeline, "--input", file, "--output", output).code == 0
    assert pq.read_table(output)["payment_id"].to_pylist() == [f"p{n}" for n in range(12) if n != 4]
    (letters,) = tmp_path.glob("*dead_letters*")
    assert [json.loads(line)["reason"] for line in letters.read_text().splitlines()] == ["overflow"]


def test_it_is_drawn_and_reckoned(cli: Cli, tmp_path: Path) -> None:
    pipeline = example(tmp_path)
    drawn = cli("explain", pipeline).out
    drawing = next(line.strip() for line in PAGE.splitlines() if "(watch_list) ->" in line)
    assert f"  {drawing}\n" in drawn
    assert drawn.startswith("pipeline shops: 7 hops, 1 partitions")
    said = json.loads(cli("explain", pipeline, "--json").out)
    assert [(one["stage"], one["to"], one["parallel"], one["branch"], one["calls"]) for one in said["stages"]] == [
        ("card", "watch_list", False, 0, []),
        ("shop", "score_gather", True, 0, ["watch_list"]),
        ("device", "holder", True, 1, ["watch_list", "device_reputation"]),
        ("holder", "score_gather", True, 1, []),
        ("score_gather", "score", False, 0, []),
        ("user", "decisions", False, 0, ["score"]),
    ]
    asked = [(one["stage"], part["name"]) for one in said["stages"] for part in one["work"] if part["what"] == "call"]
    assert asked == [("shop", "watch_list"), ("device", "device_reputation"), ("user", "score")]
    hops = {one["stage"]: one["work"][-1]["hops"] for one in said["stages"]}
    assert hops == {"card": 0, "shop": 2, "device": 3, "holder": 4, "score_gather": 5, "user": 7}
    described = cli("validate", pipeline).out
    assert "  each row goes on to shops.shop and shops.device_reputation\n" in described
    assert "gathers the parts of shop and holder, which wait for each other for 1h\n" in described
