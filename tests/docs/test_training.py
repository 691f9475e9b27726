"""docs/models/training.md: its files are written, its program run, its model trained and served."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

pytest.importorskip("lightgbm")

from tests.docs.test_tutorial import ROOT, blocks, execute, shell

PAGE = ROOT / "docs" / "models" / "training.md"


@pytest.mark.timeout(180)
def test_the_example_runs(tmp_path: Path) -> None:
    for block in blocks(PAGE.read_text()):
        if "file" in block.options:
            (tmp_path / block.options["file"]).write_text(block.text)
        elif block.language == "python":
            done = execute([sys.executable, "-c", block.text], tmp_path)
            assert done.returncode == 0, done.stderr
        else:
            listed = shell(block, tmp_path).splitlines()
            assert [line.split()[:3] for line in listed[-1:]] == [["fraud", "1", "lightgbm"]]
    assert (tmp_path / "decided.parquet").exists()
