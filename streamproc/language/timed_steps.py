"""Windows that are told when they close, and absences -> operators and how their results are told."""

from __future__ import annotations

__all__ = ["timed_step"]

from collections.abc import Mapping

from operators.expressions import ExpressionOperator
from operators.operator import OutputField
from operators.schema import Kind
from operators.tables import LookupTable
from operators.timed.operator import TimedOperator
from operators.timed.spec import (
    WHEN,
    AbsenceSpec,
    AlertSpec,
    TimedAggregate,
    TimedSpec,
    WindowKind,
    WindowSpec,
    result_fields,
)
from state.errors import ConfigError
from streamproc.language.expression import compile_expression
from streamproc.language.items import KEY_TEXT, TimedItem
from streamproc.language.model import Absence, TimedWindow


def timed_step(
    item: TimedItem, scope: Mapping[str, OutputField], lookups: Mapping[str, LookupTable]
) -> tuple[TimedOperator, AlertSpec]:
    """The operator of `item`, whose columns are in `scope`.

    Raises:
        ConfigError: a type does not fit, with its place.
    """
    name, timed = item.name.removeprefix("timed:"), item.timed
    if (kind := scope[item.key].type).kind is not Kind.STRING:
        hint = f"make a feature of it: CAST({item.key} AS varchar)"
        raise ConfigError(f"the key {item.key.removeprefix(KEY_TEXT)} is {kind}, not string", timed.place, hint)
    if isinstance(timed, Absence):
        _check_conditions(item, scope, ("after", "without"))
        after, without = item.columns
        assert after is not None
        assert without is not None
        rule: WindowSpec | AbsenceSpec = AbsenceSpec(after, without, timed.within)
    else:
        _check_conditions(item, scope, ("of", "where"))
        rule = _window(item, timed, scope)
    spec = TimedSpec(name, item.per, item.key, rule, item.disorder, item.id)
    try:
        step = TimedOperator(spec)
    except ConfigError as error:
        of = timed.of if isinstance(timed, TimedWindow) else None
        raise ConfigError(error.message, of.place if of else timed.place, error.hint) from None
    when = _when(spec, timed, lookups) if isinstance(timed, TimedWindow) else None
    return step, AlertSpec(name, timed.reason, when)


def _window(item: TimedItem, timed: TimedWindow, scope: Mapping[str, OutputField]) -> WindowSpec:
    of, where = item.columns
    return WindowSpec(
        WindowKind(timed.kind),
        timed.size,
        tuple(TimedAggregate(aggregate) for aggregate in timed.aggregates),
        timed.every,
        timed.offset,
        timed.lateness,
        of,
        scope[of].type if of else None,
        where,
    )


def _check_conditions(item: TimedItem, scope: Mapping[str, OutputField], keys: tuple[str, str]) -> None:
    for key, column in zip(keys, item.columns, strict=True):
        if key != "of" and column is not None and (kind := scope[column].type).kind is not Kind.BOOL:
            place = getattr(item.timed, key).place
            raise ConfigError(f"`{key}` is {kind}, not a condition", place, "compare it")


def _when(spec: TimedSpec, timed: TimedWindow, lookups: Mapping[str, LookupTable]) -> ExpressionOperator | None:
    if timed.when is None:
        return None
    assert isinstance(spec.rule, WindowSpec)
    fields = {field.name: field for field in result_fields(spec, spec.rule)}
    schemas = {name: table.schema for name, table in lookups.items()}
    compiled = compile_expression(timed.when, fields, schemas)
    if compiled.type.kind is not Kind.BOOL:
        raise ConfigError(f"`when` is {compiled.type}, not a condition", timed.when.place, "compare it")
    return ExpressionOperator([(WHEN, compiled)], lookups)
