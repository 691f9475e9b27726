"""`streamproc tail`: what a topic holds, as NDJSON on stdout."""

from __future__ import annotations

__all__ = ["EXAMPLES", "command"]

from typing import Annotated

import typer

from streamproc.cli.environment import EnvironmentName
from streamproc.cli.loops import leaving_quietly, run_async
from streamproc.cli.options import LogUrl, PipelineOption

EXAMPLES = (
    "streamproc tail decisions --pipeline configs/pipeline.yaml --log file:.streamproc --from-start",
    "streamproc tail alerts --pipeline configs/pipeline.yaml --log file:.streamproc",
)


def command(
    topic: Annotated[
        str,
        typer.Argument(
            metavar="TOPIC",
            help="decisions, alerts, late, dead_letters, features, journal, explanations, or the name of a side "
            "output, of an input stream or of a stage.",
        ),
    ],
    pipeline: PipelineOption,
    log: LogUrl,
    *,
    environment: EnvironmentName = None,
    from_start: Annotated[bool, typer.Option("--from-start", help="Begin with the oldest record.")] = False,
    until_end: Annotated[
        bool, typer.Option("--until-end", help="Stop at what is there now (implies --from-start), instead of waiting.")
    ] = False,
) -> None:
    """Print a topic's committed records as JSON lines, and wait for more.

    `features` are all features of each decision, read from the journal's blocks; `journal` says what each
    transaction did. `alerts` are results of windows and absences, `late` rows that came too late for them.
    """
    with leaving_quietly():
        from streamproc.cli.common import load_unscored
        from streamproc.cli.log_directory import refuse_missing_log
        from streamproc.cli.logs import configure_logs
        from streamproc.cli.tailer import tail
        from streamproc.cli.topic_lines import topic_lines

        configure_logs()
        plans = load_unscored(pipeline)
        topic_lines(topic, plans)
        refuse_missing_log(log)
        run_async(tail(plans, topic, log, from_start=from_start, until_end=until_end))
