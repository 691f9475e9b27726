"""`streamproc models activate`: give a version of a model a role, in all running workers, without a restart."""

from __future__ import annotations

__all__ = ["EXAMPLES", "By", "Role", "Why", "command", "tell"]

import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from streamproc.cli.environment import EnvironmentName
from streamproc.cli.loops import run_until_terminated, terminable
from streamproc.cli.options import AsJson, LogUrl, PipelineOption
from streamproc.cli.train_options import Share

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

    from streamproc.cli.model_roles import Changed

EXAMPLES = (
    "streamproc models activate fraud 13 --pipeline shop.yaml --log kafka://localhost:9092 --why 'beats 12 since May'",
    "streamproc models activate fraud 14 --as challenger --share 0.1 --pipeline shop.yaml --log file:.streamproc",
)


class Role(StrEnum):
    """What a version may do."""

    CHAMPION = "champion"
    CHALLENGER = "challenger"
    SHADOW = "shadow"
    NONE = "none"


By = Annotated[str | None, typer.Option(metavar="NAME", help="Who changes it. [default: the user's name]")]
Why = Annotated[str | None, typer.Option(metavar="TEXT", help="Why; kept with the change.")]


def command(
    model: Annotated[str, typer.Argument(metavar="NAME", help="The model's name in the pipeline.")],
    version: Annotated[int, typer.Argument(metavar="VERSION", help="See `streamproc models list`.", min=1)],
    *,
    pipeline: PipelineOption,
    log: LogUrl,
    environment: EnvironmentName = None,
    role: Annotated[Role, typer.Option("--as", help="Its role from now on; none: out of work.")] = Role.CHAMPION,
    share: Share = 0.1,
    by: By = None,
    why: Why = None,
    as_json: AsJson = False,
) -> None:
    """Give a version a role. Workers take it up between two transactions, and journal it; other roles stay.

    The version is opened here first: one that is missing, damaged or takes other features is refused.
    """
    from operators.serving import changed
    from streamproc.cli.log_directory import make_directories
    from streamproc.cli.model_roles import declared, write_roles
    from streamproc.cli.table_publisher import Who

    with terminable():
        found = declared(pipeline, model)
        make_directories(log)
        tell(
            write_roles(found, log, Who.now(by, why), lambda roles, _: changed(roles, version, role, share)),
            as_json=as_json,
        )


def tell(writing: Coroutine[Any, Any, Changed], *, as_json: bool) -> None:
    """Write roles, and say what came of it."""
    from operators.encode import json_encoder
    from streamproc.cli.logs import configure_logs
    from streamproc.cli.stdout import writing_stdout

    configure_logs()
    told = run_until_terminated(writing)
    if as_json:
        with writing_stdout():
            sys.stdout.write(json_encoder.encode(told).decode() + "\n")
    else:
        sys.stderr.write(told.text() + "\n")
