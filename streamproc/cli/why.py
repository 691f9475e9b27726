"""`streamproc why`: why a decision has its score."""

from __future__ import annotations

__all__ = ["EXAMPLES", "Registered", "command"]

import sys
from typing import Annotated

import typer

from streamproc.cli.environment import EnvironmentName
from streamproc.cli.loops import leaving_quietly, run_async
from streamproc.cli.options import AsJson, LogUrl, PipelineOption
from streamproc.cli.stdout import writing_stdout

EXAMPLES = ("streamproc why tx-000123 --pipeline configs/pipeline.yaml --log file:.streamproc",)
Registered = Annotated[
    str | None,
    typer.Option(
        "--registry",
        metavar="REGISTRY",
        help="Where versions are that the pipeline no longer names. [default: its own]",
    ),
]


def command(
    decision: Annotated[str, typer.Argument(metavar="ID", help="The decision's id, as `tail decisions` shows it.")],
    pipeline: PipelineOption,
    log: LogUrl,
    *,
    environment: EnvironmentName = None,
    registry: Registered = None,
    as_json: AsJson = False,
) -> None:
    """Say why a decision has its score: the features that moved it most, with their values.

    Read from the decision's feature block in the journal, and from the model that it names.
    """
    with leaving_quietly():
        import msgspec

        from streamproc.cli.explaining import opened, why
        from streamproc.cli.log_directory import refuse_missing_log

        given = opened(pipeline, registry)
        refuse_missing_log(log)
        found = run_async(why(given, decision, log))
        if found is None:
            sys.stderr.write("error: the journal has no such decision (`streamproc tail decisions` shows their ids)\n")
            raise typer.Exit(1)
        with writing_stdout():
            text = found.text or f"it cannot be said: {found.refused}"
            sys.stdout.write(f"{msgspec.json.encode(found).decode() if as_json else f'{found.decision}: {text}'}\n")
        if found.refused:
            raise typer.Exit(1)
