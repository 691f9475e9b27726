"""The clauses of a pattern's text -> a MatchClause: what MATCH_RECOGNIZE ( ) holds, without PARTITION BY and ORDER BY.

[MEASURES expr AS name, ...] [ONE ROW PER MATCH] [AFTER MATCH SKIP ...] PATTERN ( ... ) [WITHIN INTERVAL '10' MINUTE]
[SUBSET u = (a, b), ...] [DEFINE a AS condition, ...]
"""

from __future__ import annotations

__all__ = ["MatchClause", "SkipClause", "parse_clauses"]

import difflib
import re
from collections.abc import Iterator
from typing import Final, NamedTuple

import msgspec

from operators.expressions.clock import UNIT_MS
from operators.patterns.spec import SkipKind
from operators.patterns.tree import Pattern, variables_of
from state.errors import ConfigError, Place
from streamproc.language.expression import Expr, parse
from streamproc.language.patterns.pattern import parse_pattern
from streamproc.language.problems import nearest

TEXT_MAX: Final = 20_000
_PIECE: Final = re.compile(
    r"(?P<blank>\s+|--[^\n]*|/\*.*?\*/)|(?P<quoted>'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\")|(?P<word>\w+)|(?P<sign>.)",
    re.DOTALL,
)
_CLAUSES: Final = (
    (("MEASURES",), "MEASURES"),
    (("ONE", "ROW", "PER", "MATCH"), "ROWS"),
    (("ALL", "ROWS", "PER", "MATCH"), "ROWS"),
    (("AFTER", "MATCH"), "AFTER"),
    (("PATTERN",), "PATTERN"),
    (("WITHIN",), "WITHIN"),
    (("SUBSET",), "SUBSET"),
    (("DEFINE",), "DEFINE"),
)
_ORDER: Final = ("MEASURES", "ROWS", "AFTER", "PATTERN", "WITHIN", "SUBSET", "DEFINE")
_BEGINS: Final = ("MEASURES", "AFTER", "PATTERN", "WITHIN", "SUBSET", "DEFINE")
_SKIPS: Final = "SKIP PAST LAST ROW, SKIP TO NEXT ROW, SKIP TO FIRST a, SKIP TO LAST a, or NO SKIP"
_SKIP_WORDS: Final = (
    ("SKIP", "PAST", "LAST", "ROW"),
    ("SKIP", "TO", "NEXT", "ROW"),
    ("SKIP", "TO", "FIRST", None),
    ("SKIP", "TO", "LAST", None),
    ("SKIP", "TO", None),
    ("NO", "SKIP"),
)
"""None: a variable's name."""
_WITHIN: Final = re.compile(r"INTERVAL\s+'(\d{1,9})'\s+([A-Z]+?)S?(?:\s*\(\s*\d+\s*\))?", re.IGNORECASE)
_NAME: Final = re.compile(r"[A-Za-z_]\w{0,99}")


class SkipClause(msgspec.Struct, frozen=True):
    """AFTER MATCH ...; of TO_ROW: to the first or `last` row of `variable`."""

    kind: SkipKind = SkipKind.PAST_LAST
    variable: str = ""
    last: bool = True


class MatchClause(msgspec.Struct, frozen=True):
    """`define` and `measures` by name, in order; `within`: ms, 0: any time. `rows`: ONE or ALL, as it is written,
    at `rows_place`. `place`: of PATTERN.
    """

    pattern: Pattern
    define: dict[str, Expr]
    measures: dict[str, Expr]
    subsets: dict[str, tuple[str, ...]]
    skip: SkipClause
    within: int
    rows: str
    place: Place
    rows_place: Place


class _Piece(NamedTuple):
    """A word, a quoted text or a sign; `depth`: parentheses around it."""

    text: str
    at: int
    depth: int

    @property
    def end(self) -> int:
        return self.at + len(self.text)


def parse_clauses(text: str, place: Place) -> MatchClause:
    """The clauses of `text`, whose first character stands at `place`.

    Raises:
        ConfigError: with the place of what is wrong.
    """
    return _Clauses(text, place).whole()


class _Clauses:
    def __init__(self, text: str, place: Place) -> None:
        self._text, self._place = text, place
        if len(text) > TEXT_MAX:
            raise self._error(f"a pattern has at most {TEXT_MAX} characters", len(text) - len(text.lstrip()))
        self._pieces = list(self._scan())
        self._found = self._split()

    def _scan(self) -> Iterator[_Piece]:
        depth = 0
        for match in _PIECE.finditer(self._text):
            if match["blank"]:
                continue
            depth -= match[0] == ")"
            yield _Piece(match[0], match.start(), depth)
            depth += match[0] == "("

    def _at(self, offset: int) -> Place:
        if not self._place.line:
            return self._place
        before = self._text[:offset]
        line = before.count("\n")
        column = offset - before.rfind("\n") if line else max(self._place.column, 1) + offset
        return Place(self._place.file, self._place.line + line, column)

    def _error(self, message: str, offset: int, hint: str | None = None) -> ConfigError:
        return ConfigError(message, self._at(offset), hint)

    def _split(self) -> dict[str, tuple[int, list[_Piece]]]:
        """Clause -> where it begins, and its pieces, its words included."""
        found: dict[str, tuple[int, list[_Piece]]] = {}
        name: str = ""
        i = 0
        while i < len(self._pieces):
            began = self._begins(i)
            if began is None or (began == "PATTERN" and not self._opens(i + 1)):
                if not name:
                    piece = self._pieces[i]
                    hint = nearest(piece.text.upper(), [words[0] for words, _ in _CLAUSES])
                    raise self._error(f"{piece.text!r} begins no clause of a pattern", piece.at, hint)
                found[name][1].append(self._pieces[i])
            else:
                self._check_order(began, found, i)
                name = began
                found[name] = (self._pieces[i].at, [self._pieces[i]])
            i += 1
        if "PATTERN" not in found:
            self._refuse_misspelt([piece for _, pieces in found.values() for piece in pieces])
            first = self._pieces[0].at if self._pieces else 0
            raise self._error("there is no PATTERN (...)", first, "PATTERN (A{3,} B) DEFINE A AS ..., B AS ...")
        return found

    def _refuse_misspelt(self, pieces: list[_Piece]) -> None:
        """Of a clause that cannot be read: it may hold the next one, whose first word is misspelt."""
        for piece in pieces:
            near = difflib.get_close_matches(piece.text.upper(), _BEGINS, 1, 0.75)
            if piece.depth == 0 and near and piece.text.upper() not in _BEGINS:
                raise self._error(f"{piece.text!r} begins no clause of a pattern", piece.at, f"did you mean {near[0]}?")

    def _check_order(self, name: str, found: dict[str, tuple[int, list[_Piece]]], i: int) -> None:
        if name in found:
            raise self._error(f"{self._pieces[i].text} stands twice", self._pieces[i].at)
        late = [one for one in found if _ORDER.index(one) > _ORDER.index(name)]
        if late:
            raise self._error(
                f"{self._pieces[i].text} stands behind {late[0]}", self._pieces[i].at, "move it before it"
            )

    def _begins(self, i: int) -> str | None:
        for words, name in _CLAUSES:
            texts = [piece.text.upper() for piece in self._pieces[i : i + len(words)]]
            if tuple(texts) == words and self._pieces[i].depth == 0:
                return name
        return None

    def _opens(self, i: int) -> bool:
        return i < len(self._pieces) and self._pieces[i].text == "("

    # ---- clauses

    def whole(self) -> MatchClause:
        """All of them."""
        at, pieces = self._found["PATTERN"]
        closed = next((one for one in pieces[2:] if one.text == ")" and one.depth == 0), None)
        if closed is None:
            raise self._error("PATTERN ( is not closed", at)
        if pieces[-1] is not closed:
            extra = pieces[pieces.index(closed) + 1]
            hint = nearest(extra.text.upper(), ("WITHIN", "SUBSET", "DEFINE"))
            raise self._error(f"{extra.text!r} does not fit behind PATTERN (...)", extra.at, hint)
        begin = pieces[1].end
        pattern = parse_pattern(self._text[begin : closed.at], self._at(begin))
        known = variables_of(pattern)
        subsets = self._subsets(known)
        return MatchClause(
            pattern,
            self._define(known),
            dict(self._named("MEASURES")),
            subsets,
            self._skip((*known, *subsets)),
            self._within(),
            self._rows(),
            self._at(at),
            self._at(self._found.get("ROWS", (at,))[0]),
        )

    def _items(self, clause: str) -> Iterator[list[_Piece]]:
        """What stands between the commas of a clause."""
        if clause not in self._found:
            return
        item: list[_Piece] = []
        pieces = self._found[clause][1]
        for piece in [*pieces[1:], _Piece(",", pieces[-1].end, 0)]:
            if piece.text != "," or piece.depth:
                item.append(piece)
                continue
            if not item:
                raise self._error(f"{clause}: something is missing", piece.at)
            yield item
            item = []

    def _named(self, clause: str) -> Iterator[tuple[str, Expr]]:
        """`expr AS name` of MEASURES."""
        seen: set[str] = set()
        for item in self._items(clause):
            if len(item) < 3 or item[-2].text.upper() != "AS" or not _NAME.fullmatch(item[-1].text):
                raise self._error("a measure needs a name", item[0].at, "COUNT(A.*) AS failures")
            name = item[-1].text
            if name in seen:
                raise self._error(f"a measure {name} exists already", item[-1].at)
            seen.add(name)
            yield name, self._expression(item[:-2])

    def _define(self, known: tuple[str, ...]) -> dict[str, Expr]:
        found: dict[str, Expr] = {}
        for item in self._items("DEFINE"):
            name = item[0].text
            if len(item) < 3 or item[1].text.upper() != "AS":
                raise self._error("DEFINE wants a variable AS a condition", item[0].at, "DEFINE A AS amount > 100")
            if name not in known:
                raise self._error(f"{name} is not in the pattern", item[0].at, nearest(name, known))
            if name in found:
                raise self._error(f"{name} is defined twice", item[0].at)
            found[name] = self._expression(item[2:])
        return found

    def _expression(self, pieces: list[_Piece]) -> Expr:
        text = self._text[pieces[0].at : pieces[-1].end]
        text = re.sub(r"\b(FINAL|RUNNING)\s(?=\s*\w+\s*\()", r"\1_", text, flags=re.IGNORECASE)
        return parse(text, self._at(pieces[0].at))

    def _subsets(self, known: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
        found: dict[str, tuple[str, ...]] = {}
        for item in self._items("SUBSET"):
            name, *others = [piece.text for piece in item]
            members = others[2:-1:2]
            if others[:2] != ["=", "("] or others[-1] != ")" or set(others[3:-1:2]) - {","} or not members:
                self._refuse_misspelt(item[1:])
                raise self._error("SUBSET wants a name = (variables)", item[0].at, "SUBSET u = (a, b)")
            for piece in item[3:-1:2]:
                if piece.text not in known:
                    raise self._error(f"{piece.text} is not in the pattern", piece.at, nearest(piece.text, known))
            if name in known or name in found:
                raise self._error(f"{name} exists already", item[0].at)
            found[name] = tuple(members)
        return found

    def _within(self) -> int:
        if "WITHIN" not in self._found:
            return 0
        pieces = self._found["WITHIN"][1]
        text = self._text[pieces[0].end : pieces[-1].end].strip()
        match = _WITHIN.fullmatch(text)
        unit = match[2].lower() if match else ""
        if match is None or unit not in UNIT_MS or not int(match[1]):
            self._refuse_misspelt(pieces[1:])
            raise self._error(
                "WITHIN wants an interval", pieces[0].at, f"WITHIN INTERVAL '10' MINUTE; {', '.join(UNIT_MS)}"
            )
        return int(match[1]) * UNIT_MS[unit]

    def _rows(self) -> str:
        if "ROWS" not in self._found:
            return "ONE"
        first, *_ = pieces = self._found["ROWS"][1]
        extra = [piece.text.upper() for piece in pieces[4:]]
        which = first.text.upper()
        if extra and (which == "ONE" or extra != ["SHOW", "EMPTY", "MATCHES"]):
            raise self._error(f"{' '.join(extra)} is not supported yet", pieces[4].at, "leave it out")
        return which

    def _refuse_misspelt_skip(self, pieces: list[_Piece]) -> None:
        """Of what stands behind AFTER MATCH: the word that is nearly one of the forms'."""
        for form in _SKIP_WORDS:
            if len(form) != len(pieces):
                continue
            differ = [
                (piece, word)
                for piece, word in zip(pieces, form, strict=True)
                if word not in {None, piece.text.upper()}
            ]
            if all(difflib.get_close_matches(piece.text.upper(), (word or "",), 1) for piece, word in differ):
                piece, word = differ[0]
                hint = f"did you mean {word}? {_SKIPS}"
                raise self._error(f"{piece.text!r} does not fit behind AFTER MATCH", piece.at, hint)

    def _skip(self, known: tuple[str, ...]) -> SkipClause:
        if "AFTER" not in self._found:
            return SkipClause()
        pieces = self._found["AFTER"][1]
        match [piece.text.upper() for piece in pieces[2:]]:
            case ["NO", "SKIP"]:
                return SkipClause(SkipKind.NO_SKIP)
            case ["SKIP", "PAST", "LAST", "ROW"]:
                return SkipClause()
            case ["SKIP", "TO", "NEXT", "ROW"]:
                return SkipClause(SkipKind.NEXT_ROW)
            case ["SKIP", "TO", ("FIRST" | "LAST") as which, _]:
                found = SkipClause(SkipKind.TO_ROW, pieces[-1].text, which == "LAST")
            case ["SKIP", "TO", _]:
                found = SkipClause(SkipKind.TO_ROW, pieces[-1].text)
            case _:
                self._refuse_misspelt(pieces[2:])
                self._refuse_misspelt_skip(pieces[2:])
                raise self._error("AFTER MATCH wants to know where to go on", pieces[0].at, _SKIPS)
        if found.variable not in known:
            raise self._error(f"{found.variable} is not in the pattern", pieces[-1].at, nearest(found.variable, known))
        return found
