"""What waits for time where no more rows come."""

from __future__ import annotations

__all__ = ["open_windows"]

from operators.operator import OperatorContext
from operators.plan import Plan
from operators.statements.spec import Windows
from operators.timed.operator import TimedOperator


def open_windows(plan: Plan, state: OperatorContext) -> dict[str, int]:
    """How many windows and waits have begun and are not told yet, by the name of their alert or statement."""
    steps = {one.spec.name: one for one in plan.timed if isinstance(one, TimedOperator)}
    named = dict(steps)
    for statement in plan.statements:
        if isinstance(statement.source, Windows):  # several steps tell of its windows, the first one of all
            named = {name: step for name, step in named.items() if name not in statement.source.timed}
            named[statement.name] = steps[statement.source.timed[0]]
    tasks = range(plan.topic_partitions)
    return {name: sum(step.open_windows(state, task) for task in tasks) for name, step in named.items()}
