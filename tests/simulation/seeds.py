"""A seed in any process: what it draws, simulated."""

from __future__ import annotations

__all__ = ["run_beside", "run_seed"]

import msgspec

from streamproc.eventlog.simulated import Without
from tests.simulation.campaign import Outcome, Told, simulate
from tests.simulation.scenario import draw, draw_beside


def run_seed(
    seed: int, told: Told | None = None, *, without: frozenset[Without] = frozenset(),
    more: frozenset[str] | None = None,
) -> Outcome:  # fmt: skip
    """`simulate` what the seed draws; `more`: of these instead of those that it draws, see `variants`."""
    drawn = draw(seed)
    if more is not None:
        drawn = msgspec.structs.replace(drawn, more=more)
    return simulate(drawn, told=told, without=without)


def run_beside(
    seed: int, told: Told | None = None, *, without: frozenset[Without] = frozenset(),
    more: frozenset[str] = frozenset(),
) -> Outcome:  # fmt: skip
    """The same of its world of stages side by side; `more`: what that has besides, see `variants`."""
    return simulate(msgspec.structs.replace(draw_beside(seed), more=more), told=told, without=without)
