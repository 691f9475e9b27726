"""The page in a real browser: light, dark, print, narrow, with and without its script."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from streamproc.report.page import page
from tests.report.browser import DARK, LIGHT, measured, run, screenshot
from tests.report.sample import report

pytestmark = [pytest.mark.timeout(180), pytest.mark.slow]
FAULTS = """
const box = (one) => one.getBoundingClientRect();
const meet = (a, b) => a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 1 && b.top < a.bottom - 1;
const found = { errors, wide: document.documentElement.scrollWidth - innerWidth, cut: [], over: [], clipped: [],
                asked: performance.getEntriesByType("resource").map((one) => one.name) };
for (const svg of document.querySelectorAll("figure > svg")) {
  const all = [...svg.querySelectorAll("text")], around = box(svg);
  for (const [place, one] of all.entries()) {
    const at = box(one);
    const beside = at.left < around.left - 1 || at.right > around.right + 1;
    if (beside || at.bottom > around.bottom + 1 || at.top < around.top - 1)
      found.cut.push(one.textContent);
    for (const other of all.slice(place + 1))
      if (meet(at, box(other))) found.over.push([one.textContent, other.textContent]);
  }
}
for (const one of document.querySelectorAll("main *"))
  if (!one.closest("svg, .scroll") && one.scrollWidth > one.clientWidth + 1 && one.clientWidth)
    found.clipped.push(one.tagName);
return found;
"""


@pytest.fixture
def shown(tmp_path: Path) -> Path:
    path = tmp_path / "report.html"
    path.write_text(page(report()))
    return path


@pytest.mark.parametrize("width", [1280, 500])
def test_nothing_is_cut_off_or_drawn_over_and_nothing_is_fetched(shown: Path, width: int) -> None:
    found = measured(shown, FAULTS, size=(width, 900))
    assert found == {"errors": [], "wide": 0, "cut": [], "over": [], "clipped": [], "asked": []}


def luminance(path: Path, scheme: int) -> float:
    image = screenshot(path, scheme=scheme, size=(700, 500))
    assert len(np.unique(image.reshape(-1, 3), axis=0)) > 30, "an empty page"
    return float(np.median(image.astype(np.float64) @ [0.299, 0.587, 0.114]))


def test_it_is_light_dark_and_always_light_on_paper(shown: Path) -> None:
    assert luminance(shown, LIGHT) > 240
    assert luminance(shown, DARK) < 50
    as_printed = shown.with_name("printed.html")
    as_printed.write_text(shown.read_text().replace("@media print", "@media all"))
    assert luminance(as_printed, DARK) > 240


@pytest.mark.parametrize("scheme", [LIGHT, DARK])
def test_words_stand_out_from_what_is_behind_them(shown: Path, scheme: int) -> None:
    """By WCAG: a contrast of 4.5."""
    found = measured(shown, """
        const light = (text) => {
          const [r, g, b] = text.match(/[\\d.]+/g).map((one) => one / 255)
            .map((one) => one <= 0.03928 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4);
          return 0.2126 * r + 0.7152 * g + 0.0722 * b;
        };
        const behind = (one) => {
          for (; one; one = one.parentElement) {
            const colour = getComputedStyle(one).backgroundColor;
            if (!/, 0\\)$/.test(colour)) return colour;
          }
          return "rgb(255, 255, 255)";
        };
        const all = [...document.querySelectorAll("main *:not(title, script)")]
          .filter((one) => one.textContent.trim() && !one.children.length);
        return all.map((one) => {
          const style = getComputedStyle(one);
          const [a, b] = [light(one.closest("svg") ? style.fill : style.color), light(behind(one))];
          return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        }).reduce((a, b) => Math.min(a, b));
    """, scheme=scheme)  # fmt: skip
    assert found >= 4.5


def test_no_table_is_wider_than_paper(shown: Path) -> None:
    """A4 less its margins, 182 mm."""
    shown.write_text(shown.read_text().replace("@media print", "@media all"))
    found = measured(shown, """
        return [...document.querySelectorAll(".scroll, figure")].filter((one) => one.scrollWidth > one.clientWidth + 1)
          .map((one) => one.textContent.slice(0, 40));
    """, size=(688, 900))  # fmt: skip
    assert found == []


def test_it_prints(shown: Path) -> None:
    pdf = shown.with_suffix(".pdf")
    run(shown, f"--print-to-pdf={pdf}", "--no-pdf-header-footer")
    text = pdf.read_bytes()
    assert text.startswith(b"%PDF")
    assert 2 <= text.count(b"/Type /Page\n") <= 12


def test_the_threshold_explorer_says_what_the_points_say(shown: Path) -> None:
    found = report().evaluation
    place = len(found.points) // 2
    point, quality = found.points[place], found.quality
    assert quality is not None
    said = measured(shown, f"""
        const box = document.getElementById("explorer"), slider = box.querySelector("input");
        slider.value = {place};
        slider.dispatchEvent(new Event("input"));
        const marks = [...document.querySelectorAll(".marker")].map((one) => one.getAttribute("visibility"));
        const said = {{ hidden: box.hidden, errors, marks }};
        for (const one of box.querySelectorAll("output")) said[one.dataset.say] = one.textContent;
        return said;
    """)  # fmt: skip
    false, legitimate = point.flagged - point.frauds, quality.payments - quality.frauds
    assert said == {
        "hidden": False, "errors": [], "marks": ["visible", "visible"],
        "score": f"{point.score:.2f}",
        "flagged": f"{point.flagged:,} ({100 * point.flagged / quality.payments:.2f} %)",
        "cards": f"{point.cards_a_day:.1f}",
        "precision": f"{100 * point.frauds / point.flagged:.2f} %",
        "recall": f"{100 * point.frauds / quality.frauds:.2f} %",
        "value": f"{100 * point.fraud_value / found.points[-1].fraud_value:.2f} %",
        "rate": f"{100 * false / legitimate:.2f} %",
        "ratio": f"{false / point.frauds:.1f} : 1",
    }  # fmt: skip


def test_without_its_script_it_can_be_read(shown: Path) -> None:
    text = shown.read_text()
    at = text.rindex("<script>")
    shown.write_text(text[:at] + text[text.index("</script>", at) + len("</script>") :])
    found = measured(shown, """
        const rows = [...document.querySelectorAll("section")].find((one) => one.textContent.startsWith("Thresholds"));
        const table = rows.querySelectorAll("tbody tr").length > 5 && rows.querySelector("table").offsetHeight > 100;
        return { errors, explorer: document.getElementById("explorer").offsetHeight, table };
    """)  # fmt: skip
    assert found == {"errors": [], "explorer": 0, "table": True}
