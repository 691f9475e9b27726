"""docs/language/README.md: it names every page, and for every key of the pipeline file one that explains it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from streamproc.language.json_schema import pipeline_schema
from tests.docs.test_tutorial import ROOT, blocks

FOLDER = ROOT / "docs" / "language"
INDEX = (FOLDER / "README.md").read_text()
PAGES = sorted(page.relative_to(FOLDER).as_posix() for page in FOLDER.rglob("*.md") if page != FOLDER / "README.md")
# Of each part of the schema the key of the index under which its own keys are explained.
PARTS = {
    "type": "streams", "field": "streams", "stream": "streams", "feature": "features", "window": "windows",
    "absence": "absences", "pattern": "patterns", "statement": "sql", "watermark": "watermark", "stage": "stages",
    "parallel": "parallel", "branch": "parallel", "step": "call", "call": "call", "table": "tables",
    "operator": "operators", "model": "models", "challenger": "models", "rule": "rules", "decision": "decision",
    "topics": "topics",
}  # fmt: skip


def rows() -> dict[str, list[str]]:
    """Key -> the pages of its row."""
    found: dict[str, list[str]] = {}
    for line in INDEX.splitlines():
        cells = line.split("|")
        if line.startswith("| `"):
            found |= {key: re.findall(r"\]\(([^)]+)\)", cells[3]) for key in re.findall(r"`(\w+)`", cells[1])}
    return found


def keys_of(part: Any) -> Iterator[str]:
    """The names of all properties within a part of the schema."""
    if isinstance(part, dict):
        yield from part.get("properties", {})
        for value in part.values():
            yield from keys_of(value)
    elif isinstance(part, list):
        for one in part:
            yield from keys_of(one)


def test_every_page_is_in_the_index() -> None:
    linked = re.findall(r"\]\(([^)]+)\)", INDEX)
    assert sorted(set(linked)) == PAGES
    assert "language/README.md" in (ROOT / "docs" / "README.md").read_text()


def test_every_key_of_the_file_has_a_row() -> None:
    schema = pipeline_schema()
    assert rows().keys() == schema["properties"].keys() | {"parallel", "call"}
    assert PARTS.keys() == schema["$defs"].keys()


@pytest.mark.parametrize("part", PARTS)
def test_the_pages_of_a_part_explain_all_of_its_keys(part: str) -> None:
    text = "\n".join((FOLDER / page).read_text() for page in rows()[PARTS[part]])
    wanted = set(keys_of(pipeline_schema()["$defs"][part]))
    if part == "stage":  # what a stage holds has rows of its own
        text += "\n".join((FOLDER / page).read_text() for key in wanted for page in rows().get(key, []))
    missing = {key for key in wanted if not re.search(rf"`{key}(`|:)|^\s*(- )?{key}:", text, re.MULTILINE)}
    assert missing == set()


@pytest.mark.parametrize("page", [page for page in PAGES if blocks((FOLDER / page).read_text())])
def test_examples_of_a_page_are_run(page: str) -> None:
    """By a test that names the page, or its folder."""
    name = page.rpartition("/")[2]
    folder = f'"{page.partition("/")[0]}"' if "/" in page else f'"{name}"'
    tests = [path for path in (ROOT / "tests").rglob("test_*.py") if path.name != "test_language_index.py"]
    assert any(f'"{name}"' in text or folder in text for text in (path.read_text() for path in tests))
