"""`models list`: versions that are whole and versions that are not, and what a pipeline says of both."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from models.manifest import MANIFEST, MODEL
from tests.cli.conftest import Cli
from tests.models.registered import register

PIPELINE = """\
pipeline: shop
streams:
  payments:
    id: id
    event_time: at
    fields: {id: string, card: string, amount: {type: float64, required: true}, at: timestamp}
partition_by: card
models:
  fraud: {registry: reg, version: 2, features: [amount]}
rules:
  - {id: high, when: score > 50, then: decline}
decision: {severity: [decline, approve], otherwise: approve}
"""


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three versions of `fraud`, one of a model that no pipeline has; a pipeline whose champion is version 2."""
    monkeypatch.chdir(tmp_path)
    for name in ("fraud", "fraud", "fraud", "other"):
        register(Path("reg"), name, {"amount": 0.5})
    Path("shop.yaml").write_text(PIPELINE)
    return tmp_path


def damage(file: str) -> Path:
    return Path("reg/fraud/2") / file


def test_a_damaged_version_is_told_from_sound_ones(cli: Cli, shop: Path) -> None:
    sound = cli("models", "list", "--registry", "reg")
    assert sound.code == 0
    assert [line.split()[-1] for line in sound.lines] == ["files", "sound", "sound", "sound", "sound"]
    damage(MODEL).write_bytes(damage(MODEL).read_bytes()[:-1] + b"x")
    altered = cli("models", "list", "--registry", "reg")
    assert altered.code == 1
    assert [line.split()[-1] for line in altered.lines[1:]] == ["sound", "damaged", "sound", "sound"]
    assert "error: reg/fraud/2/model.onnx is not the registered file: its SHA-256 differs (restore it)" in altered.err
    damage(MODEL).unlink()
    gone = cli("models", "list", "--registry", "reg", "--json")
    assert gone.code == 1
    assert [one["damage"] for one in json.loads(gone.out)] == [None, "reg/fraud/2/model.onnx is missing", None, None]


def test_a_version_without_a_readable_manifest_hides_no_other(cli: Cli, shop: Path) -> None:
    damage(MANIFEST).write_bytes(b"{}")
    listed = cli("models", "list", "--registry", "reg")
    assert listed.code == 1
    assert [line.split()[:2] for line in listed.lines[1:]] == [["fraud", f"{n}"] for n in (1, 2, 3)] + [["other", "1"]]
    assert "error: reg/fraud/2/manifest.json is no manifest of a model" in listed.err


def test_the_pipeline_names_the_registry(cli: Cli, shop: Path) -> None:
    """From any folder: the pipeline's registry lies beside the pipeline. Its own models, no others."""
    (shop / "elsewhere").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(shop / "elsewhere")
        listed = cli("models", "list", "--pipeline", "../shop.yaml", "--json")
    assert (listed.code, [(one["model"], one["version"]) for one in json.loads(listed.out)]) == (
        0, [("fraud", 1), ("fraud", 2), ("fraud", 3)],
    )  # fmt: skip


def test_a_version_at_work_that_the_registry_lacks_is_told(cli: Cli, shop: Path) -> None:
    there = ("--pipeline", "shop.yaml", "--log", "file:log")
    assert cli("models", "activate", "fraud", 3, *there).code == 0
    damage(MANIFEST).unlink()
    assert cli("models", "list", *there).code == 0  # it is no version, and nobody needs it
    Path("reg/fraud/3", MANIFEST).unlink()
    listed = cli("models", "list", *there, "--json")
    assert listed.code == 1
    one, three = json.loads(listed.out)
    assert (one["role"], one["damage"]) == (None, None)
    assert (three["version"], three["role"]) == (3, "champion")
    assert three["damage"] == "there is no version 3 of the model fraud in reg"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ((), "whose versions?.*give --registry, or a --pipeline that has one"),
        (("--log", "file:log"), "whose versions?"),
        (("--registry", "reg", "--log", "file:log"), "roles are a pipeline's.*--pipeline"),
        (("--registry", "none"), "there is no registry none"),
        (("--pipeline", "none.yaml"), "none.yaml"),
        (("--pipeline", "files.yaml"), "shop takes no model from a registry"),
    ],
)
def test_wrong_use(given: tuple[str, ...], said: str, cli: Cli, shop: Path) -> None:
    Path("files.yaml").write_text(PIPELINE.replace("registry: reg, version: 2", "file: model.onnx"))
    listed = cli("models", "list", *given)
    assert listed.code == 2
    for part in said.split(".*"):
        assert part in listed.err


def test_an_empty_registry(cli: Cli, shop: Path) -> None:
    Path("empty").mkdir()
    listed = cli("models", "list", "--registry", "empty")
    assert (listed.code, len(listed.lines)) == (0, 1)
