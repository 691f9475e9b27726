"""docs/language/patterns.md: its files are written, its commands run, its output compared."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.test_tutorial import ROOT, blocks, shell

PAGE = ROOT / "docs" / "language" / "patterns.md"


@pytest.mark.timeout(180)
@pytest.mark.parametrize(("part", "lines"), [(0, '"decline"'), (1, '"alert"')])
def test_an_example_runs(tmp_path: Path, part: int, lines: str) -> None:
    shown, ran = "", []
    for block in blocks(PAGE.read_text().split("## What does not come about")[part]):
        if "file" in block.options:
            (tmp_path / block.options["file"]).write_text(block.text)
        elif block.language == "sh":
            shown = shell(block, tmp_path)
        else:
            (line,) = block.text.splitlines()
            assert [one for one in shown.splitlines() if lines in one] == [line]
        ran.append(block.language)
    assert ran == ["yaml", "ndjson", "sh", "text"]
