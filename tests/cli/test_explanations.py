"""`explain-decisions` and `why`: from payments on the embedded log to explanations, and where none can be given."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("onnx")

from models.explaining.shapley import TreeShares
from models.explaining.trees import TreeTable
from models.onnx import OnnxModel
from models.training.export import trees_model
from streamproc.cli.explaining import opened
from streamproc.eventlog.contract import Retention, retention_of
from streamproc.services.explanations.follow import spec_of
from tests.cli.conftest import PIPELINE, Cli, done, payments
from tests.cli.test_round_trip import ndjson
from tests.models.registered import register_file
from tests.models.shapley_samples import nodes
from tests.oracle.shapley import Leaf, Split, shapley

FEATURES = ("amount", "spend_count_1h", "spend_sum_24h", "abroad")
TREES: list[Split | Leaf] = [
    Split(0, 50.0, True, Leaf(-1.0, 30.0), Split(3, 0.5, True, Leaf(0.5, 5.0), Leaf(2.0, 3.0))),
    Split(2, 120.0, False, Split(1, 1.0, True, Leaf(-0.5, 20.0), Leaf(0.25, 9.0)), Leaf(1.5, 4.0)),
]
MODELS = """\
models:
  fraud:
    file: model.onnx
    features: [amount, spend_count_1h, spend_sum_24h, abroad]
    describe: {abroad: paid abroad}
rules:
"""


def model(intercept: float = -0.5) -> bytes:
    return trees_model([list(nodes(tree)) for tree in TREES], intercept, len(FEATURES))


@pytest.fixture(scope="module")
def decided(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a pipeline that has a model, whose payments are decided."""
    folder = tmp_path_factory.mktemp("decided")
    (folder / "shop.yaml").write_text(PIPELINE.replace("rules:\n", MODELS))
    (folder / "model.onnx").write_bytes(model())
    decide(folder)
    return folder


def decide(folder: Path) -> None:
    """300 payments, in some transactions."""
    path, rows, log = folder / "shop.yaml", ndjson(folder / "rows.ndjson", payments(300)), f"file:{folder}/log"
    done("feed", "payments", rows, "--pipeline", path, "--log", log)
    done("run", path, "--until-end", "--log", log, "--state", folder / "state")


@pytest.fixture
def shop(decided: Path, tmp_path: Path) -> Path:
    """The pipeline of a copy of it."""
    return shutil.copytree(decided, tmp_path / "shop") / "shop.yaml"


def explained(cli: Cli, shop: Path, *more: object) -> tuple[list[dict[str, Any]], str]:
    """All that stands in the topic after a run of the command, and what that said."""
    log = f"file:{shop.parent}/log"
    said = cli("explain-decisions", shop, "--log", log, "--until-end", *more)
    assert said.code == 0, said.err
    told = cli("tail", "explanations", "--pipeline", shop, "--log", log, "--until-end")
    return [json.loads(line) for line in told.lines], said.err


def features(cli: Cli, shop: Path) -> dict[str, dict[str, Any]]:
    shown = cli("tail", "features", "--pipeline", shop, "--log", f"file:{shop.parent}/log", "--until-end")
    return {row["payment_id"]: row for row in map(json.loads, shown.lines)}


@pytest.mark.timeout(120)
def test_each_decision_but_approve_is_explained_once(cli: Cli, shop: Path) -> None:
    found, said = explained(cli, shop)
    rows = features(cli, shop)
    assert {one["id"] for one in found} == {name for name, row in rows.items() if row["decision"] != "approve"}
    assert f"{len(found)} explanations written to shop.explanations" in said
    for one in found:
        given = [float("nan") if rows[one["id"]][name] is None else float(rows[one["id"]][name]) for name in FEATURES]
        wanted = dict(zip(FEATURES, shapley(TREES, given), strict=True))
        assert {part["feature"]: part["share"] for part in one["top"]} == pytest.approx(
            {name: share for name, share in wanted.items() if share}, abs=1e-6
        )
        for part in one["top"]:
            assert part["value"] == rows[one["id"]][part["feature"]]
        assert one["model"] == OnnxModel(shop.with_name("model.onnx")).digest
        assert one["raw"] == pytest.approx(one["base"] + sum(wanted.values()), abs=1e-6)
    again, said = explained(cli, shop)
    assert again == found
    assert "0 explanations written" in said


VICTIMS = """\
import asyncio, os, signal, sys
from msgspec.structs import replace
from streamproc.cli.explaining import explain_decisions, opened
from streamproc.eventlog.embedded.log import EmbeddedAppender

append, (path, log, *allowed) = EmbeddedAppender.append, sys.argv[1:]
given = opened(path, None)


def killed_after(records):
    async def appended(self, outputs):
        some, left = [], records
        for one in outputs:
            some.append(replace(one, keys=one.keys[:left], values=one.values[:left]))
            left -= len(some[-1].keys)
        await append(self, some)
        os.kill(os.getpid(), signal.SIGKILL)

    return appended


for records in map(int, allowed):
    if not os.fork():
        EmbeddedAppender.append = killed_after(records)
        asyncio.run(explain_decisions(given, log, "", None, everything=False, until_end=True))
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.wait()[1]) == -signal.SIGKILL
"""
"""One after the other explains, and is killed when the log has so many more: Kafka writes explanations in parts."""


@pytest.mark.timeout(120)
def test_killed_wherever_it_is_it_loses_none_and_writes_none_twice(cli: Cli, shop: Path) -> None:
    log = f"file:{shop.parent}/log"
    undisturbed = shutil.copytree(shop.parent, shop.parent.with_name("undisturbed")) / shop.name
    wanted, _ = explained(cli, undisturbed)
    records = [one["at"] for one in wanted if one["partition"] == wanted[0]["partition"]]
    within = next(n for n in range(1, len(records)) if records[n - 1] == records[n])  # of one record a part
    allowed = 0, within, 1, len(wanted) // 2, 0
    subprocess.run(list(map(str, [sys.executable, "-c", VICTIMS, shop, log, *allowed])), check=True, timeout=100)
    before = cli("tail", "explanations", "--pipeline", shop, "--log", log, "--until-end").lines
    assert len(before) == sum(allowed)
    found, _ = explained(cli, shop)
    assert sorted(map(str, found)) == sorted(map(str, wanted))
    order = [(one["partition"], one["at"]) for one in found]
    assert [at for _, at in sorted(order, key=lambda one: one[0])] == [at for _, at in sorted(order)]


def test_explanations_end_with_the_pipelines_retention(shop: Path) -> None:
    shop.write_text(shop.read_text().replace("partition_by:", "retention: 30d\npartition_by:"))
    spec = spec_of(opened(str(shop), None).plan, 4)
    assert retention_of(spec.config) == Retention(30 * 86_400_000, None, compacted=True)
    assert (spec.name, spec.partitions) == ("shop.explanations", 4)


@pytest.mark.timeout(120)
def test_two_at_a_time_write_the_same(cli: Cli, shop: Path) -> None:
    found, _ = explained(cli, shop)
    other = shop.parent / "other"
    other.mkdir()
    shutil.copytree(shop.parent / "log", other / "log")
    shutil.copy(shop, other)
    shutil.copy(shop.with_name("model.onnx"), other)
    more, _ = explained(cli, other / shop.name, "--all")
    assert {one["id"]: one for one in found} == {one["id"]: one for one in more if one["decision"] != "approve"}
    assert {one["id"] for one in more if one["decision"] == "approve"}


@pytest.mark.timeout(120)
def test_any_decision_is_explained_on_demand(cli: Cli, shop: Path) -> None:
    rows = features(cli, shop)
    shared = ["--pipeline", shop, "--log", f"file:{shop.parent}/log"]
    for action in ("approve", "decline"):
        name = next(name for name, row in rows.items() if row["decision"] == action)
        told = cli("why", name, *shared)
        assert told.code == 0
        assert told.out.startswith(f"{action}: Score {rows[name]['score']:.1f}")
        assert json.loads(cli("why", name, *shared, "--json").out)["id"] == name
    missing = cli("why", "p999999", *shared)
    assert (missing.code, missing.out) == (1, "")
    assert "no such decision" in missing.err
    assert "999999" not in missing.err


@pytest.mark.timeout(120)
def test_what_cannot_be_explained_says_why(cli: Cli, shop: Path) -> None:
    file = shop.with_name("model.onnx")
    good = file.read_bytes()
    file.write_bytes(model(0.5))
    found, said = explained(cli, shop)
    assert {one["refused"][:49] for one in found} == {"the model cannot explain it: no model has the dig"}
    assert "say why it cannot be said" in said
    assert not any("top" in one or "text" in one for one in found)
    name = found[0]["id"]
    told = cli("why", name, "--pipeline", shop, "--log", f"file:{shop.parent}/log")
    assert told.code == 1
    assert "it cannot be said" in told.out
    file.write_bytes(good)
    told = cli("why", name, "--pipeline", shop, "--log", f"file:{shop.parent}/log")
    assert told.code == 0


@pytest.mark.timeout(120)
def test_a_file_of_then_is_found_among_the_versions_of_a_registry(cli: Cli, shop: Path) -> None:
    undisturbed = shutil.copytree(shop.parent, shop.parent.with_name("undisturbed")) / shop.name
    wanted, _ = explained(cli, undisturbed)
    for intercept in (0.25, -0.5, 0.5):  # the second is what has scored
        register_file(shop.parent / "reg", "fraud", model(intercept), FEATURES)
    shop.with_name("model.onnx").write_bytes(model(0.5))
    found, said = explained(cli, shop, "--registry", shop.parent / "reg")
    assert sorted(map(str, found)) == sorted(map(str, wanted))
    assert "cannot be said" not in said


@pytest.mark.timeout(120)
@pytest.mark.parametrize("wrong", ["shares", "both"])
def test_what_does_not_add_up_to_the_score_is_not_given(
    wrong: str, cli: Cli, shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shares that miss the raw score by 4e-5; and a raw score, and shares with it, that mean another one."""
    of, sums, apart = TreeShares.of, TreeTable.sums, 1e-5 if wrong == "shares" else 0.1
    monkeypatch.setattr(TreeShares, "of", lambda trees, matrix: of(trees, matrix) + apart)
    if wrong == "both":
        monkeypatch.setattr(TreeTable, "sums", lambda trees, matrix: sums(trees, matrix) + apart * len(FEATURES))
    found, _ = explained(cli, shop)
    assert {one["refused"] for one in found} == {"the contributions do not add up to its score"}
    assert not any("top" in one or "score" in one for one in found)


OTHER: list[Split | Leaf] = [
    Split(1, 20.0, True, Leaf(3.0, 40.0), Split(0, 1.0, False, Leaf(-2.0, 5.0), Leaf(1.0, 6.0)))
]
"""The challenger: of two features, in another order."""
OTHERS = ("spend_count_1h", "amount")


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a pipeline that has a champion and a challenger, whose payments are decided."""
    folder = tmp_path_factory.mktemp("both")
    register_file(folder / "reg", "fraud", model(), FEATURES)
    register_file(folder / "reg", "fraud", trees_model([list(nodes(tree)) for tree in OTHER], 0.25, 2), OTHERS)
    roles = "registry: reg\n    version: 1\n    challenger: {version: 2, share: 0.5}"
    (folder / "shop.yaml").write_text(PIPELINE.replace("rules:\n", MODELS.replace("file: model.onnx", roles)))
    decide(folder)
    return folder


@pytest.fixture
def served(both: Path, tmp_path: Path) -> Path:
    """The pipeline of a copy of it."""
    return shutil.copytree(both, tmp_path / "served") / "shop.yaml"


@pytest.mark.timeout(120)
def test_each_decision_is_explained_by_the_version_that_scored_it(cli: Cli, served: Path) -> None:
    found, _ = explained(cli, served, "--all")
    rows = features(cli, served)
    digests = [OnnxModel(served.parent / f"reg/fraud/{version}/model.onnx").digest for version in (1, 2)]
    assert len(found) == len(rows)
    versions = set()
    for one in found:
        row = rows[one["id"]]
        version = row["fraud.version"]
        versions.add(version)
        trees, names = ((TREES, FEATURES), (OTHER, OTHERS))[version - 1]
        given = [float("nan") if row[name] is None else float(row[name]) for name in names]
        wanted = dict(zip(names, shapley(trees, given), strict=True))
        assert "refused" not in one
        assert one["model"] == digests[version - 1]
        assert one["score"] == row["score"]
        assert {part["feature"]: part["share"] for part in one["top"]} == pytest.approx(
            {name: share for name, share in wanted.items() if share}, abs=1e-6
        )
    assert versions == {1, 2}
    cli("models", "activate", "fraud", 2, "--pipeline", served, "--log", f"file:{served.parent}/log")
    old = next(one for one in found if one["model"] == digests[0])
    told = json.loads(cli("why", old["id"], "--pipeline", served, "--log", f"file:{served.parent}/log", "--json").out)
    assert told["top"] == old["top"]  # by what scored it then


@pytest.mark.timeout(120)
def test_a_version_that_is_gone_is_said_but_a_registry_out_of_reach_is_no_answer(cli: Cli, served: Path) -> None:
    file, log = served.parent / "reg/fraud/2/model.onnx", f"file:{served.parent}/log"
    file.rename(served.parent / "gone")
    assert cli("explain-decisions", served, "--log", log, "--until-end", "--all").code == 0
    (served.parent / "gone").rename(file)
    told = cli("tail", "explanations", "--pipeline", served, "--log", log, "--until-end")
    found = [json.loads(line) for line in told.lines]
    refused = [one["refused"] for one in found if "refused" in one]
    assert 0 < len(refused) < len(found)
    assert all(text.endswith("reg/fraud/2/model.onnx is missing") for text in refused)
    more = served.parent / "more"
    more.mkdir()
    shutil.copytree(served.parent / "log", more / "log")
    shutil.copy(served, more)
    (more / "reg").mkdir()
    (more / "reg/fraud").write_bytes(b"")  # the disk behind it is another one now
    told = cli("why", found[0]["id"], "--pipeline", more / served.name, "--log", f"file:{more}/log")
    assert told.code == 2
    assert "cannot be read" in told.err


def test_a_pipeline_without_a_model_is_refused(cli: Cli, pipeline: Path, tmp_path: Path) -> None:
    told = cli("why", "p1", "--pipeline", pipeline, "--log", f"file:{tmp_path}/log")
    assert told.code == 2
    assert "has no model" in told.err
    assert not (tmp_path / "log").exists()
