"""Text to a parsed expression, and what can be done with it before types are known."""

from __future__ import annotations

__all__ = ["CallNode", "Expr", "columns_of", "parse", "rewrite_calls"]

from collections.abc import Callable, Collection
from typing import NamedTuple

from sqlglot import exp

from state.errors import Place


class Expr(NamedTuple):
    """A parsed expression. `text`: as written; `place`: where its first character stands."""

    ast: exp.Expression
    text: str
    place: Place

    @property
    def sql(self) -> str:
        """Canonical text: equal for expressions that differ only in white space, keywords' case and parentheses."""
        raise NotImplementedError

    @property
    def column(self) -> str | None:
        """The (dotted) name if the expression is just a column, else None."""
        raise NotImplementedError

    @property
    def literal(self) -> int | str | bool | None:
        """The value if the expression is just an integer, string or bool literal, else None."""
        raise NotImplementedError


class CallNode(NamedTuple):
    """A call met by `rewrite_calls`: lower-case name, arguments (inner calls already replaced), place."""

    name: str
    args: tuple[Expr, ...]
    place: Place

    @property
    def sql(self) -> str:
        """Canonical text of the call: equal calls have equal text."""
        return f"{self.name}({', '.join(arg.sql for arg in self.args)})"


def parse(text: str, place: Place) -> Expr:
    """Parse one expression whose first character stands at `place`.

    Raises:
        ConfigError: not an expression of the language, or too long or too deep; says where in the file.
    """
    raise NotImplementedError


def rewrite_calls(expr: Expr, names: Collection[str], replace: Callable[[CallNode], str]) -> Expr:
    """`expr` with each call of one of `names` replaced by the column that `replace` returns.

    Innermost calls come first, so that an outer call's arguments hold columns where inner calls stood.
    """
    raise NotImplementedError


def columns_of(expr: Expr) -> set[str]:
    """Names of the columns that it reads; `fraud.score` is one name."""
    raise NotImplementedError
