"""YAML as a tree with places. Only mappings, lists and plain text: nothing is resolved, nothing is constructed.

Built from the parser's events, so neither tags nor anchors reach any object. A scalar stays the text that the
analyst wrote; the reader of a key decides whether it is a number, a duration or an expression.
"""

from __future__ import annotations

__all__ = ["Items", "Mapping", "Node", "Scalar", "parse_yaml", "word"]

from typing import Any

import msgspec
import yaml

from state.errors import ConfigError, Place
from streamproc.language.problems import fullwidth_hint

SIZE_MAX = 1 << 20
"""Characters of one file."""
DEPTH_MAX = 32
NODES_MAX = 50_000
"""Nodes of one file, aliases counted as often as they are used: an alias bomb is refused before it grows."""


_HINTS = {
    "alias": 'quote a lone *: "*"',
    "quoted scalar": "a quote is not closed",
    "\\t": "indent with blanks",
    "mapping values are not allowed": "quote a text with ': ' in it",
    "<block end>": "the indentation differs from the lines above",
}
"""Words of the parser's messages, and what would be right."""


class Scalar(msgspec.Struct, frozen=True):
    """Text. `written` is the same as it stands in the file, line breaks and indentation too, beginning at `body`."""

    text: str
    place: Place
    plain: bool
    written: str
    body: Place

    @property
    def empty(self) -> bool:
        """Nothing was written: `key:`, `~` or `null`."""
        return self.plain and self.text in ("", "~", "null")


class Items(msgspec.Struct, frozen=True):
    """A list."""

    items: list[Node]
    place: Place


class Mapping(msgspec.Struct, frozen=True):
    """Keys in the order of the file; `keys` has each key's own place. `flow`: written as `{a: 1, b: 2}`."""

    entries: dict[str, Node]
    keys: dict[str, Place]
    place: Place
    flow: bool = False


Node = Scalar | Items | Mapping


class _Open(msgspec.Struct):
    """A collection whose end has not been read yet."""

    node: Items | Mapping
    anchor: str | None
    size: int = 1
    key: Scalar | None = None


class _Builder:
    def __init__(self, text: str, file: str) -> None:
        self.text = text
        self.file = file
        self.stack: list[_Open] = []
        self.anchors: dict[str, tuple[Node, int]] = {}
        self.root: Node | None = None

    def place(self, mark: Any) -> Place:
        return Place(self.file, mark.line + 1, mark.column + 1) if mark else Place(self.file)

    def event(self, event: yaml.Event) -> None:
        place = self.place(event.start_mark)
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in self.anchors:
                raise ConfigError(f"alias *{event.anchor} has no anchor before it", place, 'quote a lone *: "*"')
            self.add(*self.anchors[event.anchor], place)
        elif isinstance(event, yaml.NodeEvent):
            if event.tag is not None:  # type: ignore[attr-defined]
                raise ConfigError("YAML tags are not allowed", place, "write the plain value")
            self.node(event, place)
        elif isinstance(event, yaml.CollectionEndEvent):
            closed = self.stack.pop()
            if closed.anchor:
                self.anchors[closed.anchor] = (closed.node, closed.size)
            self.add(closed.node, closed.size, closed.node.place)
        elif isinstance(event, yaml.DocumentStartEvent) and self.root is not None:
            raise ConfigError("a file holds one YAML document", place)

    def node(self, event: yaml.NodeEvent, place: Place) -> None:
        if isinstance(event, yaml.ScalarEvent):
            scalar = self.scalar(event, place)
            if event.anchor:
                self.anchors[event.anchor] = (scalar, 1)
            self.add(scalar, 1, place)
            return
        if len(self.stack) >= DEPTH_MAX:
            raise ConfigError(f"nested deeper than {DEPTH_MAX} levels", place)
        if isinstance(event, yaml.MappingStartEvent):
            self.stack.append(_Open(Mapping({}, {}, place, bool(event.flow_style)), event.anchor))
        else:
            self.stack.append(_Open(Items([], place), event.anchor))

    def scalar(self, event: yaml.ScalarEvent, place: Place) -> Scalar:
        written, body = event.value, place
        if event.style in ("'", '"'):
            body = place._replace(column=place.column + 1)
        elif event.start_mark and event.end_mark:
            written = self.text[event.start_mark.index : event.end_mark.index]
            if event.style in ("|", ">"):
                written = written.partition("\n")[2]
                body = Place(self.file, place.line + 1, 1)
        if not event.value.isascii() and not _is_unicode(event.value):
            raise ConfigError("half a surrogate pair is no character", place, r"write it as \U0001F600")
        if "\0" in event.value:
            raise ConfigError("a NUL character has no place here", place)
        return Scalar(event.value, place, event.style is None, written, body)

    def add(self, node: Node, size: int, place: Place) -> None:
        if not self.stack:
            self.root = node
            return
        top = self.stack[-1]
        top.size += size
        if top.size > NODES_MAX:
            raise ConfigError(f"more than {NODES_MAX} entries, aliases counted", place)
        if isinstance(top.node, Items):
            top.node.items.append(node)
        elif top.key is None:
            if not isinstance(node, Scalar):
                raise ConfigError("a key must be plain text", node.place)
            if node.text in top.node.entries:
                first = top.node.keys[node.text].line
                raise ConfigError(f"{node.text!r} is given twice", node.place, f"first in line {first}")
            top.key = node
        else:
            top.node.entries[top.key.text] = node
            top.node.keys[top.key.text] = top.key.place
            top.key = None


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _not_yaml(error: yaml.MarkedYAMLError, builder: _Builder) -> ConfigError:
    """The parser's message, where what it is about begins."""
    about, problem = error.context or "", error.problem or error.context or ""
    begins = ("quoted scalar" in about and "end of stream" in problem) or "alias" in about
    mark = error.context_mark if begins and error.context_mark else error.problem_mark or error.context_mark
    hint = _sign_hint(builder.text, error.problem_mark or error.context_mark)
    hint = hint or next((hint for words, hint in _HINTS.items() if words in f"{about} {problem}"), None)
    return ConfigError(f"not YAML: {problem}", builder.place(mark), hint)


def _no_character(error: yaml.reader.ReaderError, builder: _Builder) -> ConfigError:
    """A control character, or a half of a surrogate pair, where it stands."""
    text, at = builder.text, error.position
    place = Place(builder.file, text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at))
    hint = "delete it, or save the file as UTF-8"
    return ConfigError(f"not YAML: the character U+{error.character:04X} has no place here", place, hint)


def word(text: str, place: Place) -> Scalar:
    """A plain scalar, e.g. a key that is read like a value."""
    return Scalar(text, place, True, text, place)


def _sign_hint(text: str, mark: Any) -> str | None:
    """Of the line where the parser gave up and the one before, which it may have taken for the beginning of a key."""
    return mark and fullwidth_hint("\n".join(text.split("\n")[max(mark.line - 1, 0) : mark.line + 1]))


def parse_yaml(text: str, file: str) -> Node:
    """The tree of one document.

    Raises:
        ConfigError: not YAML, more than one document, a tag, a duplicate key, an unknown alias, too large or too deep.
    """
    if len(text) > SIZE_MAX:
        raise ConfigError(f"larger than {SIZE_MAX} characters", Place(file, 1, 1))
    builder = _Builder(text, file)
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            builder.event(event)
    except yaml.MarkedYAMLError as error:
        raise _not_yaml(error, builder) from None
    except (ValueError, OverflowError):  # PyYAML's own conversions of escapes and versions
        raise ConfigError("not YAML: an escape or a version with an impossible number", Place(file, 1, 1)) from None
    except yaml.reader.ReaderError as error:
        raise _no_character(error, builder) from None
    if builder.root is None:
        raise ConfigError("the file is empty", Place(file, 1, 1))
    return builder.root
