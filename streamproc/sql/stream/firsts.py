"""DISTINCT, UNION, GROUP BY without aggregates -> the operator that tells rows which are equal to none before."""

from __future__ import annotations

__all__ = ["distinct"]

from operators.statements.firsts import FirstsOperator, FirstsSpec
from operators.statements.spec import Rows, Seen, Union
from streamproc.language.statements import StatementStage
from streamproc.sql.plan import Group
from streamproc.sql.stream.flows import Flow, Refused
from streamproc.sql.stream.prune import pruned, read_of


def distinct(flow: Flow, node: Group, stage: StatementStage, prefix: str, refused: Refused) -> Flow:
    """The flow of the first ones of equal rows.

    Raises:
        ConfigError: equal rows may lie in several partitions, or they are remembered without a bound.
    """
    assert isinstance(flow.source, Rows | Union)
    routed = [key for key in node.keys if flow.origin.get(key) in stage.keys]
    if not routed:
        wanted = " or ".join(stage.keys)
        what = f"rows that come once must have the column {wanted}: equal ones without are spread over partitions"
        raise refused.at(node.place, what)
    if not stage.ttl:
        raise refused.at(node.place, "rows that come once are remembered for the stage's `ttl`", "ttl: 1d")
    steps, read = pruned(flow.steps, set(node.keys))
    spec = FirstsSpec(prefix, read_of(flow.source, read), steps, node.keys, stage.ttl)
    types = {key: flow.types[key] for key in node.keys}
    source = Seen(prefix, tuple(types.items()))
    return Flow(source, flow.stream, (), types, flow.origin, (FirstsOperator(spec),), routed[0])
