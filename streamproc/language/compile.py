"""A checked pipeline -> the plans that the runtime, the backtest and the tests execute, one a stage.

1. tables, models and operators of the user are loaded; 2. features and rules are taken apart into items (`draft`);
3. items are put in order (`schedule`); 4. each layer becomes a step, its types inferred from those before it.
"""

from __future__ import annotations

__all__ = ["ModelLoader", "compile_pipeline", "compile_stages", "open_onnx"]

from collections.abc import Callable, Collection, Set
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from models.registry import Registered, learned_beside, open_registry
from operators.operator import STRING, OutputField
from operators.plan import RESERVED, ROUTE, STREAM, DecisionSpec, Handoff, Plan
from operators.schema import FieldSpec, Kind, StreamSchema
from operators.timed.run import WaitingOperator
from state.errors import ConfigError
from streamproc.language.calls import Coming, onward
from streamproc.language.csv_table import TableContents, empty_table, read_table
from streamproc.language.deciding import (
    check_include,
    decision_spec,
    model_spec,
    rule_specs,
    scores_and_rules,
    topic_names,
)
from streamproc.language.described import described
from streamproc.language.draft import Draft
from streamproc.language.fingerprint import decision_fingerprint, state_fingerprint
from streamproc.language.formats import read_schema_file, registry_of
from streamproc.language.items import UserItem, reads, served_columns, writes
from streamproc.language.live import check_live, live_tables
from streamproc.language.model import ExpressionFeature, Pipeline, Stage, Stream, WindowGroup, window_names
from streamproc.language.parallel import Ways, check_parts, gather_spec, gathered, ways
from streamproc.language.pattern_steps import draft_patterns
from streamproc.language.problems import Problems, nearest
from streamproc.language.schedule import check_names, schedule
from streamproc.language.sources import Sources, check_union, dotted, entering
from streamproc.language.stages import handed_on, handoff
from streamproc.language.statements import (
    CompiledStatement,
    CompileStatement,
    compiled_statements,
    statement_meanings,
)
from streamproc.language.steps import LoadedModel, StepBuilder
from streamproc.language.user_operators import OperatorLoader, load_operator

ModelLoader = Callable[[Any], LoadedModel]
"""An ONNX file (Path), or a version (models.registry.Registered) -> what ScoreOperator scores with."""


def compile_pipeline(
    pipeline: Pipeline,
    *,
    operators: OperatorLoader = load_operator,
    models: ModelLoader | None = None,
    statements: CompileStatement | None = None,
) -> Plan:
    """Compile a loaded pipeline of one stage, as operators' tests have it; see `compile_stages`.

    Raises:
        ValueError: it has more.
    """
    (plan,) = compile_stages(pipeline, operators=operators, models=models, statements=statements)
    return plan


def compile_stages(
    pipeline: Pipeline,
    *,
    operators: OperatorLoader = load_operator,
    models: ModelLoader | None = None,
    statements: CompileStatement | None = None,
) -> tuple[Plan, ...]:
    """Compile a loaded pipeline: a plan for each of its stages, in order. Rules and models are the last one's.

    Args:
        pipeline: from `load_pipeline`.
        operators: how the user's operator classes are found.
        models: how a model's file is opened; by default as ONNX.
        statements: how SQL statements are compiled; who has none needs none.

    Raises:
        ConfigError: a PipelineError with everything that is wrong: unknown columns, types, circles, missing files.
    """
    problems = Problems()
    tables = _tables(pipeline, problems)
    name, stream = next(iter(pipeline.streams.items()))
    others = entering(pipeline, problems)
    check_parts(pipeline, problems)
    way, plans, wrong = ways(pipeline.stages), list[Plan](), set[str]()
    coming = {pipeline.stages[0].name: [Coming(stream)]}
    for stage in pipeline.stages:
        mine, parts = way[stage.name], coming[stage.name]
        stream = gathered([part.stream for part in parts])
        came = parts[0]._replace(stream=stream)
        streams = {name: stream, **others[stage.name]}
        compiler = _StageCompiler(pipeline, stage, mine, streams, tables=tables, problems=problems)
        compiled = compiler.compile(operators, models or open_onnx, wrong, statements)
        sent = handoff(pipeline, came, stage, mine, compiled.features)
        if not problems.errors:
            timed = tuple(msgspec.structs.replace(call, deadline_ms=pipeline.deadline) for call in came.calls)
            plans.append(msgspec.structs.replace(compiler.plan(compiled, sent), calls=timed))
        wrong |= _columns(stage, stream) - compiled.builder.scope.keys()
        if sent is not None:
            ahead = Coming(handed_on(stream, sent, compiled.builder.scope), (), came.shared)
            told = onward(pipeline.pipeline, sent, mine.following, ahead, refused=wrong, problems=problems)
            for following, one in zip(mine.following, told, strict=True):
                coming.setdefault(following.name, []).append(one)
    problems.check()
    return tuple(plans)


class _Compiled(NamedTuple):
    """What a stage comes to: `features` in the analyst's order."""

    schemas: list[StreamSchema]
    draft: Draft
    features: list[str]
    builder: StepBuilder
    statements: tuple[CompiledStatement, ...]


class _StageCompiler:
    """Compiles one stage; `streams`: what it reads, by name, the one that is decided first."""

    def __init__(
        self, pipeline: Pipeline, stage: Stage, way: Ways, streams: dict[str, Stream], *,
        tables: dict[str, TableContents], problems: Problems,
    ) -> None:  # fmt: skip
        self._pipeline, self._stage, self._way = pipeline, stage, way
        self._streams, self._stream = streams, next(iter(streams.values()))
        self._tables, self._problems = tables, problems

    def compile(
        self, operators: OperatorLoader, models: ModelLoader, wrong: Set[str], statements: CompileStatement | None
    ) -> _Compiled:
        """As far as it goes. `wrong`: columns of stages before that are wrong: that has been said."""
        pipeline, stage, stream, problems = self._pipeline, self._stage, self._stream, self._problems
        before = len(problems.errors)
        check_union(self._streams, problems)
        clear = len(problems.errors) == before
        decided = next(iter(self._streams))
        schemas = [
            _schema(name, one, stage, pipeline.folder, decided=decided, wrong=wrong, problems=problems)
            for name, one in self._streams.items()
        ]
        _check_key(pipeline, stage, stream, problems)
        declared = {name: field for one in self._streams.values() for name, field in one.columns.items()}
        several = len(schemas) > 1
        sources = (
            Sources({name: one.columns for name, one in self._streams.items()}, stage.features) if several else None
        )
        draft = Draft(stage.per, [name for name, field in declared.items() if field.type.kind is Kind.INT64], sources)
        if not self._way.following:
            clear &= _user_operators(pipeline, operators, draft, problems)
        if not clear:
            problems.check()  # what there would be is not known
        features, refused = _features(stage, declared, draft, problems)
        ids = list(dict.fromkeys(one.id for one in self._streams.values()))
        for name, timed in stage.timed.items():
            with problems.caught():
                draft.timed(name, timed, ids, stage.watermark.disorder)
        refused |= draft_patterns(stage.patterns, draft, problems, stage.watermark.disorder)
        refused |= wrong | ({stage.partition_by, stage.per} - _columns(stage, stream))
        if not self._way.following:
            scores_and_rules(pipeline, stream, draft, problems)
        fields = _union(schemas)
        refused |= check_names(draft.items, fields, refused, problems)
        lookups = {name: contents.table for name, contents in self._tables.items()}
        builder = StepBuilder(fields, lookups, models, folder=Path(pipeline.folder), ttl=stage.ttl, problems=problems)
        items = {name: item for name, item in draft.items.items() if name not in refused}
        with problems.caught():
            builder.build(schedule(items, set(fields) | refused))
        check_live(pipeline, items, builder, problems)
        if not self._way.following:
            named = {column for item in items.values() for column in (item.name, *writes(item))}
            check_include(pipeline, builder.scope, refused | named, problems)
        tables = {one.name: (one, _outputs(one)) for one in schemas}
        compiled = compiled_statements(pipeline, stage, tables, statements, problems)
        return _Compiled(schemas, draft, features, builder, compiled)

    def plan(self, compiled: _Compiled, sent: Handoff | None) -> Plan:
        """The plan of what is without fault; `sent`: how its rows are handed on."""
        schemas, draft, features, builder, statements = compiled
        pipeline, stage = self._pipeline, self._stage
        digests = {name: contents.digest for name, contents in self._tables.items()}
        is_last = not self._way.following
        schema, *others = schemas
        steps = (*builder.steps, *(step for one in statements for step in one.steps))
        waits = builder.alerts or any(isinstance(step, WaitingOperator) for step in steps)
        return Plan(
            pipeline=pipeline.pipeline,
            stream=schema,
            topics=topic_names(pipeline, "" if is_last else f".{stage.name}"),
            steps=steps,
            features=tuple(builder.scope[name] for name in (*features, *_served_by(pipeline, is_last=is_last))),
            rules=rule_specs(pipeline) if is_last else (),
            decision=decision_spec(pipeline, builder.scope) if is_last else DecisionSpec(("hand_on",), "hand_on"),
            state_fingerprint=state_fingerprint(
                pipeline,
                stage,
                schema,
                draft.items,
                builder.steps,
                table_digests=digests,
                others=others,
                statements=statement_meanings(statements),
            ),
            decision_fingerprint=decision_fingerprint(pipeline, digests, builder.model_digests),
            home=pipeline.pipeline if len(pipeline.stages) == 1 else f"{pipeline.pipeline}/{stage.name}",
            topic_partitions=pipeline.partitions,
            topic_config={"retention.ms": str(pipeline.retention or -1)},
            stage=stage.name,
            handoff=sent,
            subject=pipeline.stages[0].partition_by,
            others=tuple(others),
            alerts=tuple(builder.alerts),
            idle_ms=stage.watermark.idle if waits else 0,
            statements=tuple(one.spec for one in statements),
            warnings=(
                *(line for one in self._streams.values() for line in dotted(one)),
                *builder.warnings,
                *(line for one in statements for line in one.warnings),
            ),
            live=live_tables(pipeline, builder),
            partition_by=stage.partition_by,
            gather=gather_spec(self._way),
            model=model_spec(pipeline, builder.model_digests, builder.scope) if is_last else None,
            described=described(pipeline) if is_last else {},
        )


def _served_by(pipeline: Pipeline, *, is_last: bool) -> list[str]:
    """What the journal tells of registered models, beside their scores."""
    kinds = {name: served_columns(model.served) for name, model in pipeline.models.items()} if is_last else {}
    return [f"{name}.{kind}" for name, found in kinds.items() for kind in found]


def _names_of(name: str, group: WindowGroup) -> list[str]:
    return [column for column, _, _ in window_names(name, group)]


def _columns(stage: Stage, stream: Stream) -> set[str]:
    """Fields and features."""
    made = set(stream.columns)
    for name, feature in stage.features.items():
        made.update([name] if isinstance(feature, ExpressionFeature) else _names_of(name, feature))
    return made


def _schema(
    name: str, stream: Stream, stage: Stage, folder: str, *, decided: str, wrong: Set[str], problems: Problems
) -> StreamSchema:
    """The stream as decode sees it; the stage's keys must be fields of the one that is `decided`, unless they are
    `wrong` anyway.
    """
    if stage.partition_by in wrong:
        pass
    elif stage.partition_by not in stream.columns:
        hint = nearest(stage.partition_by, stream.columns)
        problems.add(f"partition_by: there is no field {stage.partition_by!r}", stage.place, hint)
    elif stream.fields[stage.partition_by].type.kind not in (Kind.STRING, Kind.INT64):
        kind = stream.fields[stage.partition_by].type
        problems.add(f"partition_by: {stage.partition_by} is {kind}, not string or int64", stage.place)
    known = _columns(stage, stream) | wrong
    if name == decided and stage.per != stage.partition_by and stage.per not in known:
        problems.add(f"per: there is no field or feature {stage.per!r}", stage.place, nearest(stage.per, known))
    return StreamSchema(
        name=name,
        topic=stream.topic,
        fields=tuple(
            FieldSpec(field, spec.type, spec.source, spec.pan, spec.required, spec.encoding, spec.made)
            for field, spec in stream.fields.items()
        ),
        id=stream.id,
        event_time=stream.event_time,
        key=ROUTE if ROUTE in stream.fields else stage.partition_by,
        deduplicate_ms=stream.deduplicate,
        max_ahead_ms=stream.max_ahead,
        extra_refused=stream.extra == "refuse",
        format=stream.format,
        reader_schema=read_schema_file(stream, folder, problems),
        registry=registry_of(stream, folder),
        wait_ms=stream.wait,
    )


def _check_key(pipeline: Pipeline, stage: Stage, stream: Stream, problems: Problems) -> None:
    """A record that comes again has no features: it must find its way to where the first one is known by its fields."""
    (first, *_) = pipeline.streams.values()
    if stream.deduplicate and stage.partition_by in stream.columns.keys() - first.fields.keys():
        problems.add(
            f"partition_by: {stage.partition_by} is a feature, and a record that comes again has none",
            stage.place,
            "partition by a field of the stream, or leave its `deduplicate` out",
        )


def _outputs(schema: StreamSchema) -> list[OutputField]:
    """The stream's columns that an analyst may name."""
    never_null = (schema.id, schema.key, schema.event_time)
    return [
        OutputField(spec.name, spec.type, not spec.required and spec.name not in never_null)
        for spec in schema.fields
        if spec.name not in RESERVED
    ]


def _union(schemas: list[StreamSchema]) -> dict[str, OutputField]:
    """All columns of the streams' rows; one that a stream does not have is NULL there."""
    if len(schemas) == 1:
        return {field.name: field for field in _outputs(schemas[0])}
    found: dict[str, list[OutputField]] = {}
    for schema in schemas:
        for field in _outputs(schema):
            found.setdefault(field.name, []).append(field)
    union = {
        name: OutputField(name, mine[0].type, len(mine) < len(schemas) or any(field.nullable for field in mine))
        for name, mine in found.items()
    }
    return {**union, STREAM: OutputField(STREAM, STRING, False)}


def _tables(pipeline: Pipeline, problems: Problems) -> dict[str, TableContents]:
    found: dict[str, TableContents] = {}
    for name, table in pipeline.tables.items():
        try:
            found[name] = read_table(name, table, Path(pipeline.folder))
        except ConfigError as error:
            problems.note(error)
            found[name] = empty_table(name, table)
    return found


def _features(stage: Stage, declared: Collection[str], draft: Draft, problems: Problems) -> tuple[list[str], set[str]]:
    """The feature columns in the analyst's order, and those that were refused.

    `amount: amount` carries the field as it is; any other feature called like a field is refused later.
    """
    columns: list[str] = []
    refused: set[str] = set()
    for name, feature in stage.features.items():
        if isinstance(feature, ExpressionFeature):
            made = [name]
            if name in declared and feature.expression.column == name:
                columns.append(name)
                continue
        else:
            made = _names_of(name, feature)
        columns += made
        try:
            draft.feature(name, feature)
        except ConfigError as error:
            problems.note(error)
            refused.update(made)
    return columns, refused


def _user_operators(pipeline: Pipeline, load: OperatorLoader, draft: Draft, problems: Problems) -> bool:
    """Whether all of them could be made."""
    before = len(problems.errors)
    for name, declared in pipeline.operators.items():
        with problems.caught():
            made = load(declared.operator, Path(pipeline.folder), declared.place)
            try:
                operator = made(**declared.options)
                item = UserItem(f"operator:{name}", operator, declared.place)
                draft.add(item)
                reads(item), writes(item), operator.tables
            except ConfigError as error:
                raise ConfigError(f"operator {name}: {error.message}", declared.place, error.hint) from error
            except Exception as error:
                raise ConfigError(f"operator {name}: {type(error).__name__}: {error}", declared.place) from error
    return len(problems.errors) == before


def open_onnx(where: Path | Registered) -> LoadedModel:
    """Opened only where a model is used: importing the runtime of ONNX takes a while."""
    from models.onnx import OnnxModel

    if isinstance(where, Path):
        model = OnnxModel(where)
        model.learned = learned_beside(where, model.digest)
        return model
    return open_registry(where.registry).model(where.name, where.version)
