"""docs/language/tests.md: its examples are run and print what the page shows; its tables name the words there are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from streamproc.language.cases import events, expectations
from tests.docs.test_tutorial import ROOT, blocks, shell

PAGE = (ROOT / "docs" / "language" / "tests.md").read_text()


@pytest.mark.timeout(120)
def test_the_examples_print_what_is_shown(tmp_path: Path) -> None:
    files = {block.options["file"]: block.text for block in blocks(PAGE) if "file" in block.options}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    commands, shown = ([one for one in blocks(PAGE) if one.language == language] for language in ("sh", "text"))
    assert len(commands) == 2
    for command, printed in zip(commands, shown, strict=True):
        assert shell(command, tmp_path) == printed.text


def keys(title: str) -> set[str]:
    section = PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0].split("| a value |")[0]
    rows = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", section, re.MULTILINE)
    return {name for row in rows for name in re.findall(r"`(\w+)`", row)}


def test_all_words_are_described() -> None:
    assert keys("An event") == set(events.WORDS)
    assert keys("What is expected") == {*expectations.DECIDED, "dead_letter"}


def test_links_lead_somewhere() -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", PAGE)
    assert [target for target in targets if not (ROOT / "docs" / "language" / target).exists()] == []
