"""`streamproc generate`: card payments that never happened, in a file."""

from __future__ import annotations

__all__ = ["EXAMPLES", "command"]

import sys
from pathlib import Path
from typing import Annotated

import typer

from state.errors import ConfigError
from streamproc.cli.options import refuse_unless

EXAMPLES = (
    "streamproc generate transactions.parquet",
    "streamproc generate transactions.ndjson --account-events account_events.ndjson --labels labels.ndjson",
)
_SUFFIXES = (".parquet", ".ndjson")


def command(
    output: Annotated[Path, typer.Argument(metavar="FILE", help="FILE.parquet or FILE.ndjson.")],
    *,
    events: Annotated[int, typer.Option(metavar="N", min=500, max=5_000_000, help="Payments to generate.")] = 20_000,
    seed: Annotated[int, typer.Option(metavar="S", min=0, help="The same seed makes the same payments.")] = 42,
    account_events: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Also write what users do with their accounts. [default: none]"),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Also write which payments are frauds, and of what kind. [default: none]"),
    ] = None,
) -> None:
    """Write generated card payments, some of them planted frauds: what `demo` decides, for `backtest` and `feed`.

    Frauds that begin with somebody's account are found with the account events only: logins, password resets and such.

    Event times lie in the 14 days before the last midnight (UTC). The world they come from is described in
    docs/generator.md.
    """
    paths = [path for path in (output, account_events, labels) if path is not None]
    for path in paths:
        refuse_unless(path.suffix in _SUFFIXES, f"{path}: its kind is not known", "FILE.parquet or FILE.ndjson")
        refuse_unless(path.absolute().parent.is_dir(), f"the folder of {path} is missing", "make it first")
        refuse_unless(not path.is_dir(), f"{path} is a directory", "name a file")
    refuse_unless(len({path.absolute() for path in paths}) == len(paths), "one FILE cannot hold two things")

    from streamproc.services import generator

    traffic = generator.generate(generator.GeneratorOptions(events=events, seed=seed))
    try:
        (generator.write_parquet if output.suffix == ".parquet" else generator.write_ndjson)(traffic, output)
        if account_events is not None:
            generator.write_account_events(traffic, account_events)
        if labels is not None:
            generator.write_labels(traffic, labels)
    except OSError as error:
        raise ConfigError(f"{error.filename or output} cannot be written: {error.strerror}") from None
    sys.stderr.write(f"{events:,} payments, {len(traffic.frauds):,} of them planted frauds, in {output}\n")
