"""docs/models/what-if.md: its commands run, and what they make is what it says."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.docs.test_tutorial import ROOT, blocks, shell
from tests.report.test_page import read

PAGE = ROOT / "docs" / "models" / "what-if.md"


@pytest.mark.timeout(240)
def test_the_example_runs(tmp_path: Path) -> None:
    first, second, keys = blocks(PAGE.read_text())
    shell(first, tmp_path)
    text = (tmp_path / "bank" / "pipeline.yaml").read_text()
    assert text.count("score > 70") == 1
    (tmp_path / "bank" / "new.yaml").write_text(text.replace("score > 70", "score > 30"))
    assert "more strictly" in shell(second, tmp_path)
    said = json.loads(shell(second._replace(text=second.text.split(" --report")[0] + " --json\n"), tmp_path))
    assert list(said) == keys.text.split()
    assert said["payments"] == 4000
    assert said["stricter"] > 0
    assert said["milder"] == 0
    changes = (tmp_path / "bank" / "what-if.changes.ndjson").read_text().splitlines()
    assert len(changes) == said["stricter"]
    assert "Curves" in read((tmp_path / "bank" / "what-if.html").read_text()).headings


def test_links_lead_somewhere() -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", PAGE.read_text())
    assert [target for target in targets if not (PAGE.parent / target).exists()] == []
