"""Which versions score, and by what; shadows that had no time: they are counted, and it is said aloud."""

from __future__ import annotations

__all__ = ["watch_shadows"]

from collections.abc import Sequence

import structlog

from operators.plan import Plan
from operators.score import ScoringOperator
from operators.served_score import ServedScoreOperator
from streamproc.clock import Clock
from streamproc.runtime.metrics import WorkerMetrics

_LOOK_S = 5.0


async def watch_shadows(plans: Sequence[Plan], metrics: WorkerMetrics, clock: Clock) -> None:
    """For ever, if there are models: from now on shadows keep to their budget, by this clock."""
    scoring = [step for plan in plans for step in plan.steps if isinstance(step, ScoringOperator)]
    said: dict[str, dict[str, str]] = {}
    _say(scoring, said)
    steps = [step for plan in plans for step in plan.steps if isinstance(step, ServedScoreOperator)]
    for step in steps:
        step.budget.clock = clock.monotonic
    try:
        while scoring:
            await clock.sleep(_LOOK_S)
            _tell(steps, metrics)
            _say(scoring, said)
    finally:
        _tell(steps, metrics)


def _say(steps: Sequence[ScoringOperator], said: dict[str, dict[str, str]]) -> None:
    """Which versions are at work, where it is not what was said before."""
    for step in steps:
        if said.get(step.name) != step.scored_by:
            said[step.name] = step.scored_by
            structlog.get_logger("models").info("a model scores", model=step.name, scored_by=step.scored_by)


def _tell(steps: Sequence[ServedScoreOperator], metrics: WorkerMetrics) -> None:
    """What was shed since the last time."""
    for step in steps:
        for version, rows in step.budget.take_shed().items():
            metrics.shed_shadow_rows.labels(step.served.name, str(version)).inc(rows)
            structlog.get_logger("models").error(
                "a shadow has no time: rows were decided without its score",
                model=step.served.name, version=version, rows=rows,
            )  # fmt: skip
