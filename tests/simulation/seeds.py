"""A seed in any process: the plans are compiled once."""

from __future__ import annotations

__all__ = ["run_seed"]

from streamproc.eventlog.simulated import Without
from tests.simulation.campaign import Outcome, Told, simulate
from tests.simulation.scenario import draw


def run_seed(seed: int, told: Told | None = None, *, without: frozenset[Without] = frozenset()) -> Outcome:
    """`simulate` what the seed draws."""
    return simulate(draw(seed), told=told, without=without)
