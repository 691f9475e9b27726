"""Plans -> what an event will cost in each part of them."""

from __future__ import annotations

__all__ = ["BATCH", "predict"]

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from models.manifest import MODEL
from operators.call import SqlQuery
from operators.expressions import ExpressionOperator
from operators.expressions.clock import duration_text
from operators.operator import Operator
from operators.patterns.operator import PatternOperator
from operators.plan import Plan
from operators.schema import DataType
from operators.score import ScoringOperator
from operators.statements.firsts import FirstsOperator
from operators.statements.inputs import InputOperator
from operators.statements.joins import JoinOperator
from operators.statements.matches import MatchOperator
from operators.statements.outer import OuterJoinOperator
from operators.statements.overs import OverOperator
from operators.timed.operator import TimedOperator
from operators.windows.layout import Layout, layouts
from operators.windows.operator import WindowOperator
from streamproc.language.costing.expressions import expression_units
from streamproc.language.costing.patterns import EACH, pattern_state
from streamproc.language.costing.patterns import SHARED as SHARED_PATTERNS
from streamproc.language.costing.prediction import KeyState, Prediction, StagePrediction, Work
from streamproc.language.costing.state import ID_BYTES, key_state
from streamproc.language.costing.timed import timed_state, timed_units
from streamproc.language.costing.units import Costs, Units, shipped_costs
from streamproc.language.costing.windows import SHARED, window_units
from streamproc.language.explain import earlier_text, timed_text, timed_what, window_text
from streamproc.language.items import KEY_TEXT
from streamproc.language.model import Pipeline

BATCH = 2_000
"""Rows of a full batch."""


def predict(pipeline: Pipeline, plans: Sequence[Plan], rate: float = 1.0, costs: Costs | None = None) -> Prediction:
    """What the pipeline of these plans will take: `rate` events a key a day; `costs`: by default those shipped.

    It is what a worker computes: the log's own work, flushes and checkpoints are not in it.
    """
    table = costs or shipped_costs()
    names = {plan.entrance: plan.calls[0].name if plan.calls else plan.stage for plan in plans}
    hops = _hops(plans)
    first = {call.name: plan.stage for plan in reversed(plans) for call in plan.calls}
    stages = tuple(
        _Stage(pipeline, plan, passed, table, rate, asks=first).predict(
            ", ".join(dict.fromkeys(names[topic] for topic in plan.handoff.topics)) if plan.handoff else "decisions"
        )
        for plan, passed in zip(plans, hops, strict=True)
    )
    return Prediction(
        pipeline=pipeline.pipeline,
        stream=plans[0].stream.name,
        partitions=plans[0].topic_partitions,
        hops=hops[-1],
        us=sum(stage.us for stage in stages),
        us_alone=sum(stage.us_alone for stage in stages),
        batch=BATCH,
        rate=rate,
        id_bytes=ID_BYTES if plans[0].stream.deduplicate_ms else 0,
        stages=stages,
        machine=table.machine,
    )


def _hops(plans: Sequence[Plan]) -> list[int]:
    """How many topics a row has been through when it comes to each stage: by the longest of branches side by side."""
    found, at = list[int](), {plans[0].entrance: 0}
    for plan in plans:
        found.append(at[plan.entrance] + len(plan.calls))
        for topic in plan.handoff.topics if plan.handoff else ():
            at[topic] = max(at.get(topic, 0), found[-1] + 1)
    return found


class _Stage:
    """One stage; `hops`: of its rows until here; `rate`: events a key a day; `asks`: by call, the stage that has it."""

    def __init__(
        self, pipeline: Pipeline, plan: Plan, hops: int, costs: Costs, rate: float, *, asks: Mapping[str, str]
    ) -> None:
        self._pipeline, self._plan, self._hops, self._costs, self._rate = pipeline, plan, hops, costs, rate
        self._asks = asks
        self._types: dict[str, DataType] = {spec.name: spec.type for spec in plan.stream.fields}
        for step in plan.steps:
            self._types |= {output.name: output.type for output in step.outputs}

    def predict(self, to: str) -> StagePrediction:
        work = tuple(self._work())
        branch = None if self._plan.handoff is None else self._plan.handoff.branch
        return StagePrediction(
            stage=self._plan.stage,
            reads=self._plan.stream.topic,
            calls=tuple(call.name for call in self._plan.calls),
            also=tuple(stream.name for stream in self._plan.others),
            to=to,
            partition_by=self._plan.partition_by,
            parallel=branch is not None,
            branch=0 if branch is None else branch.number,
            us=sum(part.us for part in work),
            us_alone=sum(part.us_alone for part in work),
            work=work,
            keys=tuple(self._keys()),
        )

    def _part(self, what: str, name: str, detail: str, units: Mapping[str, float], before: int = 0) -> Work:
        """`before`: so many hops before the stage."""
        cost = self._costs.of(units)
        return Work(what, name, detail, cost.at(BATCH), cost.at(1), self._hops - before)

    # ---- the parts, in the order in which a batch goes through them

    def _work(self) -> Iterator[Work]:
        plan = self._plan
        for number, call in enumerate(plan.calls):
            if self._asks[call.name] != plan.stage:
                continue
            kind, detail = ("sql", "a query") if isinstance(call.asks, SqlQuery) else ("http", "a request")
            detail += " for each row" + (", but for those the cache answers" if call.cache_ms else "")
            yield self._part("call", call.name, detail, {f"call:{kind}": 1}, len(plan.calls) - number)
        fields = Units(f"decode:{spec.type.kind}" + ":pan" * spec.pan for spec in plan.stream.fields)
        taken = "" if plan.stream.format == "json" else f", {plan.stream.format} taken as JSON"
        if plan.gather is not None:
            parts = plan.gather.parts
            yield self._part("gather", "", f"the parts of {', '.join(parts)}", {"gather": len(parts)})
        yield self._part("decode", "", f"{len(plan.stream.fields)} fields{taken}", {"decode": 1, **fields})
        if plan.stream.deduplicate_ms:
            kept = duration_text(plan.stream.deduplicate_ms)
            yield self._part("deduplicate", "", f"{plan.stream.id} within {kept}", {"deduplicate": 1})
        for step in plan.steps:
            yield from self._step(step)
        yield from self._output()

    def _step(self, step: Operator) -> Iterator[Work]:
        if isinstance(step, WindowOperator):
            for layout in layouts(step.spec):
                yield from self._windows(layout)
        elif isinstance(step, ExpressionOperator):
            yield self._part("expressions", "", f"{len(step.expressions)} in one step", {"expressions": 1})
            for name, units in expression_units(step).items():
                what, _, shown = name.rpartition(":")
                detail = "" if what else _hidden(name)
                yield self._part(what or "feature", shown, detail, units)
        elif isinstance(step, ScoringOperator):
            yield from self._scores(step)
        elif isinstance(step, PatternOperator):
            key = step.specs[0].key.removeprefix(KEY_TEXT)
            yield self._part("key", key, "what all its patterns share", SHARED_PATTERNS)
            for spec in step.specs:
                yield self._part("pattern", spec.name, "where 5 % of the events may begin it or bring it on", EACH)
        elif isinstance(
            step, InputOperator | MatchOperator | JoinOperator | OuterJoinOperator | OverOperator | FirstsOperator
        ):
            yield Work("sql", step.name, "not reckoned", 0.0, 0.0, self._hops)
        elif isinstance(step, TimedOperator):
            units = timed_units(step.spec, self._rate)
            yield self._part(timed_what(step.spec), step.spec.name, timed_text(step.spec), units)
        else:
            yield Work("operator", type(step).__name__, "of your own: not measured", 0.0, 0.0, self._hops)

    def _windows(self, layout: Layout) -> Iterator[Work]:
        details = {feature.name: window_text(feature) for feature in layout.features}
        details |= {one.name: earlier_text(one) for one in layout.previous}
        for name, units in window_units(layout).items():
            if name == SHARED:
                key = layout.spec.key.removeprefix(KEY_TEXT)
                yield self._part("key", key, "what all its windows share", units)
            else:
                yield self._part("feature", name, details[name], units)

    def _scores(self, step: ScoringOperator) -> Iterator[Work]:
        """Of the model, or its champion and each shadow; of champion and challenger, each scores some rows."""
        ((name, model),) = self._pipeline.models.items()
        folder, served = Path(self._pipeline.folder), model.served
        if served is None:
            yield self._score(step, name, folder / model.file)
            return
        versions = folder / served.registry / name
        yield self._score(step, f"{name}@{served.version}", versions / str(served.version) / MODEL)
        for number in served.shadow:
            yield self._score(step, f"{name}@{number}, shadow", versions / str(number) / MODEL)

    def _score(self, step: ScoringOperator, name: str, file: Path) -> Work:
        kb, features = file.stat().st_size / 1024 if file.is_file() else 0.0, len(step.features.names)
        units = {"score": 1, "score:feature": features, "score:kb": kb}
        return self._part("score", name, f"{features} features, {kb:,.0f} KiB", units)

    def _output(self) -> Iterator[Work]:
        plan = self._plan
        if plan.handoff is not None:
            kinds = Units(f"encode:{self._types[name].kind}" for name in plan.handoff.columns)
            beside = len(plan.handoff.beside)
            detail = _count(len(plan.handoff.columns), "column") + f", to {beside + 1} stages" * (beside > 0)
            yield self._part("hop", "", detail, {"handoff": 1, "handoff:beside": beside, **kinds})
        elif not plan.is_silent:
            yield self._part(
                "decide", "", _count(len(plan.rules), "rule"), {"decide": 1, "decide:rule": len(plan.rules)}
            )
            kinds = Units(f"encode:{self._types[name].kind}" for name in plan.decision.include)
            yield self._part("encode", "", _count(len(plan.decision.include), "column"), {"encode": 1, **kinds})
        kinds = Units(f"block:{field.type.kind}" for field in plan.features)
        exact = sum(len(step.outputs) for step in plan.steps if step.tables)
        units = {"journal": 1, "journal:exact": exact, "block": 1, **kinds}
        yield self._part("journal", "", _count(len(plan.features), "feature"), units)

    def _keys(self) -> Iterator[KeyState]:
        for step in self._plan.steps:
            if isinstance(step, WindowOperator):
                for layout in layouts(step.spec):
                    yield key_state(layout, self._rate)
            elif isinstance(step, TimedOperator):
                yield timed_state(step, self._rate)
            elif isinstance(step, PatternOperator):
                yield pattern_state(step)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def _hidden(name: str) -> str:
    return "made for other features" if name.startswith("_") else ""
