"""The part of the page that is about two pipelines."""

from __future__ import annotations

__all__ = ["compared"]

from collections.abc import Callable, Sequence
from typing import Any

from streamproc.report.figures import NOTHING, amount, count
from streamproc.report.html import Child, Html, joined, tag
from streamproc.report.report import Changed, Comparison, Report
from streamproc.report.tables import HEADS, cells, table

_MOVE_HEADS = ("before", "after", "payments", "frauds", "legitimate", "value", "value of frauds")
_ROW_HEADS = ("payment", "before", "after", "rules before", "rules after", "time (UTC)", "amount", "fraud", "score")
_TEXTS = 5


def compared(report: Report, found: Comparison) -> Html:
    """What the other one would decide differently, both ways."""
    costs = report.settings
    both: list[list[Child]] = [
        [name, *cells(of.overall), amount(of.overall.saved(costs.alert_cost, costs.insult_cost))]
        for name, of in ((report.pipeline, report.evaluation), (found.other, found.evaluation))
    ]
    moves: list[list[Child]] = [
        [one.before, one.after, count(one.payments), *_if_known(count, one.frauds, one.legitimate), amount(one.value),
         *_if_known(amount, one.fraud_value)]
        for one in found.moves
    ]  # fmt: skip
    said = (
        f"{count(found.same)} payments are decided alike, {count(found.stricter_rows)} more strictly by the other, "
        f"{count(found.milder_rows)} more mildly."
    )
    alone = ""
    if found.only_before or found.only_after:
        alone = (
            f"{count(found.only_before)} were decided by the first only, {count(found.only_after)} by the other only."
        )
    return joined(
        [
            table(["pipeline", *HEADS, "cost saved"], both),
            tag("p", said),
            tag("p", alone) if alone else None,
            table(_MOVE_HEADS, moves, texts=2) if moves else None,
            *_rows("More strictly by the other", found.stricter, found.stricter_rows, found),
            *_rows("More mildly by the other", found.milder, found.milder_rows, found),
        ]
    )


def _if_known(shown: Callable[[Any], str], *values: float | None) -> list[str]:
    return [NOTHING if value is None else shown(value) for value in values]


def _rows(title: str, some: Sequence[Changed], size: int, found: Comparison) -> list[Html]:
    if not some:
        return []
    rows: list[list[Child]] = [
        [
            one.id, one.decision, one.new_decision, ", ".join(one.rules), ", ".join(one.new_rules),
            one.event_time.replace("T", " ").removesuffix("Z"), NOTHING if one.amount is None else amount(one.amount),
            NOTHING if one.fraud is None else "fraud" if one.fraud else "no",
            f"{_score(one.score)} → {_score(one.new_score)}",
        ]
        for one in some
    ]  # fmt: skip
    said = f"The {count(len(some))} of highest amount of {count(size)}; "
    said += f"{count(found.listed)} of both kinds are listed in {found.beside}."
    return [tag("h3", title), tag("p", said, class_="soft"), table(_ROW_HEADS, rows, texts=_TEXTS, long=(3, 4))]


def _score(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.1f}"
