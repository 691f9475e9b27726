"""What the registry knows of a function."""

from __future__ import annotations

__all__ = ["UNBOUNDED", "Function"]

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from streamproc.language.expression.typed import Typed

UNBOUNDED: Final = 100
"""So many arguments has a function that takes any number."""


class Function(NamedTuple):
    """A function. `least`/`most`: numbers of arguments. `duckdb`: its text there, with {0} {1}, {all} and {now}."""

    signature: str
    summary: str
    example: str
    least: int
    most: int
    build: Callable[[Sequence[Typed]], Typed]
    duckdb: str
