"""`state inspect`, `state verify`, `state checkpoints` on whole, damaged, held and empty state."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from state.rocksdb import RocksRowStores
from state.rowformat import META_KEY
from tests.cli.conftest import Cli, finish, payments, start
from tests.cli.test_round_trip import ndjson

KEYS = 20


@pytest.fixture(scope="module")
def decided(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a pipeline whose 800 payments are decided, and their state and checkpoints."""
    from tests.cli.conftest import PIPELINE

    folder = tmp_path_factory.mktemp("decided")
    (folder / "shop.yaml").write_text(PIPELINE)
    path = ndjson(folder / "1.ndjson", payments(800))
    shared = ["--log", f"file:{folder}/log"]
    fed = finish("feed", "payments", path, "--pipeline", folder / "shop.yaml", *shared)
    assert fed.code == 0, fed.err
    ran = finish(
        "run", folder / "shop.yaml", *shared, "--until-end", "--state", folder / "state", "--checkpoints", folder / "cp"
    )
    assert ran.code == 0, ran.err
    return folder


@pytest.fixture
def folder(decided: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    shutil.copytree(decided, tmp_path / "copy")
    return tmp_path / "copy"


def inspected(cli: Cli, folder: Path, *more: object) -> dict[str, Any]:
    outcome = cli("state", "inspect", folder / "shop.yaml", "--state", folder / "state", "--json", *more)
    assert outcome.out.count("\n") == 1
    found: dict[str, Any] = json.loads(outcome.out)
    return found


def verified(cli: Cli, folder: Path, *where: object) -> tuple[int, list[dict[str, str]]]:
    outcome = cli("state", "verify", folder / "shop.yaml", "--json", *where)
    assert outcome.err == ""
    return outcome.code, json.loads(outcome.out)["damaged"]


def test_inspect_counts_what_was_decided(cli: Cli, decided: Path) -> None:
    found = inspected(cli, decided, "--log", f"file:{decided}/log")
    assert found["pipeline"] == "shop"
    tasks = found["tasks"]
    assert [task["task"] for task in tasks] == [0, 1, 2, 3]
    assert sum(task["position"] for task in tasks) == 840
    assert sum(task["entries"] for task in tasks) == 800
    assert sum(table["keys"] for task in tasks for table in task["tables"]) == KEYS
    assert all(sum(t["keys"] + t["chunks"] for t in task["tables"]) == task["rows"] for task in tasks)
    assert all(task["plan"] is True and task["partitions"] == 4 and task["behind"] == 0 for task in tasks)
    assert all(task["bytes"] > 1000 and task["damage"] is None and len(task["chain"]) == 64 for task in tasks)


def test_inspect_shows_no_key_and_changes_nothing(cli: Cli, folder: Path) -> None:
    before = {path: path.read_bytes() for path in sorted((folder / "state").rglob("*")) if path.is_file()}
    outcome = cli("state", "inspect", folder / "shop.yaml", "--state", folder / "state", "--log", f"file:{folder}/log")
    assert (outcome.code, outcome.err) == (0, "")
    header, first = outcome.lines[:2]
    assert header.split()[:4] == ["task", "sequence", "position", "chain"]
    assert first.split()[0] == "0"
    assert "same" in first
    assert not any(word in outcome.out.split() for word in [f"c{n}" for n in range(KEYS)])
    after = {path: path.read_bytes() for path in sorted((folder / "state").rglob("*")) if path.is_file()}
    changed = {path.name for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
    assert all(name.endswith(".lock") for name in changed)


def test_a_changed_plan_and_a_state_behind_are_told(cli: Cli, folder: Path) -> None:
    text = (folder / "shop.yaml").read_text()
    (folder / "shop.yaml").write_text(text.replace("[1h, 24h]", "[1h, 12h]").replace("spend_sum_24h", "spend_sum_12h"))
    assert {task["plan"] for task in inspected(cli, folder)["tasks"]} == {False}
    outcome = cli("state", "verify", folder / "shop.yaml", "--state", folder / "state")
    assert outcome.code == 2
    assert outcome.err.startswith("error: streams, keys or features changed since")
    (folder / "shop.yaml").write_text(text)
    stores = RocksRowStores(folder / "state" / "shop")
    stores.discard(2)
    shutil.copytree(stores.path(1), stores.path(2))
    log = ("--log", f"file:{folder}/log")
    task = inspected(cli, folder, *log)["tasks"][2]
    assert task["discarded"] == 1
    assert task["behind"] == task["committed"] - task["position"] != 0


def test_whole_state_and_checkpoints_are_verified(cli: Cli, decided: Path) -> None:
    where = ["--state", decided / "state", "--checkpoints", decided / "cp"]
    assert verified(cli, decided, *where) == (0, [])
    outcome = cli("state", "verify", decided / "shop.yaml", *where)
    assert len(outcome.lines) == 8
    assert all(line.endswith(": ok") for line in outcome.lines)


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 4
    path.write_bytes(data)


def largest_table(stores: RocksRowStores, task: int) -> Path:
    return max(stores.path(task).glob("*.sst"), key=lambda path: path.stat().st_size)


def test_a_flipped_bit_is_found(cli: Cli, folder: Path) -> None:
    table = largest_table(RocksRowStores(folder / "state" / "shop"), 1)
    flip(table, table.stat().st_size // 3)
    code, damaged = verified(cli, folder, "--state", folder / "state")
    assert code == 1
    assert {found["what"] for found in damaged} == {"state of task 1"}
    assert "Corruption" in damaged[0]["damage"]
    outcome = cli("state", "inspect", folder / "shop.yaml", "--state", folder / "state")
    assert outcome.code == 1
    assert "damaged" in outcome.lines[2]
    assert outcome.err.startswith("task 1: RocksDB: Corruption")


def test_a_lost_catalogue_is_found(cli: Cli, folder: Path) -> None:
    os.truncate(folder / "state" / "shop" / "task-00003" / "CURRENT", 2)
    code, damaged = verified(cli, folder, "--state", folder / "state")
    assert code == 1
    assert [found["what"] for found in damaged] == ["state of task 3"]


def of_kind(kind: bytes, part: bytes = b"") -> Any:
    def find(pairs: list[tuple[bytes, bytes]]) -> bytes:
        return next(key for key, _ in pairs if key[:1] == kind and part in key)

    return find


@pytest.mark.parametrize(
    ("name", "key", "change", "said"),
    [
        ("a row cut short", of_kind(b"r"), lambda value: value[:-3], "rows cannot be read"),
        ("a row of another form", of_kind(b"r"), lambda value: b"\2" + value[1:], "another version or fingerprint"),
        ("a chunk lost", of_kind(b"c"), lambda value: None, "a ring chunk is missing"),
        ("a chunk cut short", of_kind(b"c"), lambda value: value[:-8], "a ring chunk is cut short"),
        ("a row lost", of_kind(b"r"), lambda value: None, "ring chunks belong to no row"),
        ("ids lost", of_kind(b"d", b"e\0"), lambda value: None, "deduplication: a chunk is missing"),
        ("ids' state lost", of_kind(b"d", b"deduplicates"), lambda value: None, "the state row is missing"),
        ("no position", lambda pairs: META_KEY, lambda value: None, "does not say of which batch"),
        ("a broken position", lambda pairs: META_KEY, lambda value: value[:4], "position cannot be read"),
        ("a foreign row", lambda pairs: b"x", lambda value: b"", "1 rows are of no table of the plan"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_checksums_do_not_see(cli: Cli, folder: Path, name: str, key: Any, change: Any, said: str) -> None:
    stores = RocksRowStores(folder / "state" / "shop")
    task = next(t for t in stores.tasks() if has_chunks(stores, t))
    store = stores.open(task)
    found = key(list(store.scan(b"")))
    value = change(store.get_many([found])[0])
    store.write([] if value is None else [(found, value)], [found])
    store.close()
    code, damaged = verified(cli, folder, "--state", folder / "state")
    assert code == 1
    assert {line["what"] for line in damaged} == {f"state of task {task}"}
    assert any(said in line["damage"] for line in damaged), damaged


def has_chunks(stores: RocksRowStores, task: int) -> bool:
    store = stores.look(task)
    try:
        return next(store.scan(b"c"), None) is not None
    finally:
        store.close()


def test_state_that_a_worker_has_is_refused(cli: Cli, folder: Path) -> None:
    running = start("run", folder / "shop.yaml", "--log", f"file:{folder}/log", "--state", folder / "state")
    try:
        deadline = time.monotonic() + 20
        while (outcome := cli("state", "verify", folder / "shop.yaml", "--state", folder / "state")).code != 2:
            assert time.monotonic() < deadline
        assert outcome.err.startswith("error: the state of task ")
        assert "is held by process " in outcome.err
        assert "stop that worker first" in outcome.err
    finally:
        running.terminate()
        running.communicate(timeout=20)
    assert running.returncode == 0
    assert verified(cli, folder, "--state", folder / "state") == (0, [])


def test_before_the_first_flush(cli: Cli, pipeline: Path, tmp_path: Path) -> None:
    home = tmp_path / "state" / "shop"
    home.mkdir(parents=True)
    outcome = cli("state", "inspect", pipeline, "--state", tmp_path / "state")
    assert (outcome.code, outcome.out) == (0, "")
    assert outcome.err == f"no state of pipeline shop in {tmp_path}/state yet\n"
    assert cli("state", "verify", pipeline, "--state", tmp_path / "state").code == 2
    RocksRowStores(home).open(0).close()
    assert cli("state", "verify", pipeline, "--state", tmp_path / "state").lines == ["state of task 0: ok"]
    found = json.loads(cli("state", "inspect", pipeline, "--state", tmp_path / "state", "--json").out)["tasks"]
    assert [(task["sequence"], task["rows"]) for task in found] == [(None, 0)]


def test_checkpoints_are_listed_newest_first(cli: Cli, folder: Path) -> None:
    again = finish(
        "run", folder / "shop.yaml", "--log", f"file:{folder}/log", "--until-end", "--state", folder / "state",
        "--checkpoints", folder / "cp",
    )  # fmt: skip
    assert again.code == 0, again.err
    outcome = cli("state", "checkpoints", folder / "shop.yaml", "--checkpoints", f"file:{folder}/cp", "--json")
    assert (outcome.code, outcome.err) == (0, "")
    looks = json.loads(outcome.out)["checkpoints"]
    assert {look["task"] for look in looks} == {0, 1, 2, 3}
    assert looks == sorted(looks, key=lambda look: (look["task"], -look["sequence"]))
    positions = {task["task"]: task["position"] for task in inspected(cli, folder)["tasks"]}
    assert all(look["position"] == positions[look["task"]] and look["files"] > 3 and look["plan"] for look in looks)
    assert all(look["time"].endswith("+00:00") for look in looks)
    text = cli("state", "checkpoints", folder / "shop.yaml", "--checkpoints", folder / "cp")
    assert len(text.lines) == 1 + len(looks)


def test_damaged_checkpoints_are_named(cli: Cli, folder: Path) -> None:
    victim = max((folder / "cp" / "shop" / "task-00002" / "files").iterdir(), key=lambda path: path.stat().st_size)
    flip(victim, victim.stat().st_size // 2)
    code, damaged = verified(cli, folder, "--checkpoints", folder / "cp")
    assert code == 1
    assert {line["what"][-9:] for line in damaged} == {"of task 2"}
    assert "does not have its digest" in damaged[0]["damage"]
    manifest = next((folder / "cp" / "shop" / "task-00000" / "manifests").iterdir())
    flip(manifest, 100)
    code, damaged = verified(cli, folder, "--checkpoints", folder / "cp")
    assert {line["what"][-9:] for line in damaged} == {"of task 0", "of task 2"}
    listed = cli("state", "checkpoints", folder / "shop.yaml", "--checkpoints", folder / "cp")
    assert listed.code == 1
    assert listed.err.startswith("task 0: checkpoint ")
    assert manifest.name in listed.out


def test_no_checkpoints_yet(cli: Cli, pipeline: Path, tmp_path: Path) -> None:
    (tmp_path / "cp").mkdir()
    outcome = cli("state", "checkpoints", pipeline, "--checkpoints", tmp_path / "cp", "--json")
    assert outcome.code == 0
    assert json.loads(outcome.out) == {"pipeline": "shop", "checkpoints": []}
    assert outcome.err == "no checkpoints of pipeline shop there yet\n"
