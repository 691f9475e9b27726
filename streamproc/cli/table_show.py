"""`streamproc table show`: a table's rows, or those that a key finds: what they say, who added them, when and why."""

from __future__ import annotations

__all__ = ["EXAMPLES", "command"]

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from streamproc.cli.environment import EnvironmentName
from streamproc.cli.options import AsJson, PipelinePath
from streamproc.cli.stdout import writing_stdout

if TYPE_CHECKING:
    from streamproc.cli.table_looks import TableLook

EXAMPLES = (
    "streamproc table show configs/card_fraud/pipeline.yaml blocked_cards",
    "streamproc table show configs/card_fraud/pipeline.yaml blocked_cards card-000013 --at 2026-05-03T10:00:00Z",
)
_NOT_FOUND = 1


def command(
    pipeline: PipelinePath,
    table: Annotated[str, typer.Argument(metavar="TABLE", help="The table's name in the pipeline.")],
    key: Annotated[str | None, typer.Argument(metavar="KEY", help="Only the rows that this value finds.")] = None,
    *,
    at: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="The event time that counts: RFC 3339, or ms since 1970. [default: now]"),
    ] = None,
    log: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Of a table with a topic: what stands there. [default: the table's file]"),
    ] = None,
    environment: EnvironmentName = None,
    as_json: AsJson = False,
) -> int:
    """Show a table's rows, or those that a key finds, and which of them holds."""
    from operators.encode import json_encoder
    from streamproc.cli.table_looks import look_at, read, read_topic, time_of

    moment = time_of(at)
    found = read(pipeline, table) if log is None else read_topic(pipeline, table, log)
    look = look_at(found, key, moment)
    with writing_stdout():
        sys.stdout.write(json_encoder.encode(look).decode() + "\n" if as_json else _text(look))
    if key is None and not look.rows:
        sys.stderr.write(f"the table {table} is empty\n")
    if key is None or look.found:
        return 0
    sys.stderr.write(f"the table {table} has no row for this key that holds\n")
    return _NOT_FOUND


def _text(look: TableLook) -> str:
    from streamproc.cli.aligned import aligned

    names = list(look.rows[0].columns) if look.rows else []
    rows = [[row.state, *(_cell(row.columns[name]) for name in names)] for row in look.rows]
    return aligned(["state", *names], rows) if rows else ""


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "-" if value is None else " ".join(str(value).splitlines())
