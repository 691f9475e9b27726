"""`streamproc explain-decisions`: explanations of decisions, to a topic."""

from __future__ import annotations

__all__ = ["EXAMPLES", "command"]

from typing import Annotated

import typer

from streamproc.cli.environment import EnvironmentName
from streamproc.cli.loops import leaving_quietly, run_async
from streamproc.cli.options import LogUrl, MetricsHost, OwnPort, PipelinePath
from streamproc.cli.why import Registered

EXAMPLES = (
    "streamproc explain-decisions configs/pipeline.yaml --log file:.streamproc",
    "streamproc explain-decisions configs/pipeline.yaml --log kafka://localhost:9092 --registry models",
)


def command(
    pipeline: PipelinePath,
    log: LogUrl,
    *,
    environment: EnvironmentName = None,
    registry: Registered = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Explain all decisions, not only those that are not approved.")
    ] = False,
    port: OwnPort = None,
    metrics_host: MetricsHost = "127.0.0.1",
    until_end: Annotated[bool, typer.Option("--until-end", help="Stop at what is decided now, do not wait.")] = False,
) -> None:
    """Follow the decisions and write why those that are not approved have their score to PIPELINE.explanations."""
    with leaving_quietly():
        from streamproc.cli.explaining import explain_decisions, opened
        from streamproc.cli.log_directory import refuse_missing_log
        from streamproc.cli.logs import configure_logs

        configure_logs()
        given = opened(pipeline, registry)
        refuse_missing_log(log)
        run_async(explain_decisions(given, log, metrics_host, port, everything=everything, until_end=until_end))
