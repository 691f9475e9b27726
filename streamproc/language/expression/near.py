"""Calls of nothing that is known, but nearly called like something that is."""

from __future__ import annotations

__all__ = ["check_calls"]

import difflib
from collections.abc import Sequence

from sqlglot import exp

from state.errors import ConfigError
from streamproc.language.expression.functions import FUNCTIONS
from streamproc.language.expression.parse import Expr, place_of


def check_calls(expr: Expr, known: Sequence[str]) -> None:
    """Refuse what is nearly called like one of `known`: what stands in its brackets is of another kind.

    Raises:
        ConfigError: with its place.
    """
    for node in expr.ast.find_all(exp.Anonymous):
        if (name := node.name.lower()) in FUNCTIONS or name in known:
            continue
        near = difflib.get_close_matches(name, [*FUNCTIONS, *known], 1)
        if near and near[0] in known:
            raise ConfigError(f"there is no function {name}", place_of(expr, node), f"did you mean {near[0]}?")
