"""docs/models/explanations.md: its commands run, and what they write is what the page says."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.docs.test_tutorial import ROOT, blocks, shell

PAGE = ROOT / "docs" / "models" / "explanations.md"


@pytest.mark.timeout(180)
def test_the_example_runs(tmp_path: Path) -> None:
    text = PAGE.read_text()
    (example,) = [block for block in blocks(text) if block.language == "sh"]
    found = [json.loads(line) for line in shell(example, tmp_path).splitlines()]
    fields = set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`.*?) \|", text, re.MULTILINE))))
    assert found
    for one in found:
        assert "refused" not in one
        assert one["decision"] != "approve"
        assert set(one) == fields - {"refused"}
        assert len(one["top"]) == 5
        whole = one["base"] + sum(part["share"] for part in one["top"]) + one["others"]
        assert whole == pytest.approx(one["raw"], abs=1e-6)
