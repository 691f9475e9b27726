"""What the commands and their worker processes share; a worker starts without typer, so nothing here imports it."""

from __future__ import annotations

__all__ = ["LogLevel", "load_plan"]

from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from operators.plan import Plan


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
