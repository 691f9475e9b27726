"""`train`, the registry, and a pipeline that names a version."""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow.parquet as pq
import pytest

pytest.importorskip("lightgbm")

from models.manifest import Manifest
from models.onnx import OnnxModel
from operators.serving import Roles
from state.errors import ConfigError
from streamproc.cli.model_roles import declared, roles_at_work, write_roles
from streamproc.cli.table_publisher import Who
from streamproc.cli.training import Where, register
from streamproc.language import compile_stages, load_pipeline
from tests.cli.conftest import Cli

DAY = 86_400_000
START = 1_767_225_600_000
PIPELINE = """\
pipeline: shop
streams:
  payments:
    id: id
    event_time: at
    fields: {id: string, card: string, amount: {type: decimal(2), required: true}, lat: float64, at: timestamp}
partition_by: card
features:
  spend: {of: amount, aggregates: [count, sum, mean], over: [1d, 7d]}
  ratio: amount / spend_mean_7d
models:
  fraud: {registry: reg, version: 1, features: [amount, lat, spend_count_1d, ratio], increasing: [ratio]}
rules:
  - {id: high, when: score > 50, then: review}
decision: {severity: [decline, review, approve], otherwise: approve, include: [spend_count_1d, ratio]}
"""
SHORT = ("--train-days", 8, "--test-days", 4, "--folds", 1, "--trials", 2, "--label-delay", "2d")
FEATURES = ("amount", "lat", "spend_count_1d", "ratio")
Row = dict[str, Any]


def payments(size: int = 2500, days: int = 20) -> list[Row]:
    chance = random.Random(5)
    rows = []
    for number, at in enumerate(sorted(chance.randrange(days * DAY) for _ in range(size))):
        card = chance.randrange(150)
        fraud = (7 * card + at // DAY) % 31 == 0 and chance.random() < 0.8
        rows.append(
            {
                "id": f"p{number}", "card": f"c{card}", "at": START + at, "is_fraud": int(fraud),
                "amount": round(chance.lognormvariate(5.5 if fraud else 3.2, 0.8), 2),
                "lat": chance.random() if chance.random() < 0.9 else None,
            }
        )  # fmt: skip
    return rows


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shop.yaml").write_text(PIPELINE)
    write(payments())
    return tmp_path


def write(rows: list[Row]) -> None:
    Path("p.ndjson").write_text("".join(json.dumps(row) + "\n" for row in rows))


def train(cli: Cli, *more: object, code: int = 0) -> str:
    done = cli(
        "train", "shop.yaml", "--input", "p.ndjson", "--label", "is_fraud", "--model", "fraud", "--registry", "reg",
        *(more or SHORT),
    )  # fmt: skip
    assert done.code == code, done.err
    return done.err


def manifest(version: int = 1) -> Manifest:
    return msgspec.json.decode(Path(f"reg/fraud/{version}/manifest.json").read_bytes(), type=Manifest)


def test_a_version_is_whole_and_serves(cli: Cli, folder: Path) -> None:
    said = train(cli)
    assert "train: trial 2 of 2: average precision" in said
    found = manifest()
    assert (found.name, found.algorithm, found.features) == ("fraud", "lightgbm", FEATURES)
    assert [fold.use for fold in found.folds] == ["validation", "test"]
    assert found.folds[-1].metrics["auc"] > 0.8  # it has learned something
    assert found.parity.largest < 1e-5
    assert found.data.period.rows == 2500
    assert found.learned.stop == "2026-01-19T00:00:00Z"  # twenty days, of which two have no labels yet
    assert {path.name for path in Path("reg/fraud/1").iterdir()} == {
        "model.onnx", "native.txt", "manifest.json", "card.md",
    }  # fmt: skip
    done = cli("backtest", "shop.yaml", "--input", "p.ndjson", "--output", "out.parquet")
    assert done.code == 0, done.err
    table = pq.read_table("out.parquet")
    scores = np.array(table["score"].to_pylist())
    above = int((scores > found.threshold.score).sum())
    assert 0 < above < 300


def test_what_it_learns_from_is_what_serving_gives(cli: Cli, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(cli)
    given: list[Any] = []
    score = OnnxModel.score

    def kept(model: OnnxModel, matrix: Any) -> Any:
        given.append(matrix.copy())
        return score(model, matrix)

    monkeypatch.setattr(OnnxModel, "score", kept)
    cli("backtest", "shop.yaml", "--input", "p.ndjson", "--output", "out.parquet")
    digest = manifest().data.digest
    from models.absent import Blank
    from models.training.history import joined
    from streamproc.cli.labelled import Labels, read_history

    plans = compile_stages(load_pipeline("shop.yaml"), models=Blank)
    history = joined([part for _, part in read_history(plans, [Path("p.ndjson")], Labels("is_fraud", "card"))])
    assert history.digest == digest
    assert history.matrix.tobytes() == b"".join(matrix.tobytes() for matrix in given)


def test_a_pipeline_with_sql_statements_is_trained_too(cli: Cli, folder: Path) -> None:
    with open("shop.yaml", "a") as file:
        file.write("sql:\n  large: SELECT id, amount FROM payments WHERE amount > 1000\n")
    train(cli, *SHORT, "--algorithm", "lightgbm")
    drift = cli("models", "drift", "shop.yaml", "--input", "p.ndjson", "--model", "fraud")
    assert drift.code == 0, drift.err


def test_the_same_seed_gives_the_same_bytes(cli: Cli, folder: Path) -> None:
    train(cli)
    train(cli)
    first, second = (
        {path.name: path.read_bytes() for path in Path(f"reg/fraud/{version}").iterdir()} for version in (1, 2)
    )
    assert first == second


def test_logistic_regression_and_the_list(cli: Cli, folder: Path) -> None:
    text = PIPELINE.replace(", increasing: [ratio]", "")
    Path("shop.yaml").write_text(text)
    train(cli, *SHORT, "--algorithm", "logistic", "--cards-a-day", 1)
    found = manifest()
    assert found.threshold.score == max(found.threshold.by_false_positives, found.threshold.by_cards)
    listed = cli("models", "list", "--registry", "reg")
    assert listed.lines[1].split()[:3] == ["fraud", "1", "logistic"]
    (one,) = json.loads(cli("models", "list", "--registry", "reg", "--json").out)
    assert one["digest"] == found.digest
    assert cli("models", "show", "fraud", "--registry", "reg").out == Path("reg/fraud/1/card.md").read_text()
    compile_stages(load_pipeline("shop.yaml"))


def test_what_is_not_the_registered_version_is_refused(cli: Cli, folder: Path) -> None:
    train(cli)
    with pytest.raises(ConfigError, match=r"there is no version 4 of the model fraud in reg \(it has version 1\)"):
        load(PIPELINE.replace("version: 1", "version: 4"))
    with pytest.raises(ConfigError, match="version 1 of the model fraud was trained with ratio, which the pipeline"):
        load(PIPELINE.replace("spend_count_1d, ratio], increasing: [ratio]", "spend_count_1d, spend_sum_7d]"))
    load(PIPELINE.replace("[amount, lat, spend_count_1d, ratio]", "[lat, amount, spend_count_1d, ratio]"))  # by name
    with open("reg/fraud/1/model.onnx", "ab") as file:
        file.write(b"\0")
    with pytest.raises(ConfigError, match="is not the registered file"):
        load(PIPELINE)
    assert "is not the registered file" in cli("models", "show", "fraud", "--registry", "reg").err


def test_labels_may_lie_apart_and_count_from_when_they_were_known(cli: Cli, folder: Path) -> None:
    """The same labels, told two days after each payment in a file of their own: the same model, but for the digest."""
    train(cli)
    rows = payments()
    Path("labels.ndjson").write_text(
        "".join(
            json.dumps({"id": row["id"], "is_fraud": row["is_fraud"], "label_at": row["at"] + 2 * DAY}) + "\n"
            for row in rows
        )
    )
    write([{**row, "is_fraud": None} for row in rows])
    train(cli, *SHORT, "--labels", "labels.ndjson")
    one, two = manifest(1), manifest(2)
    assert one.digests == two.digests
    assert one.folds == two.folds
    with open("labels.csv", "w") as file:
        file.write("id,is_fraud,label_at\n")
        file.writelines(
            f"{row['id']},1,2026-01-{1 + (row['at'] - START) // DAY + 2:02}T00:00:00Z\n"
            for row in rows
            if row["is_fraud"]
        )
    train(cli, *SHORT, "--labels", "labels.csv", "--others-legitimate")
    three = manifest(3)
    assert three.data.period == one.data.period
    assert [fold.test for fold in three.folds] == [fold.test for fold in one.folds]


def test_a_list_of_frauds_means_what_it_means_to_backtest(cli: Cli, folder: Path) -> None:
    """Without times: as the same labels in the payments; retrained from it, too."""
    train(cli)
    rows = payments()
    frauds = [row for row in rows if row["is_fraud"]]
    write([{key: value for key, value in row.items() if key != "is_fraud"} for row in rows])
    Path("frauds.csv").write_text("id\n" + "".join(f"{row['id']}\n" for row in frauds))
    given = "--model", "fraud", "--registry", "reg", "--labels", "frauds.csv"
    done = cli("train", "shop.yaml", "--input", "p.ndjson", *given, *SHORT)
    assert done.code == 0, done.err
    assert "frauds.csv has no label_at: each label counts as known the label delay after its payment" in done.err
    one, two = manifest(1), manifest(2)
    assert one.digests == two.digests
    assert (one.data.digest, two.data.label) == (two.data.digest, "")
    assert "Label: a list of frauds, known 2 days" in Path("reg/fraud/2/card.md").read_text()
    done = cli("train", "shop.yaml", "--input", "p.ndjson", *given[:-2], *SHORT)
    assert (done.code, "nothing says what is a fraud" in done.err) == (2, True)
    Path("shop.yaml").write_text(PIPELINE.replace("version: 1", "version: 2"))
    assert "nothing says what is a fraud" in retrain(cli, code=2)


def test_wrong_labels_apart_are_refused(cli: Cli, folder: Path) -> None:
    assert "--others-legitimate is for labels that are apart" in train(cli, *SHORT, "--others-legitimate", code=2)
    for content, said in (
        ("id,is_fraud\n", "no payment has a label in the file of labels"),
        ("id,is_fraud,label_at\np1,1,2026-01-01T00:00:00Z\np2,1,\n", "labels.csv:2: a label has no label_at"),
        ("id,is_fraud,label_at\np1,1,\np2,1,2026-01-01T00:00:00Z\n", "labels.csv:2: a label has no label_at"),
        ("id,fraud,label_at\n", "there is no column 'is_fraud' of labels"),
        ("is_fraud,label_at\n1,2026-01-01T00:00:00Z\n", "there is no column 'id'"),
        ("id,is_fraud,label_at\np1,1,soon\n", "labels.csv:1: a label has no label_at"),
        ("id,is_fraud,label_at\np1,9,2026-01-01T00:00:00Z\n", "labels.csv:1: the label is_fraud is neither"),
        ("id,is_fraud,label_at\nx,1,2026-01-01T00:00:00Z\n", "no payment has a label in the file of labels"),
    ):
        Path("labels.csv").write_text(content)
        assert said in train(cli, *SHORT, "--labels", "labels.csv", code=2)


def retrain(cli: Cli, margin: float = 0.02, code: int = 0, *more: object) -> str:
    done = cli("retrain", "shop.yaml", "--input", "p.ndjson", "--model", "fraud", "--margin", margin, *more)
    assert done.code == code, done.err
    return done.err


def test_a_newer_model_that_is_not_worse_is_registered(cli: Cli, folder: Path) -> None:
    train(cli)
    assert "has learned from payments until 2026-01-19" in retrain(cli, code=2)
    write(payments(3500, 28))
    assert "it may be worse by more than 0.02; version 1 stays" in retrain(cli, code=1)  # 126 cards prove little
    said = retrain(cli, margin=0.3)
    assert "average precision on the same 126 cards" in said
    assert "use it: models: {fraud: {registry: reg, version: 2, features: [...]}}" in said
    first, second = manifest(1), manifest(2)
    assert second.learned.stop == "2026-01-27T00:00:00Z"
    assert second.search.trials == first.search.trials
    assert [fold.test.rows > 0 for fold in second.folds] == [True, True]
    assert (second.algorithm, second.features, second.data.delay_ms) == ("lightgbm", FEATURES, 2 * DAY)


def test_it_challenges_the_champion_that_is_at_work(cli: Cli, folder: Path) -> None:
    train(cli)
    train(cli)
    there = ("--pipeline", "shop.yaml", "--log", "file:log")
    assert "there is no event log" in retrain(cli, 0.3, 2, "--log", "file:log")
    assert cli("models", "activate", "fraud", 2, *there).code == 0
    write(payments(3500, 28))
    said = retrain(cli, 0.3, 0, "--log", "file:log", "--share", 0.05)
    assert "cards: version 2 " in said
    assert "fraud: champion 2, challenger 3 for 5.00% of the keys (before: champion 2)" in said
    assert "use it" not in said  # it is at work; the file's version counts no more
    listed = json.loads(cli("models", "list", "--registry", "reg", *there, "--json").out)
    assert [one["role"] for one in listed] == [None, "champion", "challenger, 5.00%"]


def test_it_challenges_no_champion_that_it_was_not_compared_with(
    cli: Cli, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(cli)
    train(cli)
    there = ("--pipeline", "shop.yaml", "--log", "file:log")
    assert cli("models", "activate", "fraud", 2, *there).code == 0
    write(payments(3500, 28))

    def meanwhile(*given: Any) -> int:
        roles = write_roles(declared("shop.yaml", "fraud"), "file:log", Who.now(None, None), lambda *_: Roles(1))
        asyncio.run(roles)
        return register(*given)

    monkeypatch.setattr("streamproc.cli.retrain.register", meanwhile)
    said = retrain(cli, 0.3, 2, "--log", "file:log")
    assert "version 3 was compared with version 2, but by now the champion is 1; no role was changed" in said
    assert Path("reg/fraud/3").exists()
    assert asyncio.run(roles_at_work("shop.yaml", "fraud", "file:log")) == Roles(1)


def test_retraining_takes_cards_and_labels_as_they_were_taken(
    cli: Cli, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, taken = payments(), []
    write([{**row, "is_fraud": None} for row in rows])
    Path("labels.csv").write_text("id,is_fraud\n" + "".join(f"{row['id']},1\n" for row in rows if row["is_fraud"]))
    train(cli, *SHORT, "--labels", "labels.csv", "--others-legitimate", "--card", "id")

    def enough(*given: Any) -> None:
        taken.append(given[2:])
        raise ConfigError("enough")

    monkeypatch.setattr("streamproc.cli.retrain.labelled_history", enough)
    retrain(cli, 0.3, 2, "--labels", "labels.csv")
    retrain(cli, 0.3, 2, "--labels", "labels.csv", "--card", "card")
    retrain(cli, 0.3, 2)  # all labels are in the payments now
    apart = Where("is_fraud", Path("labels.csv"), True)
    assert taken == [("id", apart), ("card", apart), ("id", Where("is_fraud", None, False))]


def test_a_worse_one_is_not(cli: Cli, folder: Path) -> None:
    """Labels of the days that it learns from are drawn; those of the test are right."""
    train(cli)
    chance = random.Random(8)
    rows = payments(3500, 28)
    write([{**row, "is_fraud": int(chance.random() < 0.1)} if row["at"] < START + 23 * DAY else row for row in rows])
    assert "not registered: it may be worse" in retrain(cli, code=1)
    assert not Path("reg/fraud/2").exists()


def test_retraining_needs_a_registered_version_with_these_features(cli: Cli, folder: Path) -> None:
    train(cli)
    Path("shop.yaml").write_text(PIPELINE.replace("[amount, lat,", "[amount,"))
    assert "was trained with lat, which the pipeline does not give it" in retrain(cli, code=2)
    Path("shop.yaml").write_text(PIPELINE.replace("registry: reg, version: 1", "file: model.onnx"))
    assert "the model fraud has no registered version (train it" in retrain(cli, code=2)


def test_drift_is_told(cli: Cli, folder: Path) -> None:
    train(cli)
    drift = "models", "drift", "shop.yaml", "--input", "p.ndjson", "--model", "fraud"
    same = cli(*drift)
    assert same.code == 0, same.out
    assert same.lines[0].split()[:2] == ["feature", "index"]
    write([{**row, "lat": None, "amount": 10 * row["amount"]} for row in payments()])
    moved = cli(*drift, "--json")
    assert moved.code == 1
    assert "drifted from version 1's training: " in moved.err
    by_name = {one["name"]: one for one in json.loads(moved.out)}
    assert by_name["lat"]["missing"] == 1.0
    assert by_name["amount"]["index"] > 0.25
    assert by_name["spend_count_1d"]["index"] < 0.1
    assert list(by_name) != [*FEATURES, "score"]  # the worst comes first
    assert "score" in by_name


def load(text: str) -> None:
    Path("shop.yaml").write_text(text)
    compile_stages(load_pipeline("shop.yaml"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda row: {"is_fraud": 0}, "no payment of the files is a fraud (give files with both kinds"),
        (lambda row: {"is_fraud": 2}, "the label is_fraud is neither 0, 1, true nor false"),
        (lambda row: {"is_fraud": None}, "no record has a label 'is_fraud' (name the key"),
        (lambda row: {"at": START}, "the files cover 1 days, 18 are needed: 8 to learn from, 2 until labels are known"),
        (lambda row: {"lat": 2.0 * row["is_fraud"]}, "the feature lat is the label under another name"),
        (lambda row: {"is_fraud": row["is_fraud"] if row["at"] < START + 9 * DAY else 0}, "there are no frauds among"),
        (lambda row: {"amount": None}, "the files have no payment that can be decided"),
    ],
)  # fmt: skip
def test_wrong_data_is_refused_with_what_to_do(change: Any, said: str, cli: Cli, folder: Path) -> None:
    write([{**row, **change(row)} for row in payments(600)])
    assert said in train(cli, *SHORT, code=2)
    assert not Path("reg").exists()


def test_what_cannot_end_well_is_refused_before_the_search(cli: Cli, folder: Path) -> None:
    Path("file").write_text("")
    for registry, said in (
        ("file", "error: the registry file cannot be made: File exists (name a directory"),
        ("/sys/kernel", "error: the registry /sys/kernel cannot be used: blob directory: cannot create: "),
        ("ftp://x", "error: the registry's address is of no known kind (write "),
    ):
        err = train(cli, *SHORT, "--registry", registry, code=2)
        assert said in err
        assert "trial" not in err
    write([{**row, "is_fraud": row["is_fraud"] if row["at"] < START + 16 * DAY else 0} for row in payments(600)])
    err = train(cli, *SHORT, code=2)
    assert "there are no frauds among" in err
    assert "trial" not in err


def test_wrong_use_is_refused(cli: Cli, folder: Path) -> None:
    more = "--input", "p.ndjson", "--label", "is_fraud", "--registry", "reg"
    assert "has no model fruad (did you mean fraud?)" in cli("train", "shop.yaml", *more, "--model", "fruad").err
    assert "--label-delay: 'x' is not a duration" in train(cli, "--label-delay", "x", code=2)
    assert "--card: the stream payments has no field crad (did you mean card?)" in train(cli, "--card", "crad", code=2)
    assert "logistic regression knows no constraints" in train(cli, *SHORT, "--algorithm", "logistic", code=2)
    Path("p.csv").write_text("id,card,amount,lat,at,fraud\n")
    done = cli("train", "shop.yaml", "--input", "p.csv", "--label", "is_fraud", "--model", "fraud", "--registry", "reg")
    assert "there is no column 'is_fraud' of labels" in done.err


def test_without_the_extra_it_says_what_to_install(cli: Cli, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "training needs lightgbm and onnx (install them: pip install 'streamproc[train]')" in train(cli, code=2)


def test_an_export_that_differs_is_not_registered(cli: Cli, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from models.training.export import trees_model

    def wrong(trees: Any, intercept: float, width: int) -> bytes:
        return trees_model(trees, intercept + 0.01, width)

    monkeypatch.setattr("models.training.boosting.trees_model", wrong)
    assert "the exported model is not the trained one" in train(cli, *SHORT, code=2)
    assert not [file for file in Path("reg").rglob("*") if file.is_file()]
