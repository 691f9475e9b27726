"""docs/models/evaluation.md: its commands run, and what they make is what it says."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from streamproc.cli.comparing import LISTED_MAX, SHOWN_MAX
from tests.docs.test_tutorial import ROOT, blocks, shell
from tests.report.test_page import read

PAGE = ROOT / "docs" / "models" / "evaluation.md"


@pytest.mark.timeout(240)
def test_the_example_runs(tmp_path: Path) -> None:
    first, second, keys = blocks(PAGE.read_text())
    shell(first, tmp_path)
    bank = tmp_path / "bank"
    found = read((bank / "report.html").read_text())
    assert {"Curves", "Thresholds", "Calibration", "Rules", "Kinds of fraud", "By mcc", "By risk_tier"} <= set(
        found.headings
    )
    text = (bank / "pipeline.yaml").read_text()
    assert text.count("score > 70") == 1
    (bank / "other.yaml").write_text(text.replace("score > 70", "score > 30"))
    shell(second, tmp_path)
    changes = [json.loads(line) for line in (bank / "compared.changes.ndjson").read_text().splitlines()]
    assert list(changes[0]) == keys.text.split()
    assert {row["direction"] for row in changes} == {"stricter"}


def test_bounds_are_as_said() -> None:
    text = PAGE.read_text()
    assert f"at most {LISTED_MAX:,} of each way" in text
    assert f"page shows the first {SHOWN_MAX} of each" in text.replace("\n", " ")


def test_links_lead_somewhere() -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", PAGE.read_text())
    assert [target for target in targets if not (PAGE.parent / target).exists()] == []
