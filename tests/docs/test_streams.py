"""docs/language/streams.md: its files are written, its command run, its Python executed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.docs.test_tutorial import ROOT, blocks, execute, shell

LABELS = ["yaml", "csv", "csv", "csv", "sh", "python"]
PAGE = ROOT / "docs" / "language" / "streams.md"


@pytest.mark.timeout(120)
def test_the_example_runs(tmp_path: Path) -> None:
    ran, shown = [], ""
    for block in blocks(PAGE.read_text()):
        if "file" in block.options:
            (tmp_path / block.options["file"]).write_text(block.text)
        elif block.language == "sh":
            shown = shell(block, tmp_path)
        elif block.language == "text":
            assert block.text == shown
        else:
            done = execute([sys.executable, "-c", block.text], tmp_path)
            assert done.returncode == 0, f"line {block.line}: {done.stderr}"
        ran.append(block.language)
    assert ran == ["yaml", "csv", "csv", "json", "sh", "python", "yaml", "sh", "text", *LABELS]
