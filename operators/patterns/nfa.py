"""A pattern's tree -> a program: states that take one row each, and where a run may be after each.

    1. the tree becomes instructions: TAKE a row of a variable, FORK (first way before second), a GAP, an END, DONE
       x+ = L: x  FORK(L, N)  N:      x* = (x+)?      x{2,3} = x x x?      x|y = FORK(M, N)  M: x  JUMP O  N: y  O:
    2. from each TAKE all ways to the next TAKEs are walked once, in order of preference (`Program.follow`): no way
       visits an instruction twice, so a loop whose part is empty ends, and a step of a run never walks; as in
       Trino an iteration of no row behind others leads nowhere, where backtracking engines let it end the loop

A run is then a number; of two ways to one place only the preferred one is kept, so there are never more ways on than
instructions, however quantifiers are nested.
"""

from __future__ import annotations

__all__ = ["DONE", "INSTRUCTIONS_MAX", "Program", "Take", "compile_pattern"]

from enum import IntEnum
from typing import Final

import msgspec

from operators.patterns.tree import Anchor, Choice, Gap, Gapped, Hidden, Pattern, Repeat, Series, Variable, variables_of
from state.errors import ConfigError

INSTRUCTIONS_MAX: Final = 1_000
DONE: Final = -1
"""As a place to go to: the match is complete."""

Way = tuple[int, int]
"""A place (of `Program.takes`, or DONE) and the gap before it (of `Program.gaps`)."""


class Take(msgspec.Struct, frozen=True):
    """A state that waits for a row of `variable` (its number). `end`: for the end of the input instead."""

    variable: int
    hidden: bool = False
    end: bool = False


class Program(msgspec.Struct, frozen=True):
    """`takes`: the states; `follow[i]`: where a run may go on behind state i, the preferred way first.

    `starts`: from where a match begins; `anchored`: where it begins before the key's first row.
    `variables` by number; `gaps`: number 0 is none.
    """

    variables: tuple[str, ...]
    takes: tuple[Take, ...]
    follow: tuple[tuple[Way, ...], ...]
    starts: tuple[Way, ...]
    anchored: tuple[Way, ...]
    gaps: tuple[Gap, ...]

    @property
    def may_be_empty(self) -> bool:
        """Whether no row at all is a match."""
        return any(place == DONE for place, _ in (*self.starts, *self.anchored))

    @property
    def may_go_on(self) -> bool:
        """Whether a match that is complete may be waiting for a preferred one, which would be longer."""
        return any(DONE in [place for place, _ in ways[1:]] for ways in self.follow)


class _Op(IntEnum):
    TAKE = 0
    FORK = 1
    JUMP = 2
    GAP = 3
    BEGIN = 4
    END = 5
    DONE = 6


def compile_pattern(pattern: Pattern) -> Program:
    """The program of a pattern.

    Raises:
        ConfigError: it is too large.
    """
    names = variables_of(pattern)
    writer = _Writer(names)
    writer.write(pattern, hidden=False)
    writer.add(_Op.DONE)
    return writer.program()


class _Writer:
    """Instructions as lists: [op, first operand, second operand]."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self._names = names
        self._number = {name: i for i, name in enumerate(names)}
        self._code: list[list[int]] = []
        self._gaps: list[Gap] = [Gap()]

    def add(self, op: _Op, first: int = 0, second: int = 0) -> int:
        """Append an instruction; its place."""
        if len(self._code) >= INSTRUCTIONS_MAX:
            raise ConfigError(
                f"the pattern has more than {INSTRUCTIONS_MAX} steps", hint="x{n,m} counts as m times x: use {n,}"
            )
        self._code.append([op, first, second])
        return len(self._code) - 1

    def write(self, node: Pattern, *, hidden: bool) -> None:
        """Append the instructions of a part."""
        match node:
            case Variable():
                self.add(_Op.TAKE, self._number[node.name], hidden)
            case Series():
                for part in node.parts:
                    self.write(part, hidden=hidden)
            case Choice():
                self._choice(node, hidden)
            case Repeat():
                self._repeat(node, hidden)
            case Gapped():
                self._gaps.append(node.gap)
                self.add(_Op.GAP, len(self._gaps) - 1)
                self.write(node.part, hidden=hidden)
            case Hidden():
                self.write(node.part, hidden=True)
            case Anchor():
                self.add(_Op.END if node.end else _Op.BEGIN)

    def _fork(self, *, greedy: bool) -> int:
        """A fork whose preferred way goes on here if it is greedy; the other is set by `_land`."""
        return self.add(_Op.FORK, 0, greedy)

    def _land(self, fork: int, target: int) -> None:
        """The way of a fork that does not go on behind it leads to `target`."""
        greedy = self._code[fork][2]
        self._code[fork][1:] = [fork + 1, target] if greedy else [target, fork + 1]

    def _choice(self, node: Choice, hidden: bool) -> None:
        jumps = []
        for option in node.options[:-1]:
            fork = self._fork(greedy=True)
            self.write(option, hidden=hidden)
            jumps.append(self.add(_Op.JUMP))
            self._land(fork, len(self._code))
        self.write(node.options[-1], hidden=hidden)
        for jump in jumps:
            self._code[jump][1] = len(self._code)

    def _repeat(self, node: Repeat, hidden: bool) -> None:
        if node.most is None:
            self._endless(node, hidden)
            return
        for _ in range(node.least):
            self.write(node.part, hidden=hidden)
        forks = []
        for _ in range(node.most - node.least):
            forks.append(self._fork(greedy=node.greedy))
            self.write(node.part, hidden=hidden)
        for fork in forks:
            self._land(fork, len(self._code))

    def _endless(self, node: Repeat, hidden: bool) -> None:
        for _ in range(node.least - 1):
            self.write(node.part, hidden=hidden)
        skip = self._fork(greedy=node.greedy) if node.least == 0 else None
        begin = len(self._code)
        self.write(node.part, hidden=hidden)
        again = self.add(_Op.FORK)
        self._code[again][1:] = [begin, again + 1] if node.greedy else [again + 1, begin]
        if skip is not None:
            self._land(skip, len(self._code))

    def program(self) -> Program:
        """What was written, walked."""
        places = [i for i, (op, *_) in enumerate(self._code) if op in (_Op.TAKE, _Op.END)]
        number = {place: i for i, place in enumerate(places)}
        takes = [
            Take(-1, end=True) if self._code[i][0] == _Op.END else Take(self._code[i][1], bool(self._code[i][2]))
            for i in places
        ]
        return Program(
            self._names,
            tuple(takes),
            tuple(self._walk(place + 1, number, at_begin=False) for place in places),
            self._walk(0, number, at_begin=False),
            self._walk(0, number, at_begin=True),
            tuple(self._gaps),
        )

    def _walk(self, begin: int, number: dict[int, int], *, at_begin: bool) -> tuple[Way, ...]:
        """All ways from an instruction to states and to the end, the preferred one first; no way twice."""
        found: dict[Way, None] = {}
        seen: set[Way] = set()
        todo: list[Way] = [(begin, 0)]
        while todo:
            at, gap = todo.pop()
            if (at, gap) in seen:
                continue
            seen.add((at, gap))
            op, first, second = self._code[at]
            match op:
                case _Op.TAKE | _Op.END:
                    found[number[at], gap] = None
                case _Op.DONE:
                    found.setdefault((DONE, 0))
                case _Op.FORK:
                    todo += [(second, gap), (first, gap)]
                case _Op.JUMP:
                    todo.append((first, gap))
                case _Op.GAP:
                    todo.append((at + 1, first))
                case _ if at_begin:
                    todo.append((at + 1, gap))
                case _:
                    pass
        return tuple(found)
