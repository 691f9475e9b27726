"""`what-if`: a changed pipeline on what was decided, from checkpoints and the log.

What it should say is known from a second run of the changed pipeline on a log of its own, or worked out from what the
decisions themselves say; a pipeline that did not change decides nothing otherwise.
"""

from __future__ import annotations

import json
import secrets
import shutil
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.cli import chain, parallel
from tests.cli.conftest import BOTH, PIPELINE, Cli, payments

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

    same = shop.what_if(shop.path, since, "--checkpoints", shop.checkpoints)
    assert (same["payments"], same["same"], same["moves"]) == (len(ids), len(ids), [])


def reasons(rules: list[str]) -> list[str]:
    return [{"many": "four payments in an hour"}.get(rule, rule) for rule in rules]


@pytest.mark.parametrize("log", ["file"], indirect=True)
def test_state_comes_from_the_checkpoint(shop: Shop, cli: Cli, tmp_path: Path) -> None:
    """Without it, and without the log's begin, counts would be too low, and it says so."""
    shop.decide(payments(700))
    since = now()
    shop.decide(payments(600, seed=2, first=700))
    kept = shop.checkpoints
    late = tmp_path / "late"
    shutil.copytree(kept, late)
    for manifest in late.glob("*/*/manifests/*"):
        if min(kept.glob(f"*/{manifest.parent.parent.name}/manifests/*")).name == manifest.name:
            manifest.unlink()  # those before `since`
    found = shop.what_if(shop.path, since, "--checkpoints", late)
    assert [one["full"] for one in found["tasks"]] == [False] * 4
    assert found["payments"] == 0 if "payments" in found else True
    done = cli("what-if", shop.path, "--since", since, "--log", shop.log, "--checkpoints", late)
    assert "warning: partitions 0, 1, 2, 3 began without what was before" in done.out


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
    found = shop.what_if(shop.path, since, "--checkpoints", shop.checkpoints)
    assert (found["same"], found["moves"]) == (found["payments"], [])
    assert all(one["full"] and one["checkpoint"] for one in found["tasks"])


@pytest.mark.timeout(240)
@pytest.mark.parametrize("kind", ["chain", "beside"])
def test_the_last_stage_of_several_is_decided_again(cli: Cli, tmp_path: Path, kind: str) -> None:
    rows: Rows = chain.payments(500) if kind == "chain" else parallel.payments(500)
    path = chain.chain(tmp_path) if kind == "chain" else parallel.beside(tmp_path)
    running = Shop(cli, path, f"file:{tmp_path}/log")
    running.decide(rows[:300])
    since = now()
    running.decide(rows[300:])
    same = running.what_if(path, since, "--checkpoints", running.checkpoints)
    assert (same["same"], same["moves"]) == (same["payments"], [])
    assert all(one["full"] and one["checkpoint"] for one in same["tasks"])

    old, new = ("card_day_count >= 4", "card_day_count >= 3") if kind == "chain" else ("users >= 6", "users >= 5")
    found = running.what_if(running.changed((old, new)), since, "--checkpoints", running.checkpoints)
    ids = {row["Payment"] for row in rows[300:]} - {row["Payment"] for row in rows[:300]}
    decided = [one for name, one in running.decisions().items() if name in ids]
    hit = [one for one in decided if (one["card_day_count"] == 3 if kind == "chain" else one["device_users"] == 5)]
    assert len(hit) >= 5
    assert found["payments"] == len(decided)
    assert moves(found) == Counter((one["decision"], "decline") for one in hit)

    first = ("over: 24h, name", "over: 23h, name")
    done = cli("what-if", running.changed(first), "--since", since, "--log", running.log)
    assert done.code == 2
    stage = "shops" if kind == "chain" else "cards"
    assert f"the stage {stage} is another one than at work" in done.err


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
    found = shop.what_if(new, since, "--checkpoints", shop.checkpoints)
    assert [(one["checkpoint"], one["full"]) for one in found["tasks"]] == [(None, True)] * 4
    assert moves(found)
    assert found["payments"] == found["same"] + found["stricter"] + found["milder"]


@pytest.mark.parametrize("log", ["file"], indirect=True)
def test_labels_and_segments_are_reported(shop: Shop, cli: Cli, tmp_path: Path) -> None:
    shop.decide(payments(300))
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
    told = {(was, becomes): (int(n), int(frauds), int(fine)) for was, becomes, n, frauds, fine, _ in lines[2:-2]}
    for pair in {(row["decision"], row["new_decision"]) for row in rows}:
        of = [row for row in rows if (row["decision"], row["new_decision"]) == pair]
        frauds = sum(int(row["id"][1:]) % 3 == 0 for row in of)
        assert told.pop(pair) == (len(of), frauds, len(of) - frauds)
    assert not told
    assert "country" in page.read_text()


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
    for manifest in shop.checkpoints.glob("*/*/manifests/*"):
        manifest.rename(manifest.with_name(manifest.name))
    (tmp_path / "elsewhere").mkdir()
    elsewhere = Shop(cli, tmp_path / "elsewhere" / "shop.yaml", f"file:{tmp_path}/elsewhere/log")
    elsewhere.path.write_text(shop.path.read_text())
    elsewhere.decide(payments(30, seed=9))
    time.sleep(1.1)
    elsewhere.decide(payments(30, seed=10, first=30))
    done = cli("what-if", shop.path, "--since", "1h", "--log", shop.log, "--checkpoints", elsewhere.checkpoints)
    assert done.code == 2
    assert "is not of this log" in done.err or "begins behind" in done.err
