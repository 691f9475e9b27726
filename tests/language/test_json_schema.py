"""`streamproc schema`: right pipelines are valid, wrong keys are not, and it knows every key."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from streamproc.cli.main import run_command
from streamproc.language.json_schema import pipeline_schema
from tests.docs.test_tutorial import ROOT, blocks
from tests.language.draft2020 import KEYWORDS, faults, read
from tests.language.test_reference import keys
from tests.language.test_wrong import CORPUS

SCHEMA = pipeline_schema()
SHIPPED = [*ROOT.glob("configs/*/pipeline*.yaml"), *CORPUS.glob("right/*.yaml"), ROOT / "tests/simulation/stages.yaml"]
KEYS = sorted(CORPUS.glob("keys/*.yaml"))
DEFINED = {
    "FieldDeclaration": "field",
    "ExpressionFeature": "feature",
    "WindowGroup": "feature",
    "TimedWindow": "window",
    "SequencePattern": "pattern",
    "UserOperator": "operator",
    "Served": "model",
    "Pipeline": "",
}


def documented() -> list[tuple[str, str]]:
    """Pages' whole pipelines."""
    return [
        (f"{page.relative_to(ROOT)}:{block.line}", block.text)
        for page in sorted(ROOT.glob("docs/**/*.md"))
        for block in blocks(page.read_text())
        if block.language == "yaml" and "pipeline:" in block.text and "streams:" in block.text
    ]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_shipped_pipeline_is_valid(path: Path) -> None:
    assert faults(SCHEMA, read(path.read_text())) == []


@pytest.mark.parametrize(("where", "text"), documented(), ids=lambda part: part if part.startswith("docs") else "")
def test_a_pipeline_of_the_docs_is_valid(where: str, text: str) -> None:
    assert faults(SCHEMA, read(text)) == []


def test_there_are_pipelines_in_the_docs() -> None:
    assert len(documented()) >= 8


@pytest.mark.parametrize("path", KEYS, ids=lambda path: path.stem)
def test_a_wrong_key_is_marked(path: Path) -> None:
    assert faults(SCHEMA, read(path.read_text())) != []


@pytest.mark.parametrize(("struct", "key"), keys())
def test_every_key_is_known(struct: str, key: str) -> None:
    """Of the model, which the reference of the language is compared with, too."""
    where = DEFINED.get(struct, struct.lower())
    parts: list[Any] = [SCHEMA["$defs"][where] if where else SCHEMA]
    parts += parts[0].get("anyOf", [])
    if struct in ("Call", "Stage"):
        parts += [SCHEMA["$defs"]["step"], SCHEMA]
    known = {name for part in parts for name in part.get("properties", {})}
    assert ("stages" if (struct, key) == ("Stage", "calls") else key) in known


def test_a_key_is_described() -> None:
    def bare(schema: Any, at: str) -> list[str]:
        found = []
        for key, part in schema.get("properties", {}).items():
            if not ({"description", "properties"} & set(part)):
                found.append(f"{at}/{key}")
            found += bare(part, f"{at}/{key}")
        return found + [fault for part in schema.get("anyOf", []) for fault in bare(part, at)]

    assert [fault for name, part in {"": SCHEMA, **SCHEMA["$defs"]}.items() for fault in bare(part, name)] == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"retention": "7 days"},
        {"partitions": 0},
        {"rules": {"a": 1}},
        {"streams": {}, "x": 1},
        {"streams": {"p": {"fields": {"a": "decimel(2)"}, "id": "a", "event_time": "a"}}},
        {"features": {"n": {"count": "*"}}},
        {"features": {"n": {"of": "a", "aggregates": ["avg"], "over": "5m"}}},
        {"windows": {"n": {"tumbling": "5m"}}},
        {"decision": ["a"]},
    ],
    ids=str,
)
def test_a_wrong_value_is_marked(wrong: dict[str, Any]) -> None:
    right = read((CORPUS / "right" / "cards.yaml").read_text())
    assert faults(SCHEMA, right) == []
    assert faults(SCHEMA, right | wrong) != []


def test_the_command_prints_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["schema"]) == 0
    assert json.loads(capsys.readouterr().out) == SCHEMA


def test_a_keyword_that_is_not_known_fails() -> None:
    assert "oneOf" not in KEYWORDS
    with pytest.raises(KeyError):
        faults({"oneOf": []}, 1)
