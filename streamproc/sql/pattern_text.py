"""MATCH_RECOGNIZE ( ) in a statement's words: cut out, for it is a language of its own."""

from __future__ import annotations

__all__ = ["MATCH_CALL", "PatternText", "without_patterns"]

from typing import Final, NamedTuple

from sqlglot.tokenizer_core import Token, TokenType

from state.errors import ConfigError, Place
from streamproc.language.expression.parse import place_at

MATCH_CALL: Final = "match_recognize"
"""What stands for it in the tree: match_recognize(table, number)."""
_OPENS: Final = TokenType.L_PAREN
_CLOSES: Final = TokenType.R_PAREN


class PatternText(NamedTuple):
    """`partition`, `order`: the words of PARTITION BY and ORDER BY; `text`: the clauses behind, `place`: where."""

    partition: list[Token]
    order: list[Token]
    text: str
    place: Place
    keyword: Place


def without_patterns(tokens: list[Token], text: str, place: Place) -> tuple[list[Token], tuple[PatternText, ...]]:
    """The words without what MATCH_RECOGNIZE ( ) holds, `table MATCH_RECOGNIZE (...)` as a call; and the patterns.

    Raises:
        ConfigError: it stands behind no table, or is not closed.
    """
    found: list[PatternText] = []
    words: list[Token] = []
    at = 0
    while at < len(tokens):
        token = tokens[at]
        if token.token_type is not TokenType.MATCH_RECOGNIZE:
            words.append(token)
            at += 1
            continue
        here = place_at(text, token.start, place)
        if at + 1 == len(tokens) or tokens[at + 1].token_type is not _OPENS:
            raise ConfigError("MATCH_RECOGNIZE wants ( behind it", here)
        end = _closing(tokens, at + 1)
        if end is None:
            raise ConfigError("the ( of MATCH_RECOGNIZE is not closed", here)
        begin = _table(words)
        if begin is None:
            raise ConfigError("MATCH_RECOGNIZE stands behind a table's name, or a query in brackets", here)
        call = [_word(token, MATCH_CALL, TokenType.VAR), _word(token, "(", _OPENS), *words[begin:]]
        number = [_word(token, ",", TokenType.COMMA), _word(token, str(len(found)), TokenType.NUMBER)]
        words[begin:] = [*call, *number, _word(token, ")", _CLOSES)]
        found.append(_pattern(tokens[at + 2 : end], tokens[end], here, text, place))
        at = end + 1
    return words, tuple(found)


def _closing(tokens: list[Token], opened: int) -> int | None:
    depth = 0
    for n in range(opened, len(tokens)):
        depth += (tokens[n].token_type is _OPENS) - (tokens[n].token_type is _CLOSES)
        if not depth:
            return n
    return None


def _table(words: list[Token]) -> int | None:
    """Where the table begins that the words end with."""
    if not words:
        return None
    if words[-1].token_type is not _CLOSES:
        return len(words) - 1
    depth = 0
    for n in range(len(words) - 1, -1, -1):
        depth += (words[n].token_type is _CLOSES) - (words[n].token_type is _OPENS)
        if not depth:
            return n
    return None


def _word(like: Token, text: str, kind: TokenType) -> Token:
    return Token(kind, text, like.line, like.col, like.start, like.end)


def _pattern(inside: list[Token], closing: Token, keyword: Place, text: str, place: Place) -> PatternText:
    partition, rest = _clause(inside, TokenType.PARTITION_BY)
    order, rest = _clause(rest, TokenType.ORDER_BY)
    start = rest[0].start if rest else closing.start
    return PatternText(partition, order, text[start : closing.start], place_at(text, start, place), keyword)


def _clause(inside: list[Token], kind: TokenType) -> tuple[list[Token], list[Token]]:
    """The words of a clause that comes first, and what follows: a list ends with a word that no comma is before."""
    if not inside or inside[0].token_type is not kind:
        return [], inside
    end = 2
    while end < len(inside):
        before, here = inside[end - 1].token_type, inside[end].token_type
        joined = TokenType.COMMA, TokenType.DOT
        if before not in joined and here not in joined and here not in {TokenType.ASC, TokenType.DESC}:
            break
        end += 1
    return inside[1:end], inside[end:]
