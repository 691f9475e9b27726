"""JOIN -> the operator that pairs rows of two streams."""

from __future__ import annotations

__all__ = ["join_operator", "joined"]

from typing import Final

from sqlglot import exp
from sqlglot.tokenizer_core import TokenType

from operators.statements.joins import JoinOperator, JoinSide, JoinSpec
from operators.statements.outer import OuterJoinOperator, OuterJoinSpec
from operators.statements.spec import Kept, Pairs, Rows
from streamproc.language.statements import StatementStage
from streamproc.sql.plan import AsOf, Join
from streamproc.sql.stream.flows import Flow, Joined, Refused
from streamproc.sql.stream.prune import pruned, read_of

_LEFT: Final = ("left", "full")
_RIGHT: Final = ("right", "full")


def joined(sides: tuple[Flow, Flow], node: Join | AsOf, stage: StatementStage, prefix: str, refused: Refused) -> Flow:
    """The flow of pairs.

    Raises:
        ConfigError: keys are spread over partitions, or what waits has no bound.
    """
    left, right = sides
    place = refused.find(exp.Join, TokenType.JOIN)
    as_of = isinstance(node, AsOf)
    routed = [
        n
        for n, (one, other) in enumerate(node.keys)
        if left.origin.get(one) in stage.keys and right.origin.get(other) == left.origin[one]
    ]
    if not routed:
        wanted = " or ".join(stage.keys)
        raise refused.at(place, f"JOIN wants {wanted} = {wanted} of both sides: others are spread over partitions")
    if not stage.ttl and not as_of:
        raise refused.at(place, "JOIN keeps the rows of both sides for the stage's `ttl`", "ttl: 1d")
    if isinstance(node, AsOf):
        times = ((left, node.time, "FOR SYSTEM_TIME AS OF"), (right, node.right_time, "the version's time"))
        for flow, key, what in times:
            if flow.origin.get(key) != stage.streams[flow.stream].event_time:
                raise refused.at(place, f"{what} is the stream's event time: {stage.streams[flow.stream].event_time}")
    if isinstance(node, AsOf) and node.outer and node.condition is not None:
        raise refused.at(place, "a LEFT JOIN as of a time has equal keys in ON, and nothing else, in a pipeline")
    alone = (node.outer, False) if isinstance(node, AsOf) else (node.kind in _LEFT, node.kind in _RIGHT)
    waits = any(alone) and not as_of
    types = {**left.types, **right.types}
    source = Pairs(prefix, tuple(left.types.items()), tuple(right.types.items()), routed[0] if waits else -1)
    steps = () if waits or node.condition is None else (Kept(node.condition),)
    join = Joined(left, right, node.keys, as_of, alone, node.condition if waits else None, stage.ttl)
    return Flow(source, left.stream, steps, types, {}, join=join)


def join_operator(
    flow: Flow, read: frozenset[str], stage: StatementStage, prefix: str
) -> tuple[Pairs, JoinOperator | OuterJoinOperator]:
    """Pairs that have the columns that are `read`."""
    join = flow.join
    assert join is not None
    assert isinstance(flow.source, Pairs)
    read |= set() if join.condition is None else set(join.condition.inputs)
    left = _side(join.left, tuple(one for one, _ in join.keys), read)
    right = _side(join.right, tuple(other for _, other in join.keys), read)
    kinds = {**join.left.types, **join.right.types}
    first, second = (tuple((key, kinds[key]) for key in side.columns) for side in (left, right))
    source = Pairs(prefix, first, second, flow.source.routed)
    if any(join.alone) and not join.as_of:
        outer = OuterJoinSpec(prefix, left, right, join.ttl, join.alone, join.condition, kinds)
        return source, OuterJoinOperator(outer)
    spec = JoinSpec(
        prefix, f"{prefix}.key", left, right, join.ttl, as_of=join.as_of, outer=join.alone[0], disorder=stage.disorder
    )
    return source, JoinOperator(spec)


def _side(flow: Flow, keys: tuple[str, ...], read: frozenset[str]) -> JoinSide:
    assert isinstance(flow.source, Rows)
    columns = tuple(key for key in flow.types if key in read)
    steps, wanted = pruned(flow.steps, {*keys, *columns})
    source = read_of(flow.source, wanted)
    assert isinstance(source, Rows)
    return JoinSide(source, steps, keys, columns)
