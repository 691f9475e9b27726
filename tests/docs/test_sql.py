"""docs/language/sql: files are written, commands run, output compared."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.test_tutorial import ROOT, blocks, shell

PAGES = sorted((ROOT / "docs" / "language" / "sql").glob("*.md"))


@pytest.mark.parametrize("page", PAGES, ids=[page.stem for page in PAGES])
def test_the_example_runs(page: Path, tmp_path: Path) -> None:
    shown, compared = "", 0
    for block in blocks(page.read_text()):
        if "file" in block.options:
            (tmp_path / block.options["file"]).write_text(block.text)
        elif block.language == "sh":
            shown = shell(block, tmp_path)
        elif block.language == "text":
            assert block.text == shown
            compared += 1
    assert compared


def test_the_first_page_names_all() -> None:
    text = (PAGES[0].parent / "README.md").read_text()
    assert [page.name for page in PAGES if page.name != "README.md" and f"({page.name})" not in text] == []
