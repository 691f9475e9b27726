"""`streamproc demo`: the whole path on this machine, with generated payments. No broker, nothing to set up."""

from __future__ import annotations

__all__ = ["EXAMPLES", "PIPELINE", "command"]

import sys
from pathlib import Path
from typing import Annotated

import typer

from streamproc.cli.loops import leaving_quietly, run_async
from streamproc.cli.stdout import writing_stdout

PIPELINE = Path(__file__).parents[2] / "configs" / "card_fraud" / "pipeline.yaml"

EXAMPLES = ("streamproc demo", "streamproc demo --json --events 20000 --seed 7 --dir /tmp/demo")


def command(
    *,
    directory: Annotated[
        Path, typer.Option("--dir", metavar="DIR", help="Where everything is kept; made if missing.")
    ] = Path("streamproc-demo"),
    events: Annotated[int, typer.Option(metavar="N", min=500, max=5_000_000, help="Payments to generate.")] = 60_000,
    seed: Annotated[int, typer.Option(metavar="S", min=0, help="The same seed makes the same payments.")] = 42,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as one line of JSON.")] = False,
) -> None:
    """Generate card payments with planted frauds, decide them exactly once, and say what was found.

    A worker runs configs/card_fraud in a process of its own on the embedded log in DIR. A second run in the same DIR
    starts over: it replaces what the first one made there, and nothing else. Ctrl-C ends it with what there is.
    """
    with leaving_quietly("interrupted before any payment was decided"):
        from streamproc.cli.demo_folder import DemoFolder
        from streamproc.cli.demo_run import Demo
        from streamproc.cli.logs import configure_logs

        configure_logs()
        with DemoFolder(directory) as folder:
            summary = run_async(Demo(PIPELINE, folder, events, seed).run())
        folder.summary.write_bytes(summary.line())
        with writing_stdout():
            sys.stdout.write(summary.line().decode() if as_json else summary.text())
