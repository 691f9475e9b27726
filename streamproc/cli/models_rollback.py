"""`streamproc models rollback`: put to work what was at work before the last change."""

from __future__ import annotations

__all__ = ["EXAMPLES", "command"]

from typing import TYPE_CHECKING, Annotated

import typer

from streamproc.cli.environment import EnvironmentName
from streamproc.cli.loops import terminable
from streamproc.cli.models_activate import By, Why, tell
from streamproc.cli.options import AsJson, LogUrl, PipelineOption

if TYPE_CHECKING:
    from operators.live_tables import Row
    from operators.serving import Roles

EXAMPLES = (
    "streamproc models rollback fraud --pipeline shop.yaml --log kafka://localhost:9092 --why 'declines too much'",
)


def command(
    model: Annotated[str, typer.Argument(metavar="NAME", help="The model's name in the pipeline.")],
    *,
    pipeline: PipelineOption,
    log: LogUrl,
    environment: EnvironmentName = None,
    by: By = None,
    why: Why = None,
    as_json: AsJson = False,
) -> None:
    """Take the last change of a model's roles back; a second time takes that back."""
    from operators.serving import before
    from state.errors import ConfigError
    from streamproc.cli.log_directory import refuse_missing_log
    from streamproc.cli.model_roles import declared, write_roles
    from streamproc.cli.table_publisher import Who

    def earlier(_: Roles, row: Row | None) -> Roles:
        if row is None:
            raise ConfigError(f"the roles of {model} were never changed", hint="they are those of the pipeline's file")
        return before(row)

    with terminable():
        found = declared(pipeline, model)
        refuse_missing_log(log)
        tell(write_roles(found, log, Who.now(by, why), earlier), as_json=as_json)
