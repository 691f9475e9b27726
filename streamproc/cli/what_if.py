"""`streamproc what-if`: what would another pipeline have decided on the payments of the last days?"""

from __future__ import annotations

__all__ = ["EXAMPLES", "command"]

import sys
from pathlib import Path
from typing import Annotated

import typer

import streamproc.cli.report_options as given
from streamproc.cli.environment import EnvironmentName
from streamproc.cli.loops import run_until_terminated
from streamproc.cli.options import AsJson, Checkpoints, LogUrl, PipelinePath, load_stages
from streamproc.cli.stdout import writing_stdout

EXAMPLES = (
    "streamproc what-if new.yaml --since 7d --log kafka://localhost:9092 --checkpoints s3://bucket/prefix",
    "streamproc what-if new.yaml --since 2026-05-01T00:00:00Z --log file:.streamproc --report new.html "
    "--labels chargebacks.csv",
)


def command(
    pipeline: PipelinePath,
    log: LogUrl,
    *,
    since: Annotated[
        str,
        typer.Option(metavar="TIME", help="Payments that came to the log since: 24h, 7d, or an RFC 3339 time."),
    ],
    checkpoints: Checkpoints = None,
    environment: EnvironmentName = None,
    as_json: AsJson = False,
    report: given.ReportFile = None,
    label: given.Label = None,
    labels: given.Labels = None,
    label_delay: given.LabelDelay = None,
    fraud_kind: given.FraudKind = None,
    segments: given.Segments = None,
    amount: given.Amount = None,
    card: given.CardField = None,
    cards_a_day: given.CardsADay = 100,
    alert_cost: given.AlertCost = 0.0,
    insult_cost: given.InsultCost = 0.0,
    decline: given.Decline = None,
) -> None:
    """Decide again what a running pipeline has decided, by a changed file of it, and say what would be otherwise.

    From a checkpoint before that time, and the log. Nothing is written to the log; the workers are not disturbed.
    """
    options = given.report_options(
        report, label=label, labels=labels, label_delay=label_delay, fraud_kind=fraud_kind,
        segments=segments, amount=amount, card=card, cards_a_day=cards_a_day, alert_cost=alert_cost,
        insult_cost=insult_cost, decline=decline,
    )  # fmt: skip
    plans = load_stages(pipeline)
    from tempfile import TemporaryDirectory

    from streamproc.cli.log_directory import refuse_missing_log
    from streamproc.cli.logs import configure_logs
    from streamproc.cli.what_if_answer import Answering
    from streamproc.cli.what_if_options import Asked, since_ms
    from streamproc.cli.what_if_run import what_if

    configure_logs()
    asked = Asked(pipeline, log, since_ms(since), checkpoints)
    refuse_missing_log(log)
    answering = Answering(plans[-1], asked, options)
    with TemporaryDirectory(prefix="streamproc-what-if-") as directory:
        run_until_terminated(what_if(plans, asked, answering, Path(directory)))
    found = answering.answer()
    with writing_stdout():
        sys.stdout.write(found.line() if as_json else found.text())
