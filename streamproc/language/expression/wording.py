"""How SQL writes what sqlglot's nodes are called, for messages."""

from __future__ import annotations

__all__ = ["sql_words"]

import re
from typing import Final

from sqlglot import exp

_BEFORE_CAPITAL: Final = re.compile(r"(?<=[a-z])(?=[A-Z])")
_WORDS: Final[dict[type[exp.Expr], str]] = {
    exp.ILike: "ILIKE",
    exp.RegexpLike: "RLIKE",
    exp.Tuple: "a list in brackets",
    exp.Bracket: "[...]",
    exp.Star: "*",
    exp.Window: "OVER",
    exp.Subquery: "a query",
    exp.Select: "a query",
    exp.BitwiseAnd: "&",
    exp.BitwiseOr: "|",
    exp.BitwiseXor: "^",
    exp.BitwiseNot: "~",
    exp.IntDiv: "DIV",
}


def sql_words(node: exp.Expr) -> str:
    """The words of a part of an expression.

    >>> sql_words(exp.SimilarTo())
    'SIMILAR TO'
    """
    return _WORDS.get(type(node)) or _BEFORE_CAPITAL.sub(" ", type(node).__name__).upper()
