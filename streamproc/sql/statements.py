"""A file of statements: cut at its semicolons, each parsed to a tree whose parts know their places."""

from __future__ import annotations

__all__ = ["FILE_MAX", "Source", "Statement", "parse_file", "parse_source"]

from collections.abc import Sequence
from typing import Final, NamedTuple

from sqlglot import exp
from sqlglot.errors import ParseError, SqlglotError
from sqlglot.tokenizer_core import Token, TokenType

from state.errors import ConfigError, Place
from streamproc.language.expression.parse import (
    Expr,
    check_depth,
    check_tokens,
    normalize,
    place_at,
    place_of,
    syntax_error,
)
from streamproc.language.problems import nearest
from streamproc.sql.ddl import CreateTable, parse_create
from streamproc.sql.dialect import SqlDialect
from streamproc.sql.heads import Head, head_of, is_view
from streamproc.sql.pattern_text import PatternText, without_patterns

FILE_MAX: Final = 1_000_000
_DIALECT: Final = SqlDialect()
_KNOWN: Final = "a statement is SELECT, WITH, CREATE TABLE, CREATE VIEW or INSERT INTO"
_QUERIES: Final = (TokenType.SELECT, TokenType.WITH, TokenType.INSERT, TokenType.CREATE, TokenType.L_PAREN)
_CLAUSES: Final = ("FROM", "WHERE", "GROUP", "HAVING", "ORDER", "LIMIT", "JOIN", "UNION", "WINDOW", "MATCH_RECOGNIZE")
_WANTING: Final = frozenset({TokenType.COMMA, TokenType.GROUP_BY, TokenType.ORDER_BY})
_ENDING: Final = frozenset(
    {TokenType.COMMA, TokenType.R_PAREN, TokenType.FROM, TokenType.WHERE, TokenType.GROUP_BY, TokenType.HAVING}
    | {TokenType.ORDER_BY, TokenType.LIMIT, TokenType.UNION}
)
# TVFs are written TUMBLE(TABLE payments, ...): the word says nothing that the place does not.
_BEFORE_NAME: Final = frozenset({TokenType.L_PAREN, TokenType.COMMA, TokenType.FARROW})


class Source(NamedTuple):
    """The file: its text, and the place of its first character."""

    text: str
    place: Place

    @classmethod
    def of(cls, text: str, file: str) -> Source:
        """A file's text."""
        return cls(text, Place(file, 1, 1))

    def at(self, offset: int) -> Place:
        """The place of a character."""
        return place_at(self.text, offset, self.place)

    def expr(self, ast: exp.Expr) -> Expr:
        """A part of a statement's tree, as the expression compiler takes it."""
        return Expr(ast, self.text, self.place)

    def of_node(self, node: exp.Expr) -> Place:
        """Where a part of the tree begins."""
        return place_of(self.expr(node), node)


class Statement(NamedTuple):
    """A query: its tree, the words that it was made of, what MATCH_RECOGNIZE ( ) holds, in order; what its rows are."""

    tree: exp.Expr
    tokens: list[Token]
    source: Source
    patterns: tuple[PatternText, ...] = ()
    head: Head = Head("query")

    def place(self, node: exp.Expr) -> Place:
        """Where a part of it begins."""
        return self.source.of_node(node)

    def clause(self, kind: TokenType, node: exp.Expr) -> Place:
        """Where the clause begins whose keyword is the last of its kind before `node`'s first name."""
        starts = [start for item in node.walk() if (start := item.meta.get("start")) is not None]
        words = [token.start for token in self.tokens if token.token_type is kind]
        before = [word for word in words if word <= min(starts, default=len(self.source.text))]
        return self.source.at(before[-1] if before else words[0] if words else self.tokens[0].start)

    def follows(self, node: exp.Expr, one: TokenType, other: TokenType) -> bool:
        """Whether of these two words the last before `node`'s first name is `one`."""
        start = min((start for item in node.walk() if (start := item.meta.get("start")) is not None), default=0)
        before = [token.token_type for token in self.tokens if token.start < start]
        return next((kind for kind in reversed(before) if kind in {one, other}), other) is one


def parse_file(text: str, file: str) -> list[CreateTable | Statement]:
    """The statements of a file, in order.

    Raises:
        ConfigError: what cannot be parsed, or is no statement we know; with its place.
    """
    if len(text) > FILE_MAX:
        raise ConfigError(f"the file has {len(text)} characters; at most {FILE_MAX} are read", Place(file))
    found = parse_source(Source.of(text, file))
    if not found:
        raise ConfigError("the file has no statement", Place(file), _KNOWN)
    return found


def parse_source(source: Source) -> list[CreateTable | Statement]:
    """The same of a text that stands in a file.

    Raises:
        ConfigError: as `parse_file`; no statement is none.
    """
    text = source.text
    try:
        tokens = _DIALECT.tokenize(text)
    except SqlglotError:
        raise ConfigError("a quote or a comment is not closed", source.at(_unclosed(text))) from None
    return [_parse(words, source) for words in _statements(tokens)]


def _statements(tokens: list[Token]) -> list[list[Token]]:
    """The words of each statement; empty ones are none."""
    each: list[list[Token]] = [[]]
    for token in tokens:
        if token.token_type is TokenType.SEMICOLON:
            each.append([])
        else:
            each[-1].append(token)
    return [words for words in each if words]


def _parse(tokens: list[Token], source: Source) -> CreateTable | Statement:
    first, place = tokens[0], source.at(tokens[0].start)
    check_tokens(tokens, source.text, source.place)
    if first.token_type not in _QUERIES:
        hint = _near(first, ("SELECT", "WITH", "CREATE", "INSERT"))
        raise ConfigError(f"{first.text.upper()} is no statement of the subset", place, hint or _KNOWN)
    if first.token_type is TokenType.CREATE and not is_view(tokens):
        return parse_create(tokens, source.text, source.place)
    head, tokens = head_of(tokens, source.text, source.place)
    return _query(tokens, source, head)


def _query(tokens: list[Token], source: Source, head: Head) -> Statement:
    first, place = tokens[0], source.at(tokens[0].start)
    outside, patterns = without_patterns(tokens, source.text, source.place)
    words = [_plain(outside, n) for n in range(len(outside)) if not _says_nothing(outside, n)]
    _refuse_empty(words, source)
    try:
        parsed = _DIALECT.parser().parse(words, source.text)
    except RecursionError:
        raise ConfigError("the statement is nested too deeply", place) from None
    except ParseError as error:
        wrong = syntax_error(error, source.text, source.place, "the statement")
        raise _misspelt(words, wrong, source) or wrong from None
    tree = parsed[0] if len(parsed) == 1 else None
    if not isinstance(tree, exp.Expr):
        raise ConfigError("the statement cannot be parsed", place, _KNOWN)
    tree.meta["start"] = first.start
    check_depth(source.expr(tree))
    normalize(tree)
    return Statement(tree, tokens, source, patterns, head)


def _refuse_empty(words: list[Token], source: Source) -> None:
    """What sqlglot reads over: a comma that nothing follows, a clause without items."""
    for word, after in zip(words, [*words[1:], None], strict=True):
        if word.token_type in _WANTING and (after is None or after.token_type in _ENDING):
            text = " ".join(word.text.upper().split())
            raise ConfigError(f"nothing follows {text}", source.at(word.start))


def _misspelt(words: list[Token], wrong: ConfigError, source: Source) -> ConfigError | None:
    """The keyword that was meant, if the word where parsing ended, or the one before it, is nearly one."""
    at = next((n for n, word in enumerate(words) if source.at(word.start) == wrong.place), 0)
    for word in (words[at], words[at - 1]) if at else ():
        if (hint := _near(word, _CLAUSES)) is not None:
            return ConfigError(f"{word.text} is no keyword", source.at(word.start), hint)
    return None


def _near(word: Token, keywords: Sequence[str]) -> str | None:
    """The keyword that a word is nearly; a keyword is none."""
    hint = nearest(word.text.upper(), keywords) if word.token_type is TokenType.VAR else None
    return hint if hint and hint.startswith("did you mean") else None


def _says_nothing(tokens: list[Token], n: int) -> bool:
    """Whether it is the TABLE of `(TABLE name`."""
    if tokens[n].token_type is not TokenType.TABLE or not 0 < n < len(tokens) - 1:
        return False
    before, after = tokens[n - 1].token_type, tokens[n + 1].token_type
    return before in _BEFORE_NAME and after is not TokenType.L_PAREN


def _plain(tokens: list[Token], n: int) -> Token:
    """The word; PARTITION BY of `(TABLE name PARTITION BY key` is a comma: the keys are arguments."""
    token = tokens[n]
    if token.token_type is not TokenType.PARTITION_BY or n < 2 or not _says_nothing(tokens, n - 2):
        return token
    return Token(TokenType.COMMA, ",", token.line, token.col, token.start, token.end)


def _unclosed(text: str) -> int:
    """Where the quote or comment begins that does not end."""
    at = 0
    while at < len(text):
        opens = next((one for one in ("--", "/*", "'", '"', "`") if text.startswith(one, at)), "")
        if not opens:
            at += 1
            continue
        closes = {"--": "\n", "/*": "*/"}.get(opens, opens)
        end = text.find(closes, at + len(opens))
        if end < 0:
            return at if opens != "--" else 0
        at = end + len(closes)
    return 0
