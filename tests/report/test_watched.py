"""The page of a day of a model in production."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from models.watching.watch import DayReport
from streamproc.report.watched import watched_page
from tests.models.test_watching import payments, watched
from tests.report.browser import DARK, LIGHT, measured
from tests.report.sample import ODD
from tests.report.test_browser import FAULTS, luminance
from tests.report.test_page import read


def report() -> DayReport:
    return watched(payments(3000, 5)).report(1)


def test_all_parts_are_there_and_what_is_not_known_is_a_dash() -> None:
    found = read(watched_page(report()))
    assert found.headings == [
        "fraud of shop on 1970-01-02", "Figures", "Versions", "Compared", "Drift from the training of version 1",
        "Drift from the training of version 2", "Terms",
    ]  # fmt: skip
    figures = report().figures
    assert f"{figures.rows:,}" in found.words
    assert "version 3: gone" in found.words
    assert "score > 70" in found.words
    assert "–" in found.words  # version 3 has no threshold
    (alerts,) = [one.alerts for one in figures.versions if one.version == 1]
    assert alerts.precision is not None
    assert any(word.startswith(f"{100 * alerts.precision.value:.1f} % [") for word in found.words)


def test_names_are_escaped() -> None:
    assert ODD not in watched_page(msgspec.structs.replace(report(), model=ODD))


def test_a_day_without_labels_is_told() -> None:
    some = [{**one, "known": None, "shadow": None} for one in payments(300, 2)]
    found = read(watched_page(watched(some).report(0)))
    assert found.headings[1:4] == ["Figures", "Versions", "Compared"]


@pytest.mark.timeout(180)
@pytest.mark.slow
def test_nothing_is_cut_off_and_nothing_is_fetched(tmp_path: Path) -> None:
    path = tmp_path / "day.html"
    path.write_text(watched_page(report()))
    for width in (1280, 500):
        found = measured(path, FAULTS, size=(width, 900))
        assert found == {"errors": [], "wide": 0, "cut": [], "over": [], "clipped": [], "asked": []}
    assert luminance(path, LIGHT) > 240
    assert luminance(path, DARK) < 50
