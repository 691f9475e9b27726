"""Tables of figures: of all payments, by rule, kind of fraud, segment and time."""

from __future__ import annotations

__all__ = ["HEADS", "cells", "named_table", "period_table", "rule_table", "table"]

from collections.abc import Collection, Sequence

from models.evaluation.evaluation import Named, Period
from models.evaluation.measures import Measures
from models.evaluation.rules import RuleFigures
from streamproc.report.figures import basis_points, count, day, percent, ratio
from streamproc.report.html import Child, Html, tag

HEADS = (
    "payments",
    "frauds",
    "fraud bps",
    "alerts",
    "declines",
    "precision",
    "frauds found",
    "value found",
    "false : true",
    "insults",
)


def table(heads: Sequence[Child], rows: Sequence[Sequence[Child]], texts: int = 1, long: Collection[int] = ()) -> Html:
    """The first `texts` columns are words, those of `long` many of them; the others are numbers."""

    def row(kind: str, some: Sequence[Child]) -> Html:
        css = ["text words" if at in long else "text" if at < texts else None for at in range(len(some))]
        return tag("tr", *(tag(kind, cell, class_=name) for cell, name in zip(some, css, strict=True)))

    body = tag("tbody", *(row("td", some) for some in rows))
    return tag("div", tag("table", tag("thead", row("th", heads)), body), class_="scroll")


def cells(of: Measures) -> list[Child]:
    """Below `HEADS`."""
    return [
        count(of.payments),
        count(of.frauds) if of.labelled else "–",
        basis_points(of.fraud_bps),
        percent(of.alert_rate),
        percent(of.decline_rate),
        percent(of.precision),
        percent(of.detection_rate),
        percent(of.value_detection_rate),
        ratio(of.false_positive_ratio),
        percent(of.insult_rate),
    ]


def named_table(head: str, some: Sequence[Named]) -> Html:
    """One line a value."""
    rows: list[list[Child]] = [
        [tag("em", "all others") if one.name is None else one.name, *cells(one.measures)] for one in some
    ]
    return table([head, *HEADS], rows)


def rule_table(rules: Sequence[RuleFigures]) -> Html:
    """What each rule hits, as if that were what is alerted."""
    heads = ("rule", "hits", "of all", "frauds", "precision", "false : true", "frauds found", "value found", "alone")
    rows: list[list[Child]] = []
    for rule in rules:
        hits = rule.hits
        name = tag("span", rule.name, tag("span", " (shadow)", class_="soft")) if rule.shadow else rule.name
        rows.append(
            [
                name, count(hits.alerts), percent(hits.alert_rate), count(hits.frauds_alerted), percent(hits.precision),
                ratio(hits.false_positive_ratio), percent(hits.detection_rate), percent(hits.value_detection_rate),
                count(rule.alone),
            ]
        )  # fmt: skip
    return table(heads, rows)


def period_table(periods: Sequence[Period], length: int, capacity: int) -> Html:
    """One line a period."""
    head = "day (UTC)" if length == 1 else f"{length} days from"
    rows: list[list[Child]] = [
        [day(one.start), *cells(one.measures), percent(one.precision), percent(one.card_precision)] for one in periods
    ]
    return table([head, *HEADS, f"P@{capacity}", f"card P@{capacity}"], rows)
