"""Strings: Python's str in object arrays. Lengths and positions count code points; nothing here is worse than n*m."""

from __future__ import annotations

__all__ = ["SPACES", "TEXT_MAX", "concat", "concat_ws", "like", "mapped", "objects", "replace", "rows", "too_long"]

import re
from collections.abc import Callable, Iterable
from itertools import repeat
from typing import Any, Final

import numpy as np

from operators.expressions.registers import OVERFLOW, Array, Kernel, Mask, Register, checked, strict

TEXT_MAX: Final = 65_536  # characters that replace and concat may make
_NOTHING: Final = np.array(None, np.object_)
SPACES: Final = " \u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"


def rows(values: Array) -> Iterable[Any]:
    """Python values of a column, or one constant again and again."""
    return values.tolist() if values.ndim else repeat(values.item())


def objects(results: list[Any]) -> Array:
    """A column of Python values."""
    column = np.empty(len(results), np.object_)
    column[:] = results
    return column


def mapped(function: Callable[..., Any], arity: int, dtype: Any) -> Kernel:
    """A kernel that calls `function` on each row; at least one argument is a column."""
    if dtype is np.object_:
        return strict(lambda *args: objects(list(map(function, *map(rows, args)))), arity)
    return strict(lambda *args: np.array(list(map(function, *map(rows, args))), dtype=dtype), arity)


def _one_to_one(change: Callable[[str], str], text: str) -> str:
    if text.isascii():
        return change(text)
    return "".join(new if len(new := change(letter)) == 1 else letter for letter in text)


def lower(text: str) -> str:
    """Lower case, letter by letter: a letter whose other case is several stays as it is."""
    return _one_to_one(str.lower, text)


def upper(text: str) -> str:
    """Upper case, letter by letter: a letter whose other case is several stays as it is."""
    return _one_to_one(str.upper, text)


def substr(text: str, start: int, length: int | None = None) -> str:
    """`length` characters from `start`, which counts from 1; negative: from the end. A negative length gives ""."""
    begin = start - 1 if start > 0 else (len(text) + start if start < 0 else -1)
    end = len(text) if length is None else begin + length
    return text[max(begin, 0) : max(end, 0)]


def strpos(text: str, part: str) -> int:
    """Position of `part`, from 1; 0 if there is none."""
    return text.find(part) + 1


def too_long(texts: list[str]) -> Mask | None:
    """Which texts are beyond TEXT_MAX; None: none."""
    return np.array([len(text) > TEXT_MAX for text in texts]) if max(map(len, texts), default=0) > TEXT_MAX else None


def replace() -> Kernel:
    """REPLACE(text, from, to); an empty `from` changes nothing; a result beyond TEXT_MAX is an overflow."""

    def one(text: str, old: str, new: str) -> str:
        if not old or old not in text:
            return text
        grown = len(text) + text.count(old) * (len(new) - len(old))
        return text.replace(old, new) if grown <= TEXT_MAX else " " * (TEXT_MAX + 1)

    def run(text: Array, old: Array, new: Array) -> tuple[Array, Mask | None]:
        texts = list(map(one, rows(text), rows(old), rows(new)))
        return objects(texts), too_long(texts)

    return checked(run, OVERFLOW)


def concat(skip_null: bool) -> Kernel:
    """`||` (NULL if any is), or CONCAT (NULL is ""); a result beyond TEXT_MAX is an overflow."""

    def run(*args: Array) -> tuple[Array, Mask | None]:
        texts = list(map("".join, zip(*map(rows, args), strict=False)))
        return objects(texts), too_long(texts)

    join = checked(run, OVERFLOW)
    if not skip_null:
        return join

    def skipping(*args: Register) -> Register:
        known = [(v if m is None else np.where(m, v, ""), None, e) for v, m, e in args]
        return join(*known)

    return skipping


def concat_ws() -> Kernel:
    """CONCAT_WS(separator, text, ...): NULLs among the texts are left out; beyond TEXT_MAX: an overflow."""

    def run(separator: Array, *args: Array) -> tuple[Array, Mask | None]:
        lines = zip(rows(separator), *map(rows, args), strict=False)
        texts = [between.join([text for text in some if text is not None]) for between, *some in lines]
        return objects(texts), too_long(texts)

    join = checked(run, OVERFLOW)

    def skipping(separator: Register, *args: Register) -> Register:
        return join(separator, *[(v if m is None else np.where(m, v, _NOTHING), None, e) for v, m, e in args])

    return skipping


def like(pattern: str, escape: str | None) -> Kernel:
    """LIKE with a constant pattern: matched piece by piece between its %, without backtracking."""
    pieces = _like_pieces(pattern, escape)
    if len(pieces) == 1:
        whole = re.compile(pieces[0], re.DOTALL)
        return mapped(lambda text: whole.fullmatch(text) is not None, 1, np.bool_)
    first = re.compile(pieces[0], re.DOTALL)
    inner = [re.compile(piece, re.DOTALL) for piece in pieces[1:-1] if piece]
    last = re.compile(f"(?:{pieces[-1]})\\Z", re.DOTALL)
    last_length = _like_length(pieces[-1])

    def matches(text: str) -> bool:
        start = first.match(text)
        if start is None:
            return False
        position = start.end()
        for piece in inner:
            found = piece.search(text, position)
            if found is None:
                return False
            position = found.end()
        tail = len(text) - last_length
        return tail >= position and last.match(text, tail) is not None

    return mapped(matches, 1, np.bool_)


def _like_pieces(pattern: str, escape: str | None) -> list[str]:
    """The pieces between %, as regular expressions of fixed length."""
    pieces, escaped = [""], False
    for letter in pattern:
        if escaped:
            pieces[-1] += re.escape(letter)
            escaped = False
        elif letter == escape:
            escaped = True
        elif letter == "%":
            pieces.append("")
        else:
            pieces[-1] += "." if letter == "_" else re.escape(letter)
    return pieces


def _like_length(piece: str) -> int:
    """Characters that a piece matches."""
    return len(re.sub(r"\\(.)", r"\1", piece, flags=re.DOTALL))
