"""The parts of the page that are about one pipeline."""

from __future__ import annotations

__all__ = ["boxes", "calibrated", "curves", "explorer", "key_figures", "over_time"]

from collections.abc import Sequence

import msgspec

from models.evaluation.evaluation import Evaluation, Quality, Settings
from models.evaluation.scores import Point
from streamproc.report.charts import Line, chart
from streamproc.report.figures import amount, basis_points, count, day, number, percent, ratio
from streamproc.report.html import Child, Html, joined, tag
from streamproc.report.tables import period_table, table

_SHOWN = 12
_WHAT = (
    ("threshold", "score"), ("flagged", "flagged"), ("cards a day", "cards"), ("precision", "precision"),
    ("frauds found", "recall"), ("value found", "value"), ("false positives", "rate"), ("false : true", "ratio"),
)  # fmt: skip


def boxes(rows: Sequence[tuple[str, str, str | None]]) -> Html:
    """A box each: its name, the figure, and what it is of."""
    each = [
        tag("div", tag("dt", name), tag("dd", said, tag("small", more) if more else None)) for name, said, more in rows
    ]
    return tag("dl", *each, class_="figures")


def key_figures(found: Evaluation, settings: Settings) -> Html:
    """Rates, what is found, what it costs."""
    of, quality = found.overall, found.quality
    cards, alerted = found.accounts
    saved = of.saved(settings.alert_cost, settings.insult_cost)
    share = saved / of.fraud_value if of.fraud_value else None
    rows: list[tuple[str, str, str | None]] = [
        ("payments", count(of.payments), f"{count(of.labelled)} with a label, {count(of.frauds)} frauds"),
        ("alert rate", percent(of.alert_rate), f"{count(of.alerts)} payments"),
        ("decline rate", percent(of.decline_rate), f"{count(of.declines)} payments"),
        ("challenge rate", percent(of.challenge_rate), f"{count(of.challenges)} payments"),
        ("approval rate", percent(of.approval_rate), None),
    ]
    if of.labelled:
        rows += [
            ("detection rate", percent(of.detection_rate), "frauds with an alert"),
            ("value detection rate", percent(of.value_detection_rate), f"of {amount(of.fraud_value)}"),
            ("real-time value detection", percent(of.real_time_value_detection_rate), "declined at once"),
            ("account detection rate", percent(found.account_detection_rate), f"{alerted:,} of {cards:,} cards"),
            ("precision", percent(of.precision), "frauds by alerts"),
            ("false-positive ratio", ratio(of.false_positive_ratio), f"{count(of.false_alerts)} false alerts"),
            ("insult rate", percent(of.insult_rate), f"{count(of.insults)} legitimate declined"),
            ("fraud", basis_points(of.fraud_bps), f"of {amount(of.value)}"),
            ("cost saved", amount(saved), f"{percent(share)} of the value of frauds"),
        ]
    return joined([boxes(rows), boxes(_qualities(quality, settings, found.budget)) if quality else None])


def _qualities(of: Quality, settings: Settings, budget: float) -> list[tuple[str, str, str | None]]:
    k = settings.capacity
    return [
        ("average precision", number(of.average_precision), "area under precision and recall"),
        ("AUC", number(of.auc), "area under the ROC curve"),
        (f"P@{k}", percent(of.precision_at_k), "payments, mean of the days"),
        (f"card P@{k}", percent(of.card_precision_at_k), "cards, mean of the days"),
        ("recall at the budget", percent(of.recall_at_budget), f"{percent(budget)} false positives"),
        ("calibration error", number(of.calibration_error), f"Brier score {of.brier:.4f}"),
    ]


def curves(found: Evaluation, other: Evaluation | None = None) -> Html:
    """Precision and recall, ROC; where the decisions themselves stand."""
    lines: tuple[list[Line], list[Line]] = ([], [])
    for name, css, one in (("score", "one", found), ("score of the other", "two", other)):
        if one is None or one.quality is None:
            continue
        frauds, legitimate = one.quality.frauds, one.quality.payments - one.quality.frauds
        lines[0].append(Line(name, [(p.frauds / frauds, p.frauds / p.flagged) for p in one.points], css))
        roc = [((p.flagged - p.frauds) / legitimate, p.frauds / frauds) for p in one.points]
        lines[1].append(Line(name, [(0.0, 0.0), *roc], css))
    of = found.overall
    if of.precision is not None and of.detection_rate is not None and of.false_positive_rate is not None:
        lines[0].append(Line("the decisions", [(of.detection_rate, of.precision)], "three", dots=True, joined=False))
        at = (of.false_positive_rate, of.detection_rate)
        lines[1].append(Line("the decisions", [at], "three", dots=True, joined=False))
    return tag(
        "div",
        chart("Precision and recall", ("recall", "precision"), lines[0], (1.0, 1.0), marker="pr-mark"),
        chart("ROC", ("false-positive rate", "recall"), lines[1], (1.0, 1.0), marker="roc-mark"),
        class_="charts",
    )


def _cells(of: Point, quality: Quality, value: float) -> list[Child]:
    false, legitimate = of.flagged - of.frauds, quality.payments - quality.frauds
    return [
        f"{of.score:.2f}", count(of.flagged), f"{of.cards_a_day:,.1f}", percent(of.frauds / of.flagged),
        percent(of.frauds / quality.frauds), percent(of.fraud_value / value if value else None),
        percent(false / legitimate), ratio(false / of.frauds if of.frauds else None),
    ]  # fmt: skip


def explorer(found: Evaluation, quality: Quality) -> Html:
    """What a threshold would flag: a table, and a slider for who runs scripts."""
    value = found.points[-1].fraud_value
    step = max(1, len(found.points) // _SHOWN)
    rows = [_cells(point, quality, value) for point in found.points[::step]]
    outputs = [tag("div", tag("dt", name), tag("dd", tag("output", data_say=key))) for name, key in _WHAT]
    slider = tag("input", type="range", min=0, max=0, step=1, aria_label="threshold")
    box = tag("div", tag("label", "Move the threshold", slider), tag("dl", *outputs, class_="figures"),
              class_="explorer", id="explorer", hidden=True)  # fmt: skip
    inside = [p for p in found.points if p.flagged - p.frauds <= found.budget * (quality.payments - quality.frauds)]
    data = {
        "payments": quality.payments, "frauds": quality.frauds, "value": value, "start": max(len(inside) - 1, 0),
        "points": [(p.score, p.flagged, p.frauds, p.fraud_value, p.cards_a_day) for p in found.points],
    }  # fmt: skip
    held = Html(f'<script type="application/json" id="points">{msgspec.json.encode(data).decode()}</script>')
    return joined([box, table([name for name, _ in _WHAT], rows), held])


def calibrated(found: Evaluation) -> Html:
    """Scores against the shares of frauds that came of them."""
    lines = [
        Line("as scored", [(0.0, 0.0), (1.0, 1.0)], "two"),
        Line("as it came", [(one.predicted, one.observed) for one in found.bins], "one", dots=True),
    ]
    rows: list[list[Child]] = [
        [
            f"{one.low:g} and above",
            count(one.payments),
            count(one.frauds),
            percent(one.predicted),
            percent(one.observed),
        ]
        for one in found.bins
    ]
    drawn = chart("Calibration", ("score / 100", "share of frauds"), lines, (1.0, 1.0))
    heads = ("score", "payments", "frauds", "mean score / 100", "share of frauds")
    return tag("div", drawn, table(heads, rows), class_="charts")


def _line(name: str, css: str, values: Sequence[float | None]) -> Line:
    """What is not known has no point."""
    return Line(name, [(float(at), value) for at, value in enumerate(values) if value is not None], css)


def over_time(found: Evaluation, settings: Settings) -> Html:
    """By day, or by several."""
    periods, names, k = found.periods, [day(one.start)[5:] for one in found.periods], settings.capacity
    rates = [
        _line("alert rate", "one", [one.measures.alert_rate for one in periods]),
        _line("decline rate", "two", [one.measures.decline_rate for one in periods]),
        _line("insult rate", "three", [one.measures.insult_rate for one in periods]),
    ]
    shares = [
        _line("frauds found", "one", [one.measures.detection_rate for one in periods]),
        _line(f"P@{k}", "two", [one.precision for one in periods]),
        _line(f"card P@{k}", "three", [one.card_precision for one in periods]),
    ]
    top = max((y for line in rates for _, y in line.points), default=0.0) or 1.0
    drawn = [chart("Rates", ("", "share of payments"), rates, (1.0, top), x_names=names)]
    if any(line.points for line in shares):
        drawn.append(
            chart("What is found", ("", "share"), [line for line in shares if line.points], (1.0, 1.0), x_names=names)
        )
    return joined([tag("div", *drawn, class_="charts"), period_table(periods, found.period_days, k)])
