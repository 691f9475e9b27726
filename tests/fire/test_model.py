"""The model's file is missing, damaged or wrong, and a model that gives no score: refused, or the decision says so."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from state.errors import ConfigError
from streamproc.cli.common import load_serving, load_stages
from streamproc.cli.compose import RunOptions, open_log, run_worker
from streamproc.eventlog.contract import OutputRecords, TopicPartition
from streamproc.language import compile_pipeline, load_pipeline
from streamproc.runtime.settings import WorkerSettings
from streamproc.runtime.topics import prepare_topics
from tests.bad_input.test_bad_input import committed
from tests.exactly_once.campaign import Plan
from tests.fire.bench import Subject
from tests.fire.report import Running
from tests.language.helpers import BASE, changed, compiled
from tests.operators.test_score import logistic

pytestmark = pytest.mark.matrix("model")

ROOT = Path(__file__).parents[2]
PIPELINE = """
pipeline: scored
streams:
  payments:
    id: id
    event_time: at
    fields: {id: string, card: string, amount: {type: float64, required: true}, fresh: bool, n: int64, at: timestamp}
partitions: 1
partition_by: card
models:
  fraud: {file: model.onnx, features: [amount, fresh, n], tiers: {low: 0, high: 60}%(more)s}
rules:
  - {id: friend, when: card = 'friend', then: approve, final: true}
  - {id: high, when: score > 90, then: decline, reason: high score}
decision: {severity: [decline, review, challenge, approve], otherwise: approve}
"""


def write(home: Path, more: str = "") -> Path:
    """A pipeline with a model of three features, which gives NaN where a feature is NULL."""
    home.mkdir(exist_ok=True)
    (home / "pipeline.yaml").write_text(PIPELINE % {"more": more})
    logistic(home / "model.onnx")
    return home / "pipeline.yaml"


def record(name: str, card: str = "c", **fields: Any) -> bytes:
    given = {"id": name, "card": card, "amount": -9.0, "fresh": True, "n": 0, "at": 1_600_000_000_000} | fields
    return json.dumps(given).encode()


RECORDS = [
    record("low"), record("blind", fresh=None), record("high", amount=900.0), record("blind2", n=None),
    record("known", card="friend", fresh=None), record("huge", amount=1e300), record("low2"),
]  # fmt: skip


async def decided(path: Path, url: str, records: list[bytes]) -> list[dict[str, Any]]:
    """What a worker makes of the records."""
    (plan,) = load_serving(str(path))
    log = open_log(url)
    await prepare_topics(log, plan)
    tp = TopicPartition(plan.stream.topic, 0)
    await log.appender().append([OutputRecords(tp, [b"k"] * len(records), list(records), 1_600_000_000_000)])
    try:
        await run_worker([plan], RunOptions(url, path.parent / "state"), WorkerSettings(until_end=True))
        assert await committed(log, plan.topics.dead_letters) == []
        return await committed(log, plan.topics.decisions)
    finally:
        await log.close()


@pytest.mark.blocking
@pytest.mark.parametrize(
    ("more", "action"), [("", "challenge"), (", no_score: decline", "decline"), (", no_score: approve", "approve")]
)
async def test_no_score_is_never_taken_for_a_low_one(tmp_path: Path, more: str, action: str) -> None:
    """It gets its own action, the one above `otherwise` unless another is named, and the decision says why."""
    found = await decided(write(tmp_path / "p", more), f"file:{tmp_path / 'log'}", RECORDS)
    by_name = {decision["id"]: decision for decision in found}
    for name in ("blind", "blind2"):
        assert by_name[name]["score"] is None
        assert by_name[name]["decision"] == action
        assert by_name[name]["reasons"] == ["the model gives no score"]
    for name in ("low", "low2"):
        assert by_name[name]["score"] < 1
        assert (by_name[name]["decision"], by_name[name]["reasons"]) == ("approve", [])
    for name in ("high", "huge"):  # beyond float32 is infinity, which a model may well score
        assert (by_name[name]["decision"], by_name[name]["reasons"]) == ("decline", ["high score"])
    assert (by_name["known"]["decision"], by_name["known"]["reasons"]) == ("approve", ["friend"])


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


def narrow(path: Path) -> None:
    logistic(path, columns=1)


@pytest.mark.blocking
@pytest.mark.parametrize("harm", [Path.unlink, cut, narrow], ids=["missing", "damaged", "of another shape"])
async def test_a_declared_stand_in_serves_without_the_model(tmp_path: Path, harm: Callable[[Path], None]) -> None:
    """A worker that starts while its model has gone decides on; who only looks at the pipeline is refused."""
    path = write(tmp_path / "p", ", no_score: decline")
    harm(path.with_name("model.onnx"))
    with pytest.raises(ConfigError, match="model"):
        load_stages(str(path))
    (plan,) = load_serving(str(path))
    assert "every row takes its no_score: decline" in plan.warnings[0]
    found = await decided(path, f"file:{tmp_path / 'log'}", RECORDS)
    for decision in found:
        assert decision["score"] is None
        wanted = ("approve", ["friend"]) if decision["id"] == "known" else ("decline", ["the model gives no score"])
        assert (decision["decision"], decision["reasons"]) == wanted
    assert len(found) == len(RECORDS)


def test_no_worker_starts_without_its_model_unless_the_pipeline_says_what_then(tmp_path: Path) -> None:
    path = write(tmp_path / "p")
    path.with_name("model.onnx").unlink()
    with pytest.raises(ConfigError, match="cannot be read"):
        load_serving(str(path))


def test_an_action_for_no_score_must_be_one_and_the_rules_name_is_taken(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no_score: action 'pass' is not in severity"):
        load_pipeline(write(tmp_path / "p", ", no_score: pass"))
    with pytest.raises(ConfigError, match="'no_score' comes with each model"):
        compiled(changed(("id: burst", "id: no_score")))


def test_without_a_model_there_is_no_such_rule() -> None:
    assert [rule.id for rule in compiled(BASE).rules] == ["burst"]


# ---- the file, at a start


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[10] ^= 0xFF
    path.write_bytes(data)


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (Path.unlink, "cannot be read"),
    "empty": (lambda path: path.write_bytes(b""), "not an ONNX model"),
    "text": (lambda path: path.write_text("<html>404</html>"), "not an ONNX model"),
    "truncated": (truncated, "model.onnx"),
    "flipped": (flipped, "model.onnx"),
    "one column": (lambda path: logistic(path, columns=1), "no output of two class probabilities"),
    "a fixed number of rows": (lambda path: logistic(path, rows=1), "free number of rows"),
    "NaN": (lambda path: logistic(path, gain=float("nan")), "probabilities outside 0..1"),
    "no probabilities": (lambda path: logistic(path, gain=7.0), "probabilities outside 0..1"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_file_is_refused_with_its_name_and_what_to_do(tmp_path: Path, fault: str) -> None:
    path = write(tmp_path / "p")
    change, said = FAULTS[fault]
    change(path.parent / "model.onnx")
    with pytest.raises(ConfigError, match=said) as caught:
        compile_pipeline(load_pipeline(path))
    assert "model.onnx" in str(caught.value)


def test_another_number_of_features_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "p")
    path.write_text(path.read_text().replace("[amount, fresh, n]", "[amount, n]"))
    with pytest.raises(ConfigError, match="takes 3 features, the pipeline gives it 2"):
        compile_pipeline(load_pipeline(path))


def test_a_run_without_its_model_decides_nothing(tmp_path: Path) -> None:
    path = write(tmp_path / "p")
    (path.parent / "model.onnx").unlink()
    done = subprocess.run(
        [sys.executable, "-m", "streamproc.cli.main", "run", str(path), "--log", f"file:{tmp_path / 'log'}"],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.count("error: ") == 1
    assert "model.onnx" in done.stderr
    assert not (tmp_path / "log").exists()


@pytest.mark.xdist_group("fire-disk")
@pytest.mark.timeout(180)
def test_a_file_that_changes_under_a_run_changes_nothing_until_the_next_start(tmp_path: Path, running: Running) -> None:
    """A worker keeps the model it began with; a start on a broken file is refused."""
    subject = Subject(tmp_path)
    yaml = subject.campaign.yaml
    model = "models:\n  fraud: {file: model.onnx, features: [lat, lon, hour]}\nrules:\n"
    yaml.write_text(yaml.read_text().replace("rules:\n", model))
    logistic(yaml.parent / "model.onnx")
    try:
        with subject.campaign.feeding(Plan(rate=2_000, events=8_000, seed=3)) as feeder:
            subject.start()
            (yaml.parent / "model.onnx").write_bytes(b"not a model any more")
            subject.sent = subject.campaign.end_of(feeder)["sent"]
        subject.until_decided()
        assert subject.stop() == 0
        refused = subject.campaign.command("--until-end")
        assert refused.returncode == 2
        assert "model.onnx" in refused.stderr
        assert subject.decided() == subject.sent
        running.events = subject.sent
    finally:
        subject.close()


def test_scores_are_scores_whatever_the_features(tmp_path: Path) -> None:
    """What reaches the decision is in 0..100 or NULL: no NaN, no infinity, for any float32."""
    from models.onnx import OnnxModel

    model = OnnxModel(logistic(tmp_path / "model.onnx"))
    extremes = np.array([0.0, -0.0, 1e38, -1e38, np.inf, -np.inf, np.nan, 1e-45], np.float32)
    matrix = np.stack([column.ravel() for column in np.meshgrid(extremes, extremes, extremes)], axis=1)
    scores = model.score(np.ascontiguousarray(matrix, np.float32))
    known = scores[~np.isnan(scores)]
    assert ((known >= 0) & (known <= 100)).all()
    assert 0 < len(known) < len(scores)
