"""Sequence patterns -> operators, and what is meant by one for a fingerprint."""

from __future__ import annotations

__all__ = ["draft_patterns", "pattern_groups", "pattern_meaning", "pattern_spec", "stage_pattern"]

from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from operators.expressions import Compiled
from operators.operator import INT64, STRING, OutputField
from operators.patterns.operator import dropped_column, matched_column, measure_column
from operators.patterns.sight import COLUMNS_MAX, columns_of
from operators.patterns.slots import CLASSIFIER, ROW_NUMBER, Slot, SlotKind
from operators.patterns.spec import MATCH_NUMBER, PatternSpec, check
from operators.schema import DataType, Kind
from operators.tables import LookupTable
from state.errors import ConfigError
from streamproc.language.draft import Draft
from streamproc.language.expression import Expr, compile_expression
from streamproc.language.items import KEY_TEXT, PatternItem
from streamproc.language.model import SequencePattern
from streamproc.language.patterns.references import SlotDraft
from streamproc.language.problems import Problems

LATE_MS = 86_400_000
"""How much later than WITHIN a key's runs are forgotten: rows that come late may still bring them on."""


def stage_pattern(
    item: PatternItem, scope: Mapping[str, OutputField], lookups: Mapping[str, LookupTable], ttl: int
) -> PatternSpec:
    """`item`, whose columns are in `scope`, as an operator of a stage takes it; `ttl`: the stage's, ms.

    Raises:
        ConfigError: a type does not fit, or the pattern cannot be said row by row; with its place.
    """
    try:
        spec = pattern_spec(item, scope, lookups, ttl)
        check(spec)
    except ConfigError as error:
        raise ConfigError(error.message, error.place or item.declared.match.place, error.hint) from None
    return spec


def pattern_groups(specs: Sequence[PatternSpec]) -> list[list[PatternSpec]]:
    """Patterns of one key, put together as operators take them, each with a timeout alone; the order in which they are
    declared says nothing.
    """
    groups: list[list[PatternSpec]] = []
    for spec in sorted(specs, key=lambda spec: (spec.timeout, bool(spec.ttl), spec.name)):
        read = {name for one in (groups[-1] if groups else ()) for name in columns_of(one)} | set(columns_of(spec))
        apart = not groups or spec.timeout or bool(groups[-1][0].ttl) is not bool(spec.ttl)
        if apart or len(read) > COLUMNS_MAX:
            groups.append([])
        groups[-1].append(spec)
    return groups


def pattern_spec(
    item: PatternItem,
    scope: Mapping[str, OutputField],
    lookups: Mapping[str, LookupTable],
    ttl: int,
    summed: tuple[Kind, ...] = (Kind.INT64, Kind.DECIMAL),
) -> PatternSpec:
    """The same as plain data, for whoever has all rows at hand; `summed`: of what there are sums.

    Raises:
        ConfigError: a type does not fit, with its place.
    """
    clause, reading = item.declared.match, item.reading
    if (kind := scope[item.key].type).kind is not Kind.STRING:
        hint = f"make a feature of it: CAST({item.key} AS varchar)"
        place = item.places.get(item.key, item.place)
        raise ConfigError(f"the key {item.key.removeprefix(KEY_TEXT)} is {kind}, not string", place, hint)
    for variable, column in reading.fits.items():
        _check_condition(scope[column].type, clause.define[variable], f"DEFINE {variable}")
    if item.counts is not None and item.declared.where is not None:
        _check_condition(scope[item.counts].type, item.declared.where, "`where`")
    columns = reading.columns
    slots = tuple(_slot(slot, columns, scope, summed) for slot in reading.slots)
    known = {slot.name: OutputField(slot.name, slot.of) for slot in slots}
    known[MATCH_NUMBER] = OutputField(MATCH_NUMBER, INT64, False)
    conditions = {}
    for variable, expr in reading.conditions.items():
        conditions[variable] = compile_expression(expr, {**scope, **known}, {})
        _check_condition(conditions[variable].type, expr, f"DEFINE {variable}")
    schemas = {name: table.schema for name, table in lookups.items()}
    measures: list[tuple[str, Compiled]] = [
        (name, compile_expression(expr, known, schemas)) for name, expr in reading.measures.items()
    ]
    spec = PatternSpec(
        item.pattern, item.key, clause.pattern, reading.fits, conditions, columns,
        tuple(scope[name].type for name in columns), slots, tuple(measures), item.counts, reading.skip, clause.within,
        min(filter(None, (clause.within and clause.within + LATE_MS, ttl)), default=0),
    )  # fmt: skip
    if item.declared.timeout is None:
        return spec
    kept = clause.within + item.disorder + LATE_MS  # what waits for time is told, whatever the stage forgets
    return replace(spec, ttl=kept, timeout=True, disorder=item.disorder, per=item.per)


def draft_patterns(
    patterns: Mapping[str, SequencePattern], draft: Draft, problems: Problems, disorder: int
) -> set[str]:
    """Put a stage's patterns into `draft`; the columns of those that are wrong. `disorder`: see `PatternItem`."""
    refused: set[str] = set()
    for name, pattern in patterns.items():
        try:
            draft.pattern(name, pattern, disorder)
        except ConfigError as error:
            problems.note(error)
            refused |= {matched_column(name), dropped_column(name)}
            refused |= {measure_column(name, one) for one in pattern.match.measures}
    return refused


def _check_condition(kind: DataType, expr: Expr, what: str) -> None:
    if kind.kind is not Kind.BOOL:
        raise ConfigError(f"{what} is {kind}, not a condition", expr.place, "compare it")


def _slot(
    draft: SlotDraft,
    columns: tuple[str, ...],
    scope: Mapping[str, OutputField],
    summed: tuple[Kind, ...],
) -> Slot:
    of = INT64
    column: int | None = None
    if isinstance(draft.column, str):
        of, column = scope[draft.column].type, columns.index(draft.column)
        if draft.kind is SlotKind.SUM and of.kind not in summed:
            raise ConfigError(f"a sum of {of} is not exact, or has no meaning", draft.place, "declare decimal(n)")
    elif draft.column in (CLASSIFIER, ROW_NUMBER):
        of, column = (STRING if draft.column == CLASSIFIER else INT64), draft.column
    if draft.kind is SlotKind.COUNT:
        of = INT64
    return Slot(draft.name, draft.kind, draft.variables, column, of, draft.offset)


def pattern_meaning(item: PatternItem) -> list[object]:
    """What state depends on: the pattern, its conditions, measures and bounds."""
    clause, where = item.declared.match, item.declared.where
    return [
        repr(clause.pattern),
        *[f"{name} AS {expr.sql}" for name, expr in sorted(clause.define.items())],
        *[f"{expr.sql} AS {name}" for name, expr in clause.measures.items()],
        repr(clause.skip),
        clause.within,
        where.sql if where else "",
        sorted(clause.subsets.items()),
        *([] if item.declared.timeout is None else ["timeout", item.disorder]),
    ]
