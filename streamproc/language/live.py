"""Tables with a topic: which of them a stage reads, and that nothing reads them whose result is kept as state."""

from __future__ import annotations

__all__ = ["check_live", "live_tables", "roles_topic"]

from collections.abc import Iterator, Mapping

from operators.expressions import Compiled, ExpressionOperator
from operators.live_tables import LiveTables, TopicTable
from operators.served_score import ServedScoreOperator
from operators.serving import ROLES, ROLES_TABLE
from streamproc.language.items import ExpressionItem, Item, ScoreItem, UserItem, reads, writes
from streamproc.language.model import Pipeline
from streamproc.language.problems import Problems
from streamproc.language.steps import StepBuilder


def live_tables(pipeline: Pipeline, builder: StepBuilder) -> LiveTables | None:
    """Those that the steps look up, and the roles of registered models; None: neither."""
    read = {table for _, compiled in _compiled(builder) for table in compiled.tables}
    found = [
        TopicTable(table.topic, builder.lookups[name].schema)
        for name, table in pipeline.tables.items()
        if table.topic and name in read
    ]
    served = [step.served for step in builder.steps if isinstance(step, ServedScoreOperator)]
    if served:
        found.append(TopicTable(roles_topic(pipeline.pipeline), ROLES, may_be_empty=True))
    return LiveTables(found, builder.lookups, {ROLES_TABLE: served}) if found else None


def roles_topic(pipeline: str) -> str:
    """Where the roles of a pipeline's models stand."""
    return f"{pipeline}.models"


def check_live(pipeline: Pipeline, items: Mapping[str, Item], builder: StepBuilder, problems: Problems) -> None:
    """A replay brings state forward by the tables of today: what state depends on must not change with them."""
    compiled = dict(_compiled(builder))
    kept: set[str] = set()
    for item in items.values():
        kept.update(reads(item) if _keeps_state(item) else ())
    grown = True
    while grown:
        before = len(kept)
        for item in items.values():
            if not _keeps_state(item) and not kept.isdisjoint(writes(item)):
                kept.update(reads(item))
        grown = len(kept) > before
    for name, item in items.items():
        if name not in kept or name not in compiled or not isinstance(item, ExpressionItem):
            continue
        for table in compiled[name].tables:
            if pipeline.tables[table].topic:
                problems.add(
                    f"windows, previous() and what else looks back cannot read the table {table}: it has a topic, and "
                    "changes while the pipeline runs",
                    item.expr.place,
                    "look it up in a rule, or in a feature that nothing looks back at",
                )


def _keeps_state(item: Item) -> bool:
    if isinstance(item, UserItem):
        return bool(item.operator.tables)
    return not isinstance(item, ExpressionItem | ScoreItem)


def _compiled(builder: StepBuilder) -> Iterator[tuple[str, Compiled]]:
    """All expressions of the steps, and the conditions on what timed ones say, by name."""
    for step in builder.steps:
        if isinstance(step, ExpressionOperator):
            yield from step.expressions
    for alert in builder.alerts:
        if alert.when is not None:
            yield from alert.when.expressions
