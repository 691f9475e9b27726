"""The report counts what happened, and hides no campaign that failed."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from tests.fire.report import VARIABLE, Entry, recorded, render


def test_the_page_adds_up() -> None:
    entries = [
        Entry("kills", 1, 1_000, 60.0, {"K1 poll": 2}, {}, {"duplicates": 0}),
        Entry("kills", 2, 2_000, 60.0, {"K1 poll": 1, "K5 end sent, no reply": 4}, {}, {"duplicates": 3}),
        Entry("network", 3, 500, 30.0, {}, {"refused": 6}, {}),
    ]
    page = render(entries).splitlines()
    assert "3 campaigns, 3,500 events, 7 kills, 6 other faults, **3 violations**." in page
    assert "| kills | 2 | 3,000 | 2.0 | 7 | 0 | 3 |" in page
    assert "| network | 1 | 500 | 0.5 | 0 | 6 | 0 |" in page
    assert {"| K1 poll | 3 |", "| K5 end sent, no reply | 4 |", "| refused | 6 |"} <= set(page)
    assert "- kills, seed 2: {'duplicates': 3}" in page


def break_off() -> None:
    with recorded("bad", 2) as running:
        running.faults["refused"] += 1
        raise ValueError("stuck")


def test_a_campaign_that_breaks_off_is_a_violation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "records"))
    with recorded("good", 1) as running:
        running.events = 7
    with pytest.raises(ValueError, match="stuck"):
        break_off()
    lines = (tmp_path / "records").read_bytes().splitlines()
    good, bad = (msgspec.json.decode(line, type=Entry) for line in lines)
    assert (good.events, good.violations) == (7, {})
    assert (bad.faults, bad.violations) == ({"refused": 1}, {"failed": 1})
    assert "- bad, seed 2: {'failed': 1}" in render([good, bad])


def test_nothing_is_kept_unless_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    with recorded("good", 1):
        pass
