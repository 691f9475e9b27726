"""MATCH_RECOGNIZE over a table -> the steps that make its columns, and the pattern, for who has all rows at hand."""

from __future__ import annotations

__all__ = ["EXACT_SUMS", "CompiledMatch", "compile_match"]

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, NoReturn

from operators.operator import Operator, OutputField
from operators.patterns.nfa import compile_pattern
from operators.patterns.spec import PatternSpec
from operators.schema import Kind
from state.errors import ConfigError
from streamproc.language.draft import Draft
from streamproc.language.items import PatternItem
from streamproc.language.model import SequencePattern
from streamproc.language.pattern_steps import pattern_spec
from streamproc.language.patterns.clauses import MatchClause
from streamproc.language.problems import Problems
from streamproc.language.schedule import check_names, schedule
from streamproc.language.steps import StepBuilder

_NAME = "match"
Sums = tuple[Kind, ...]
_SUMMED: Sums = (Kind.INT64, Kind.DECIMAL, Kind.FLOAT64)
"""A table ends, and its rows stay in one order: sums of floats are what they are."""
EXACT_SUMS: Sums = (Kind.INT64, Kind.DECIMAL)
"""What there are sums of in state."""


class CompiledMatch(NamedTuple):
    """`steps` add the columns that `spec` reads, over rows of the given fields."""

    steps: tuple[Operator, ...]
    spec: PatternSpec


def compile_match(
    clause: MatchClause, fields: Mapping[str, OutputField], key: str, *, name: str = _NAME, summed: Sums = _SUMMED,
    ttl: int = 0,
) -> CompiledMatch:  # fmt: skip
    """Compile a clause over rows of `fields`, partitioned by the string field `key`.

    `name`: what its state is called; `summed`: of what there are sums; `ttl`: when a key is forgotten, ms; 0: never.

    Raises:
        ConfigError: with all that is wrong and its places.
    """
    problems = Problems()
    draft = Draft(key)
    if clause.rows == "ALL" and any("FINAL_" in expr.sql.upper() for expr in clause.measures.values()):
        raise ConfigError("FINAL in ALL ROWS PER MATCH is not supported yet", clause.place, "ONE ROW PER MATCH")
    draft.pattern(name, SequencePattern(clause, place=clause.place))
    item = draft.items[f"pattern:{name}"]
    assert isinstance(item, PatternItem)
    check_names(draft.items, fields, set(), problems)
    problems.check()
    others = {name: one for name, one in draft.items.items() if one is not item}
    builder = StepBuilder(fields, {}, _no_model, folder=Path(), ttl=ttl, problems=problems)
    builder.build(schedule(others, fields))
    problems.check()
    try:
        compile_pattern(clause.pattern)
    except ConfigError as error:
        raise ConfigError(error.message, clause.place, error.hint) from None
    return CompiledMatch(tuple(builder.steps), pattern_spec(item, builder.scope, {}, ttl, summed))


def _no_model(path: Path) -> NoReturn:
    raise ConfigError("a statement has no model")
