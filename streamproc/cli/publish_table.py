"""`streamproc publish-table`: bring a table's file into its topic, from which running workers read it."""

from __future__ import annotations

__all__ = ["EXAMPLES", "command"]

import sys
from typing import Annotated

import typer

from streamproc.cli.environment import EnvironmentName
from streamproc.cli.loops import run_until_terminated, terminable
from streamproc.cli.options import AsJson, LogUrl, PipelineOption

EXAMPLES = (
    "streamproc publish-table blocked --pipeline shop.yaml --log file:.streamproc --why 'chargebacks of May'",
    "streamproc publish-table blocked blocked-new.csv --pipeline shop.yaml --log kafka://localhost:9092 --dry-run",
)


def command(
    table: Annotated[str, typer.Argument(metavar="TABLE", help="The table's name in the pipeline; it has a `topic:`.")],
    file: Annotated[
        str | None, typer.Argument(metavar="FILE", help="CSV or NDJSON. [default: the table's `file:`]")
    ] = None,
    *,
    pipeline: PipelineOption,
    log: LogUrl,
    environment: EnvironmentName = None,
    by: Annotated[str | None, typer.Option(metavar="NAME", help="Who changes it. [default: the user's name]")] = None,
    why: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Why; kept as the reason of rows without one.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would change, and change nothing.")] = False,
    allow_empty: Annotated[
        bool, typer.Option("--allow-empty", help="A file without rows removes all rows; refused otherwise.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make a table's topic hold the rows of a file: new and changed ones go in, those that the file lacks are removed.

    What is equal already is left alone. Workers see all changes together, and look them up in their next batch.
    """
    from operators.encode import json_encoder
    from streamproc.cli.log_directory import has_log, make_directories
    from streamproc.cli.logs import configure_logs
    from streamproc.cli.stdout import writing_stdout
    from streamproc.cli.table_publisher import Who, publish, read

    configure_logs()
    with terminable():
        given = read(pipeline, table, file)
        if not dry_run:
            make_directories(log)
        known = log if has_log(log) or not dry_run else None
        publishing = publish(given, known, Who.now(by, why), dry_run=dry_run, allow_empty=allow_empty)
        told = run_until_terminated(publishing)
        if as_json:
            with writing_stdout():
                sys.stdout.write(json_encoder.encode(told).decode() + "\n")
        else:
            sys.stderr.write(told.text() + "\n")
