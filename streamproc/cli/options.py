"""Arguments and options that several commands share."""

from __future__ import annotations

__all__ = ["LogLevel", "LogUrl", "PipelineOption", "PipelinePath", "load_plan", "refuse_unless"]

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from state.errors import ConfigError

if TYPE_CHECKING:
    from operators.plan import Plan

PipelinePath = Annotated[str, typer.Argument(metavar="PIPELINE", help="The pipeline's YAML file.")]
PipelineOption = Annotated[str, typer.Option("--pipeline", metavar="PIPELINE", help="The pipeline's YAML file.")]
LogUrl = Annotated[
    str,
    typer.Option(
        "--log",
        metavar="URL",
        help="The event log: file:DIR (embedded, made if missing) or kafka://host:port[,host:port].",
    ),
]


class LogLevel(StrEnum):
    """How much is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def load_plan(path: str) -> Plan:
    """The plan of a pipeline file.

    Raises:
        ConfigError: with everything that is wrong in it.
    """
    from streamproc.language import compile_pipeline, load_pipeline

    return compile_pipeline(load_pipeline(path))


def refuse_unless(fine: bool, message: str, hint: str | None = None) -> None:
    """Refuse wrong use.

    Raises:
        ConfigError: unless `fine`.
    """
    if not fine:
        raise ConfigError(message, hint=hint)
