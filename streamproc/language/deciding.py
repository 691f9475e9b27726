"""What a pipeline's last stage decides by: models, rules, what a decision shows, and the topics it writes."""

from __future__ import annotations

__all__ = ["check_include", "decision_spec", "model_spec", "rule_specs", "scores_and_rules", "topic_names"]

from collections.abc import Mapping

import msgspec

from operators.encode import RESERVED
from operators.operator import OutputField
from operators.plan import DecisionSpec, ModelSpec, RuleSpec
from operators.schema import TopicNames
from streamproc.language.draft import Draft
from streamproc.language.expression import parse
from streamproc.language.items import ScoreItem, reads
from streamproc.language.model import Model, Pipeline, Stream
from streamproc.language.problems import Problems, nearest

NO_DECISION = "none"
"""The action of rows that get no decision."""


def scores_and_rules(pipeline: Pipeline, stream: Stream, draft: Draft, problems: Problems) -> None:
    """Models, rules, and the short names `score` and `risk_tier` where something reads them."""
    for name, model in pipeline.models.items():
        with problems.caught():
            draft.add(ScoreItem(name, _keyed(model, pipeline.stages[0].partition_by)))
    for rule in pipeline.rules:
        with problems.caught():
            draft.expression(f"rule:{rule.id}", rule.when, rule.place)
    read = {column for item in draft.items.values() for column in reads(item)}
    for name, model in pipeline.models.items():
        for short, full in (("score", f"{name}.score"), ("risk_tier", f"{name}.tier")):
            if short in read and short not in draft.items and short not in stream.fields:
                draft.expression(short, parse(full, model.place), model.place)


def _keyed(model: Model, key: str) -> Model:
    """A challenger's share goes by what payments are keyed by, unless it is said otherwise."""
    if model.served is None or model.served.by:
        return model
    return msgspec.structs.replace(model, served=msgspec.structs.replace(model.served, by=key))


def check_include(pipeline: Pipeline, scope: dict[str, OutputField], named: set[str], problems: Problems) -> None:
    """What the decision shows must exist (or be `named` in the file, and wrong), and not be there anyway."""
    for column, place in zip(pipeline.decision.include, pipeline.decision.places, strict=True):
        if column in RESERVED:
            problems.add(f"include: {column} is always there", place, "leave it out")
        elif column not in scope and column not in named:
            shown = [name for name in scope if not name.startswith(("_", "rule:"))]
            problems.add(f"include: unknown column {column!r}", place, nearest(column, shown))


def decision_spec(pipeline: Pipeline, scope: dict[str, OutputField]) -> DecisionSpec:
    """How rules become one action; where nothing is decided, the one of all rows says so, with the code it has in
    files that decide: repeats of a row find the code of the first, however the file was when that came.
    """
    if not pipeline.topics.decisions:
        usual = pipeline.decision.otherwise
        return DecisionSpec(
            tuple(NO_DECISION if one == usual else one for one in pipeline.decision.severity), NO_DECISION
        )
    name = next(iter(pipeline.models), None)
    return DecisionSpec(
        severity=pipeline.decision.severity,
        otherwise=pipeline.decision.otherwise,
        include=pipeline.decision.include,
        score=f"{name}.score" if name else None,
        tier=f"{name}.tier" if name and f"{name}.tier" in scope else None,
        calls=tuple(call.name for call in pipeline.calls),
        deadline_ms=pipeline.deadline,
    )


def model_spec(pipeline: Pipeline, digests: Mapping[str, str], scope: dict[str, OutputField]) -> ModelSpec | None:
    """The model of the score; `digests`: of the models' files."""
    for name, model in pipeline.models.items():
        inputs = tuple(scope[feature] for feature in model.features)
        if model.served is not None:
            return ModelSpec(name, inputs, version=scope[f"{name}.version"])
        return ModelSpec(name, inputs, digests[name])
    return None


def rule_specs(pipeline: Pipeline) -> tuple[RuleSpec, ...]:
    """The rules, in order."""
    return tuple(
        RuleSpec(rule.id, f"rule:{rule.id}", rule.then, rule.reason, rule.mode == "shadow", rule.final, rule.to)
        for rule in pipeline.rules
    )


def topic_names(pipeline: Pipeline, stage: str) -> TopicNames:
    """`stage`: what its journal's name has behind the pipeline's journal's."""
    topics = pipeline.topics
    side = {} if stage else {rule.to: f"{pipeline.pipeline}.{rule.to}" for rule in pipeline.rules if rule.to}
    return TopicNames(topics.decisions, topics.dead_letters, topics.journal + stage, side, topics.alerts, topics.late)
