"""What `streamproc backtest --report` may be told."""

from __future__ import annotations

__all__ = [
    "AlertCost",
    "Amount",
    "CardField",
    "CardsADay",
    "Compare",
    "Decline",
    "FraudKind",
    "InsultCost",
    "Label",
    "LabelDelay",
    "Labels",
    "ReportFile",
    "ReportOptions",
    "Segments",
    "report_options",
]

from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from streamproc.cli.options import refuse_unless

ReportFile = Annotated[
    Path | None, typer.Option("--report", metavar="FILE.html", help="How good the decisions are, as one page.")
]
Label = Annotated[
    str | None,
    typer.Option(metavar="COLUMN", help="Of a report: 1 or true: fraud; 0 or false: none. In the input, or --labels."),
]
Labels = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Of a report: labels by id; without --label a list of frauds, all others none."),
]
LabelDelay = Annotated[
    str | None,
    typer.Option(metavar="DURATION", help="Of a list of frauds with label_at: until a fraud is in it. [default: 7d]"),
]
FraudKind = Annotated[str | None, typer.Option(metavar="COLUMN", help="Of a report: kinds of fraud, beside the label.")]
Segments = Annotated[
    list[str] | None, typer.Option("--segment", metavar="NAME", help="Of a report: by this field or feature, too.")
]
Amount = Annotated[str | None, typer.Option(metavar="FIELD", help="Of a report: the value. [default: amount]")]
CardField = Annotated[
    str | None,
    typer.Option("--card", metavar="FIELD", help="Of a report: what is a card. [default: card_id, or the key]"),
]
CardsADay = Annotated[int, typer.Option("--cards-a-day", metavar="K", min=1, help="Of a report: analysts' capacity.")]
AlertCost = Annotated[float, typer.Option(metavar="X", min=0.0, help="Of a report: what an alert costs.")]
InsultCost = Annotated[float, typer.Option(metavar="X", min=0.0, help="Of a report: a legitimate payment declined.")]
Decline = Annotated[
    list[str] | None,
    typer.Option(metavar="ACTION", help="Of a report: refuses a payment. [default: decline, block ...]"),
]
Compare = Annotated[
    str | None, typer.Option(metavar="OTHER.yaml", help="Of a report: what this pipeline would decide differently.")
]
_DEFAULTS = {"cards_a_day": 100, "alert_cost": 0.0, "insult_cost": 0.0}


class ReportOptions(msgspec.Struct, frozen=True, kw_only=True):
    """As given; None or empty: not given."""

    label: str | None
    labels: Path | None
    label_delay: str | None
    fraud_kind: str | None
    segments: tuple[str, ...]
    amount: str | None
    card: str | None
    cards_a_day: int
    alert_cost: float
    insult_cost: float
    decline: tuple[str, ...]
    compare: str | None = None
    path: Path


def report_options(path: Path | None, **given: Any) -> ReportOptions | None:
    """None: no report is wanted.

    Raises:
        ConfigError: there is no place for it, or something is said of a report that is not wanted.
    """
    if path is None:
        more = [name for name, value in given.items() if value and value != _DEFAULTS.get(name)]
        named = ", ".join("--segment" if name == "segments" else f"--{name.replace('_', '-')}" for name in more)
        refuse_unless(not more, f"{named} without a report", "name it: --report FILE.html")
        return None
    refuse_unless(path.suffix == ".html", f"{path} is no page", "name it FILE.html")
    refuse_unless(path.absolute().parent.is_dir(), f"the folder of {path} is missing", "make it first")
    refuse_unless(not path.is_dir(), f"{path} is a directory", "name a file")
    kind, labelled = given["fraud_kind"], given["label"] or given["labels"]
    refuse_unless(not kind or bool(labelled), "--fraud-kind without labels", "say what is a fraud: --label or --labels")
    refuse_unless(
        given["label_delay"] is None or (given["labels"] is not None and given["label"] is None),
        "--label-delay is of a list of frauds",
        "give --labels without --label, or leave it out",
    )
    lists: dict[str, Any] = {name: tuple(given.pop(name) or ()) for name in ("segments", "decline")}
    return ReportOptions(path=path, **lists, **given)
