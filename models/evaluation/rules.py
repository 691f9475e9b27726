"""What each rule brings, and what would be lost without it."""

from __future__ import annotations

__all__ = ["RuleFigures", "rule_figures"]

import msgspec
import numpy as np

from models.evaluation.decisions import Decisions
from models.evaluation.measures import Measures, measured_by


class RuleFigures(msgspec.Struct, frozen=True):
    """`hits`: of what it hit, as if that were what is alerted. `alone`: frauds that no other live rule hit."""

    name: str
    shadow: bool
    hits: Measures
    alone: int


def rule_figures(found: Decisions) -> list[RuleFigures]:
    """In the order of the rules; those that hit most do not come first, as a final rule changes what later ones see."""
    live = [place for place in range(len(found.rules)) if place not in found.shadow]
    others = found.hits[:, live].sum(axis=1)
    fraud = found.labels == 1
    figures = []
    for place, name in enumerate(found.rules):
        hit, shadow = found.hits[:, place], place in found.shadow
        as_if = msgspec.structs.replace(
            found, actions=("alert", "pass"), action=np.where(hit, 0, 1).astype(np.uint8), kind=None, segments=()
        )
        whole = np.zeros(len(hit), np.int64)
        (measures,) = measured_by(as_if, whole, 1)
        alone = int((hit & fraud & (others == (0 if shadow else 1))).sum())
        figures.append(RuleFigures(name, shadow, measures, alone))
    return figures
