"""`streamproc models watch`: what the versions at work are given, and how right they are as labels arrive."""

from __future__ import annotations

__all__ = ["EXAMPLES", "command"]

from pathlib import Path
from typing import Annotated

import typer

from streamproc.cli.environment import EnvironmentName
from streamproc.cli.loops import leaving_quietly, run_async
from streamproc.cli.options import LogUrl, MetricsHost, OwnPort, PipelinePath, refuse_unless
from streamproc.cli.train_options import LabelDelay, LabelsFile, OthersLegitimate

EXAMPLES = (
    "streamproc models watch shop.yaml --log kafka://localhost:9092 --metrics-port 9200",
    "streamproc models watch shop.yaml --log file:log --labels known.csv --label fraud --report days --until-end",
)


def command(
    pipeline: PipelinePath,
    *,
    log: LogUrl,
    environment: EnvironmentName = None,
    labels: LabelsFile = None,
    labels_stream: Annotated[
        str | None, typer.Option(metavar="STREAM", help="Labels come by this stream of the pipeline.")
    ] = None,
    label: Annotated[
        str | None, typer.Option(metavar="NAME", help="Column, or field: 1 or true is a fraud, 0 or false is none.")
    ] = None,
    others_legitimate: OthersLegitimate = False,
    label_delay: LabelDelay = "7d",
    report: Annotated[
        Path | None, typer.Option(metavar="DIR", help="For PIPELINE-YYYY-MM-DD.json and .html, of each day.")
    ] = None,
    port: OwnPort = None,
    metrics_host: MetricsHost = "127.0.0.1",
    days: Annotated[int, typer.Option(metavar="N", min=2, help="Kept in memory: the newest, at most.")] = 35,
    payments: Annotated[int, typer.Option(metavar="N", min=1, help="Kept in memory, of these days.")] = 5_000_000,
    until_end: Annotated[bool, typer.Option("--until-end", help="Stop at what is decided now, do not wait.")] = False,
) -> None:
    """Follow the decisions: drift by version and feature, precision as labels arrive, challenger against champion.

    Tells it by metrics, and a report a day: once the day is over, and again when its labels should be known.
    """
    with leaving_quietly():
        from streamproc.cli.log_directory import refuse_missing_log
        from streamproc.cli.logs import configure_logs
        from streamproc.cli.watch_reports import Reports
        from streamproc.cli.watching import Wanted, opened, watch

        configure_logs()
        refuse_unless(
            report is not None or port is not None,
            "nobody would see it",
            "give --report, --metrics-port or both",
        )
        refuse_unless(labels is None or labels_stream is None, "--labels and --labels-stream: give one of them")
        wanted = Wanted(labels, labels_stream, label, others_legitimate, label_delay, days, payments)
        given = opened(pipeline, wanted)
        refuse_missing_log(log)
        reports = None if report is None else Reports(report)
        run_async(watch(given, log, reports, metrics_host, port, until_end=until_end))
