"""Models that are judged on days which they have learned from: on those they look better than they are."""

from __future__ import annotations

__all__ = ["learned_from"]

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from models.manifest import Period
from operators.plan import Plan
from operators.score import ScoringOperator
from operators.values import parse_timestamp


def learned_from(plans: Sequence[Plan], times: npt.NDArray[np.int64]) -> tuple[str, ...]:
    """A sentence for each version that decides and has learned from days of these payments, as far as manifests say.

    Args:
        plans: of the stages.
        times: of the payments that are judged: event time, ms, int64 (payments,).
    """
    said = []
    for step in (step for plan in plans for step in plan.steps):
        if not isinstance(step, ScoringOperator):
            continue
        for version, period in step.learned.items():
            if seen := _within(period, times):
                name = f"the model {step.name}, version {version}," if version else f"the model {step.name}"
                said.append(
                    f"{name} has learned from {period.start[:10]} to before {period.stop[:10]}, and {seen:,} of the "
                    f"{len(times):,} payments are of these days: on them it looks better than on new ones"
                )
    return tuple(said)


def _within(period: Period, times: npt.NDArray[np.int64]) -> int:
    start, stop = parse_timestamp(period.start), parse_timestamp(period.stop)
    return 0 if start is None or stop is None else int(((times >= start) & (times < stop)).sum())
