"""A seed in any process: what it draws, simulated."""

from __future__ import annotations

__all__ = ["run_beside", "run_seed"]

from streamproc.eventlog.simulated import Without
from tests.simulation.campaign import Outcome, Told, simulate
from tests.simulation.scenario import draw, draw_beside


def run_seed(seed: int, told: Told | None = None, *, without: frozenset[Without] = frozenset()) -> Outcome:
    """`simulate` what the seed draws."""
    return simulate(draw(seed), told=told, without=without)


def run_beside(seed: int, told: Told | None = None, *, without: frozenset[Without] = frozenset()) -> Outcome:
    """The same of its world of stages side by side."""
    return simulate(draw_beside(seed), told=told, without=without)
