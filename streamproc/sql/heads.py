"""What may stand before a query: CREATE VIEW name AS, INSERT INTO name."""

from __future__ import annotations

__all__ = ["Head", "head_of", "is_view"]

from collections.abc import Sequence
from typing import Final, Literal, NamedTuple

from sqlglot.tokenizer_core import Token

from state.errors import Place
from streamproc.sql.words import Words

_QUERY: Final = ("SELECT", "WITH", "(")


class Head(NamedTuple):
    """`name`: of the view, or of the table that rows go to. `columns`: as it lists them; none: those of the query."""

    kind: Literal["query", "view", "insert"]
    name: str = ""
    columns: tuple[str, ...] = ()
    place: Place = Place("")


def head_of(tokens: list[Token], text: str, place: Place) -> tuple[Head, list[Token]]:
    """The head, and the words of the query.

    Raises:
        ConfigError: it is not written as it should be; with its place.
    """
    words = Words(tokens, text, place)
    if words.peek() == "CREATE":
        return _view(words)
    if words.peek() == "INSERT":
        return _insert(words)
    return Head("query"), tokens


def is_view(tokens: Sequence[Token]) -> bool:
    """Whether CREATE ... VIEW begins so."""
    begins = [token.text.upper() for token in tokens[:5]]
    return begins[:1] == ["CREATE"] and "VIEW" in begins[: begins.index("TABLE") if "TABLE" in begins else 5]


def _view(words: Words) -> tuple[Head, list[Token]]:
    words.want("CREATE")
    words.skip("OR", "REPLACE")
    words.skip("TEMPORARY")
    words.want("VIEW")
    if words.skip("IF"):
        words.want("NOT", "EXISTS")
    place = words.place()
    head = Head("view", words.name(), _columns(words), place)
    if words.skip("COMMENT"):
        words.step()
    words.want("AS")
    return head, _query(words)


def _insert(words: Words) -> tuple[Head, list[Token]]:
    words.want("INSERT")
    if words.peek() == "OVERWRITE":
        raise words.refuse("INSERT OVERWRITE is not part of the subset", "INSERT INTO")
    words.want("INTO")
    words.skip("TABLE")
    place = words.place()
    name = words.name()
    columns: tuple[str, ...] = ()
    if words.peek() == "(" and words.peek(1) not in _QUERY:
        columns = _columns(words)
    return Head("insert", name, columns, place), _query(words)


def _columns(words: Words) -> tuple[str, ...]:
    """A list of names in brackets, if one comes."""
    names: list[str] = []
    if words.skip("("):
        while not names or words.skip(","):
            names.append(words.name())
        words.want(")")
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise words.refuse(f"two columns are called {twice}")
    return tuple(names)


def _query(words: Words) -> list[Token]:
    if words.peek() not in _QUERY:
        said = f", not {words.peek()}" if words.rest() else ""
        raise words.refuse(f"a query is wanted here{said}", "SELECT ... FROM ...")
    return words.left()
