"""When a figure that goes up and down has levelled off."""

from __future__ import annotations

__all__ = ["Figure", "growing"]

from collections.abc import Mapping, Sequence
from statistics import median
from typing import NamedTuple


class Figure(NamedTuple):
    """What growth of a figure is no growth: a share of it, and so much besides."""

    share: float
    spare: float


def growing(samples: Sequence[Mapping[str, float]], figures: Mapping[str, Figure]) -> dict[str, tuple[float, float]]:
    """The figures that have not levelled off: medians of the middle and the last third, where the last is larger."""
    third = len(samples) // 3
    found = {}
    for name, allowed in figures.items():
        middle, last = (median(sample[name] for sample in part) for part in (samples[third:-third], samples[-third:]))
        if last > middle * (1 + allowed.share) + allowed.spare:
            found[name] = (middle, last)
    return found
