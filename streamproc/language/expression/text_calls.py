"""Typing of the functions of texts: from checked arguments to a call of a kernel."""

from __future__ import annotations

__all__ = [
    "concat",
    "concat_ws",
    "hashed",
    "left",
    "letter",
    "locate",
    "regexp",
    "regexp_extract",
    "regexp_replace",
    "sha2",
    "shaped",
    "similar",
    "substr",
    "text_count",
    "text_test",
    "text_to",
]

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Final

from operators.expressions.regexps import groups_of, similar_pattern, tried
from operators.schema import DataType
from streamproc.language.expression.typed import (
    BOOL,
    INT64,
    STRING,
    Typed,
    TypeMismatchError,
    call,
    coerce,
    constant,
    written,
)

_SHA2: Final = (224, 256, 384, 512)


def texted(piece: Typed) -> Typed:
    """The piece as a text."""
    return coerce(piece, STRING)


def text_to(kernel: str) -> Callable[[Sequence[Typed]], Typed]:
    """A function of texts that gives a text."""
    return lambda args: call(kernel, *map(texted, args), to=STRING)


def text_test(kernel: str) -> Callable[[Sequence[Typed]], Typed]:
    """A function of texts that gives a bool."""
    return lambda args: call(kernel, *map(texted, args), to=BOOL)


def text_count(kernel: str) -> Callable[[Sequence[Typed]], Typed]:
    """A function of texts that gives an int64."""
    return lambda args: call(kernel, *map(texted, args), to=INT64, bound=2**40)


def concat(args: Sequence[Typed]) -> Typed:
    """Texts joined, NULL as ''."""
    known = [texted(arg) for arg in args]
    return call("concat", *known, to=STRING, nullable=False, strict=False)


def concat_ws(args: Sequence[Typed]) -> Typed:
    """Texts joined by the first, NULLs left out."""
    known = [texted(arg) for arg in args]
    return call("concat_ws", *known, to=STRING, nullable=known[0].nullable, strict=False)


def substr(args: Sequence[Typed]) -> Typed:
    """A part of a text."""
    return call("substr", texted(args[0]), *(coerce(arg, INT64) for arg in args[1:]), to=STRING)


def left(args: Sequence[Typed]) -> Typed:
    """The first so many code points."""
    return substr((args[0], constant(1, INT64), args[1]))


def shaped(name: str, *kinds: DataType, nullable: bool | None = None) -> Callable[[Sequence[Typed]], Typed]:
    """A function that makes a text of arguments of these types; `nullable`: also where no argument is NULL."""

    def build(args: Sequence[Typed]) -> Typed:
        known = [coerce(arg, kind) for arg, kind in zip(args, kinds, strict=False)]
        return call("shaped", *known, to=STRING, nullable=nullable, options=(name,))

    return build


def locate(args: Sequence[Typed]) -> Typed:
    """Where a part stands in a text."""
    start = (coerce(args[2], INT64),) if len(args) > 2 else ()
    return call("locate", texted(args[0]), texted(args[1]), *start, to=INT64, bound=2**40)


def letter(args: Sequence[Typed]) -> Typed:
    """The letter of a code."""
    return call("character", coerce(args[0], INT64), to=STRING)


def hashed(algorithm: str) -> Callable[[Sequence[Typed]], Typed]:
    """A text's hash."""
    return lambda args: call("digest", texted(args[0]), to=STRING, options=(algorithm,))


def sha2(args: Sequence[Typed]) -> Typed:
    """A hash of the SHA-2 family by its length."""
    if args[1].literal not in _SHA2:
        raise TypeMismatchError(f"the bits are one of {', '.join(map(str, _SHA2))}")
    return hashed(f"sha{args[1].literal}")(args)


def _pattern(piece: Typed) -> str:
    """A regular expression, which is tried at once."""
    pattern = written(piece, "pattern")
    try:
        tried(pattern)
    except ValueError:
        raise TypeMismatchError("the pattern is not a regular expression of RE2") from None
    return pattern


def regexp(args: Sequence[Typed]) -> Typed:
    """RE2's match."""
    return call("regexp_like", texted(args[0]), to=BOOL, options=(_pattern(args[1]),))


def regexp_replace(args: Sequence[Typed]) -> Typed:
    """RE2's matches replaced by a text."""
    options = (_pattern(args[1]), written(args[2], "replacement"))
    return call("regexp_replace", texted(args[0]), to=STRING, options=options)


def regexp_extract(args: Sequence[Typed]) -> Typed:
    """A group of RE2's first match."""
    pattern, group = _pattern(args[1]), args[2].literal if len(args) > 2 else Decimal(0)
    groups = groups_of(pattern)
    if not isinstance(group, Decimal) or group not in range(groups + 1):
        raise TypeMismatchError(f"the group is a whole literal from 0 (all of the match) to {groups}")
    return call("regexp_extract", texted(args[0]), to=STRING, nullable=True, options=(pattern, int(group)))


def similar(text: Typed, pattern: Typed, escape: str | None) -> Typed:
    """Text SIMILAR TO a literal pattern."""
    try:
        expression = similar_pattern(written(pattern, "pattern"), escape)
        tried(expression)
    except ValueError:
        raise TypeMismatchError("the text is no pattern of SIMILAR TO: % _ | * + ? {m,n} ( ) [...]") from None
    return call("regexp_like", texted(text), to=BOOL, options=(expression,))
