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
    "streamproc generate payments.parquet",
    "streamproc generate payments.ndjson --events 5000 --seed 7 --labels labels.parquet",
)
_SUFFIXES = (".parquet", ".ndjson")


def command(
    output: Annotated[Path, typer.Argument(metavar="FILE", help="FILE.parquet or FILE.ndjson.")],
    *,
    events: Annotated[int, typer.Option(metavar="N", min=500, max=5_000_000, help="Payments to generate.")] = 20_000,
    seed: Annotated[int, typer.Option(metavar="S", min=0, help="The same seed makes the same payments.")] = 42,
    labels: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Also write which payments are frauds, and of what kind. [default: none]"),
    ] = None,
) -> None:
    """Write generated card payments, some of them planted frauds: what `demo` decides, for `backtest` and `feed`.

    Event times lie in the 14 days before the last midnight (UTC). The world they come from is described in
    docs/generator.md.
    """
    for path in (output, labels) if labels is not None else (output,):
        refuse_unless(path.suffix in _SUFFIXES, f"{path}: its kind is not known", "FILE.parquet or FILE.ndjson")
        refuse_unless(path.absolute().parent.is_dir(), f"the folder of {path} is missing", "make it first")
        refuse_unless(not path.is_dir(), f"{path} is a directory", "name a file")
    refuse_unless(labels is None or labels.absolute() != output.absolute(), "--labels: it is FILE, too")

    from streamproc.services.generator import GeneratorOptions, generate, write_labels, write_ndjson, write_parquet

    traffic = generate(GeneratorOptions(events=events, seed=seed))
    try:
        (write_parquet if output.suffix == ".parquet" else write_ndjson)(traffic, output)
        if labels is not None:
            write_labels(traffic, labels)
    except OSError as error:
        raise ConfigError(f"{error.filename or output} cannot be written: {error.strerror}") from None
    sys.stderr.write(f"{events:,} payments, {len(traffic.frauds):,} of them planted frauds, in {output}\n")
