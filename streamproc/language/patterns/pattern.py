"""What stands in the parentheses of PATTERN (...) -> a tree.

series     a b c      one row after the other, nothing between (MATCH_RECOGNIZE; next)
           a -> b     b later; rows that are no b may lie between (followed by; skip till next)
           a ->> b    b later; any rows may lie between, also others that are b (followed by any; skip till any)
           a !x b     b next, and it is no x          a !x -> b   the next row is no x, b later
           a -> !x b  b later, and no x before it
choice     a | b      a rather than b                 PERMUTE(a, b)   in any order
group      (a b)      {- a -}  left out of the rows   ()  no row       ^ $  begin and end of the key's rows
quantifier * + ? {n} {n,} {,m} {n,m} {,}, as often as possible; with ? behind: as seldom
"""

from __future__ import annotations

__all__ = ["parse_pattern"]

import itertools
import re
from typing import Final, NamedTuple

from operators.patterns.tree import (
    Anchor,
    Choice,
    Gap,
    Gapped,
    Hidden,
    Patience,
    Pattern,
    Repeat,
    Series,
    Variable,
)
from state.errors import ConfigError, Place

COUNT_MAX: Final = 500
NESTING_MAX: Final = 30
_PERMUTED_MAX: Final = 5
_TOKEN: Final = re.compile(
    r"\s*(?:(?P<name>[A-Za-z_]\w*)|(?P<sign>\{-|-\}|->>|->|[()|,!^$*+?])|\{\s*(?P<least>\d*)\s*(?P<comma>,?)\s*(?P<most>\d*)\s*\})"
)


class _Token(NamedTuple):
    """`counts`: of a quantifier in braces: least, most (None: any)."""

    text: str
    at: int
    counts: tuple[int, int | None] | None = None


def parse_pattern(text: str, place: Place) -> Pattern:
    """The tree of `text`, whose first character stands at `place`.

    Raises:
        ConfigError: it is no pattern, or too deep; says where.
    """
    return _Parser(text, place).whole()


class _Parser:
    def __init__(self, text: str, place: Place) -> None:
        self._text, self._place = text, place
        self._tokens = self._scan()
        self._next = 0
        self._depth = 0

    # ---- words

    def _scan(self) -> list[_Token]:
        found: list[_Token] = []
        at, end = 0, len(self._text.rstrip())
        while at < end:
            match = _TOKEN.match(self._text, at)
            if match is None:
                at += len(self._text[at:]) - len(self._text[at:].lstrip())
                raise self._error(f"{self._text[at]!r} is not part of a pattern", at)
            start = match.end() - len(match[0].lstrip())
            found.append(_Token(match[0].strip(), start, self._counts(match, start)))
            at = match.end()
        return found

    def _counts(self, match: re.Match[str], at: int) -> tuple[int, int | None] | None:
        if match["least"] is None:
            return None
        least, most, comma = match["least"], match["most"], match["comma"]
        if not least and not most and not comma:
            raise self._error("a quantifier without a number", at, "{3}, {3,} or {3,5}")
        if max(len(least), len(most)) > 6 or int(least or 0) > COUNT_MAX or int(most or 0) > COUNT_MAX:
            raise self._error(f"a quantifier counts to {COUNT_MAX} at most", at)
        low = int(least or 0)
        high = int(most) if most else None if comma else low
        if high is not None and (high < low or high == 0):
            raise self._error(f"{{{low},{high}}} is no number of times", at)
        return low, high

    def _error(self, message: str, at: int, hint: str | None = None) -> ConfigError:
        before = self._text[:at]
        line = before.count("\n")
        column = at - before.rfind("\n") if line else max(self._place.column, 1) + at
        place = Place(self._place.file, self._place.line + line, column) if self._place.line else self._place
        return ConfigError(message, place, hint)

    def _peek(self, *texts: str) -> bool:
        return self._next < len(self._tokens) and self._tokens[self._next].text in texts

    def _take(self, *texts: str) -> bool:
        found = self._peek(*texts)
        self._next += found
        return found

    def _here(self) -> int:
        return self._tokens[self._next].at if self._next < len(self._tokens) else len(self._text)

    def _want(self, text: str, opened: int) -> None:
        if not self._take(text):
            raise self._error(f"{text!r} is missing: what was opened here is not closed", opened)

    # ---- grammar

    def whole(self) -> Pattern:
        """All of it."""
        found = self._choice()
        if self._next < len(self._tokens):
            token = self._tokens[self._next]
            raise self._error(f"{token.text!r} does not fit here", token.at)
        return found

    def _choice(self) -> Pattern:
        self._depth += 1
        if self._depth > NESTING_MAX:
            raise self._error(f"the pattern is nested more than {NESTING_MAX} levels deep", self._here())
        options = [self._series()]
        while self._take("|"):
            options.append(self._series())
        self._depth -= 1
        return options[0] if len(options) == 1 else Choice(tuple(options))

    def _series(self) -> Pattern:
        parts: list[Pattern] = []
        while self._next < len(self._tokens) and not self._peek("|", ")", "-}", ","):
            begin = self._here()
            gap = self._gap()
            if gap is None:
                parts.append(self._factor())
                continue
            if self._next == len(self._tokens) or self._peek("|", ")", "-}", ","):
                hint = "absences: say what does not come within a time"
                raise self._error("a row must follow here", begin, hint if gap.absent or gap.first else None)
            parts.append(Gapped(gap, self._factor()))
        return parts[0] if len(parts) == 1 else Series(tuple(parts))

    def _gap(self) -> Gap | None:
        """Arrows and absent variables before a part; None: there are none."""
        patience = Patience.STRICT
        absent: list[str] = []
        first: list[str] = []
        found = False
        while self._peek("->", "->>", "!"):
            found = True
            token = self._tokens[self._next]
            self._next += 1
            if token.text != "!":
                patience = max(patience, Patience.ANY if token.text == "->>" else Patience.RELAXED)
                continue
            if self._next == len(self._tokens) or not self._tokens[self._next].text.isidentifier():
                raise self._error("'!' stands before the name of a variable", token.at)
            (absent if patience else first).append(self._tokens[self._next].text)
            self._next += 1
        return Gap(patience, tuple(absent), tuple(first)) if found else None

    def _factor(self) -> Pattern:
        found, quantified = self._primary(), False
        while self._next < len(self._tokens):
            token = self._tokens[self._next]
            counts = token.counts or {"*": (0, None), "+": (1, None), "?": (0, 1)}.get(token.text)
            if counts is None:
                break
            if quantified:
                raise self._error("a quantifier of a quantifier", token.at, "put the first one into parentheses")
            self._next += 1
            quantified = True
            found = Repeat(found, counts[0], counts[1], greedy=not self._take("?"))
        return found

    def _primary(self) -> Pattern:
        token = self._tokens[self._next]
        self._next += 1
        if token.text.upper() == "PERMUTE" and self._peek("("):
            return self._permute(token.at)
        if token.text.isidentifier():
            return Variable(token.text)
        if token.text in "^$":
            return Anchor(end=token.text == "$")
        if token.text == "(":
            if self._take(")"):
                return Series(())
            found = self._choice()
            self._want(")", token.at)
            return found
        if token.text == "{-":
            found = self._choice()
            self._want("-}", token.at)
            return Hidden(found)
        raise self._error(f"{token.text!r} does not fit here", token.at)

    def _permute(self, begin: int) -> Pattern:
        self._take("(")
        parts = [self._choice()]
        while self._take(","):
            parts.append(self._choice())
        self._want(")", begin)
        if len(parts) > _PERMUTED_MAX:
            raise self._error(f"PERMUTE takes at most {_PERMUTED_MAX} parts", begin)
        orders = tuple(Series(order) for order in itertools.permutations(parts))
        return orders[0] if len(orders) == 1 else Choice(orders)
