"""Typing of the functions that take any type, or floats: from checked arguments to a call of a kernel."""

from __future__ import annotations

__all__ = ["choice", "choose", "coalesce", "distance", "floats", "logarithm", "nullif"]

from collections.abc import Callable, Sequence

from streamproc.language.expression.arithmetic import compare
from streamproc.language.expression.typed import FLOAT64, Typed, boolean, call, coerce, constant, unify


def floating(piece: Typed) -> Typed:
    """The piece as float64."""
    return coerce(piece, FLOAT64)


def floats(kernel: str) -> Callable[[Sequence[Typed]], Typed]:
    """A float function that may leave the numbers: ln(0), sqrt(-1), exp(1000) are NULL."""
    return lambda args: call(kernel, *map(floating, args), to=FLOAT64, nullable=True, finite=False)


def logarithm(args: Sequence[Typed]) -> Typed:
    """LOG: to the base that comes first, or the natural one."""
    return floats("ln" if len(args) == 1 else "log")(args)


def distance(args: Sequence[Typed]) -> Typed:
    """Distance of two points."""
    return call("distance_km", *map(floating, args), to=FLOAT64, finite=False)


def choice(kernel: str) -> Callable[[Sequence[Typed]], Typed]:
    """LEAST and GREATEST: NULLs are skipped."""

    def build(args: Sequence[Typed]) -> Typed:
        known = unify([arg for arg in args if not arg.untyped] or args)
        if len(known) == 1:
            return known[0]
        nullable = all(arg.nullable for arg in known)
        bound = max(arg.bound for arg in known)
        made = call(kernel, *known, to=known[0].type, nullable=nullable, bound=bound, strict=False)
        return made._replace(interval=args[0].interval)

    return build


def coalesce(args: Sequence[Typed]) -> Typed:
    """COALESCE; what follows an argument that is never NULL is not computed."""
    known = [arg for arg in unify([arg for arg in args if not arg.untyped] or args) if not _null(arg)]
    if not known:
        return unify(args)[0]
    last = next((n for n, arg in enumerate(known) if not arg.nullable), len(known) - 1)
    known = known[: last + 1]
    if len(known) == 1:
        return known[0]
    bound = max(arg.bound for arg in known)
    made = call("coalesce", *known, to=known[0].type, nullable=known[-1].nullable, bound=bound, strict=False)
    return made._replace(interval=args[0].interval)


def _null(piece: Typed) -> bool:
    return piece.constant is not None and piece.constant.value is None


def nullif(args: Sequence[Typed]) -> Typed:
    """NULL where both are equal."""
    first, second = args
    if first.untyped or second.untyped:
        return first
    same = compare("eq", first, second)
    made = call("case", same, constant(None, first.type), first, to=first.type, nullable=True, strict=False)
    return made._replace(bound=first.bound, interval=first.interval)


def choose(args: Sequence[Typed]) -> Typed:
    """IF and CASE: condition, value, ..., else."""
    values = unify([*args[1::2], args[-1]] if len(args) % 2 else args[1::2])
    if len(args) % 2 == 0:
        values.append(constant(None, values[0].type))
    pieces: list[Typed] = []
    for condition, value in zip(args[0::2], values[:-1], strict=False):
        pieces += [boolean(condition), value]
    made = call(
        "case",
        *pieces,
        values[-1],
        to=values[0].type,
        nullable=any(one.nullable for one in values),
        bound=max(0 if one.constant and one.constant.value is None else one.bound for one in values),
        strict=False,
    )
    return made._replace(interval=any(arg.interval for arg in args))
