"""Our dialect for whole statements: that of expressions, with Flink's quotes."""

from __future__ import annotations

__all__ = ["SqlDialect"]

from typing import Any, ClassVar

from sqlglot.tokenizer_core import TokenType

from streamproc.language.expression.dialect import StreamprocDialect


class SqlDialect(StreamprocDialect):
    """SQL statements as Flink's users write them."""

    class Tokenizer(StreamprocDialect.Tokenizer):
        """Names may stand in backticks; SESSION is a function."""

        IDENTIFIERS: ClassVar[list[Any]] = ['"', "`"]
        KEYWORDS: ClassVar[dict[str, TokenType]] = {
            word: kind for word, kind in StreamprocDialect.Tokenizer.KEYWORDS.items() if word != "SESSION"
        }

    class Parser(StreamprocDialect.Parser):
        """As expressions are parsed."""

    Generator = StreamprocDialect.Generator
