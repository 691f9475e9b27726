"""The words of a statement that sqlglot does not parse, read from left to right."""

from __future__ import annotations

__all__ = ["Words"]

from typing import Final

from sqlglot.tokenizer_core import Token, TokenType

from state.errors import ConfigError, Place
from streamproc.language.expression.parse import place_at

_NAMES: Final = frozenset({TokenType.IDENTIFIER, TokenType.VAR})


class Words:
    """The words of a statement, read from left to right."""

    def __init__(self, tokens: list[Token], text: str, place: Place) -> None:
        self._tokens = tokens
        self._text = text
        self._place = place
        self._at = 0

    def place(self) -> Place:
        """Of the next word, or of the last one."""
        return place_at(self._text, self._tokens[min(self._at, len(self._tokens) - 1)].start, self._place)

    def refuse(self, message: str, hint: str | None = None) -> ConfigError:
        """An error at the next word."""
        return ConfigError(message, self.place(), hint)

    def peek(self, ahead: int = 0) -> str:
        """A word in capitals; "" behind the last one."""
        at = self._at + ahead
        return self._tokens[at].text.upper() if at < len(self._tokens) else ""

    def skip(self, *words: str) -> bool:
        """Step over these words, if they come next."""
        count = sum(len(word.split()) for word in words)
        if " ".join(self.peek(n) for n in range(count)).split()[:count] != " ".join(words).split():
            return False
        self._at += count
        return True

    def want(self, *words: str) -> None:
        """Step over these words."""
        for word in words:
            if not self.skip(word):
                raise self.refuse(f"{word} is wanted here" + (f", not {self.peek()}" if self.peek() else ""))

    def name(self) -> str:
        """A name."""
        token = self._tokens[self._at] if self._at < len(self._tokens) else None
        if token is None or not (token.token_type in _NAMES or token.text.isidentifier()):
            raise self.refuse("a name is wanted here")
        self._at += 1
        return str(token.text)

    def rest(self) -> bool:
        """Whether there are more."""
        return self._at < len(self._tokens)

    def step(self) -> None:
        """Over one word."""
        self._at += 1

    def over_item(self) -> None:
        """To the comma or bracket that ends this item of a list."""
        depth = 0
        while self.rest() and not (depth == 0 and self.peek() in {",", ")"}):
            depth += {"(": 1, ")": -1}.get(self.peek(), 0)
            self._at += 1

    def left(self) -> list[Token]:
        """The words that are left."""
        return self._tokens[self._at :]
