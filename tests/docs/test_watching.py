"""docs/models/watching.md: its programs and commands run, on two versions that the page about training makes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

pytest.importorskip("lightgbm")

from tests.docs.test_tutorial import ROOT, blocks, execute, shell

PAGES = ROOT / "docs" / "models"


@pytest.mark.timeout(180)
def test_the_example_runs(tmp_path: Path) -> None:
    made = blocks((PAGES / "training.md").read_text())
    for block in made:
        if "file" in block.options:
            text = block.text.replace("    increasing:", "    # increasing:")  # logistic regression knows none
            (tmp_path / block.options["file"]).write_text(text)
        elif block.language == "python":
            assert execute([sys.executable, "-c", block.text], tmp_path).returncode == 0
    (training,) = [block for block in made if block.language == "sh"]
    train = training.text.splitlines()[0].replace("--trials 3", "--trials 1 --algorithm logistic")
    shell(training._replace(text=f"{train}\n{train} --seed 2"), tmp_path)
    for block in blocks((PAGES / "watching.md").read_text()):
        if block.language == "sh":
            shell(block, tmp_path)
        else:
            done = execute([sys.executable, "-c", block.text], tmp_path)
            assert done.returncode == 0, f"line {block.line}: {done.stderr}"
    assert len(list((tmp_path / "days").glob("*.html"))) == 19
