"""What a pipeline's meaning is, as digests: comments, layout and the order of unrelated keys do not count.

The *state* fingerprint covers what state and stored features depend on: a change of it is a barrier. The *decision*
fingerprint covers what changes without one: rules, actions, the contents of tables and models.
"""

from __future__ import annotations

__all__ = ["decision_fingerprint", "state_fingerprint"]

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from operators.expressions import ExpressionOperator
from operators.operator import Operator
from operators.plan import ARRIVED, replay_steps
from operators.schema import FieldSpec, StreamSchema
from streamproc.language.items import ExpressionItem, Item, PatternItem, PreviousItem, TimedItem, UserItem, WindowItem
from streamproc.language.model import Absence, Pipeline, SequencePattern, Stage, Timed, TimedWindow
from streamproc.language.pattern_steps import pattern_meaning

_VERSION = 1
"""Raised when the meaning of a fingerprint changes."""


def state_fingerprint(
    pipeline: Pipeline,
    stage: Stage,
    schema: StreamSchema,
    items: Mapping[str, Item],
    steps: Sequence[Operator],
    *,
    table_digests: Mapping[str, str],
    others: Sequence[StreamSchema] = (),
    statements: Sequence[tuple[str, str]] = (),
) -> str:
    """Digest of the streams, their key, deduplication, all features and what state is kept for rules and `statements`.

    A table's contents count only where a `where:`, `of:` or an argument of previous() reads it.
    """
    read = {
        table
        for step in replay_steps(steps)
        if isinstance(step, ExpressionOperator)
        for _, compiled in step.expressions
        for table in compiled.tables
    }
    rules = {f"rule:{rule.id}" for rule in pipeline.rules}
    meant = {
        "stream": _stream(schema),
        **({"others": [_stream(other) for other in others]} if others else {}),
        "key": [schema.key, pipeline.partitions],
        **_chain(pipeline),
        "ttl": stage.ttl,
        "features": sorted(stage.features),
        "items": sorted(
            [name, *map(str, _meaning(item, pipeline))]
            for name, item in items.items()
            if name not in rules and (name in _columns(stage, items) or not isinstance(item, ExpressionItem))
        ),
        "tables": {name: table_digests[name] for name in sorted(read)},
        **({"sql": [*sorted(statements), stage.watermark.disorder]} if statements else {}),
    }
    return _digest(meant)


def _stream(schema: StreamSchema) -> dict[str, object]:
    return {
        "name": schema.name,
        "fields": sorted([f.name, str(f.type), f.source, f.pan, f.required] for f in _kept(schema)),
        "id": schema.id,
        "event_time": schema.event_time,
        "deduplicate": schema.deduplicate_ms,
        "max_ahead": schema.max_ahead_ms,
        "extra_refused": schema.extra_refused,
        **_format(schema),
    }


def _kept(schema: StreamSchema) -> list[FieldSpec]:
    """The fields without the one that only a deadline asks for: that comes and goes without a barrier."""
    return [field for field in schema.fields if field.name != ARRIVED]


def _chain(pipeline: Pipeline) -> dict[str, object]:
    """Of several stages: which way a row goes. Who changes it looks for state, and for rows on their way, elsewhere."""
    if len(pipeline.stages) == 1:
        return {}
    return {"stages": [[stage.name, stage.partition_by, *_beside(stage)] for stage in pipeline.stages]}


def _beside(stage: Stage) -> list[object]:
    """Which branches it stands in and beside, and how long parts of rows wait: what is given up depends on it."""
    if stage.beside is None:
        return []
    return [[names[0] if len(names) == 1 else list(names) for names in stage.beside.branches], stage.beside.wait]


def _format(schema: StreamSchema) -> dict[str, object]:
    """What decides how other records than plain JSON are read; where their schemas are found is no part of it."""
    if schema.format == "json":
        return {}
    encodings = sorted([field.name, field.encoding] for field in schema.fields if field.encoding)
    return {"format": schema.format, "encodings": encodings, "reader_schema": schema.reader_schema}


def _columns(stage: Stage, items: Mapping[str, Item]) -> set[str]:
    """Expressions that are features, or hidden ones that feed state (the names `score` and `risk_tier` are neither)."""
    return set(stage.features) | {name for name in items if name.startswith("_")}


def _meaning(item: Item, pipeline: Pipeline) -> list[object]:
    match item:
        case ExpressionItem():
            return ["expression", item.expr.sql]
        case WindowItem():
            return ["window", item.key, item.aggregate, item.over, item.of, item.where, item.delay, item.precision]
        case PreviousItem():
            return ["previous", item.key, item.of, item.n, *([item.where] if item.where else [])]
        case TimedItem(timed=TimedWindow() as window):
            lengths = [window.size, window.every, window.offset, window.lateness]
            return ["timed", window.kind, item.key, *item.columns, *lengths, *window.aggregates, item.disorder]
        case TimedItem(timed=Absence() as absence):
            return ["absence", item.key, *item.columns, absence.within, item.disorder]
        case PatternItem():
            return ["pattern", item.key, *pattern_meaning(item)]
        case UserItem():
            declared = pipeline.operators[item.name.partition(":")[2]]
            options = msgspec.json.encode(declared.options, order="deterministic").decode()
            return ["operator", declared.operator, options, _source(declared.operator, Path(pipeline.folder))]
        case _:
            return ["score"]


def _source(reference: str, folder: Path) -> str:
    """Digest of a user's file; an installed package is known by its reference only."""
    if not reference.startswith("./"):
        return ""
    return hashlib.sha256((folder / reference.rpartition(":")[0]).read_bytes()).hexdigest()


def decision_fingerprint(pipeline: Pipeline, table_digests: Mapping[str, str], model_digests: Mapping[str, str]) -> str:
    """Digest of rules (their order counts), actions, what decisions show, tables' and models' contents."""
    decision = pipeline.decision
    meant: dict[str, object] = {
        "rules": [[r.id, r.when.sql, r.then, r.reason, r.final, r.mode, r.to] for r in pipeline.rules],
        "decision": [decision.severity, decision.otherwise, decision.include],
        **({"deadline": pipeline.deadline} if pipeline.deadline else {}),
        **({} if pipeline.topics.decisions else {"decides": False}),
        "tables": dict(table_digests),
        "models": {
            name: [model_digests[name], list(model.features), model.tiers]
            for name, model in pipeline.models.items()
            if name in model_digests  # the last stage's only
        },
    }
    if alerts := {name: _told(one) for stage in pipeline.stages for name, one in stage.told.items()}:
        meant["alerts"] = alerts
    if statements := [
        [entry.name, " ".join(entry.text.split()), entry.topic]
        for stage in pipeline.stages
        for entry in stage.statements.values()
    ]:
        meant["sql"] = statements
    if pipeline.calls:
        meant["calls"] = [
            [
                c.name,
                c.method,
                c.url or c.sql,
                c.body,
                [[n, str(f.type), f.source, c.default[n]] for n, f in c.returns.items()],
            ]
            for c in pipeline.calls
        ]
    return _digest(meant)


def _told(one: Timed | SequencePattern) -> list[str | None]:
    if isinstance(one, SequencePattern):
        return [one.timeout, ""]
    return [one.reason, one.when.sql if isinstance(one, TimedWindow) and one.when else ""]


def _digest(meant: dict[str, object]) -> str:
    text = msgspec.json.encode({"version": _VERSION, **meant}, order="deterministic")
    return hashlib.sha256(text).hexdigest()
