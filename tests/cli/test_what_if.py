"""`what-if`: a changed pipeline on what was decided, from checkpoints and the log.

What it should say is known from a second run of the changed pipeline on a log of its own, or worked out from what the
decisions themselves say; a pipeline that did not change decides nothing otherwise.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from streamproc.runtime import again
from tests.cli import chain, parallel
from tests.cli.conftest import BOTH, PIPELINE, Cli, payments
from tests.cli.test_serving import PIPELINE as SCORED
from tests.cli.test_serving import WEIGHTS
from tests.models.registered import by_hand, register

Rows = list[dict[str, Any]]
CHANGES = (
    ("spend_count_1h >= 4", "spend_count_1h >= 3"),
    ("abroad, then: review", "abroad and amount > 40, then: review"),
)


class Shop:
    """A pipeline in a folder, its log and its checkpoints."""

    def __init__(self, cli: Cli, path: Path, log: str) -> None:
        self.cli, self.path, self.log = cli, path, log
        self.checkpoints = path.parent / f"{path.stem}-checkpoints"
        self._fed = 0

    def changed(self, *changes: tuple[str, str]) -> Path:
        """Another file of the same pipeline."""
        text = self.path.read_text()
        for old, new in changes:
            assert old in text, old
            text = text.replace(old, new)
        path = self.path.with_name("new.yaml")
        path.write_text(text)
        return path

    def decide(self, rows: Rows, *options: object) -> None:
        """Feed and run to the end."""
        self._fed += 1
        file = self.path.parent / f"{self.path.stem}-{self._fed}.ndjson"
        file.write_text("".join(json.dumps(row, default=str) + "\n" for row in rows))
        done = self.cli("feed", "payments", file, "--pipeline", self.path, "--log", self.log)
        assert done.code == 0, done.err
        options = (*options, "--checkpoints", self.checkpoints, "--state", self.path.parent / f"{self.path.stem}-state")
        done = self.cli("run", self.path, "--log", self.log, "--until-end", *options)
        assert done.code == 0, done.err

    def decisions(self) -> dict[str, dict[str, Any]]:
        """Of each payment, that which is no repeat."""
        given = ("--pipeline", self.path, "--log", self.log, "--from-start", "--until-end")
        rows = [json.loads(line) for line in self.cli("tail", "decisions", *given).lines]
        return {row["payment_id"]: row for row in rows if not row.get("duplicate")}

    def what_if(self, path: Path, since: str, *options: object) -> dict[str, Any]:
        done = self.cli("what-if", path, "--since", since, "--log", self.log, "--json", *options)
        assert done.code == 0, done.err
        found: dict[str, Any] = json.loads(done.out)
        return found


def now() -> str:
    """With some room on both sides: nothing is written meanwhile."""
    time.sleep(1.1)  # S3 and directories tell times of files apart by the second
    said = datetime.now(UTC).isoformat(timespec="milliseconds")
    time.sleep(0.05)
    return said


@pytest.fixture
def shop(cli: Cli, tmp_path: Path, log: str) -> Shop:
    path = tmp_path / "shop.yaml"
    path.write_text(PIPELINE.replace("pipeline: shop", f"pipeline: shop-{secrets.token_hex(4)}"))
    return Shop(cli, path, log)


def moves(found: dict[str, Any]) -> dict[tuple[str, str], int]:
    return {(one["before"], one["after"]): one["payments"] for one in found["moves"]}


def stricter(found: Counter[tuple[str, str]], severity: tuple[str, ...]) -> int:
    return sum(count for (old, new), count in found.items() if severity.index(new) < severity.index(old))


@BOTH
@pytest.mark.timeout(240)
def test_it_says_what_a_run_of_the_changed_pipeline_decides(shop: Shop, cli: Cli, tmp_path: Path) -> None:
    first, second = payments(700), payments(600, seed=2, first=700)
    new = shop.changed(*CHANGES)
    shop.decide(first)
    since = now()
    shop.decide(second, "--workers", 2)

    (tmp_path / "other").mkdir()
    other = Shop(cli, tmp_path / "other" / "other.yaml", f"file:{tmp_path}/other/log")
    other.path.write_text(new.read_text())
    other.decide(first)
    other.decide(second)
    was, becomes = shop.decisions(), other.decisions()
    ids = {row["Payment"] for row in second} - {row["Payment"] for row in first}
    expected = Counter((was[one]["decision"], becomes[one]["decision"]) for one in ids)
    changed = Counter({pair: count for pair, count in expected.items() if pair[0] != pair[1]})
    assert len(changed) >= 3

    page = tmp_path / "page.html"
    for options in (["--checkpoints", shop.checkpoints], []):
        found = shop.what_if(new, since, *options, "--report", page)
        assert found["payments"] == len(ids)
        assert moves(found) == dict(changed)
        assert found["same"] == len(ids) - changed.total()
        assert found["stricter"] == stricter(changed, ("decline", "review", "approve"))
        assert (found["only_then"], found["only_now"]) == (0, 0)
        assert all(one["full"] for one in found["tasks"])
        assert all((one["checkpoint"] is not None) == bool(options) for one in found["tasks"])
        rows = [json.loads(line) for line in Path(found["changes"]).read_text().splitlines()]
        assert {(row["id"], row["decision"], row["new_decision"]) for row in rows} == {
            (one, was[one]["decision"], becomes[one]["decision"])
            for one in ids
            if was[one]["decision"] != becomes[one]["decision"]
        }
        assert all(was[row["id"]]["reasons"] == reasons(row["rules"]) for row in rows)
        assert "new.yaml" in page.read_text()
        assert f"<title>Decisions of {shop.path.read_text().splitlines()[0][10:]}" in page.read_text()

    same = shop.what_if(shop.path, since, *given(shop))
    assert (same["payments"], same["same"], same["moves"]) == (len(ids), len(ids), [])


def given(shop: Shop) -> tuple[object, ...]:
    return "--checkpoints", shop.checkpoints


def reasons(rules: list[str]) -> list[str]:
    return [{"many": "four payments in an hour"}.get(rule, rule) for rule in rules]


def retention_takes(log: str, offset: int, topics: str = "%") -> None:
    """Of topics that are called so, in each partition what stands before `offset`."""
    with sqlite3.connect(Path(log.removeprefix("file:")) / "log.sqlite3") as db:
        where = "WHERE next_offset > ? AND topic LIKE ?"
        db.execute(f"UPDATE partitions SET begin_offset = ? {where}", (offset, offset, topics))
    db.close()


@pytest.mark.parametrize("log", ["file"], indirect=True)
def test_without_a_checkpoint_before(shop: Shop, cli: Cli) -> None:
    """All history, while the log has it; else the next checkpoint; else what there is: both are warned of."""
    shop.decide(payments(500))
    since = now()
    second, third = payments(300, seed=2, first=500), payments(300, seed=3, first=800)
    shop.decide(second)
    shop.decide(third)
    for manifests in shop.checkpoints.glob("*/*/manifests"):
        min(manifests.iterdir()).unlink()  # the one before `since`
    ids, last = {row["Payment"] for row in [*second, *third]}, {row["Payment"] for row in third}
    found = shop.what_if(shop.path, since, *given(shop))
    assert (found["payments"], found["same"], found["moves"]) == (len(ids), len(ids), [])
    assert {(one["checkpoint"], one["full"]) for one in found["tasks"]} == {(None, True)}

    retention_takes(shop.log, 1)
    found = shop.what_if(shop.path, since, *given(shop))
    assert (found["payments"], found["same"], found["moves"]) == (len(last), len(last), [])
    assert all(one["checkpoint"] and not one["full"] for one in found["tasks"])
    done = cli("what-if", shop.path, "--since", since, "--log", shop.log, *given(shop))
    assert "warning: partitions 0, 1, 2, 3 began without what was before" in done.out

    for topics in ("%", "%.payments"):
        retention_takes(shop.log, 1 if topics == "%" else 150, topics)
        found = shop.what_if(shop.path, since)
        assert {(one["checkpoint"], one["full"]) for one in found["tasks"]} == {(None, False)}
        assert len(last) <= found["payments"] <= len(ids) - (topics != "%")


@pytest.mark.parametrize("log", ["file"], indirect=True)
def test_a_damaged_checkpoint_is_passed_over(shop: Shop, cli: Cli) -> None:
    shop.decide(payments(300))
    shop.decide(payments(300, seed=3, first=300))
    since = now()
    shop.decide(payments(300, seed=2, first=600))
    for task in shop.checkpoints.glob("*/*"):
        middle = sorted((task / "manifests").iterdir())[1]
        blobs = {file["blob"] for file in json.loads(middle.read_text())["record"]["files"]}
        oldest = sorted((task / "manifests").iterdir())[0]
        blobs -= {file["blob"] for file in json.loads(oldest.read_text())["record"]["files"]}
        assert blobs
        for blob in blobs:
            path = task / "files" / blob
            path.write_bytes(path.read_bytes()[:-1])
    found = shop.what_if(shop.path, since, *given(shop))
    assert (found["same"], found["moves"]) == (found["payments"], [])
    assert all(one["full"] and one["checkpoint"] for one in found["tasks"])


LAST = {
    "chain": ("when: card_day_count >= 4", "when: card_day_count >= 4 and amount > 50"),
    "beside": ("device_users >= 6", "device_users >= 5"),
}


def becomes(kind: str, row: dict[str, Any]) -> str:
    """What the changed rule makes of a payment, by its features as they were decided on."""
    was = str(row["decision"])
    if kind == "beside":
        return "decline" if row["device_users"] == 5 else was
    if was != "decline" or row["amount"] > 50:
        return was
    return "review" if row["shop_day_count"] >= 8 else "approve"


@pytest.mark.timeout(240)
@pytest.mark.parametrize(("kind", "batch_rows"), [("chain", 8192), ("beside", 8192), ("beside", 7)])
def test_the_last_stage_of_several_is_decided_again(
    cli: Cli, tmp_path: Path, kind: str, batch_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(again, "_ROWS", batch_rows)
    rows: Rows = chain.rows(500) if kind == "chain" else parallel.payments(500)
    path = chain.chain(tmp_path) if kind == "chain" else parallel.beside(tmp_path)
    running = Shop(cli, path, f"file:{tmp_path}/log")
    running.decide(rows[:300])
    since = now()
    running.decide(rows[300:])
    same = running.what_if(path, since, "--checkpoints", running.checkpoints)
    assert (same["same"], same["moves"]) == (same["payments"], [])
    assert all(one["full"] and one["checkpoint"] for one in same["tasks"])

    old, new = LAST[kind]
    found = running.what_if(running.changed((old, new)), since, "--checkpoints", running.checkpoints)
    ids = {row["Payment"] for row in rows[300:]} - {row["Payment"] for row in rows[:300]}
    decided = [one for name, one in running.decisions().items() if name in ids]
    expected = Counter((one["decision"], becomes(kind, one)) for one in decided)
    changed = {pair: count for pair, count in expected.items() if pair[0] != pair[1]}
    assert changed
    assert found["payments"] == len(decided)
    assert moves(found) == changed

    first = ("over: 24h, name", "over: 23h, name")
    done = cli("what-if", running.changed(first), "--since", since, "--log", running.log)
    assert done.code == 2
    stage = "shops" if kind == "chain" else "cards"
    assert f"the stage {stage} is another one than at work" in done.err


def test_rows_that_were_late_are_late_again(cli: Cli, tmp_path: Path) -> None:
    """And, without a deadline, they are scored."""
    register(tmp_path / "reg", "fraud", WEIGHTS[2])
    path = tmp_path / "late.yaml"
    path.write_text(SCORED.replace("NAME", "late").replace("partitions: 2", "partitions: 2\ndeadline: 1ms"))
    late = Shop(cli, path, f"file:{tmp_path}/log")
    amounts = [(n % 7) - 3.0 for n in range(200)]
    rows = [{"id": f"p{n}", "card": f"c{n}", "amount": amount, "at": 500 + n} for n, amount in enumerate(amounts)]
    late.decide(rows)
    same = late.what_if(path, "1h")
    assert (same["payments"], same["same"]) == (200, 200)
    found = late.what_if(late.changed(("deadline: 1ms\n", "")), "1h")
    high = sum(by_hand(WEIGHTS[2], {"amount": amount, "seen_1h": 0.0}) > 50 for amount in amounts)
    assert 0 < high < 200
    assert moves(found) == {("approve", "decline"): high}


def test_versions_are_those_that_were_at_work_and_it_says_so(cli: Cli, tmp_path: Path) -> None:
    for weights in WEIGHTS[:2]:
        register(tmp_path / "reg", "fraud", weights)
    path = tmp_path / "roles.yaml"
    path.write_text(SCORED.replace("NAME", "roles"))
    served = Shop(cli, path, f"file:{tmp_path}/log")
    served.decide([{"id": "before", "card": "c", "amount": 1.0, "at": 500}])
    other = served.changed(("version: 1", "version: 2"))
    given = (other, "--since", "1h", "--log", served.log)
    done = cli("what-if", *given)
    assert "1 more mildly" in done.out  # nothing else was at work: the file's version is tried
    assert "warning" not in done.err
    done = cli("models", "activate", "fraud", "1", "--pipeline", path, "--log", served.log)
    assert done.code == 0, done.err
    served.decide([{"id": "after", "card": "c", "amount": 1.0, "at": 600}])
    done = cli("what-if", *given)
    assert "2 payments, 1 decided alike, 0 more strictly, 1 more mildly" in done.out
    assert "warning: model fraud: from the first `models activate` on, the versions are those that were" in done.err
    assert "champion 1" in done.err
    assert "file: reg/fraud/2/model.onnx" in done.err
    assert "warning" not in cli("what-if", path, *given[1:]).err
    assert cli("models", "activate", "fraud", "2", "--pipeline", path, "--log", served.log).code == 0
    served.decide([{"id": "last", "card": "c", "amount": 1.0, "at": 700}])
    model = tmp_path / "reg" / "fraud" / "2" / "model.onnx"
    model.write_bytes(model.read_bytes()[:-1])
    done = cli("what-if", path, *given[1:])
    assert (done.code, done.out) == (2, "")
    assert "it cannot be decided as then: " in done.err


@pytest.mark.parametrize("log", ["file"], indirect=True)
def test_a_feature_more_is_decided_from_the_logs_begin(shop: Shop) -> None:
    """No checkpoint has its state, so none is taken."""
    rows = payments(800)
    shop.decide(rows[:400])
    since = now()
    shop.decide(rows[400:])
    new = shop.changed(
        ("  amount: amount\n", "  amount: amount\n  seen: {count: '*', over: 12h}\n"),
        ("when: spend_count_1h >= 4", "when: seen >= 9"),
    )
    found = shop.what_if(new, since, *given(shop))
    assert [(one["checkpoint"], one["full"]) for one in found["tasks"]] == [(None, True)] * 4
    assert moves(found)
    assert found["payments"] == found["same"] + found["stricter"] + found["milder"]


@pytest.mark.parametrize("log", ["file"], indirect=True)
def test_labels_and_segments_are_reported(shop: Shop, cli: Cli, tmp_path: Path) -> None:
    shop.decide(fed := payments(300))
    labels, page = tmp_path / "labels.csv", tmp_path / "page.html"
    labels.write_text("Payment\n" + "".join(f"p{n}\n" for n in range(0, 300, 3)))
    new = shop.changed(*CHANGES)
    done = cli(
        "what-if", new, "--since", "1h", "--log", shop.log, "--report", page, "--labels", labels, "--segment",
        "country", "--segment", "spend_count_1h",
    )  # fmt: skip
    assert done.code == 0, done.err
    lines = [line.split() for line in done.lines]
    assert lines[1] == ["then", "now", "payments", "frauds", "legitimate", "value"]
    rows = [json.loads(line) for line in page.with_suffix(".changes.ndjson").read_text().splitlines()]
    told = {(was, becomes): (int(n), int(frauds), int(fine)) for was, becomes, n, frauds, fine, _ in lines[2:-3]}
    for pair in {(row["decision"], row["new_decision"]) for row in rows}:
        of = [row for row in rows if (row["decision"], row["new_decision"]) == pair]
        frauds = sum(int(row["id"][1:]) % 3 == 0 for row in of)
        assert told.pop(pair) == (len(of), frauds, len(of) - frauds)
    assert not told
    assert done.lines[-3].startswith("frauds: no label_at, so who is not in it counts as legitimate")
    assert "country" in page.read_text()
    times = [row["At"] for row in fed]
    assert f"{min(times):%Y-%m-%d %H:%M} to {max(times):%Y-%m-%d %H:%M} UTC" in page.read_text()


@pytest.mark.parametrize("log", ["file"], indirect=True)
def test_what_is_refused(shop: Shop, cli: Cli, tmp_path: Path) -> None:
    def said(*options: object, path: Path = shop.path) -> str:
        done = cli("what-if", path, "--log", shop.log, *options)
        assert done.code == 2
        assert "Traceback" not in done.err
        return done.err

    assert "there is no event log" in said("--since", "1h")
    shop.decide(payments(20))
    assert "'3y' is no time (a duration (24h, 7d), or a time such as" in said("--since", "3y")
    assert "2999-01-01T00:00:00Z is not over yet" in said("--since", "2999-01-01T00:00:00Z")
    since = now()
    assert f"nothing was decided since {since[:19]}Z" in said("--since", since)
    assert "there is no directory" in said("--since", "1h", "--checkpoints", tmp_path / "nowhere")
    assert "--labels without a report" in said("--since", "1h", "--labels", tmp_path / "x.csv")
    other = shop.changed(("pipeline: shop", "pipeline: shap"))
    assert "has decided nothing in this log" in said("--since", "1h", path=other)
    (tmp_path / "elsewhere").mkdir()
    elsewhere = Shop(cli, tmp_path / "elsewhere" / "shop.yaml", f"file:{tmp_path}/elsewhere/log")
    elsewhere.path.write_text(shop.path.read_text())
    elsewhere.decide(payments(30, seed=9))
    since = now()
    shop.decide(payments(30, first=30))
    assert "is not of this log" in said("--since", since, "--checkpoints", elsewhere.checkpoints)
    retention_takes(shop.log, 1)
    assert "begins behind its checkpoint (a shorter --since)" in said("--since", since, *given(shop))
