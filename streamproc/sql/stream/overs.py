"""OVER -> the operator that tells rows in order of time with what they see of those before."""

from __future__ import annotations

__all__ = ["over_operator", "overed"]

from typing import Final

from sqlglot import exp
from sqlglot.tokenizer_core import TokenType

from operators.schema import DataType, Kind
from operators.statements.frames import ROWS_MAX
from operators.statements.frames import OverFunction as Function
from operators.statements.overs import OverOperator, OverSpec
from operators.statements.spec import Rows, Seen, Union
from streamproc.language.statements import StatementStage
from streamproc.sql.plan import Over, OverFunction
from streamproc.sql.stream.flows import Flow, Overed, Refused
from streamproc.sql.stream.prune import pruned, read_of

_EXACT: Final = (Kind.INT64, Kind.DECIMAL)


def overed(flow: Flow, node: Over, stage: StatementStage, prefix: str, refused: Refused) -> Flow:
    """The flow of the rows with the functions' columns.

    Raises:
        ConfigError: keys are spread over partitions, or what is kept has no bound.
    """
    place = refused.find(exp.Window, TokenType.OVER)
    keys = node.functions[0].frame.keys
    if any(set(one.frame.keys) != set(keys) for one in node.functions):
        raise refused.at(place, "OVER: all functions of a pipeline's statement have one PARTITION BY")
    routed = [key for key in keys if flow.origin.get(key) in stage.keys]
    if not routed:
        wanted = " or ".join(stage.keys)
        raise refused.at(place, f"OVER wants PARTITION BY {wanted}: other keys are spread over partitions")
    for one in node.functions:
        kind = flow.types[one.argument] if one.argument else None
        if one.function in {"sum", "avg"} and kind is not None and kind.kind not in _EXACT:
            raise refused.at(place, f"{one.function} of {kind} is not exact, or has no meaning", "declare decimal(n)")
        if one.function == "distinct" and one.frame.preceding is None:
            what = "COUNT(DISTINCT ...) OVER all rows keeps all values"
            raise refused.at(place, what, "RANGE BETWEEN INTERVAL '1' HOUR PRECEDING AND CURRENT ROW")
        if max(_back(one)) >= ROWS_MAX:
            raise refused.at(place, f"OVER looks back at {ROWS_MAX - 1:,} rows at most in a pipeline")
    if not stage.ttl and any(one.frame.kind == "rows" or one.frame.preceding is None for one in node.functions):
        what = "OVER keeps a key's rows, unless a RANGE ends them, for the stage's `ttl`"
        raise refused.at(place, what, "ttl: 30d")
    types = {**flow.types, **{one.key: one.type for one in node.functions}}
    source = Seen(prefix, tuple(types.items()))
    return Flow(source, flow.stream, (), types, flow.origin, key=routed[0], over=Overed(flow, node, keys))


def _back(one: OverFunction) -> tuple[int, int]:
    """How many rows it looks back at, by its frame and by LAG."""
    return (one.frame.preceding or 0) if one.frame.kind == "rows" else 0, one.offset if one.function == "lag" else 0


def over_operator(flow: Flow, read: frozenset[str], stage: StatementStage, prefix: str) -> tuple[Seen, OverOperator]:
    """Rows that have the columns that are `read`."""
    assert flow.over is not None
    before, node, keys = flow.over
    assert isinstance(before.source, Rows | Union)
    named = [key for one in node.functions for key in (one.argument, one.default) if key]
    arguments = tuple(dict.fromkeys(named))
    columns = tuple(key for key in before.types if key in read or key == flow.key)
    steps, wanted = pruned(before.steps, {*keys, *columns, *arguments})
    spans = [one.frame.preceding for one in node.functions if one.frame.kind == "range"]
    kept = max([stage.ttl, *(span + 1 for span in spans if span is not None)])
    functions = tuple(_function(one, arguments, before.types) for one in node.functions)
    spec = OverSpec(
        prefix, read_of(before.source, wanted), steps, keys, columns, arguments, functions, kept, stage.disorder
    )
    told = [(key, before.types[key]) for key in columns] + [(one.key, one.type) for one in node.functions]
    return Seen(prefix, tuple(told)), OverOperator(spec)


def _function(one: OverFunction, arguments: tuple[str, ...], types: dict[str, DataType]) -> Function:
    at = arguments.index(one.argument) if one.argument else -1
    default = arguments.index(one.default) if one.default else -1
    scale = types[one.argument].scale if one.argument else 0
    return Function(one.function, at, one.frame.kind == "rows", one.frame.preceding, one.offset, default, scale)
