"""Reading values out of the tree: each reader takes a node and gives a value, or a ConfigError with its place."""

from __future__ import annotations

__all__ = [
    "Reader",
    "Section",
    "check_identifier",
    "check_unreserved",
    "choice",
    "duration",
    "each",
    "flag",
    "formula",
    "identifier",
    "itself",
    "names",
    "number",
    "text",
    "topic_name",
    "type_name",
    "whole",
]

import math
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import TypeVar

from operators.plan import RESERVED
from operators.schema import DataType
from state.errors import ConfigError, Place
from streamproc.language.expression import Expr, parse
from streamproc.language.problems import Problems, fullwidth_hint, nearest
from streamproc.language.units import parse_duration, parse_type
from streamproc.language.yaml_tree import Items, Mapping, Node, Scalar

T = TypeVar("T")
Reader = Callable[[Node], T]

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")
_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,200}")
_EXPRESSION_MAX = 20_000


def itself(node: Node) -> Node:
    """What stands there, unread."""
    return node


def text(node: Node) -> str:
    """Any non-empty scalar, as it is written."""
    if not isinstance(node, Scalar):
        raise ConfigError("a single value is expected here", node.place)
    if node.empty or not node.text.strip():
        raise ConfigError("a value is missing", node.place)
    return node.text


def identifier(node: Node) -> str:
    """A name that expressions can use."""
    name = text(node)
    check_identifier(name, node.place)
    return name


def check_identifier(name: str, place: Place) -> None:
    """Refuse a name that could not stand in an expression."""
    if not _IDENTIFIER.fullmatch(name):
        raise ConfigError(f"{name!r} is not a name", place, "letters, digits and _, not beginning with a digit")


def check_unreserved(column: str, place: Place, remedy: str) -> None:
    """Refuse to call a column what records between stages call a field of their own."""
    if column in RESERVED:
        raise ConfigError(f"{column!r} is a field that records between stages have for themselves", place, remedy)


def topic_name(node: Node) -> str:
    """A name that Kafka accepts for a topic."""
    name = text(node)
    if not _TOPIC.fullmatch(name) or name in (".", ".."):
        raise ConfigError(f"{name!r} cannot name a topic", node.place, "letters, digits, '.', '_' and '-'")
    return name


def flag(node: Node) -> bool:
    """`true` or `false`."""
    word = text(node)
    if word not in ("true", "false"):
        raise ConfigError(f"{word!r} is neither true nor false", node.place)
    return word == "true"


def whole(low: int, high: int) -> Reader[int]:
    """An integer within bounds."""

    def read(node: Node) -> int:
        word = text(node)
        if not re.fullmatch(r"-?\d{1,18}", word) or not low <= int(word) <= high:
            raise ConfigError(f"{word!r} is not a whole number from {low} to {high}", node.place)
        return int(word)

    return read


def number(low: float, high: float) -> Reader[float]:
    """A number within bounds."""

    def read(node: Node) -> float:
        word = text(node)
        try:
            value = float(word)
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            raise ConfigError(f"{word!r} is not a number from {low:g} to {high:g}", node.place)
        return value

    return read


def duration(node: Node) -> int:
    """A duration, in ms."""
    try:
        return parse_duration(text(node))
    except ValueError as error:
        raise ConfigError(str(error), node.place) from None


def type_name(node: Node) -> DataType:
    """A type of the language."""
    try:
        return parse_type(text(node))
    except ValueError as error:
        raise ConfigError(str(error), node.place) from None


def choice(what: str, *right: str, later: Iterable[str] = ()) -> Reader[str]:
    """One of the given words; `later` are those that a later release will know."""
    soon = frozenset(later)

    def read(node: Node) -> str:
        word = text(node)
        if word in soon:
            raise ConfigError(f"{what} {word!r} is not supported yet", node.place, nearest("", right))
        if word not in right:
            raise ConfigError(f"unknown {what} {word!r}", node.place, nearest(word, right))
        return word

    return read


def formula(node: Node) -> Expr:
    """An expression, parsed."""
    text(node)
    assert isinstance(node, Scalar)
    if len(node.written) > _EXPRESSION_MAX:
        raise ConfigError(f"an expression has at most {_EXPRESSION_MAX} characters", node.place)
    return parse(node.written, node.body)


def each(read: Reader[T]) -> Reader[tuple[T, ...]]:
    """A list of what `read` reads; a single value counts as a list of one."""

    def read_all(node: Node) -> tuple[T, ...]:
        if isinstance(node, Mapping):
            raise ConfigError("a list is expected here", node.place, "[a, b]")
        return tuple(read(item) for item in (node.items if isinstance(node, Items) else [node]))

    return read_all


def names(node: Node) -> tuple[str, ...]:
    """A list of names, each once."""
    found = each(text)(node)
    seen: set[str] = set()
    for item, name in zip(node.items if isinstance(node, Items) else [node], found, strict=True):
        if name in seen:
            raise ConfigError(f"{name} is listed twice", item.place)
        seen.add(name)
    return found


class Section:
    """A mapping whose keys are taken one after another; what is left at the end is unknown.

    Errors go to `problems`, and a fallback value is returned, so that reading goes on to the next error.
    """

    def __init__(self, node: Node, what: str, problems: Problems) -> None:
        self.what = what
        self.problems = problems
        self.place = node.place
        self._known: list[str] = []
        self._missing: list[tuple[str, str | None, Collection[str]]] = []
        self._node = node if isinstance(node, Mapping) else Mapping({}, {}, node.place)
        self._refused = not isinstance(node, Mapping) and not (isinstance(node, Scalar) and node.empty)
        if self._refused:
            hint = fullwidth_hint(node.text) if isinstance(node, Scalar) else None
            problems.add(f"{what} must be a mapping of keys to values", node.place, hint)

    def __contains__(self, key: str) -> bool:
        return key in self._node.entries

    def __iter__(self) -> Iterator[str]:
        """All keys, in the order of the file."""
        return iter(self._node.entries)

    def key_place(self, key: str) -> Place:
        """Where the key stands; the section's place if it is absent."""
        return self._node.keys.get(key, self.place)

    def node(self, key: str) -> Node | None:
        """The node under `key`, which counts as known from now on."""
        self._known.append(key)
        return self._node.entries.get(key)

    def know(self, *keys: str) -> None:
        """Count keys as known that are not there: a misspelt one is told of them."""
        self._known += keys

    def need(self, key: str, read: Reader[T], fallback: T, hint: str | None = None, instead: Collection[str] = ()) -> T:
        """The value of a key that must be there, or one of `instead`; `close` says so if it is not."""
        if key not in self:
            self._known.append(key)
            self._missing.append((key, hint, instead))
            return fallback
        return self.get(key, read, fallback)

    def get(self, key: str, read: Reader[T], default: T) -> T:
        """The value of a key that may be there."""
        node = self.node(key)
        if node is None:
            return default
        with self.problems.caught():
            return read(node)
        return default

    def subsections(self, key: str, what: str) -> Iterator[tuple[str, Section]]:
        """The named mappings under `key`, each as a section of its own."""
        node = self.node(key)
        if node is None or (isinstance(node, Scalar) and node.empty):
            return
        outer = Section(node, key, self.problems)
        for name, entry in outer._node.entries.items():
            with self.problems.caught():
                check_identifier(name, outer.key_place(name))
                yield name, Section(entry, f"{what} {name}", self.problems)

    def close(self) -> None:
        """Refuse the keys that nobody took, and name the missing ones (once: a misspelt key is not missing too)."""
        misspelt: set[str | None] = set()
        for key, value in self._node.entries.items():
            if key not in self._known:
                hint = nearest(key, self._known)
                misspelt.add(hint)
                if self._node.flow and isinstance(value, Scalar) and value.empty:
                    hint = fullwidth_hint(key) or "a comma ends a value inside { }: quote it"
                self.problems.add(f"unknown key {key!r} in {self.what}", self.key_place(key), hint)
        for key, hint, instead in self._missing if not self._refused else ():
            if not misspelt & {f"did you mean {one}?" for one in (key, *instead)}:
                self.problems.add(f"{self.what} lacks {key!r}", self.place, hint)
