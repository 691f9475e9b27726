"""Regular expressions of RE2, which take linear time: no look-around, no references to groups.

Arrow's functions take 80 ms to import: a worker whose pipeline has no such expression starts without them.
"""

from __future__ import annotations

__all__ = ["groups_of", "regexp_extract", "regexp_like", "regexp_replace", "similar_pattern", "tried"]

import re
from typing import Final

import pyarrow as pa

from operators.expressions.registers import OVERFLOW, Array, Kernel, Mask, Register, both, checked, strict
from operators.expressions.text import TEXT_MAX, objects, too_long

# A piece of a pattern: quoted text, an escaped letter, a class of letters, how a group begins (1), another letter.
_PIECES: Final = re.compile(
    r"\\Q.*?(?:\\E|\Z)|\\.|\[\^?\]?(?:\\.|\[:\^?\w+:\]|[^\]\\])*\]|(\((?!\?)|\(\?P?<\w+>)|.", re.DOTALL
)
_CLASS: Final = re.compile(r"\[:\^?\w+:\]")
_SIMILAR: Final = {"%": "(?s:.*)", "_": "(?s:.)", **{letter: letter for letter in "|*+?{}()"}}


def tried(pattern: str) -> None:
    """Try the pattern.

    Raises:
        ValueError: RE2 does not take it.
    """
    import pyarrow.compute as pc

    pc.match_substring_regex(pa.array([""], pa.string()), pattern)


def regexp_like(pattern: str) -> Kernel:
    """Whether RE2's `pattern` matches anywhere in the text; linear time."""
    import pyarrow.compute as pc

    def run(values: Array) -> Array:
        found = pc.match_substring_regex(pa.array(values, pa.string()), pattern)
        matched: Array = found.to_numpy(zero_copy_only=False)
        return matched

    return strict(run, 1)


def regexp_replace(pattern: str, new: str) -> Kernel:
    """Each match of RE2's `pattern` replaced by the text `new`, in linear time; a result beyond TEXT_MAX: an overflow.

    An empty pattern changes nothing, as in Flink.
    """
    import pyarrow.compute as pc

    written = new.replace("\\", "\\\\")

    def run(values: Array) -> tuple[Array, Mask | None]:
        texts = pa.array(values, pa.string())
        bad: Mask | None = None
        if new and max(map(len, values.tolist()), default=0) * len(new) > TEXT_MAX:
            matches = pc.count_substring_regex(texts, pattern).to_numpy(zero_copy_only=False)
            bad = matches * len(new) > TEXT_MAX
            texts = pc.if_else(pa.array(~bad), texts, "")
        found = objects(pc.replace_substring_regex(texts, pattern, written).to_pylist())
        long = too_long(found.tolist())
        return found, long if bad is None else (bad if long is None else bad | long)

    if not pattern:
        return strict(lambda values: values, 1)
    return checked(run, OVERFLOW)


def regexp_extract(pattern: str, group: int) -> Kernel:
    """What the group of the first match holds (0: the match), "" where it takes no part; NULL without a match."""
    import pyarrow.compute as pc

    named, _ = _named(pattern)

    def run(register: Register) -> Register:
        values, valid, errors = register
        found = pc.extract_regex(pa.array(values, pa.string()), named)
        matched: Mask = found.is_valid().to_numpy(zero_copy_only=False)
        texts = pc.fill_null(pc.struct_field(found, f"g{group}"), "")
        return objects(texts.to_pylist()), both(valid, None if matched.all() else matched), errors

    return run


def groups_of(pattern: str) -> int:
    r"""How many groups a pattern has.

    >>> groups_of(r"(a)(?:b)[(]\((?P<year>\d+)")
    2
    """
    return _named(pattern)[1]


def _named(pattern: str) -> tuple[str, int]:
    """The pattern as group g0, its groups called g1, g2, ..., and how many it has."""
    pieces, groups = [], 0
    for piece in _PIECES.finditer(pattern):
        groups += piece[1] is not None
        pieces.append(piece[0] if piece[1] is None else f"(?P<g{groups}>")
    return f"(?P<g0>{''.join(pieces)})", groups


def similar_pattern(pattern: str, escape: str | None) -> str:
    r"""SIMILAR TO's pattern as RE2's: % is any text, _ any letter; | * + ? {m,n} ( ) and [...] as elsewhere.

    >>> similar_pattern("a_(b|c)%", None)
    '\\A(?:a(?s:.)(b|c)(?s:.*))\\z'

    Raises:
        ValueError: a class of letters does not end, or nothing follows the escape.
    """
    made, at = [], 0
    while at < len(pattern):
        letter = pattern[at]
        if letter == escape:
            at += 1
            made.append(re.escape(pattern[at]) if at < len(pattern) else _refused())
        elif letter == "[":
            text, at = _letters(pattern, at, escape)
            made.append(text)
        else:
            made.append(_SIMILAR.get(letter) or re.escape(letter))
        at += 1
    return rf"\A(?:{''.join(made)})\z"


def _letters(pattern: str, start: int, escape: str | None) -> tuple[str, int]:
    """A class of letters from its bracket on, and where its last one stands; [:ALPHA:] may be in it."""
    made, at = "[", start + 1
    while at < len(pattern) and pattern[at] != "]":
        named = _CLASS.match(pattern, at)
        if named is not None:
            made += named[0].lower()
            at = named.end()
            continue
        escaped = pattern[at] == escape
        at += escaped
        letter = pattern[at : at + 1] or _refused()
        made += re.escape(letter) if escaped or letter in "\\[" else letter
        at += 1
    return (made + "]", at) if at < len(pattern) else (_refused(), at)


def _refused() -> str:
    raise ValueError("no pattern")
