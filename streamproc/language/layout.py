"""The layout of a YAML file of ours: indentation, blanks, empty lines. Words, comments, order and line breaks stay.

A line begins in the column that its place in the file says: two blanks a level, a list's items two further than their
key. What goes on over several lines (a text, an expression, a list in brackets) is moved as a whole. The parser's
tokens say what is what, and the trees before and after are compared.
"""

from __future__ import annotations

__all__ = ["formatted"]

import re
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import yaml

from state.errors import ConfigError, Place
from streamproc.language.yaml_tree import Items, Mapping, Node, Scalar, parse_yaml

_STEP: Final = 2
_OPENS: Final = (yaml.FlowSequenceStartToken, yaml.FlowMappingStartToken)
_CLOSES: Final = (yaml.FlowSequenceEndToken, yaml.FlowMappingEndToken)
_ATTACHED: Final = (yaml.FlowEntryToken, *_CLOSES)
_ALONE: Final = (yaml.DirectiveToken, yaml.DocumentStartToken, yaml.DocumentEndToken)
_QUOTED: Final = re.compile(r"'(?:[^']|'')*'", re.DOTALL)


class _Level(NamedTuple):
    """A block: the column of its lines, as it is and as it shall be. `loose`: a list in the column of its key."""

    old: int
    new: int
    listed: bool
    loose: bool = False


class _Word(NamedTuple):
    """A token that stands for text in blocks `levels`, or `inside` brackets there.

    `indent`: of its line outside of brackets, if it is the first there.
    """

    token: Any
    indent: int
    levels: tuple[_Level, ...]
    inside: bool

    @property
    def level(self) -> _Level:
        """The innermost block."""
        return self.levels[-1] if self.levels else _Level(0, 0, listed=False)


def formatted(text: str, file: str) -> str:
    """The file's text, laid out.

    Raises:
        ConfigError: it is not YAML as we read it, with the place; or nothing that is written so can be laid out.
    """
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    tree = parse_yaml(text, file)
    if re.search("[\r\x85\u2028\u2029]", text):
        raise ConfigError("a line ends in another sign than LF", Place(file, 1, 1), "write \\u2028 in double quotes")
    made = _Lines(text, _words(text, file)).whole()
    if not _equal(tree, parse_yaml(made, file)):
        raise ConfigError("a text in it would not stay the same", Place(file, 1, 1), "the file is left as it is")
    return made


def _words(text: str, file: str) -> Iterator[_Word]:
    """The tokens that stand for text, with the columns where their lines begin."""
    levels: list[_Level] = []
    brackets, key = 0, False
    for token in yaml.scan(text, Loader=yaml.SafeLoader):
        start = token.start_mark
        if isinstance(token, yaml.KeyToken) and token.end_mark.index > start.index:
            raise ConfigError("a key behind '?' is not laid out", Place(file, start.line + 1, start.column + 1))
        if not brackets:
            _change(levels, token)
        if token.end_mark.index == start.index and not isinstance(token, yaml.ScalarToken):
            key = isinstance(token, yaml.KeyToken)
            continue
        begins = key or isinstance(token, (yaml.BlockEntryToken, *_ALONE))
        indent = 0 if not levels else levels[-1].new + (0 if begins else _STEP)
        yield _Word(token, indent, tuple(levels), brackets > 0)
        brackets += isinstance(token, _OPENS) - isinstance(token, _CLOSES)
        key = False


def _change(levels: list[_Level], token: Any) -> None:
    """What a token outside brackets opens and closes."""
    column = token.start_mark.column
    new = levels[-1].new + _STEP if levels else 0
    match token:
        case yaml.BlockMappingStartToken():
            levels.append(_Level(column, new, listed=False))
        case yaml.BlockSequenceStartToken():
            levels.append(_Level(column, new, listed=True))
        case yaml.BlockEntryToken() if not levels[-1].listed:
            levels.append(_Level(column, new, listed=True, loose=True))
        case yaml.KeyToken() if levels[-1].loose and levels[-1].old == column:
            levels.pop()
        case yaml.BlockEndToken():
            if levels[-1].loose:
                levels.pop()
            levels.pop()
        case _:
            pass


class _Lines:
    """Writes the lines anew, word by word."""

    def __init__(self, text: str, words: Iterator[_Word]) -> None:
        self._text = text
        self._words = words
        self._lines: list[str] = []
        self._levels: tuple[_Level, ...] = ()
        self._shifts: list[int] = []
        """By how much the open brackets were moved."""

    def whole(self) -> str:
        """All of it."""
        end, before, block, keeps = 0, None, True, False
        for word in self._words:
            token = word.token
            gap = self._text[end : token.start_mark.index]
            if self._between("\n" + gap if block else gap, word):
                self._lines.append(" " * self._indent(word))
            elif _spaced(before, token):
                self._lines[-1] += " "
            raw = self._text[token.start_mark.index : token.end_mark.index]
            block = isinstance(token, yaml.ScalarToken) and token.style in ("|", ">")
            keeps = block and "+" in raw.partition("\n")[0].partition("#")[0]
            shift = len(self._lines[-1]) - token.start_mark.column
            if isinstance(token, _OPENS):
                self._shifts.append(shift)
            elif isinstance(token, _CLOSES):
                self._shifts.pop()
            if block:
                self._block(raw, word.level.new - word.level.old, keeps=keeps)
            else:
                self._plain(raw, shift, word.level.new + _STEP if word.levels else 0)
            end, before, self._levels = token.end_mark.index, token, word.levels
        self._between(("\n" if block else "") + self._text[end:] + "\n", None)
        while self._lines and not self._lines[-1] and not keeps:
            self._lines.pop()
        ended = not block or self._text.endswith("\n")
        return "\n".join(self._lines) + ("\n" if ended else "")

    def _between(self, gap: str, word: _Word | None) -> bool:
        """Comments and empty lines before `word`; whether it begins a line."""
        behind, *lines = gap.split("\n")
        if comment := behind.strip():
            self._lines[-1] += " " * max(1, len(behind) - len(behind.lstrip())) + comment
        for line in lines[:-1]:
            if comment := line.strip():
                self._lines.append(" " * self._column(len(line) - len(line.lstrip()), word) + comment)
            elif self._lines and self._lines[-1]:
                self._lines.append("")
        return bool(lines)

    def _indent(self, word: _Word) -> int:
        """Of the line that `word` begins."""
        return self._column(word.token.start_mark.column, word)

    def _column(self, old: int, word: _Word | None) -> int:
        """Where a word or comment begins: as what follows, if it did; else as the block in which it stands."""
        if word is not None and word.inside:
            return max(word.level.new, old + self._shifts[-1])
        if word is not None and old == word.token.start_mark.column:
            return word.indent
        around = [level.new for level in self._levels if level.old <= old]
        return around[-1] if around else 0

    def _block(self, raw: str, shift: int, *, keeps: bool) -> None:
        """A text behind | or >: its lines keep what they are indented further than their key."""
        head, *lines = raw.removesuffix("\n").split("\n")
        blank = bool(lines) and not lines[-1].strip() and not keeps
        while lines and not lines[-1].strip() and not keeps:
            lines.pop()
        begin = min((len(line) - len(line.lstrip(" ")) for line in lines if line.strip()), default=0)
        self._lines[-1] += head.rstrip()
        for line in lines:
            if not line.strip(" ") and len(line) <= begin:
                self._lines.append("")
            else:
                self._lines.append(line[-shift:] if shift < 0 else " " * shift + line)
        self._lines += [""] if blank else []

    def _plain(self, raw: str, shift: int, least: int) -> None:
        """Any other word; lines within it are joined by one blank when they are read."""
        head, *lines = raw.split("\n")
        self._lines[-1] += head if not lines or head.endswith("\\ ") else head.rstrip()
        for n, line in enumerate(lines):
            kept = line.lstrip(" \t")
            if n < len(lines) - 1 and not kept.rstrip(" \t").endswith("\\"):
                kept = kept.rstrip(" \t")
            indent = len(line) - len(line.lstrip(" \t")) + shift
            self._lines.append(" " * max(least, indent) + kept if kept else "")


def _spaced(before: Any, token: Any) -> bool:
    """Whether a blank stands between two words of a line."""
    if isinstance(token, yaml.ValueToken):
        return isinstance(before, yaml.AliasToken)
    if isinstance(token, _ATTACHED):
        return isinstance(before, yaml.ValueToken)
    return not isinstance(before, _OPENS)


def _equal(one: Node, other: Node) -> bool:
    """Whether both say the same, whatever their places."""
    match one, other:
        case Mapping(), Mapping():
            keys = list(one.entries) == list(other.entries)
            return keys and all(_equal(one.entries[key], other.entries[key]) for key in one.entries)
        case Items(), Items():
            same = len(one.items) == len(other.items)
            return same and all(map(_equal, one.items, other.items))
        case Scalar(), Scalar():
            lines = [[line.strip() for line in node.written.strip().split("\n")] for node in (one, other)]
            quoted = _QUOTED.findall(one.written) == _QUOTED.findall(other.written)
            return one.text == other.text and one.plain == other.plain and lines[0] == lines[1] and quoted
        case _:
            return False
