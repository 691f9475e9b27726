"""Strings made of others: padded, trimmed, cut, put together, hashed. A result beyond TEXT_MAX is an overflow."""

from __future__ import annotations

__all__ = ["character", "code_point", "digest", "locate", "shaped", "trimmed"]

import hashlib
import re
from collections.abc import Callable
from typing import Final

import numpy as np

from operators.expressions.registers import OVERFLOW, Errors, Kernel, Mask, Register, any_row, both, worst
from operators.expressions.text import SPACES, TEXT_MAX, lower, objects, rows, too_long, upper

_TOO_LONG: Final = " " * (TEXT_MAX + 1)
_WORD: Final = re.compile(r"[^\W_]+")


def shaped(name: str) -> Kernel:
    """The kernel of that function: where it gives None the row is NULL."""
    function = _FUNCTIONS[name]

    def run(*args: Register) -> Register:
        valid: Mask | None = None
        errors: Errors | None = None
        for _, one_valid, one_errors in args:
            valid, errors = both(valid, one_valid), worst(errors, one_errors)
        made = list(map(function, *(rows(arg[0]) for arg in args)))
        if None in made:
            valid = both(valid, np.array([text is not None for text in made]))
        texts = [text or "" for text in made]
        bad = too_long(texts)
        if bad is not None:
            bad = bad if valid is None else bad & valid
            errors = worst(errors, (bad * np.int8(OVERFLOW)).astype(np.int8)) if any_row(bad) else errors
        return objects(texts), valid, errors

    return run


def _padding(text: str, length: int, pad: str) -> str | None:
    """What fills a text up to `length`; None where there is no such text."""
    if length < 0 or not pad:
        return None
    if length > TEXT_MAX:
        return _TOO_LONG
    lack = max(length - len(text), 0)
    return (pad * (lack // len(pad) + 1))[:lack]


def lpad(text: str, length: int, pad: str) -> str | None:
    """Filled on the left with `pad`, or cut, to `length` characters; None if that is negative or `pad` is ""."""
    padding = _padding(text, length, pad)
    return None if padding is None else padding + text[:length]


def rpad(text: str, length: int, pad: str) -> str | None:
    """Filled on the right with `pad`, or cut, to `length` characters; None if that is negative or `pad` is ""."""
    padding = _padding(text, length, pad)
    return None if padding is None else text[:length] + padding


def repeat(text: str, times: int) -> str:
    """The text so many times."""
    return _TOO_LONG if text and times > TEXT_MAX // len(text) else text * max(times, 0)


def right(text: str, count: int) -> str:
    """The last `count` characters."""
    return text[-count:] if count > 0 else ""


def overlay(text: str, new: str, start: int, length: int | None = None) -> str:
    """`new` in place of `length` characters (as many as it has) from `start`, which counts from 1.

    A start outside the text changes nothing.
    """
    if not 0 < start <= len(text):
        return text
    return text[: start - 1] + new + text[start - 1 + max(len(new) if length is None else length, 0) :]


def split_index(text: str, separator: str, index: int) -> str | None:
    """The part of that number, from 0, between separators; None if there is none, or no text to split."""
    if not text or index < 0:
        return None
    parts = text.split(separator) if separator else [text]
    return parts[index] if index < len(parts) else None


def initcap(text: str) -> str:
    """Words, which are letters and digits, begin with a capital and go on in lower case."""
    return _WORD.sub(lambda word: upper(word[0][0]) + lower(word[0][1:]), text)


def translate(text: str, old: str, new: str) -> str:
    """Each character of `old` becomes that of `new` at its place; without one it goes."""
    table = {ord(letter): new[n : n + 1] or None for n, letter in reversed(list(enumerate(old)))}
    return text.translate(table)


_FUNCTIONS: Final[dict[str, Callable[..., str | None]]] = {
    one.__name__: one for one in (lpad, rpad, repeat, right, overlay, split_index, initcap, translate)
}


def trimmed(strip: Callable[[str, str], str]) -> Callable[..., str]:
    """A function that strips the letters given, else spaces (Unicode category Zs)."""
    return lambda text, letters=SPACES: strip(text, letters)


def locate(part: str, text: str, start: int = 1) -> int:
    """Position of `part` from `start` on, from 1; 0 if there is none."""
    return text.find(part, max(start, 1) - 1) + 1 if part else 1


def code_point(text: str) -> int:
    """Of the first letter; 0 if there is none."""
    return ord(text[0]) if text else 0


def character(code: int) -> str:
    """The letter of the code's last eight bits; "" of a negative one."""
    return "" if code < 0 else chr(code & 0xFF)


def digest(algorithm: str) -> Callable[[str], str]:
    """A function that hashes a text's UTF-8, in hexadecimal."""
    return lambda text: hashlib.new(algorithm, text.encode(), usedforsecurity=False).hexdigest()
