"""A report as one page: styles and script are in it, and nothing is fetched."""

from __future__ import annotations

__all__ = ["document", "notes", "page"]

from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.resources import files

from streamproc.report.compared import compared
from streamproc.report.html import Html, joined, tag
from streamproc.report.report import Report
from streamproc.report.sections import calibrated, curves, explorer, key_figures, over_time
from streamproc.report.tables import named_table, rule_table

_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
)
_TERMS = (
    ("alert", "a payment with any action but the mildest"),
    ("decline, insult", "a payment with an action that refuses it; an insult is a legitimate one"),
    ("detection rate, frauds found", "frauds with an alert, by all frauds"),
    ("value detection rate", "the same, by amount; in real time: of those declined"),
    ("false : true", "legitimate payments alerted for each fraud alerted"),
    ("false-positive rate", "alerted, or flagged, by all legitimate payments"),
    ("P@k", "frauds among the k payments of highest score of a day, by k"),
    ("card P@k", "cards with a fraud among the k of highest score of a day, by k; a card that was found is left out"),
    ("fraud bps", "the value of frauds by that of all payments with a label, times 10,000"),
    ("cost saved", "the value of alerted frauds, as if all came to nothing, less the costs of alerts and insults"),
    ("calibration error", "distance of score / 100 from the share of frauds, mean over payments in ten bins"),
    ("alone (of a rule)", "frauds that no other live rule hit"),
)  # fmt: skip


def page(report: Report) -> str:
    """The whole file. The same report gives the same text."""
    title = f"{report.what} of {report.pipeline}"
    first = notes((*report.learned, *report.evaluation.missing))
    main = tag("main", tag("h1", title), _about(report), first, *_sections(report), _terms(report))
    return document(title, main, script=report.evaluation.quality is not None)


def document(title: str, main: Html, *, script: bool = False) -> str:
    """A page of its own: `main` with the styles and, if wanted, the `script`."""
    here = files("streamproc.report")
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", title),
        tag("style", Html((here / "page.css").read_text())),
    )
    run = tag("script", Html((here / "page.js").read_text())) if script else None
    return f"<!doctype html>\n{tag('html', head, tag('body', main, run), lang='en')}\n"


def notes(lines: Sequence[str]) -> Html | None:
    """What a reader should know first; None: nothing."""
    return tag("ul", *(tag("li", line) for line in lines), class_="notes") if lines else None


def _about(report: Report) -> Html:
    first, last = (
        datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M") for ms in (report.first, report.last)
    )
    left = [(report.undecided, "could not be decided"), (report.duplicates, "came again")]
    without = "; ".join(f"{count:,} rows {why}" for count, why in left if count)
    lines = (
        f"{', '.join(report.inputs)}: {first} to {last} UTC. Labels: {report.labels}.",
        f"Plan {report.fingerprint[:16]}.{f' Not counted: {without}.' if without else ''}",
    )
    return joined(tag("p", line, class_="soft") for line in lines)


def _sections(report: Report) -> list[Html]:
    found, settings = report.evaluation, report.settings
    other = report.comparison and report.comparison.evaluation
    parts: list[tuple[str, Html]] = [("Figures", key_figures(found, settings))]
    if report.comparison:
        parts.append((f"Compared with {report.comparison.other}", compared(report, report.comparison)))
    if found.quality:
        parts += [
            ("Curves", curves(found, other or None)),
            ("Thresholds", explorer(found, found.quality)),
            ("Calibration", calibrated(found)),
        ]
    parts.append(("Time", over_time(found, settings)))
    if found.rules:
        parts.append(("Rules", rule_table(found.rules)))
    if found.kinds:
        parts.append(("Kinds of fraud", named_table("kind", found.kinds)))
    parts += [(f"By {name}", named_table(name, some)) for name, some in found.segments]
    return [tag("section", tag("h2", name), part) for name, part in parts]


def _terms(report: Report) -> Html:
    costs = report.settings
    rows = [tag("p", tag("b", name), f": {said}.") for name, said in _TERMS]
    given = f"An alert costs {costs.alert_cost:g}, an insult {costs.insult_cost:g}; k is {costs.capacity:,}. "
    given += f"Actions that refuse a payment: {', '.join(costs.blocking)}."
    return tag("section", tag("h2", "Terms"), *rows, tag("p", given))
