"""A pattern as a tree: what `PATTERN (...)` says."""

from __future__ import annotations

__all__ = [
    "Anchor",
    "Choice",
    "Gap",
    "Gapped",
    "Hidden",
    "Patience",
    "Pattern",
    "Repeat",
    "Series",
    "Variable",
    "is_anchored",
    "is_gapped",
    "variables_of",
]

from collections.abc import Iterator
from enum import IntEnum
from typing import TypeAlias

import msgspec


class Patience(IntEnum):
    """What may happen between two rows of a match: nothing (STRICT), rows that do not fit (RELAXED: the next one that
    fits is taken), any rows (ANY: also one that fits may be passed over).
    """

    STRICT = 0
    RELAXED = 1
    ANY = 2


class Gap(msgspec.Struct, frozen=True):
    """What lies before a row. `absent`: variables of which no row may lie in it; `first`: that its first row, or the
    row that ends it at once, must not be.
    """

    patience: Patience = Patience.STRICT
    absent: tuple[str, ...] = ()
    first: tuple[str, ...] = ()


class Variable(msgspec.Struct, frozen=True):
    """One row for which the variable's condition holds."""

    name: str


class Series(msgspec.Struct, frozen=True):
    """One part after the other; none: the empty pattern."""

    parts: tuple[Pattern, ...]


class Choice(msgspec.Struct, frozen=True):
    """One of the options, an earlier one rather than a later."""

    options: tuple[Pattern, ...]


class Repeat(msgspec.Struct, frozen=True):
    """A part `least` to `most` times (None: any number); as often as possible if `greedy`, else as seldom."""

    part: Pattern
    least: int
    most: int | None
    greedy: bool = True


class Gapped(msgspec.Struct, frozen=True):
    """A part with a gap before its first row."""

    gap: Gap
    part: Pattern


class Hidden(msgspec.Struct, frozen=True):
    """`{- part -}`: matched, and left out of the rows of ALL ROWS PER MATCH."""

    part: Pattern


class Anchor(msgspec.Struct, frozen=True):
    """`^`: before the first row of the key; `$` (`end`): behind its last one."""

    end: bool = False


Pattern: TypeAlias = Variable | Series | Choice | Repeat | Gapped | Hidden | Anchor


def variables_of(pattern: Pattern) -> tuple[str, ...]:
    """Names of all variables, in order of their first appearance, those that must be absent included."""
    return tuple(dict.fromkeys(name for node in _nodes(pattern) for name in _named(node)))


def is_gapped(pattern: Pattern) -> bool:
    """Whether rows may lie between those of a match."""
    return any(isinstance(node, Gapped) and node.gap.patience for node in _nodes(pattern))


def is_anchored(pattern: Pattern) -> bool:
    """Whether a part is tied to where rows begin or end."""
    return any(isinstance(node, Anchor) for node in _nodes(pattern))


def _named(node: Pattern) -> tuple[str, ...]:
    if isinstance(node, Variable):
        return (node.name,)
    return (*node.gap.absent, *node.gap.first) if isinstance(node, Gapped) else ()


def _nodes(pattern: Pattern) -> Iterator[Pattern]:
    """The tree's nodes, before their parts, from left to right."""
    todo = [pattern]
    while todo:
        node = todo.pop()
        yield node
        todo += reversed(parts_of(node))


def parts_of(node: Pattern) -> tuple[Pattern, ...]:
    """The nodes below a node."""
    match node:
        case Series():
            return node.parts
        case Choice():
            return node.options
        case Repeat() | Gapped() | Hidden():
            return (node.part,)
        case _:
            return ()
