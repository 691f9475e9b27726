"""What a pattern is, besides the tree: names and numbers, no code."""

from __future__ import annotations

__all__ = ["MATCH_NUMBER", "RUNS_MAX", "VARIABLES_MAX", "PatternSpec", "Skip", "SkipKind", "check"]

from enum import StrEnum
from typing import Final

import msgspec

from operators.expressions.nodes import Compiled
from operators.patterns.nfa import compile_pattern
from operators.patterns.slots import Slot
from operators.patterns.tree import Pattern, is_anchored, is_gapped
from operators.schema import DataType
from state.errors import ConfigError

RUNS_MAX: Final = 64
"""Runs that a key keeps at once."""
VARIABLES_MAX: Final = 60
"""Variables of a pattern: a bit of an int64 each."""
MATCH_NUMBER: Final = "_match_number"
"""The column of a match's number, for measures."""


class SkipKind(StrEnum):
    """AFTER MATCH SKIP ...: where a later match may begin. NO_SKIP: every way to match is a match."""

    PAST_LAST = "past_last"
    NEXT_ROW = "next_row"
    TO_ROW = "to_row"
    NO_SKIP = "no_skip"


class Skip(msgspec.Struct, frozen=True):
    """TO_ROW: the row whose number the slot `slot` holds."""

    kind: SkipKind = SkipKind.PAST_LAST
    slot: int = -1


class PatternSpec(msgspec.Struct, frozen=True):
    """A pattern over the rows of each `key` (a string column).

    `counts`: the bool column of the rows that it sees; None: all. `fits`: variable -> the bool column that must be true
    for it; one that is not there fits any row. `conditions`: what must be true besides, over the slots' names and
    `columns` (of `types`), the row values that slots and conditions read. `measures`: over the slots' names. Times are
    ms; 0: none. `timeout`: partial matches that `within` ends are told, once the newest row of the task is `disorder`
    past it, as of a key that is called `per`.
    """

    name: str
    key: str
    pattern: Pattern
    fits: dict[str, str] = {}
    conditions: dict[str, Compiled] = {}
    columns: tuple[str, ...] = ()
    types: tuple[DataType, ...] = ()
    slots: tuple[Slot, ...] = ()
    measures: tuple[tuple[str, Compiled], ...] = ()
    counts: str | None = None
    skip: Skip = Skip()
    within: int = 0
    ttl: int = 0
    runs_max: int = RUNS_MAX
    timeout: bool = False
    disorder: int = 0
    per: str = ""

    @property
    def numbers_matches(self) -> bool:
        """Whether a measure reads MATCH_NUMBER()."""
        return any(MATCH_NUMBER in compiled.inputs for _, compiled in self.measures)


def check(spec: PatternSpec) -> None:
    """Refuse what cannot be said of a stream, row by row.

    Raises:
        ConfigError: with what to do instead.
    """
    program = compile_pattern(spec.pattern)
    if len(program.variables) > VARIABLES_MAX:
        raise ConfigError(f"a pattern has at most {VARIABLES_MAX} variables")
    if is_anchored(spec.pattern):
        hint = "leave it out; `streamproc sql` takes it, over the rows of a file"
        raise ConfigError("^ and $ are the first and the last row of a key: a stream knows neither", None, hint)
    if program.may_be_empty:
        raise ConfigError("the pattern matches no row at all", hint="A+ instead of A*, or a part that must be there")
    if program.may_go_on and spec.skip.kind is not SkipKind.NO_SKIP and not is_gapped(spec.pattern):
        hint = "end it with a reluctant quantifier (A{3,}? matches at the third row), or with another row"
        raise ConfigError(
            "the pattern ends with a greedy quantifier: a match would wait for the row behind it", None, hint
        )
