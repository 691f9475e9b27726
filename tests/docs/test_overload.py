"""docs/overload.md: its files are written, its commands run, its output compared."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.test_tutorial import ROOT, blocks, shell

PAGE = ROOT / "docs" / "overload.md"


@pytest.mark.timeout(120)
def test_the_example_runs(tmp_path: Path) -> None:
    ran, shown = [], ""
    for block in blocks(PAGE.read_text()):
        if "file" in block.options:
            (tmp_path / block.options["file"]).write_text(block.text)
        elif block.language == "sh":
            shown = shell(block, tmp_path)
        else:
            assert sorted(shown.splitlines()) == sorted(block.text.splitlines())
        ran.append(block.language)
    assert ran == ["yaml", "csv", "sh", "text"]
