"""Versions of a model that change while workers run: activated, rolled back, refused, replayed."""

from __future__ import annotations

import asyncio
import json
import secrets
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pyarrow.ipc as ipc
import pytest
import xxhash

from operators.live_tables import Row
from operators.serving import Roles, before, changed
from state.errors import ConfigError
from streamproc.cli.common import load_stages
from streamproc.cli.log_directory import make_directories
from streamproc.cli.model_roles import Changed, Declared, declared, roles_at_work, write_roles
from streamproc.cli.table_publisher import Who
from streamproc.language.explain import explain
from streamproc.runtime.journal import decode_entry
from tests.cli.conftest import BOTH, Cli, journal, start
from tests.models.registered import by_hand, register

PIPELINE = """\
pipeline: NAME
streams:
  payments:
    id: id
    event_time: at
    fields: {id: string, card: string, amount: {type: float64, required: true}, at: timestamp}
partition_by: card
partitions: 2
features:
  seen_1h: {count: "*", over: 1h}
models:
  fraud: {registry: reg, version: 1, features: [amount, seen_1h]}
rules:
  - {id: high, when: score > 50, then: decline}
decision: {severity: [decline, approve], otherwise: approve, include: [fraud.version]}
"""
WEIGHTS = ({"amount": 0.5}, {"amount": -1.0, "seen_1h": 0.0}, {"amount": 2.0})


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    for weights in WEIGHTS:
        register(tmp_path / "reg", "fraud", weights)
    path = tmp_path / "shop.yaml"
    path.write_text(PIPELINE.replace("NAME", f"shop-{secrets.token_hex(4)}"))
    return path


class Shop:
    """A pipeline whose workers run."""

    def __init__(self, cli: Cli, path: Path, log: str) -> None:
        self.cli, self.path, self.log = cli, path, log
        self.given = ["--pipeline", path, "--log", log]
        self.fed = 0
        self.process: subprocess.Popen[str] | None = None

    def run(self) -> None:
        self.process = start("run", self.path, "--log", self.log, "--state", self.path.parent / "state", "--workers", 2)

    def stop(self) -> str:
        assert self.process is not None
        self.process.terminate()
        _, errors = self.process.communicate()
        assert self.process.returncode == 0, errors
        return errors

    def feed(self, count: int) -> list[dict[str, Any]]:
        """The decisions of so many payments."""
        keys = range(self.fed, self.fed + count)
        rows = [{"id": f"p{n}", "card": f"c{n % 40}", "amount": (n % 7) - 3.0, "at": 500 + n} for n in keys]
        file = self.path.parent / "in.ndjson"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        assert self.cli("feed", "payments", file, *self.given).code == 0
        self.fed += count
        while True:
            found = self.decided()
            if all(f"p{n}" in found for n in keys):
                return [found[f"p{n}"] for n in keys]
            assert self.process is not None
            assert self.process.poll() is None
            time.sleep(0.05)

    def decided(self) -> dict[str, dict[str, Any]]:
        done = self.cli("tail", "decisions", *self.given, "--from-start", "--until-end")
        rows = [json.loads(line) for line in done.lines]
        found = {row["id"]: row for row in rows}
        assert len(found) == len(rows)
        return found

    def until(self, versions: set[int]) -> list[dict[str, Any]]:
        """Decisions once only these versions decide."""
        while True:
            found = self.feed(80)
            if {row["fraud.version"] for row in found} == versions:
                return found

    def change(self, *arguments: object, code: int = 0) -> str:
        done = self.cli("models", *arguments, *self.given)
        assert done.code == code, done.err
        return done.err


def challenged(card: str) -> bool:
    """Whether a challenger with half of the cards has this one."""
    return xxhash.xxh3_64_intdigest(f"fraud\0{card}".encode()) % 10_000 < 5_000


def agrees(rows: list[dict[str, Any]]) -> bool:
    """Whether each score is that of the version that the decision names."""
    for row in rows:
        features = {"amount": int(row["id"][1:]) % 7 - 3.0, "seen_1h": 0.0}
        score = by_hand(WEIGHTS[row["fraud.version"] - 1], features)
        if row["score"] != pytest.approx(score, rel=1e-5) or (row["decision"] == "decline") != (row["score"] > 50):
            return False
    return True


@BOTH
@pytest.mark.timeout(240)
def test_versions_change_while_workers_run(cli: Cli, shop: Path, log: str) -> None:
    running = Shop(cli, shop, log)
    running.run()
    try:
        assert agrees(running.until({1}))
        said = running.change("activate", "fraud", 2, "--as", "challenger", "--share", 0.5, "--why", "looks better")
        assert said.endswith("fraud: champion 1, challenger 2 for 50.00% of the keys (before: champion 1)\n")
        split = running.feed(80)
        while any(row["fraud.version"] != 1 + challenged(row["card"]) for row in split):
            split = running.feed(80)  # each worker takes it up in its own time
        assert agrees(split)
        assert {row["fraud.version"] for row in split} == {1, 2}

        running.change("activate", "fraud", 2)
        running.change("activate", "fraud", 3, "--as", "shadow")
        assert agrees(running.until({2}))
        process = running.process
        assert process is not None
        process.kill()
        process.communicate()
        shutil.rmtree(shop.parent / "state")
        running.run()  # from the journal, by the roles of the topic
        assert {row["fraud.version"] for row in running.feed(80)} == {2}
        running.change("rollback", "fraud", "--why", "no shadow")
        running.change("activate", "fraud", 1)
        assert agrees(running.until({1}))
        said = running.change("rollback", "fraud")
        assert said.endswith("fraud: champion 2 (before: champion 1)\n")
        assert agrees(running.until({2}))
    finally:
        errors = running.stop()
    assert "come out otherwise" not in errors
    entries = journaled(log, shop.read_text().splitlines()[0].removeprefix("pipeline: "))
    assert len({dict(tables).get(topic) for tables, _ in entries for topic in dict(tables)}) >= 4  # each change is seen
    again = cli("what-if", shop, "--since", "1h", "--log", log, "--json")
    assert again.code == 0, again.err
    said = json.loads(again.out)
    assert said["same"] == said["payments"] == running.fed  # each by the version of then
    texts = [json.loads(text) for _, texts in entries for text in texts if text]
    assert texts
    assert all(one.keys() == {"3"} for one in texts)


def journaled(log: str, name: str) -> list[tuple[tuple[tuple[str, int], ...], list[str | None]]]:
    """Of each journaled transaction: versions of tables, and what shadows said."""
    return [
        (decode_entry(headers)[0].tables, ipc.open_stream(value).read_all()["fraud.shadows"].to_pylist())
        for headers, value in journal(log, name, 2)
        if value
    ]


@pytest.mark.parametrize("log", ["file"], indirect=True)
def test_what_is_refused(cli: Cli, shop: Path, log: str) -> None:
    running = Shop(cli, shop, log)
    assert "there is no event log" in running.change("rollback", "fraud", code=2)
    running.cli("feed", "payments", _one(shop), *running.given)
    assert "the roles of fraud were never changed" in running.change("rollback", "fraud", code=2)
    assert "there is no version 9 of the model fraud" in running.change("activate", "fraud", 9, code=2)
    assert "version 1 is the champion" in running.change("activate", "fraud", 1, "--as", "none", code=2)
    assert "has no model 'fruad'" in running.change("activate", "fruad", 2, code=2)
    shop.write_text(
        shop.read_text()
        .replace("registry: reg, version: 1", "file: reg/fraud/1/model.onnx")
        .replace("include: [fraud.version]", "include: []")
        .replace("[amount, seen_1h]", "[amount]")
    )
    assert "model fraud is a file" in running.change("activate", "fraud", 2, code=2)


@pytest.mark.parametrize("log", ["file"], indirect=True)
def test_a_change_to_what_is_at_work_writes_nothing_so_a_rollback_takes_back_the_real_one(shop: Path, log: str) -> None:
    make_directories(log)
    model, who = declared(str(shop), "fraud"), Who("anna", "2026-05-01T00:00:00Z", None)

    def activate(version: int) -> Changed:
        return asyncio.run(write_roles(model, log, who, lambda roles, _: changed(roles, version, "champion", 0.1)))

    activate(2)
    again = activate(2)
    assert again.text() == "fraud: champion 2, as it was: nothing was written"
    assert not again.written

    def earlier(_: Roles, row: Row | None) -> Roles:
        assert row is not None
        return before(row)

    assert asyncio.run(write_roles(model, log, who, earlier)).now == Roles(1)
    assert activate(1).now == Roles(1)


@pytest.mark.parametrize("log", ["file"], indirect=True)
def test_the_roles_of_the_file_can_be_written_down(shop: Path, log: str) -> None:
    """From then on the topic holds, whatever the file says."""
    make_directories(log)
    model, who = declared(str(shop), "fraud"), Who("anna", "2026-05-01T00:00:00Z", None)
    pinned = asyncio.run(write_roles(model, log, who, lambda roles, _: changed(roles, 1, "champion", 0.1)))
    assert pinned.written
    assert pinned.text() == "fraud: champion 1 (before: champion 1)"


def test_a_plan_says_which_versions_are_at_work(shop: Path) -> None:
    text = shop.read_text()
    shop.write_text(text.replace("version: 1", "version: 1, challenger: {version: 2, share: 0.3}, shadow: [3]"))
    told = explain(*load_stages(str(shop)))
    assert "model fraud of 2 features: champion 1, challenger 2 for 30.00% of card, shadow 3\n" in told
    by_file = text.replace("registry: reg, version: 1", "file: reg/fraud/2/model.onnx")
    shop.write_text(by_file.replace("fraud.version", "seen_1h"))
    assert "model fraud of 2 features\n" in explain(*load_stages(str(shop)))


@pytest.mark.parametrize("log", ["file"], indirect=True)
def test_who_asks_no_model_needs_none(cli: Cli, shop: Path, log: str) -> None:
    """A producer, say, and who looks into the state while a worker stands in for its model."""
    shutil.rmtree(shop.parent / "reg")
    fed = cli("feed", "payments", _one(shop), "--pipeline", shop, "--log", log)
    assert fed.code == 0, fed.err
    for command in ("inspect", "verify"):
        told = cli("state", command, shop, "--state", shop.parent / "state")
        assert "registry" not in told.err


@BOTH
@pytest.mark.timeout(120)
def test_of_two_changes_at_a_time_none_writes_back_what_the_other_has_changed(
    cli: Cli, shop: Path, log: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rollback, say, while a weekly retraining is about to make its challenger."""
    assert cli("feed", "payments", _one(shop), "--pipeline", shop, "--log", log).code == 0
    model, who = declared(str(shop), "fraud"), Who("anna", "2026-05-01T00:00:00Z", None)

    def write(version: int, role: str) -> None:
        asyncio.run(write_roles(model, log, who, lambda roles, _: changed(roles, version, role, 0.1)))

    def overtaken(_: Declared, roles: Roles) -> None:
        monkeypatch.undo()
        write(2, "champion")

    monkeypatch.setattr(Declared, "check", overtaken)  # versions are opened before anything is written
    with pytest.raises(ConfigError, match="the roles of fraud were changed by another meanwhile; nothing was written"):
        write(3, "challenger")
    assert asyncio.run(roles_at_work(str(shop), "fraud", log)) == Roles(2)
    write(3, "challenger")
    assert asyncio.run(roles_at_work(str(shop), "fraud", log)) == Roles(2, 3, 0.1)


def _one(shop: Path) -> Path:
    file = shop.parent / "one.ndjson"
    file.write_text('{"id": "a", "card": "c", "amount": 1, "at": 1}\n')
    return file
