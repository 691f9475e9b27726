"""A pipeline of two stages by the command line: all that runs, looks and moves knows both."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from streamproc.language import compile_stages, load_pipeline
from tests.cli.chain import backtested, chain, decided, fed, in_order, ndjson, ran, rows
from tests.cli.conftest import Cli

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose 420 payments are decided, with state and checkpoints."""
    folder = tmp_path_factory.mktemp("whole")
    pipeline, log = chain(folder), f"file:{folder}/log"
    fed(pipeline, log, ndjson(folder / "a.ndjson", rows(400)))
    ran(pipeline, log, folder / "state", "--checkpoints", folder / "cp")
    return folder


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    shutil.copytree(whole, tmp_path / "copy")
    return tmp_path / "copy"


def asked(cli: Cli, *words: object) -> dict[str, Any]:
    done = cli(*words, "--json")
    assert done.out.count("\n") == 1, done.err
    found: dict[str, Any] = json.loads(done.out)
    return found


def test_what_is_decided_equals_a_backtest(whole: Path) -> None:
    pipeline = whole / "chain.yaml"
    expected = backtested(pipeline, [whole / "a.ndjson"], whole / "expected.parquet")
    found = decided(pipeline, f"file:{whole}/log")
    assert in_order(found) == in_order(expected)
    assert sum(row["duplicate"] for row in expected) > 10
    assert {row["decision"] for row in expected} == {"approve", "review", "decline"}


def test_tail_shows_what_lies_between_the_stages(cli: Cli, whole: Path) -> None:
    def shown(topic: str) -> list[dict[str, Any]]:
        where = ("--pipeline", whole / "chain.yaml", "--log", f"file:{whole}/log", "--until-end")
        return [json.loads(line) for line in cli("tail", topic, *where).lines]

    payments, handed, first, last = map(shown, ("payments", "cards", "features.shops", "features"))
    assert (len(payments), len(handed)) == (420, 406)
    fresh = {row["payment_id"]: row["shop_day_sum"] for row in first}
    assert len(first) == len(last) == len(fresh) == 387
    assert {row["payment_id"]: row["shop_day_sum"] for row in handed if row["share"] is not None} == fresh
    assert {row["payment_id"]: row["card_day_count"] for row in last}.keys() == fresh.keys()
    assert {row["shop"] for row in last} == {row["Shop"] for row in payments}
    assert sum(entry["rejected"] for entry in shown("journal.shops")) == 14
    assert sum(entry["duplicates"] for entry in shown("journal")) == 19


def test_inspect_shows_all_stages_or_one(cli: Cli, whole: Path) -> None:
    where = (whole / "chain.yaml", "--state", whole / "state", "--log", f"file:{whole}/log")
    tasks = asked(cli, "state", "inspect", *where)["tasks"]
    assert [(task["stage"], task["task"]) for task in tasks] == [(s, n) for s in ("shops", "cards") for n in range(4)]
    decided_records = {"shops": 420, "cards": 406}  # 14 of them are refused by the first stage
    for stage, records in decided_records.items():
        assert sum(task["position"] or 0 for task in tasks if task["stage"] == stage) == records
    assert {task["behind"] for task in tasks if task["position"] is not None} == {0}
    assert {t["name"] for task in tasks if task["stage"] == "cards" for t in task["tables"]} == {"card"}
    one = asked(cli, "state", "inspect", *where, "--stage", "cards")["tasks"]
    assert one == [task for task in tasks if task["stage"] == "cards"]
    text = cli("state", "inspect", *where)
    assert text.lines[0].split()[:2] == ["stage", "task"]


def test_damage_is_found_in_any_stage(cli: Cli, folder: Path) -> None:
    where = (folder / "chain.yaml", "--state", folder / "state", "--checkpoints", folder / "cp")
    assert asked(cli, "state", "verify", *where) == {"pipeline": "chain", "checked": 15, "damaged": []}
    (folder / "state" / "chain" / "cards" / "task-00002" / "CURRENT").write_bytes(b"x")
    manifest = min((folder / "cp").glob("*shops/task-*/manifests/*"))
    task = int(manifest.parts[-3].removeprefix("task-"))
    manifest.write_bytes(b"x")
    found = asked(cli, "state", "verify", *where)
    what = [line["what"] for line in found["damaged"]]
    assert what == ["state of task 2 of stage cards", f"checkpoint {manifest.name} of task {task} of stage shops"]
    assert cli("state", "verify", *where, "--stage", "cards").code == 1
    assert cli("state", "verify", *where[:1], *where[3:], "--stage", "cards").code == 0
    assert cli("state", "inspect", *where[:3]).err.startswith("task 2 of stage cards: ")
    listed = cli("state", "checkpoints", *where[:1], *where[3:])
    assert listed.err.startswith(f"task {task} of stage shops: ")
    assert {look["stage"] for look in asked(cli, "state", "checkpoints", *where[:1], *where[3:])["checkpoints"]} == {
        "shops", "cards",
    }  # fmt: skip


def test_a_stage_that_is_not_there(cli: Cli, whole: Path) -> None:
    told = cli("state", "inspect", whole / "chain.yaml", "--state", whole / "state", "--stage", "card")
    assert (told.code, told.err) == (2, "error: --stage: the pipeline chain has no stage card (did you mean cards?)\n")


@pytest.mark.parametrize(("before", "after"), [(4, 6), (6, 4), (3, 1)])
def test_repartitioned_in_the_middle_it_decides_as_if_nothing_had_been(
    cli: Cli, tmp_path: Path, before: int, after: int
) -> None:
    given, log = rows(400, seed=before), f"file:{tmp_path}/log"
    first, rest = ndjson(tmp_path / "1.ndjson", given[:220]), ndjson(tmp_path / "2.ndjson", given[220:])
    old = chain(tmp_path, ("partitions: 4", f"partitions: {before}"), name="old")
    new = chain(tmp_path, ("partitions: 4", f"partitions: {after}"), name="new")
    expected = backtested(old, [first, rest], tmp_path / "expected.parquet")
    state, checkpoints = tmp_path / "state", ("--checkpoints", tmp_path / "cp")
    fed(old, log, first)
    ran(old, log, state, *checkpoints)
    shutil.rmtree(state / "old" / "cards" / "task-00000")  # it has its checkpoint
    report = asked(cli, "repartition", old, "--to", new, "--log", log, "--state", state, *checkpoints)
    assert report["partitions"] == [before, after]
    assert report["keys"] == {"shops.shop": 9, "cards.card": 13}
    assert report["ids_reused"] == 0
    assert not (state / "new.repartition").exists()
    assert cli("state", "verify", new, "--state", state, *checkpoints).code == 0
    again = cli("repartition", old, "--to", new, "--log", log, "--state", state, *checkpoints)
    assert "pipeline new has begun already, on this very state of the old one" in again.err
    shutil.rmtree(state / "new")
    fed(new, log, rest)
    ran(new, log, state, *checkpoints)
    assert in_order(decided(old, log) + decided(new, log)) == in_order(expected)


def test_a_stage_whose_rows_are_not_decided_is_named(cli: Cli, folder: Path) -> None:
    """Rows lie between the stages: the first has decided all of its input, the second has not."""
    old, log = folder / "chain.yaml", f"file:{folder}/log"
    new = chain(folder, ("partitions: 4", "partitions: 2"), name="new")
    topic = compile_stages(load_pipeline(old))[1].stream.topic
    other = chain(folder, ("id: payment_id", f"topic: {topic}\n    id: payment_id"), name="other")
    fed(other, log, ndjson(folder / "b.ndjson", rows(5)))
    refused = cli("repartition", old, "--to", new, "--log", log, "--state", folder / "state")
    assert refused.code == 2
    assert f"{topic}[" in refused.err
    assert "that are not decided yet" in refused.err


@pytest.mark.parametrize(
    "change",
    [
        ("partition_by: card\n", "partition_by: shop\n    per: card\n"),
        ("name: cards", "name: people"),
        ("24h}", "12h}"),
    ],
)
def test_other_stages_are_another_pipeline(cli: Cli, whole: Path, tmp_path: Path, change: tuple[str, str]) -> None:
    new = chain(tmp_path, change, name="new")
    where = ("--log", f"file:{whole}/log", "--state", whole / "state")
    refused = cli("repartition", whole / "chain.yaml", "--to", new, *where)
    assert refused.code == 2
    assert "the pipelines differ in more than name, topics and partitions" in refused.err
    assert "streams, stages, keys and features must be the same" in refused.err
