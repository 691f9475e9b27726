"""Plans in words, for `streamproc validate`."""

from __future__ import annotations

__all__ = ["earlier_text", "explain", "timed_text", "timed_what", "window_text"]

from operators.call import CallSpec, HttpRequest, SqlQuery
from operators.expressions import ExpressionOperator
from operators.expressions.clock import duration_text
from operators.operator import Operator
from operators.patterns.operator import PatternOperator
from operators.plan import RESERVED, Plan, replay_steps
from operators.schema import StreamSchema
from operators.score import ScoringOperator
from operators.served_score import ServedScoreOperator
from operators.statements.firsts import FirstsOperator
from operators.statements.inputs import InputOperator
from operators.statements.joins import JoinOperator
from operators.statements.matches import MatchOperator
from operators.statements.outer import OuterJoinOperator
from operators.statements.overs import OverOperator
from operators.statements.spec import Matches, Pairs, Seen, StatementSpec, Windows
from operators.tables import LookupTable, Match
from operators.timed.operator import TimedOperator
from operators.timed.spec import AbsenceSpec, TimedSpec
from operators.windows.operator import WindowOperator
from operators.windows.spec import PreviousFeature, WindowFeature, WindowSpec
from streamproc.language.items import KEY_TEXT


def explain(*plans: Plan) -> str:
    """Calls, stream, look-up tables, state, steps, rules and fingerprints, one fact a line; a call that stages share
    is told before the first of them.
    """
    told, calls = [], dict[str, CallSpec]()
    for plan in plans:
        told.append(_plan(plan, [call for call in plan.calls if call.name not in calls]))
        calls |= {call.name: call for call in plan.calls}
    return "\n\n".join(told)


def _plan(plan: Plan, calls: list[CallSpec]) -> str:
    stream = plan.stream
    lines = [
        f"pipeline {plan.pipeline}",
        *(line for call in calls for line in _call(call)),
        f"stream {stream.name}: topic {stream.topic}, {plan.topic_partitions} partitions by {plan.partition_by}",
        f"  id {stream.id}, event time {stream.event_time}, {_fields(stream)} fields"
        + (f" of {stream.format}" if stream.format != "json" else "")
        + (f", deduplicated for {duration_text(stream.deduplicate_ms)}" if stream.deduplicate_ms else ""),
    ]
    for other in plan.others:
        lines.append(f"stream {other.name}: topic {other.topic}, by {other.key}; not decided")
        lines.append(f"  id {other.id}, event time {other.event_time}, waited for {duration_text(other.wait_ms)}")
    if plan.gather is not None:
        parts, wait = " and ".join(plan.gather.parts), duration_text(plan.gather.wait_ms)
        lines.append(f"gathers the parts of {parts}, which wait for each other for {wait}")
    if plan.handoff is not None and plan.handoff.beside:
        lines.append(f"hands each row on to {' and '.join(plan.handoff.topics)}")
    lines += _tables(plan)
    silent = set(map(id, replay_steps(plan.steps)))
    for number, step in enumerate(plan.steps, 1):
        kept = ", run by a replay" if id(step) in silent else ""
        lines.append(f"step {number}: {_title(step)}{kept}")
        lines += [f"  {line}" for line in _details(step)]
    lines += _rules(plan)
    lines += [f"statement {one.name}: {_told(one)} to {one.topic}" for one in plan.statements]
    if plan.alerts:
        lines.append(f"alerts to {plan.topics.alerts}, rows too late for them to {plan.topics.late}" + _idle(plan))
    names = ", ".join(field.name for field in plan.features)
    lines.append(f"features ({len(plan.features)}): {names}")
    lines.append(f"state {plan.state_fingerprint[:16]}, decision {plan.decision_fingerprint[:16]}")
    return "\n".join(lines)


def _fields(stream: StreamSchema) -> int:
    """How many the analyst has to do with."""
    return sum(field.name not in RESERVED for field in stream.fields)


def _idle(plan: Plan) -> str:
    return f"; without rows the clock goes on after {duration_text(plan.idle_ms)}" if plan.idle_ms else ""


def _told(statement: StatementSpec) -> str:
    """What the rows of a statement are."""
    kinds: dict[type, str] = {
        Matches: "matches",
        Windows: "windows as they close",
        Pairs: "pairs",
        Seen: "rows as steps tell them",
    }
    columns = ", ".join(name for name, _ in statement.columns)
    return f"{kinds.get(type(statement.source), 'rows')} ({columns})"


def _call(call: CallSpec) -> list[str]:
    kept = f", kept for {duration_text(call.cache_ms)}" if call.cache_ms else ""
    return [
        f"call {call.name}: {_asked(call.asks)}",
        f"  {duration_text(call.timeout_ms)} at most, {call.in_flight} at a time{kept}",
        *(
            f"  {field.name}: {field.type}, else {_shown(value)}"
            for field, value in zip(call.returns, call.default, strict=True)
        ),
        *([f"  each row goes on to {' and '.join(topic for topic, _ in call.fork.ways)}"] if call.fork else []),
    ]


def _asked(asks: HttpRequest | SqlQuery) -> str:
    if isinstance(asks, SqlQuery):
        return f"{asks.database}, {' '.join(asks.text.split())}"
    return f"{asks.method} " + "".join(f"{{{part}}}" if place % 2 else part for place, part in enumerate(asks.url))


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
    if isinstance(step, PatternOperator):
        names = ", ".join(spec.name for spec in step.specs)
        return f"pattern{'s' * (len(step.specs) > 1)} {names} per {step.specs[0].key.removeprefix(KEY_TEXT)}"
    if isinstance(step, TimedOperator):
        return f"{timed_what(step.spec)} {step.spec.name} per {step.spec.per}"
    if isinstance(step, InputOperator):
        return f"what {step.name} reads"
    if isinstance(step, JoinOperator | OuterJoinOperator):
        return f"join {step.spec.name}"
    if isinstance(step, OverOperator):
        return f"what rows of {step.spec.name} see of those before"
    if isinstance(step, FirstsOperator):
        return f"rows of {step.name} that come once"
    if isinstance(step, MatchOperator):
        return f"pattern {step.name} per {step.spec.key}"
    if isinstance(step, ScoringOperator):
        at_work = f": {_roles(step)}" if isinstance(step, ServedScoreOperator) else ""
        return f"model {step.name} of {len(step.features.names)} features{at_work}"
    return type(step).__name__


def _roles(step: ServedScoreOperator) -> str:
    """Of the file; what `models activate` has said since is the log's."""
    roles = step.served.lineup.roles
    rival = [] if roles.challenger is None else [f"challenger {roles.challenger} for {roles.share:.2%} of {step.by}"]
    return ", ".join([f"champion {roles.champion}", *rival, *(f"shadow {number}" for number in roles.shadows)])


def _details(step: Operator) -> list[str]:
    if isinstance(step, WindowOperator):
        return _windows(step.spec)
    if isinstance(step, ExpressionOperator):
        return [f"{name}: {compiled.type}, reads {_inputs(compiled.inputs)}" for name, compiled in step.expressions]
    if isinstance(step, TimedOperator):
        return [timed_text(step.spec)]
    return [f"{field.name}: {field.type}" for field in step.outputs]


def timed_what(spec: TimedSpec) -> str:
    """What it is called where it is declared."""
    return "absence" if isinstance(spec.rule, AbsenceSpec) else "window"


def timed_text(spec: TimedSpec) -> str:
    """What waits for time, in words."""
    rule = spec.rule
    behind = f", the watermark {duration_text(spec.disorder)} behind" if spec.disorder else ""
    if isinstance(rule, AbsenceSpec):
        return f"after {rule.after} no {rule.without} within {duration_text(rule.within)}{behind}"
    text = f"{rule.kind} {duration_text(rule.size)}" + (f" every {duration_text(rule.every)}" if rule.every else "")
    text += f": {', '.join(rule.aggregates)} of {'different ' * rule.different}{rule.of or 'rows'}" + (
        f" where {rule.where}" if rule.where else ""
    )
    return text + (f", {duration_text(rule.lateness)} of lateness" if rule.lateness else "") + behind


def _inputs(names: tuple[str, ...]) -> str:
    return ", ".join(names) or "nothing"


def _windows(spec: WindowSpec) -> list[str]:
    lines = [f"{feature.name}: {window_text(feature)}" for feature in spec.features]
    return lines + [f"{p.name}: {earlier_text(p)}" for p in spec.previous]


def earlier_text(previous: PreviousFeature) -> str:
    """An earlier value in words."""
    text = f"{previous.of}, {previous.n} row{'s' if previous.n > 1 else ''} earlier"
    return text + (f" where {previous.where}" if previous.where else "")


def window_text(feature: WindowFeature) -> str:
    """A window in words."""
    text = f"{feature.aggregate} of {feature.of or 'rows'} over {duration_text(feature.over_ms)}"
    if feature.where:
        text += f" where {feature.where}"
    if feature.delay_ms:
        text += f", {duration_text(feature.delay_ms)} late"
    if feature.precision_ms:
        text += f", to {duration_text(feature.precision_ms)}"
    return text


def _rules(plan: Plan) -> list[str]:
    if plan.is_silent:
        return ["no decisions: SQL statements are all that it is for"]
    lines = []
    for rule in plan.rules:
        marks = [mark for mark, on in (("shadow", rule.shadow), ("final", rule.final)) if on]
        marks += [f"to {rule.to}"] if rule.to else []
        lines.append(f"rule {rule.id}: {rule.action}" + (f" ({', '.join(marks)})" if marks else ""))
    return [*lines, f"otherwise {plan.decision.otherwise}; most severe first: {', '.join(plan.decision.severity)}"]
