"""Our dialect for whole statements: that of expressions, with Flink's quotes."""

from __future__ import annotations

__all__ = ["SqlDialect"]

from typing import Any, ClassVar, Final

from sqlglot import exp
from sqlglot.tokenizer_core import TokenType

from streamproc.language.expression.dialect import StreamprocDialect

_SIDES: Final = {"BOTH": "trim", "LEADING": "ltrim", "TRAILING": "rtrim"}


class SqlDialect(StreamprocDialect):
    """SQL statements as Flink's users write them: NULL comes before all values."""

    NULL_ORDERING = "nulls_are_small"

    class Tokenizer(StreamprocDialect.Tokenizer):
        """Names may stand in backticks; SESSION is a function."""

        IDENTIFIERS: ClassVar[list[Any]] = ['"', "`"]
        KEYWORDS: ClassVar[dict[str, TokenType]] = {
            word: kind for word, kind in StreamprocDialect.Tokenizer.KEYWORDS.items() if word != "SESSION"
        }

    class Parser(StreamprocDialect.Parser):
        """Calls whose arguments are words apart, not by commas, become plain ones."""

        FUNCTION_PARSERS: ClassVar[dict[str, Any]] = {
            **StreamprocDialect.Parser.FUNCTION_PARSERS,
            "FLOOR": lambda self: self.rounded("floor"),
            "CEIL": lambda self: self.rounded("ceil"),
            "CEILING": lambda self: self.rounded("ceil"),
            "SUBSTRING": lambda self: self.separated("substr", ("FROM", "FOR")),
            "POSITION": lambda self: self.position(),
            "TRIM": lambda self: self.trimmed(),
            "OVERLAY": lambda self: self.separated("overlay", ("PLACING", "FROM", "FOR")),
        }

        def rounded(self, name: str) -> exp.Expr:
            """FLOOR(time TO HOUR) is the start of the hour, CEIL(time TO HOUR) the next one."""
            value = self._parse_assignment()
            if not self._match_text_seq("TO"):
                return exp.Anonymous(this=name, expressions=[value])
            word = self._curr
            unit = None if self._match(TokenType.R_PAREN, advance=False) else self._parse_var(any_token=True)
            if unit is None:
                self.raise_error(f"write {name.upper()}(time TO HOUR)")
            else:
                unit.update_positions(word)
            return exp.Anonymous(this="date_trunc" if name == "floor" else "date_ceil", expressions=[unit, value])

        def separated(self, name: str, words: tuple[str, ...]) -> exp.Expr:
            """Arguments behind commas, or behind words."""
            first = self._parse_assignment()
            others = [
                self._parse_assignment() for word in words if self._match(TokenType.COMMA) or self._match_text_seq(word)
            ]
            return exp.Anonymous(this=name, expressions=[first, *others])

        def trimmed(self) -> exp.Expr:
            """TRIM([BOTH | LEADING | TRAILING] [letters] FROM text), or TRIM(text [, letters])."""
            side = next((one for one in _SIDES if self._match_text_seq(one)), None)
            letters = None if self._match(TokenType.FROM, advance=False) else self._parse_bitwise()
            if self._match(TokenType.FROM):
                given = [self._parse_bitwise(), letters]
            else:
                given = [letters, self._parse_bitwise() if self._match(TokenType.COMMA) else None]
                if side is not None:
                    self.raise_error(f"write TRIM({side} letters FROM text)")
            return exp.Anonymous(this=_SIDES[side or "BOTH"], expressions=[one for one in given if one is not None])

        def extracted(self) -> exp.Expr:
            """DOW is Flink's, in which Sunday is 1."""
            made = super().extracted()
            if made.name.lower() == "dow":
                return exp.Anonymous(this="dayofweek", expressions=[made.expression]).update_positions(made)
            return made

        def position(self) -> exp.Expr:
            """POSITION(part IN text)."""
            part = self._parse_bitwise()
            if not self._match(TokenType.IN):
                self.raise_error("write POSITION(part IN text)")
            return exp.Anonymous(this="strpos", expressions=[self._parse_bitwise(), part])

    Generator = StreamprocDialect.Generator
