"""The page's text: self-contained, escaped, the same each time, and whole where there is little to say."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from models.evaluation.measures import Measures
from streamproc.report.figures import amount, percent, ratio
from streamproc.report.page import page
from streamproc.report.tables import HEADS, cells
from tests.report.sample import ODD, payments, report

VOID = {"meta", "input", "br", "circle", "line", "polyline", "rect", "path"}


class Reader(HTMLParser):
    """Checks that elements are closed as they were opened; keeps headings and words."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.headings: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in VOID

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.words.append(data)
            if self.open[-1] in ("h1", "h2", "h3"):
                self.headings.append(data)


def read(text: str) -> Reader:
    reader = Reader()
    reader.feed(text)
    reader.close()
    assert reader.open == []
    return reader


def test_all_parts_are_there() -> None:
    assert read(page(report())).headings == [
        "Backtest of shop", "Figures", "Compared with other.yaml", "More strictly by the other",
        "More mildly by the other", "Curves", "Thresholds", "Calibration", "Time", "Rules", "Kinds of fraud",
        "By country", "Terms",
    ]  # fmt: skip


def test_it_asks_for_nothing_from_outside() -> None:
    text = page(report())
    assert re.findall(r"https?:|//\w|\bsrc=|href=|url\(|@import|fetch\(|XMLHttp|import\(", text) == []
    assert "default-src &#x27;none&#x27;" in text


def test_what_pipelines_and_files_say_is_no_html() -> None:
    text = page(report())
    assert ODD not in text
    assert ODD in read(text).words


def test_the_same_report_gives_the_same_bytes() -> None:
    assert page(report()) == page(report())


def test_without_frauds_it_says_so_and_is_whole() -> None:
    some = [one._replace(label=None, score=None) for one in payments(2)]
    read_page = read(page(report(some=some, compared=False)))
    assert read_page.headings == ["Backtest of shop", "Figures", "Time", "Rules", "By country", "Terms"]
    assert any("No label is known" in words for words in read_page.words)
    assert any("gives no score" in words for words in read_page.words)


def test_a_single_payment_is_enough() -> None:
    (one, *_) = payments(3)
    assert "Figures" in read(page(report(some=[one], compared=False))).headings


@pytest.mark.parametrize(
    ("head", "wanted"),
    [
        ("payments", "1,000"), ("frauds", "20"), ("fraud bps", "400.0 bps"), ("alerts", "5.0 %"), ("declines", "2.0 %"),
        ("precision", "25.0 %"), ("frauds found", "50.0 %"), ("value found", "75.0 %"), ("false : true", "3.0 : 1"),
        ("insults", "0.92 %"),
    ],
)  # fmt: skip
def test_a_cell_stands_below_its_head(head: str, wanted: str) -> None:
    of = Measures(
        payments=1000, labelled=1000, frauds=20, alerts=50, declines=20, challenges=0, labelled_alerts=40,
        frauds_alerted=10, frauds_declined=8, insults=9, value=10_000.0, fraud_value=400.0, fraud_value_alerted=300.0,
        fraud_value_declined=200.0,
    )  # fmt: skip
    assert cells(of)[HEADS.index(head)] == wanted


def test_nothing_known_is_a_dash_and_not_zero() -> None:
    assert (percent(None), ratio(None)) == ("–", "–")
    assert (percent(0.0), percent(0.00005), percent(-0.5), amount(0.5)) == ("0.0 %", "0.0050 %", "-50.0 %", "0.50")
