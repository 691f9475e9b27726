"""MATCH_RECOGNIZE -> the operator of a pattern, over a statement's rows."""

from __future__ import annotations

__all__ = ["UNBOUNDED_MS", "matched"]

from typing import Final

from operators.operator import STRING, OutputField
from operators.patterns.operator import PatternOperator, matched_column, measure_column
from operators.patterns.spec import SkipKind
from operators.schema import Kind
from operators.statements.matches import MatchOperator
from operators.statements.spec import Matches, Rows, Union
from state.errors import ConfigError
from streamproc.language.match_recognize import EXACT_SUMS, compile_match
from streamproc.language.statements import StatementStage
from streamproc.sql.plan import Match
from streamproc.sql.stream.flows import TIME, Flow, Refused
from streamproc.sql.stream.prune import pruned, read_of

UNBOUNDED_MS: Final = 7 * 86_400_000
"""When a key's runs are forgotten if neither WITHIN nor `ttl` says so."""


def matched(flow: Flow, node: Match, stage: StatementStage, prefix: str, refused: Refused) -> Flow:
    """The flow of the rows that end a match.

    Raises:
        ConfigError: keys are spread over partitions, or the pattern cannot be said row by row.
    """
    assert isinstance(flow.source, Rows | Union)
    if node.all_rows:
        raise refused.at(node.place, "ALL ROWS PER MATCH is not part of a pipeline's statements", "ONE ROW PER MATCH")
    if node.clause.skip.kind is not SkipKind.PAST_LAST:
        what = "a row that ends several matches tells one in a pipeline"
        raise refused.at(node.place, what, "AFTER MATCH SKIP PAST LAST ROW")
    if not any(flow.origin.get(key) in stage.keys for key in node.keys):
        wanted = " or ".join(stage.keys)
        raise refused.at(node.place, f"PARTITION BY must have {wanted}: other keys are spread over partitions")
    for key in node.keys:
        if flow.origin.get(key, TIME) == TIME:
            raise refused.at(node.place, "PARTITION BY wants fields of the stream in a pipeline")
    key = f"{prefix}.key"
    fields = {field.name: field for field in node.fields} | {key: OutputField(key, STRING, False)}
    ttl = stage.ttl or (0 if node.clause.within else UNBOUNDED_MS)
    compiled = compile_match(node.clause, fields, key, name=prefix, summed=EXACT_SUMS, ttl=ttl)
    try:
        pattern = PatternOperator([compiled.spec], f"pattern.{prefix}")
    except ConfigError as error:
        raise refused.at(error.place or node.place, error.message, error.hint) from None
    made = {field.name for step in compiled.steps for field in step.outputs}
    reads = {name for step in (*compiled.steps, pattern) for name in step.inputs} - made - {key}
    columns = tuple((name, old) for name, old in node.names if name in reads)
    keys = node.keys
    if len(keys) == 1 and _is_text(flow, keys[0], stage):
        columns, keys = (*columns, (key, keys[0])), ()
    steps, read = pruned(flow.steps, {*keys, *(old for _, old in columns)})
    step = MatchOperator(
        read_of(flow.source, read),
        steps,
        columns=columns,
        keys=keys,
        key=key,
        before=compiled.steps,
        pattern=pattern,
    )
    kept = tuple((one, flow.origin[one]) for one in node.keys)
    measures = tuple((one, measure_column(prefix, name)) for name, one, _ in node.measures)
    types = {one: flow.types[one] for one in node.keys} | {one: kind for _, one, kind in node.measures}
    result = Matches((*kept, *measures), matched_column(prefix))
    return Flow(result, flow.stream, (), types, dict(kept), (*flow.made, step))


def _is_text(flow: Flow, key: str, stage: StatementStage) -> bool:
    """Whether a column is text that is never NULL, and can stand for itself in a table."""
    fields = stage.fields.get(flow.stream, ())
    is_known = any(field.name == flow.origin[key] and not field.nullable for field in fields)
    return is_known and flow.types[key].kind is Kind.STRING
