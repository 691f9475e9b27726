"""`models watch`: from payments that two versions have decided on the embedded log to reports and metrics."""

from __future__ import annotations

import json
import random
import secrets
import shutil
import socket
import time
import urllib.request
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest

pytest.importorskip("onnx")

from models.drift import bins_of
from state.hashing import stable_hashes64
from streamproc.cli.compose import open_log
from streamproc.cli.loops import run_async
from streamproc.cli.watching import Wanted, opened
from streamproc.eventlog.contract import OutputRecords, TopicPartition
from streamproc.services.watching.blocks import BlockReader
from streamproc.services.watching.follow import Label
from tests.cli.conftest import Cli, finish, journal, start
from tests.models.registered import by_hand, register

PIPELINE = """\
pipeline: shop
streams:
  payments:
    id: id
    event_time: at
    fields: {id: string, card: string, amount: {type: float64, required: true}, place: int64, at: timestamp}
  labels:
    id: number
    event_time: label_at
    fields: {number: int64, id: string, card: string, fraud: int64, label_at: timestamp}
partition_by: card
partitions: 2
features:
  seen: {count: "*", over: 1d}
models:
  fraud:
    registry: reg
    version: 1
    challenger: {version: 2, share: 0.5}
    shadow: [3]
    shadow_budget: 1m
    features: [amount, seen, place]
rules:
  - {id: high, when: fraud.score > 60, then: decline}
decision: {severity: [decline, approve], otherwise: approve, include: [fraud.version]}
"""
WEIGHTS: tuple[dict[str, float], ...] = ({"amount": 0.5}, {"amount": 0.4, "seen": -0.1}, {"amount": -0.2})
THRESHOLDS = (55.0, 65.0, 50.0)
DAY = 86_400_000
DAYS, A_DAY = 9, 90
DELAY = 2 * DAY
LOG = ("--label-delay", "2d", "--days", 12)


def payments() -> list[dict[str, Any]]:
    """In the order of event time; frauds are dearer, a tenth has no place."""
    chance = random.Random(4)
    found = []
    for number in range(DAYS * A_DAY):
        fraud = chance.random() < 0.25
        late = chance.choice([1, 1, 1, 3]) * DAY  # some labels come later than labels should
        at = number * DAY // A_DAY
        found.append(
            {
                "id": f"p{number}", "card": f"c{chance.randrange(40)}", "at": at,
                "amount": round(chance.gauss(1.5 if fraud else -1.0, 1.5), 3),
                "place": None if chance.random() < 0.1 else chance.randrange(5),
                "fraud": int(fraud), "label_at": at + late if chance.random() < 0.9 else None,
            }
        )  # fmt: skip
    return found


ROWS = payments()
LABELS = [
    {"number": number, **{name: row[name] for name in ("id", "card", "fraud", "label_at")}}
    for number, row in enumerate(sorted((row for row in ROWS if row["label_at"]), key=lambda row: row["label_at"]))
]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def paid(row: dict[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in ("id", "card", "amount", "place", "at")}


@pytest.fixture(scope="module")
def decided(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a log of which all is decided, in two runs; `half` is the log as it was between them."""
    folder = tmp_path_factory.mktemp("watched")
    chance = np.random.default_rng(1)
    amount, place = chance.normal(-0.6, 1.8, 5000), chance.integers(0, 5, 5000).astype(float)
    baselines = (
        {"amount": bins_of(amount), "place": bins_of(place), "score": bins_of(chance.uniform(0, 100, 5000))},
        {"amount": bins_of(chance.normal(4.0, 1.0, 5000)), "seen": bins_of(chance.poisson(1, 5000).astype(float))},
        {"amount": bins_of(amount)},
    )
    for weights, baseline, threshold in zip(WEIGHTS, baselines, THRESHOLDS, strict=True):
        register(folder / "reg", "fraud", weights, baseline=baseline, threshold=threshold)
    (folder / "shop.yaml").write_text(PIPELINE)
    half = len(ROWS) // 2
    for first, part in ((True, ROWS[:half]), (False, ROWS[half:])):
        feed(folder, "payments", [paid(row) for row in part])
        feed(folder, "labels", [row for row in LABELS if (row["label_at"] < ROWS[half]["at"]) == first])
        done = finish("run", folder / "shop.yaml", "--log", f"file:{folder}/log", "--until-end")
        assert done.code == 0, done.err
        if first:
            shutil.copytree(folder / "log", folder / "half")
    write(folder / "labels.ndjson", LABELS)
    return folder


def feed(folder: Path, stream: str, rows: list[dict[str, Any]]) -> None:
    file = write(folder / f"{stream}.ndjson", rows)
    done = finish("feed", stream, file, "--pipeline", folder / "shop.yaml", "--log", f"file:{folder}/log")
    assert done.code == 0, done.err


def reports(cli: Cli, folder: Path, into: Path, *more: object, log: str = "log", code: int = 0) -> str:
    """Write reports of all there is; what it says."""
    shared = (folder / "shop.yaml", "--log", f"file:{folder}/{log}", "--report", into, "--until-end")
    done = cli("models", "watch", *shared, *LOG, *more)
    assert done.code == code, done.err
    return done.err


def read(into: Path) -> dict[str, Any]:
    return {path.name.removesuffix(".json")[-10:]: json.loads(path.read_text()) for path in sorted(into.glob("*.json"))}


def contents(into: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in into.iterdir()}


def scored(folder: Path, cli: Cli) -> list[dict[str, Any]]:
    """Each payment with the version that decided it, as `tail` tells, and its scores by hand."""
    told = cli("tail", "features", "--pipeline", folder / "shop.yaml", "--log", f"file:{folder}/log", "--until-end")
    features = {row["id"]: row for row in map(json.loads, told.lines)}
    found = []
    for row in ROWS:
        version = features[row["id"]]["fraud.version"]
        score = by_hand(WEIGHTS[version - 1], {**row, "seen": features[row["id"]]["seen"]})
        found.append({**row, "version": version, "score": score})
    return found


@pytest.mark.timeout(300)
def test_reports_say_what_duckdb_says_of_the_decisions(cli: Cli, decided: Path, tmp_path: Path) -> None:
    reports(cli, decided, tmp_path, "--labels-stream", "labels", "--label", "fraud")
    found = read(tmp_path)
    assert list(found) == [f"1970-01-0{day + 1}" for day in range(DAYS - 1)]
    table = duckdb.connect()
    table.execute("CREATE TABLE p (d INT, v INT, score DOUBLE, label INT, known BIGINT)")
    table.executemany(
        "INSERT INTO p VALUES (?, ?, ?, ?, ?)",
        [[r["at"] // DAY, r["version"], r["score"], r["fraud"], r["label_at"]] for r in scored(decided, cli)],
    )
    for day, report in enumerate(found.values()):
        mature = ROWS[-1]["at"] >= (day + 1) * DAY + DELAY
        until = (day + 1) * DAY + (DELAY if mature else 0)
        assert report["matured"] == mature
        of = table.execute(
            f"""SELECT v, count(*), count(l), sum(l), sum(1 - l), sum(l) FILTER (score > 60),
                sum(1 - l) FILTER (score > 60), sum(l) FILTER (score > if(v = 1, 55, 65))
            FROM (SELECT *, if(known < {until}, label, NULL) AS l FROM p WHERE d = {day}) GROUP BY v ORDER BY v"""
        ).fetchall()
        said = report["figures"]
        assert (said["rows"], said["labelled"]) == (A_DAY, sum(one[2] for one in of))
        for counts, one in zip(of, said["versions"][:2], strict=True):
            version, count, _, frauds, legitimate, hits, false, flagged = counts
            assert (one["version"], one["decided"], one["scored"]) == (version, count, count)
            alerts = [one["alerts"][name] for name in ("frauds", "legitimate", "hits", "false")]
            assert alerts == [value or 0 for value in (frauds, legitimate, hits, false)]
            assert one["flagged"]["hits"] == (flagged or 0)
            if hits:
                assert one["alerts"]["precision"]["value"] == pytest.approx(hits / (hits + false), abs=1e-6)
        assert said["versions"][2]["scored"] == A_DAY


@pytest.mark.timeout(120)
def test_drift_is_of_each_version_and_feature(cli: Cli, decided: Path, tmp_path: Path) -> None:
    said = reports(cli, decided, tmp_path)
    assert "8 daily reports written" in said
    one, two, shadow = read(tmp_path)["1970-01-05"]["figures"]["versions"]
    drift = {drift["name"]: drift for drift in one["drift"]}
    assert drift.keys() == {"amount", "place", "score"}
    assert [drift["name"] for drift in two["drift"]][:1] == ["amount"]
    assert two["drift"][0]["index"] > 1 > one["drift"][-1]["index"]
    mine = [row for row in scored(decided, cli) if row["at"] // DAY == 4 and row["version"] == 1]
    missing = sum(row["place"] is None for row in mine)
    assert (drift["place"]["missing_then"], drift["place"]["missing"]) == (0, round(missing / len(mine), 6))
    assert (shadow["decided"], shadow["scored"]) == (0, A_DAY)
    assert (one["alerts"]["frauds"], one["average_precision"]) == (0, None)  # no labels were given
    page = (tmp_path / "shop-1970-01-05.html").read_text()
    assert "Drift from the training of version 3" in page
    assert "<script" not in page


@pytest.mark.timeout(120)
def test_labels_of_a_file_and_of_a_stream_are_the_same(cli: Cli, decided: Path, tmp_path: Path) -> None:
    reports(cli, decided, tmp_path / "one", "--labels-stream", "labels", "--label", "fraud")
    reports(cli, decided, tmp_path / "two", "--labels", decided / "labels.ndjson", "--label", "fraud")
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert "0 daily reports" in reports(
        cli, decided, tmp_path / "one", "--labels", decided / "labels.ndjson", "--label", "fraud"
    )


@pytest.mark.timeout(120)
def test_started_again_it_says_what_it_would_have_said(cli: Cli, decided: Path, tmp_path: Path) -> None:
    labels = ("--labels-stream", "labels", "--label", "fraud")
    reports(cli, decided, tmp_path / "twice", *labels, log="half")
    before = read(tmp_path / "twice")
    assert list(before) == [f"1970-01-0{day + 1}" for day in range(4)]
    assert [one["matured"] for one in before.values()] == [True, True, False, False]
    reports(cli, decided, tmp_path / "twice", *labels)
    reports(cli, decided, tmp_path / "once", *labels)
    assert contents(tmp_path / "twice") == contents(tmp_path / "once")
    after = read(tmp_path / "once")
    assert after["1970-01-01"] == before["1970-01-01"]
    assert after["1970-01-04"]["figures"]["labelled"] > before["1970-01-04"]["figures"]["labelled"]
    # A log that lacks what was reported changes no report.
    said = reports(cli, decided, tmp_path / "once", *labels, log="half")
    assert "0 daily reports" in said
    assert contents(tmp_path / "twice") == contents(tmp_path / "once")
    cut = json.loads((tmp_path / "once" / "shop-1970-01-08.json").read_text())
    cut["figures"]["rows"] += 1
    (tmp_path / "once" / "shop-1970-01-08.json").write_text(json.dumps(cut))
    assert "the log has less of that day" in reports(cli, decided, tmp_path / "once", *labels)
    assert read(tmp_path / "once")["1970-01-08"] == cut


@pytest.mark.timeout(120)
def test_a_report_of_mature_labels_stays_and_it_is_said_why(cli: Cli, decided: Path, tmp_path: Path) -> None:
    """Not that the log had less: it has the same."""
    labels = ("--labels-stream", "labels", "--label", "fraud")
    reports(cli, decided, tmp_path / "days", *labels)
    before = read(tmp_path / "days")
    assert all(one["matured"] for one in list(before.values())[:4])
    said = reports(cli, decided, tmp_path / "days", *labels, "--label-delay", "4d")
    assert "the report stays: its labels are mature, with this --label-delay they are not yet" in said
    assert "the log has less of that day" not in said
    after = read(tmp_path / "days")
    file = tmp_path / "file"
    file.touch()
    assert "is a file (name a directory)" in reports(cli, decided, file, code=2)
    assert {day: one["matured"] for day, one in after.items()} == {day: one["matured"] for day, one in before.items()}


@pytest.mark.timeout(120)
def test_a_version_that_is_gone_is_left_out_and_said(cli: Cli, decided: Path, tmp_path: Path) -> None:
    labels = ("--labels-stream", "labels", "--label", "fraud")
    reports(cli, decided, tmp_path / "all", *labels)
    shop = tmp_path / "shop"
    shop.mkdir()
    shutil.copytree(decided / "log", shop / "log")
    shutil.copytree(decided / "reg", shop / "reg")
    shutil.copy(decided / "shop.yaml", shop)
    (shop / "reg" / "fraud" / "2" / "manifest.json").unlink()
    said = reports(cli, shop, tmp_path / "less", *labels)
    assert "a version's manifest cannot be read" in said
    for day, whole in read(tmp_path / "all").items():
        less = read(tmp_path / "less")[day]
        assert less["figures"]["notes"] == [
            "version 2: the registry has no manifest of it: its threshold, and drift from its training, are not known"
        ]
        one, two, shadow = less["figures"]["versions"]
        assert [one, shadow] == [whole["figures"]["versions"][0], whole["figures"]["versions"][2]]
        assert (two["drift"], two["threshold"], two["flagged"]) == ([], None, None)
        assert two["alerts"] == whole["figures"]["versions"][1]["alerts"]


def test_columns_of_blocks(decided: Path) -> None:
    """Whose a payment was says which frauds are one piece of evidence."""
    plan = opened(str(decided / "shop.yaml"), Wanted(None, None, None, False, "2d", 35, 1000)).plan
    reader, cards = BlockReader(plan), {row["id"]: row["card"] for row in ROWS}
    found: dict[int, int] = {}
    for _, block in journal(f"file:{decided}/log", "shop", 2):
        if block:
            rows = reader.read(block)
            found |= dict(zip(rows.ids.tolist(), rows.cards.tolist(), strict=True))
            assert rows.names == ("amount", "seen", "place")
            assert np.isnan(rows.matrix[:, 2]).any() or len(rows.ids) < 100
    hashed = (stable_hashes64(list(names)).tolist() for names in (cards.keys(), cards.values()))
    assert found == dict(zip(*hashed, strict=True))


def append(folder: Path, topic: str, record: bytes) -> None:
    """A record that somebody else wrote."""

    async def write() -> None:
        log = open_log(f"file:{folder}/log")
        appender = log.appender()
        await appender.append([OutputRecords(TopicPartition(topic, 0), [None], [record], 0)])
        await appender.close()
        await log.close()

    run_async(write())


@pytest.mark.timeout(120)
def test_what_is_no_block_or_no_label_is_left_out_and_said(cli: Cli, decided: Path, tmp_path: Path) -> None:
    labels = ("--labels-stream", "labels", "--label", "fraud")
    reports(cli, decided, tmp_path / "good", *labels)
    for name in ("shop.yaml", "reg", "log"):
        copy = shutil.copy if name == "shop.yaml" else shutil.copytree
        copy(decided / name, tmp_path / name)
    append(tmp_path, "shop.journal", b"no block")
    append(tmp_path, "shop.labels", b'{"id": "p1", "fraud": 7, "label_at": 1}')
    said = reports(cli, tmp_path, tmp_path / "bad", *labels)
    assert "a block cannot be watched" in said
    assert "records are no labels" in said
    assert contents(tmp_path / "good") == contents(tmp_path / "bad")


@pytest.mark.parametrize(
    ("record", "wanted"),
    [
        ('{"id": "a", "fraud": 1, "label_at": 5, "number": 3}', Label("a", 1, 5)),
        ('{"id": "a", "fraud": false, "label_at": "1970-01-01T00:00:01Z"}', Label("a", 0, 1000)),
        ('{"id": "a", "label_at": 5}', Label("a", -1, 5)),
        ('{"id": "a", "fraud": 2, "label_at": 5}', None),
        ('{"fraud": 1, "label_at": 5}', None),
        ('{"id": "a", "fraud": 1}', None),
        ('{"id": "a", "fraud": 1, "label_at": "soon"}', None),
        ("[]", None),
        ("{", None),
    ],
)
def test_records_of_labels(record: str, wanted: Label | None, tmp_path: Path) -> None:
    (tmp_path / "shop.yaml").write_text(PIPELINE)
    (tmp_path / "reg").mkdir()
    stream = opened(str(tmp_path / "shop.yaml"), Wanted(None, "labels", "fraud", False, "7d", 35, 1000)).stream
    assert stream is not None
    assert stream.topic == "shop.labels"
    assert stream.read(record.encode()) == wanted


def scraped(port: int) -> dict[str, float]:
    text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10).read().decode()
    lines = [line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in lines}


@pytest.mark.timeout(180)
def test_metrics_follow_labels_as_they_arrive(decided: Path, tmp_path: Path) -> None:
    labels = write(tmp_path / "labels.ndjson", LABELS[:100])
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = start(
        "models", "watch", decided / "shop.yaml", "--log", f"file:{decided}/log", "--labels", labels, "--label",
        "fraud", "--metrics-port", port, *LOG,
    )  # fmt: skip

    def until(name: str, wanted: float) -> dict[str, float]:
        while True:
            assert process.poll() is None, process.communicate()
            try:
                found = scraped(port)
            except OSError:
                found = {}
            if found.get(name) == wanted:
                return found
            time.sleep(0.1)

    try:
        until("streamproc_model_labelled_payments", 100)
        write(tmp_path / "new", LABELS).replace(labels)
        found = until("streamproc_model_labelled_payments", len(LABELS))
        labels.write_text("{")  # what cannot be read changes nothing
        assert scraped(port)["streamproc_model_labelled_payments"] == len(LABELS)
    finally:
        process.terminate()
        _, errors = process.communicate()
    assert process.returncode == 0, errors
    assert found["streamproc_model_payments"] == len(ROWS)
    assert found["streamproc_model_watched_until_seconds"] == ROWS[-1]["at"] / 1000
    unknown = [row for row in ROWS if row["label_at"] is None and row["at"] < ROWS[-1]["at"] - DELAY]
    assert found["streamproc_model_overdue_labels"] == len(unknown)
    names = {name.split("{")[0].removeprefix("streamproc_model_") for name in found}
    text = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
    assert [name for name in names if name.startswith("streamproc")] == []
    assert [name for name in names if f"`streamproc_model_{name}" not in text and f"`_{name}" not in text] == []
    key = '{bound="estimate",by="alerts",version="1"}'
    assert 0 < found[f"streamproc_model_precision{key}"] < 1
    assert found['streamproc_model_missing_rate{feature="place",version="1"}'] > 0
    assert 'streamproc_model_difference{against="1",bound="low",figure="average_precision",version="3"}' in found or (
        'streamproc_model_difference{against="2",bound="low",figure="average_precision",version="3"}' in found
    )


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    ("more", "said"),
    [
        ([], "nobody would see it"),
        (["--report", "r", "--labels", "l.csv", "--labels-stream", "labels", "--label", "x"], "give one of them"),
        (["--report", "r", "--label", "fraud"], "there are no labels"),
        (["--report", "r", "--labels-stream", "labels"], "which field says fraud or not?"),
        (
            ["--report", "r", "--labels-stream", "payments", "--label", "fraud"],
            "no stream payments stands beside",
        ),
        (["--report", "r", "--labels-stream", "labels", "--label", "frauds"], "has no field frauds"),
        (["--report", "r", "--labels", "none.csv", "--label", "fraud"], "none.csv"),
        (["--report", "r", "--days", "14"], "give 15 or more"),
        (["--report", "r", "--label-delay", "week"], "--label-delay"),
    ],
)
def test_wrong_use_is_refused(
    more: list[str], said: str, cli: Cli, decided: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = cli("models", "watch", decided / "shop.yaml", "--log", f"file:{decided}/log", "--until-end", *more)
    assert done.code == 2, done.err
    assert said in done.err
    assert list(tmp_path.iterdir()) == []


def test_a_model_without_versions_is_refused(cli: Cli, tmp_path: Path) -> None:
    start, _, end = PIPELINE.partition("    registry: reg\n")
    features = end[end.index("    features:") :].replace("[fraud.version]", "[]")
    (tmp_path / "shop.yaml").write_text(f"{start}    file: model.onnx\n{features}")
    done = cli("models", "watch", tmp_path / "shop.yaml", "--log", f"file:{tmp_path}", "--report", tmp_path / "r")
    assert done.code == 2
    assert "has no registered version of fraud" in done.err


@pytest.mark.kafka
@pytest.mark.timeout(120)
def test_on_kafka_each_day_is_told(cli: Cli, tmp_path: Path, kafka_bootstrap: str) -> None:
    for weights in WEIGHTS:
        register(tmp_path / "reg", "fraud", weights)
    name, shared = f"shop-{secrets.token_hex(4)}", ("--log", f"kafka://{kafka_bootstrap}")
    path, rows = tmp_path / "shop.yaml", write(tmp_path / "rows.ndjson", [paid(row) for row in ROWS])
    path.write_text(PIPELINE.replace("pipeline: shop", f"pipeline: {name}"))
    labels = ("--labels", write(tmp_path / "labels.ndjson", LABELS), "--label", "fraud", *LOG)
    for words in (
        ("feed", "payments", rows, "--pipeline", path),
        ("run", path, "--until-end", "--state", tmp_path / "state"),
        ("models", "watch", path, "--report", tmp_path / "days", "--until-end", *labels),
    ):
        assert (told := cli(*words, *shared)).code == 0, told.err
    found = list(read(tmp_path / "days").values())
    assert len(found) == DAYS - 1
    for day, one in enumerate(found):
        until = (day + 1) * DAY + (DELAY if one["matured"] else 0)
        known = [row for row in ROWS[day * A_DAY : (day + 1) * A_DAY] if row["label_at"] and row["label_at"] < until]
        assert (one["figures"]["rows"], one["figures"]["labelled"]) == (A_DAY, len(known))
        assert sum(version["alerts"]["frauds"] for version in one["figures"]["versions"]) == sum(
            row["fraud"] for row in known
        )
