"""A day of a model in production as one page."""

from __future__ import annotations

__all__ = ["watched_page"]

from collections.abc import Sequence

from models.watching.figures import Comparison, Judged, VersionFigures
from models.watching.intervals import LEVEL, Estimate
from models.watching.watch import DayReport
from streamproc.report.figures import NOTHING, count, number, percent
from streamproc.report.html import Child, Html, joined, tag
from streamproc.report.page import document, notes
from streamproc.report.sections import boxes
from streamproc.report.tables import table

_TERMS = (
    ("decided", "payments that the version's score decided; scored: those, and what it scored as a shadow"),
    ("alerts", "payments with another action than the usual one, of those that the version decided"),
    ("flagged", "payments whose score lies above the version's threshold, of all that it scored"),
    ("precision, recall", "frauds by what was told; frauds that were told by all frauds"),
    ("false positives", "legitimate payments that were told, by all legitimate ones"),
    ("index", "population stability index against the version's training; chance: what so few rows would show anyway"),
)
_INTERVALS = (
    f"In brackets: {LEVEL:.0%} intervals. Of rates Wilson's; of their differences Newcombe's, of that of average "
    "precisions the percentile bootstrap, cards with frauds and legitimate payments drawn apart."
)


def watched_page(report: DayReport) -> str:
    """The whole file. The same report gives the same text."""
    of, title = report.figures, f"{report.model} of {report.pipeline} on {report.day}"
    state = "matured" if report.matured else "not matured yet"
    about = f"A day of event time, UTC. Labels known before {report.labels_until}: {state}."
    said = [
        ("payments", count(of.rows), f"{count(of.unscored)} without a score"),
        ("label known", percent(of.labelled_share), f"{count(of.labelled)} payments"),
        ("label overdue", count(of.overdue), "older than labels usually take"),
    ]
    parts: list[tuple[str, Html]] = [("Figures", boxes(said)), ("Versions", _versions(of.versions))]
    if of.comparisons:
        parts.append(("Compared", joined(_compared(one) for one in of.comparisons)))
    parts += [(f"Drift from the training of version {one.version}", _drift(one)) for one in of.versions if one.drift]
    sections = [tag("section", tag("h2", name), part) for name, part in parts]
    main = tag("main", tag("h1", title), tag("p", about, class_="soft"), notes(of.notes), *sections, _terms())
    return document(title, main)


def _versions(versions: Sequence[VersionFigures]) -> Html:
    heads = ("version", "told by", "payments", "frauds", "legitimate", "precision", "recall", "false positives",
             "average precision")  # fmt: skip
    rows: list[list[Child]] = []
    for one in versions:
        rows.append([f"{one.version}", "alerts", count(one.decided), *_judged(one.alerts), ""])
        told = NOTHING if one.threshold is None else f"score > {one.threshold:g}"
        judged = _judged(one.flagged) if one.flagged else [NOTHING] * 5
        rows.append([f"{one.version}", told, count(one.scored), *judged, number(one.average_precision)])
    return table(heads, rows, 2)


def _judged(of: Judged) -> list[Child]:
    rates = [_rate(rate) for rate in (of.precision, of.recall, of.false_positive_rate)]
    return [count(of.frauds), count(of.legitimate), *rates]


def _rate(of: Estimate | None) -> str:
    return NOTHING if of is None else f"{percent(of.value)} [{percent(of.low)}, {percent(of.high)}]"


def _compared(of: Comparison) -> Html:
    said = f"Version {of.version} less version {of.against}, on {of.days} days on which both have scored: "
    said += f"{of.frauds[0]:,} and {of.frauds[1]:,} frauds, {of.legitimate[0]:,} and {of.legitimate[1]:,} legitimate."
    figures = {
        "precision": of.precision, "recall": of.recall, "false-positive rate": of.false_positive_rate,
        "average precision": of.average_precision,
    }  # fmt: skip
    rows: list[list[Child]] = [[name, *_difference(one)] for name, one in figures.items()]
    return joined([tag("p", said), table(("at each one's threshold", "difference", "from", "to"), rows)])


def _difference(of: Estimate | None) -> list[Child]:
    return [NOTHING] * 3 if of is None else [f"{value:+.4f}" for value in (of.value, of.low, of.high)]


def _drift(of: VersionFigures) -> Html:
    rows: list[list[Child]] = [
        [
            tag("b", one.name) if one.shifted else one.name, number(one.index), number(one.noise),
            percent(one.missing_then), percent(one.missing), "drifted" if one.shifted else "",
        ]
        for one in of.drift
    ]  # fmt: skip
    return table(("feature", "index", "chance", "missing in training", "missing", ""), rows)


def _terms() -> Html:
    rows = [tag("p", tag("b", name), f": {said}.") for name, said in _TERMS]
    return tag("section", tag("h2", "Terms"), *rows, tag("p", _INTERVALS))
