"""A plan in words, for `streamproc validate`."""

from __future__ import annotations

__all__ = ["explain"]

from operators.call import CallSpec
from operators.expressions import ExpressionOperator
from operators.operator import Operator
from operators.plan import Plan, replay_steps
from operators.tables import LookupTable, Match
from operators.windows.operator import WindowOperator
from operators.windows.spec import PreviousFeature, WindowFeature, WindowSpec
from streamproc.language.units import duration_text


def explain(plan: Plan) -> str:
    """Stream, look-up tables, state, steps, rules and fingerprints, one fact a line."""
    stream = plan.stream
    lines = [
        f"pipeline {plan.pipeline}",
        *(line for call in plan.calls for line in _call(call)),
        f"stream {stream.name}: topic {stream.topic}, {plan.topic_partitions} partitions by {stream.key}",
        f"  id {stream.id}, event time {stream.event_time}, {len(stream.fields)} fields"
        + (f" of {stream.format}" if stream.format != "json" else "")
        + (f", deduplicated for {duration_text(stream.deduplicate_ms)}" if stream.deduplicate_ms else ""),
    ]
    for other in plan.others:
        lines.append(f"stream {other.name}: topic {other.topic}, by {other.key}; not decided")
        lines.append(f"  id {other.id}, event time {other.event_time}, waited for {duration_text(other.wait_ms)}")
    lines += _tables(plan)
    silent = set(map(id, replay_steps(plan.steps)))
    for number, step in enumerate(plan.steps, 1):
        kept = ", run by a replay" if id(step) in silent else ""
        lines.append(f"step {number}: {_title(step)}{kept}")
        lines += [f"  {line}" for line in _details(step)]
    lines += _rules(plan)
    names = ", ".join(field.name for field in plan.features)
    lines.append(f"features ({len(plan.features)}): {names}")
    lines.append(f"state {plan.state_fingerprint[:16]}, decision {plan.decision_fingerprint[:16]}")
    return "\n".join(lines)


def _call(call: CallSpec) -> list[str]:
    parts = call.http.url
    url = "".join(part if place % 2 == 0 else f"{{{part}}}" for place, part in enumerate(parts))
    kept = f", kept for {duration_text(call.cache_ms)}" if call.cache_ms else ""
    return [
        f"call {call.name}: {call.http.method} {url}",
        f"  {duration_text(call.timeout_ms)} at most, {call.in_flight} at a time{kept}",
        *(
            f"  {field.name}: {field.type}, else {_shown(value)}"
            for field, value in zip(call.returns, call.default, strict=True)
        ),
    ]


def _shown(value: object) -> str:
    return "NULL" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _tables(plan: Plan) -> list[str]:
    tables = {
        name: table
        for step in plan.steps
        if isinstance(step, ExpressionOperator)
        for name, table in step.lookups.items()
    }
    return [f"table {name}: {len(table)} rows by {table.schema.key}{_marks(table)}" for name, table in tables.items()]


def _marks(table: LookupTable) -> str:
    """How a table is looked up, unless that is by equal keys at all times."""
    match = "" if table.schema.match is Match.EXACT else f" ({table.schema.match})"
    return match + (", some for a time only" if table.schema.timed else "")


def _title(step: Operator) -> str:
    if isinstance(step, WindowOperator):
        return f"windows per {step.spec.key}"
    if isinstance(step, ExpressionOperator):
        return "expressions"
    return type(step).__name__


def _details(step: Operator) -> list[str]:
    if isinstance(step, WindowOperator):
        return _windows(step.spec)
    if isinstance(step, ExpressionOperator):
        return [f"{name}: {compiled.type}, reads {_inputs(compiled.inputs)}" for name, compiled in step.expressions]
    return [f"{field.name}: {field.type}" for field in step.outputs]


def _inputs(names: tuple[str, ...]) -> str:
    return ", ".join(names) or "nothing"


def _windows(spec: WindowSpec) -> list[str]:
    lines = [f"{feature.name}: {_window(feature)}" for feature in spec.features]
    return lines + [f"{p.name}: {_earlier(p)}" for p in spec.previous]


def _earlier(previous: PreviousFeature) -> str:
    text = f"{previous.of}, {previous.n} row{'s' if previous.n > 1 else ''} earlier"
    return text + (f" where {previous.where}" if previous.where else "")


def _window(feature: WindowFeature) -> str:
    text = f"{feature.aggregate} of {feature.of or 'rows'} over {duration_text(feature.over_ms)}"
    if feature.where:
        text += f" where {feature.where}"
    if feature.delay_ms:
        text += f", {duration_text(feature.delay_ms)} late"
    if feature.precision_ms:
        text += f", to {duration_text(feature.precision_ms)}"
    return text


def _rules(plan: Plan) -> list[str]:
    lines = []
    for rule in plan.rules:
        marks = [mark for mark, on in (("shadow", rule.shadow), ("final", rule.final)) if on]
        marks += [f"to {rule.to}"] if rule.to else []
        lines.append(f"rule {rule.id}: {rule.action}" + (f" ({', '.join(marks)})" if marks else ""))
    return [*lines, f"otherwise {plan.decision.otherwise}; most severe first: {', '.join(plan.decision.severity)}"]
