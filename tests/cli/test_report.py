"""`backtest --report`: labels from the input and from a file apart, two pipelines, and what is refused."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models.manifest import Period
from streamproc.cli.times import rfc3339 as time
from tests.cli.conftest import Cli
from tests.models.registered import register
from tests.oracle import evaluation as plain
from tests.report.test_page import read

PIPELINE = """\
pipeline: shop
streams:
  payments:
    id: id
    event_time: at
    deduplicate: 24h
    fields:
      id: {type: string, from: Id}
      card: {type: string, from: Card}
      amount: {type: decimal(2), from: Amount, required: true}
      country: {type: string, from: Country}
      at: timestamp
partition_by: card
features:
  spend: {of: amount, aggregates: [count], over: [1h]}
  dear: amount > 80
rules:
  - {id: often, when: spend_count_1h >= 4, then: decline}
  - {id: dear, when: dear, then: review}
  - {id: abroad, when: country = 'fr', then: review, mode: shadow}
decision: {severity: [decline, challenge, review, approve], otherwise: approve}
"""
OTHER = PIPELINE.replace("amount > 80", "amount > 90").replace(">= 4", ">= 3")
START, DAY = 1_777_593_600_000, 86_400_000
Row = dict[str, Any]


def rows(size: int = 400) -> list[Row]:
    chance = random.Random(3)
    return [
        {
            "Id": f"p{n}", "Card": f"c{chance.randrange(8)}", "Amount": chance.randrange(1, 10_000) / 100,
            "Country": chance.choice(["be", "fr", None]), "at": START + n * 600_000,
            "is_fraud": chance.choice([0, 0, 0, 1, None]), "how": "lost" if chance.random() < 0.5 else "stolen",
        }
        for n in range(size)
    ]  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("shop.yaml").write_text(PIPELINE)
    Path("other.yaml").write_text(OTHER)
    write([*rows(), rows()[-5]])
    return tmp_path


def write(some: list[Row]) -> None:
    Path("p.ndjson").write_text("".join(json.dumps(row) + "\n" for row in some))


def backtest(cli: Cli, *more: object, code: int = 0) -> str:
    done = cli(
        "backtest", "shop.yaml", "--input", "p.ndjson", "--output", "decided.parquet", "--report", "r.html", *more
    )
    assert done.code == code, done.err
    return done.err


def words() -> list[str]:
    return read(Path("r.html").read_text()).words


def after(heading: str, size: int) -> list[str]:
    found = words()
    at = found.index(heading)
    return found[at + 1 : at + 1 + size]


def payments(decided: str = "decided.parquet") -> list[plain.Payment]:
    labels = {row["Id"]: row for row in rows()}
    return [
        plain.Payment(
            0, int(row["card"][1:]), labels[row["id"]]["Amount"],
            None if (said := labels[row["id"]]["is_fraud"]) is None else bool(said), None, row["decision"],
            tuple(row["reasons"]), None,
        )
        for row in pq.read_table(decided).to_pylist()
        if not row["duplicate"]
    ]  # fmt: skip


def test_figures_are_those_of_the_decisions(cli: Cli, folder: Path) -> None:
    said = backtest(cli, "--label", "is_fraud", "--fraud-kind", "how", "--segment", "country", "--segment", "dear")
    assert "report -> r.html" in said
    some = payments()
    wanted = plain.measures(some)
    assert wanted["insult_rate"]
    assert after("alert rate", 1) == [f"{wanted['alert_rate']:.1%}".replace("%", " %")]
    assert after("value detection rate", 1) == [f"{wanted['value_detection_rate']:.1%}".replace("%", " %")]
    assert after("insult rate", 1) == [f"{wanted['insult_rate']:.1%}".replace("%", " %")]
    assert after("false-positive ratio", 1) == [f"{wanted['false_positive_ratio']:.1f} : 1"]
    assert after("account detection rate", 2)[1] == "{1:,} of {0:,} cards".format(*plain.accounts(some))
    found = words()
    assert any("1 rows came again" in one for one in found)
    assert any("gives no score" in one for one in found)
    assert {"By country", "By dear", "Kinds of fraud", "lost", "stolen", "True", "False", "NULL"} <= set(found)
    assert not list(folder.glob(".r.*"))


def test_labels_of_a_file_apart_say_the_same(cli: Cli, folder: Path) -> None:
    backtest(cli, "--label", "is_fraud", "--fraud-kind", "how")
    inside = words()
    some = rows()
    write([{key: value for key, value in row.items() if key not in ("is_fraud", "how")} for row in some])
    wanted = {"Id": [row["Id"] for row in some], **{name: [row[name] for row in some] for name in ("is_fraud", "how")}}
    pq.write_table(pa.table(wanted), "labels.parquet")
    Path("labels.ndjson").write_text("".join(
        json.dumps({name: row[name] for name in wanted if row[name] is not None}) + "\n" for row in some
    ))  # fmt: skip
    Path("labels.csv").write_text("Id,is_fraud,how\n" + "".join(
        f"{row['Id']},{'' if row['is_fraud'] is None else row['is_fraud']},{row['how']}\n" for row in some
    ))  # fmt: skip
    holes = [math.nan if row["is_fraud"] is None else float(row["is_fraud"]) for row in some]
    pq.write_table(pa.table(wanted | {"is_fraud": pa.array(holes)}), "holes.parquet")
    for name in ("labels.parquet", "holes.parquet", "labels.ndjson", "labels.csv"):
        backtest(cli, "--labels", name, "--label", "is_fraud", "--fraud-kind", "how")
        assert words()[4:] == inside[4:], name


def test_a_list_of_frauds_makes_all_others_legitimate(cli: Cli, folder: Path) -> None:
    Path("frauds.csv").write_text("Id\n" + "".join(f"{row['Id']}\n" for row in rows() if row["is_fraud"]))
    backtest(cli, "--labels", "frauds.csv")
    frauds = sum(row["is_fraud"] == 1 for row in rows())
    assert after("payments", 2) == ["400", f"400 with a label, {frauds} frauds"]


def test_who_is_too_young_for_a_list_of_frauds_is_not_legitimate(cli: Cli, folder: Path) -> None:
    """Frauds are reported half a day after the payment; the list was written after two of the three days."""
    frauds = [row for row in rows() if row["is_fraud"] and row["at"] + DAY // 2 < START + 2 * DAY]
    Path("frauds.csv").write_text(
        "Id,label_at\n" + "".join(f"{row['Id']},{time(row['at'] + DAY // 2)}\n" for row in frauds)
    )
    said = backtest(cli, "--labels", "frauds.csv", "--label-delay", "1d")
    first = [row for row in rows() if row["at"] < START + DAY]
    told = f"{len(first)} with a label, {sum(row['is_fraud'] == 1 for row in first)} frauds"
    assert after("payments", 2) == ["400", told]
    young = f"of {400 - len(first)} payments, those since 2026-05-02, it is not known yet"
    assert f"frauds: {young}" in said
    assert any(young in word for word in words())
    backtest(cli, "--labels", "frauds.csv")  # seven days
    assert after("payments", 2) == ["400", "0 with a label, 0 frauds"]
    Path("frauds.csv").write_text("Id\n" + "".join(f"{row['Id']}\n" for row in frauds))
    assert "frauds: no label_at, so who is not in it counts as legitimate" in backtest(cli, "--labels", "frauds.csv")


def test_two_pipelines_are_compared_both_ways(cli: Cli, folder: Path) -> None:
    said = backtest(cli, "--label", "is_fraud", "--compare", "other.yaml")
    before = payments()
    assert cli("backtest", "other.yaml", "--input", "p.ndjson", "--output", "other.parquet").code == 0
    moves = plain.moves(before, payments("other.parquet"))
    severity = ("decline", "challenge", "review", "approve")
    stricter = sum(size for (old, new), size in moves.items() if severity.index(new) < severity.index(old))
    milder = sum(moves.values()) - stricter
    assert stricter
    assert milder
    assert f"decided differently: {stricter:,} more strictly, {milder:,} more mildly -> r.changes.ndjson" in said
    listed = [json.loads(line) for line in Path("r.changes.ndjson").read_text().splitlines()]
    assert [row["direction"] for row in listed] == ["stricter"] * stricter + ["milder"] * milder
    for some in (listed[:stricter], listed[stricter:]):
        amounts = [row["amount"] for row in some]
        assert amounts == sorted(amounts, reverse=True)
    decided = {row["Id"]: (row, one) for row, one in zip(rows(), before, strict=True)}
    for row in listed:
        given, one = decided[row["id"]]
        assert (row["decision"], row["amount"], row["rules"]) == (one.action, given["Amount"], list(one.rules))
        assert row["fraud"] == (None if given["is_fraud"] is None else bool(given["is_fraud"]))
        assert "c" + str(one.card) not in row.values()
    lines = Path("p.ndjson").read_text().splitlines(keepends=True)
    Path("p.ndjson").write_text("".join(lines[:250]))
    Path("q.ndjson").write_text("".join(lines[250:]))
    again = backtest(cli, "--label", "is_fraud", "--compare", "other.yaml", "--input", "q.ndjson")
    assert again.splitlines()[-1] == said.splitlines()[-1]
    assert [json.loads(line) for line in Path("r.changes.ndjson").read_text().splitlines()] == listed
    write([*rows(), rows()[-5]])
    backtest(cli, "--label", "is_fraud", "--compare", "shop.yaml")
    assert not Path("r.changes.ndjson").exists()
    assert "400 payments are decided alike, 0 more strictly by the other, 0 more mildly." in words()


def test_a_summary_names_the_files(cli: Cli, folder: Path) -> None:
    done = cli("backtest", "shop.yaml", "--input", "p.ndjson", "--output", "d.parquet", "--report", "r.html", "--json",
               "--compare", "other.yaml")  # fmt: skip
    said = json.loads(done.out)
    assert said["report"] == "r.html"
    assert said["changes"]["output"] == "r.changes.ndjson"
    assert "No label is known" in " ".join(words())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--label", "fraud"], "no record has a label 'fraud'"),
        (["--label", "how"], "p.ndjson:1: the label how is neither 0, 1, true nor false (name a column"),
        (
            ["--label", "is_fraud", "--amount", "amont"],
            "--amount: the stream payments has no field amont (did you mean",
        ),
        (["--card", "crd"], "--card: the stream payments has no field crd"),
        (["--segment", "contry"], "--segment: the stream payments has no field contry (did you mean country?)"),
        (["--labels", "none.csv"], "none.csv: there is no such file"),
        (["--labels", "other.csv"], "other.csv:1: there is no column 'Id'"),
        (["--labels", "strange.csv"], "none of the payments is in the file of --labels"),
        (["--labels", "strange.csv", "--label", "Id"], "strange.csv:1: the label Id is neither 0, 1, true nor false"),
        (
            ["--labels", "strange.csv", "--label-delay", "7d"],
            "strange.csv has no label_at: nothing says how far it goes",
        ),
        (["--label", "is_fraud", "--label-delay", "7d"], "--label-delay is of a list of frauds (give --labels without"),
        (["--labels", "known.csv", "--label-delay", "x"], "--label-delay: 'x' is not a duration"),
        (["--labels", "empty.csv"], "empty.csv: there is no label in it"),
        (["--fraud-kind", "how"], "--fraud-kind without labels"),
        (["--compare", "missing.yaml"], "missing.yaml"),
        (["--decline", "refuse"], "--decline: no action is called refuse (decline, challenge, review, approve)"),
    ],
)
def test_what_is_wrong_is_said_and_leaves_nothing(cli: Cli, folder: Path, options: list[str], said: str) -> None:
    Path("other.csv").write_text("payment\np1\n")
    Path("strange.csv").write_text("Id\nq1\n")
    Path("empty.csv").write_text("Id\n")
    Path("known.csv").write_text("Id,label_at\np1,2026-05-03T00:00:00Z\n")
    assert said in backtest(cli, *options, code=2)
    assert not Path("r.html").exists()
    assert not Path("decided.parquet").exists()
    assert not list(folder.glob(".*"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--label", "x"], "--label without a report (name it: --report FILE.html)"),
        (["--segment", "country", "--cards-a-day", "5"], "--segment, --cards-a-day without a report"),
        (["--report", "r.txt"], "r.txt is no page (name it FILE.html)"),
        (["--report", "nowhere/r.html"], "the folder of nowhere/r.html is missing"),
    ],
)
def test_a_report_needs_a_page(cli: Cli, folder: Path, options: list[str], said: str) -> None:
    done = cli("backtest", "shop.yaml", "--input", "p.ndjson", "--output", "decided.parquet", *options)
    assert done.code == 2
    assert said in done.err


def test_where_no_row_is_decided_there_is_no_report(cli: Cli, folder: Path) -> None:
    write([{"Id": "p", "Card": "c", "at": START}])
    backtest(cli, code=1)
    assert not Path("r.html").exists()


LEARNED = Period("2026-05-01T00:00:00Z", "2026-05-02T00:00:00Z", 100, 9)
SCORED = """\
models:
  fraud: {MODEL, features: [amount, spend_count_1h]}
rules:
  - {id: high, when: score > 50, then: decline}
"""


@pytest.mark.parametrize(
    ("model", "named"),
    [
        ("registry: reg, version: 1, challenger: {version: 2, share: 0.5}", "the model fraud, version 1,"),
        ("file: reg/fraud/1/model.onnx", "the model fraud"),
    ],
    ids=["registered", "a registered file"],
)
def test_a_model_judged_on_days_that_it_has_learned_from_is_told_first(
    cli: Cli, folder: Path, model: str, named: str
) -> None:
    for learned in (LEARNED, Period("2026-04-01T00:00:00Z", "2026-05-01T00:00:00Z", 100, 9)):
        register(folder / "reg", "fraud", {"amount": 0.01, "spend_count_1h": 0.1}, learned=learned)
    Path("shop.yaml").write_text(PIPELINE.replace("rules:\n", SCORED.replace("MODEL", model)))
    wanted = (
        f"{named} has learned from 2026-05-01 to before 2026-05-02, and 144 of the 400 payments are of these days: on "
        "them it looks better than on new ones"
    )
    said = backtest(cli, "--label", "is_fraud", "--compare", "other.yaml")
    assert said.count("has learned from") == 1  # version 2 has learned from days before
    assert f"warning: {wanted}\n" in said
    assert wanted in words()

    Path("other.yaml").write_text(Path("shop.yaml").read_text())
    Path("shop.yaml").write_text(PIPELINE)
    compared = backtest(cli, "--label", "is_fraud", "--compare", "other.yaml", "--json")
    assert f"warning: of other.yaml: {wanted}\n" in compared
