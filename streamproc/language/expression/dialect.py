"""Our dialect: Trino's, in which a function call stays a plain call: our own registry says what it is."""

from __future__ import annotations

__all__ = ["StreamprocDialect"]

from typing import Any, ClassVar

from sqlglot import exp
from sqlglot.dialects.trino import Trino
from sqlglot.generator import Generator
from sqlglot.parser import Parser as SqlglotParser
from sqlglot.parsers.trino import TrinoParser
from sqlglot.tokenizer_core import TokenType

_TYPE_NAMES = {
    "INT64": TokenType.BIGINT,
    "FLOAT64": TokenType.DOUBLE,
    "STRING": TokenType.TEXT,
}
_CALLS_WITH_SYNTAX = ("CAST", "TRY_CAST")


def _only(parsers: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: parsers[name] for name in names}


class StreamprocDialect(Trino):
    """SQL expressions as analysts write them. UTC only; identifiers are case-sensitive, functions are not."""

    class Tokenizer(Trino.Tokenizer):
        """Adds our type names; words that are clauses elsewhere are plain names here."""

        KEYWORDS: ClassVar[dict[str, TokenType]] = {**Trino.Tokenizer.KEYWORDS, **_TYPE_NAMES}

    class Parser(TrinoParser):
        """No built-in function but the three with a syntax of their own; no niladic ones (no wall clock)."""

        FUNCTIONS: ClassVar[dict[str, Any]] = {}
        FUNCTION_PARSERS: ClassVar[dict[str, Any]] = {
            **_only(SqlglotParser.FUNCTION_PARSERS, _CALLS_WITH_SYNTAX),
            "EXTRACT": lambda self: self.extracted(),
        }
        NO_PAREN_FUNCTION_PARSERS: ClassVar[dict[str, Any]] = _only(SqlglotParser.NO_PAREN_FUNCTION_PARSERS, ("CASE",))
        NO_PAREN_FUNCTIONS: ClassVar[dict[TokenType, type[exp.Expression]]] = {}

        def extracted(self) -> exp.Expr:
            """EXTRACT(unit FROM time), where the unit knows its place."""
            name, word = self._tokens[self._index - 2], self._curr
            made: exp.Expr = self._parse_extract()
            made.this.update_positions(word)
            return made.update_positions(name)

    Generator = Generator  # type: ignore[assignment]  # canonical text, not Trino's spelling of IS TRUE and the like
