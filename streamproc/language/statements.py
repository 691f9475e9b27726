"""SQL statements of a stage: what the compiler of a pipeline asks of the compiler of statements."""

from __future__ import annotations

__all__ = ["CompileStatement", "CompiledStatement", "StatementStage", "compiled_statements", "statement_meanings"]

from collections.abc import Callable, Mapping, Sequence

import msgspec

from operators.operator import Operator, OutputField
from operators.schema import StreamSchema
from operators.statements.spec import StatementSpec
from streamproc.language.model import Pipeline, SqlEntry, Stage
from streamproc.language.problems import Problems


class StatementStage(msgspec.Struct, frozen=True):
    """What a statement may know of its stage. `fields`: of each stream; `ttl`, `disorder`: ms; `keys`: columns whose
    values belong to one partition each.
    """

    pipeline: str
    streams: Mapping[str, StreamSchema]
    fields: Mapping[str, Sequence[OutputField]]
    keys: tuple[str, ...]
    ttl: int = 0
    disorder: int = 0


class CompiledStatement(msgspec.Struct, frozen=True):
    """`steps`: what brings its state forward, in order, and what feeds them; none for a statement without state.

    `meaning`: its text without what means nothing. `warnings`: a line each.
    """

    spec: StatementSpec
    steps: tuple[Operator, ...]
    meaning: str
    warnings: tuple[str, ...] = ()


CompileStatement = Callable[[SqlEntry, StatementStage], CompiledStatement]
"""Raises ConfigError, with places, for what is wrong in a statement or has no form that a stream has."""


def compiled_statements(
    pipeline: Pipeline,
    stage: Stage,
    schemas: Mapping[str, tuple[StreamSchema, Sequence[OutputField]]],
    compile_statement: CompileStatement | None,
    problems: Problems,
) -> tuple[CompiledStatement, ...]:
    """Those of a stage; `schemas`: of its streams, with their columns."""
    if not stage.statements:
        return ()
    if compile_statement is None:
        raise ValueError("who compiles a pipeline with SQL statements gives their compiler")
    given = StatementStage(
        pipeline.pipeline,
        {name: schema for name, (schema, _) in schemas.items()},
        {name: fields for name, (_, fields) in schemas.items()},
        tuple(dict.fromkeys((stage.partition_by, stage.per))),
        stage.ttl,
        stage.watermark.disorder,
    )
    found = []
    for entry in stage.statements.values():
        with problems.caught():
            found.append(compile_statement(entry, given))
    return tuple(found)


def statement_meanings(statements: Sequence[CompiledStatement]) -> list[tuple[str, str]]:
    """Names and texts of those that keep state, for its fingerprint."""
    return [(one.spec.name, one.meaning) for one in statements if one.steps]
