"""A seed in any process: the plans are compiled once."""

from __future__ import annotations

__all__ = ["run_seed"]

import msgspec

from streamproc.eventlog.simulated import Without
from tests.simulation.campaign import Outcome, Told, simulate
from tests.simulation.scenario import draw


def run_seed(
    seed: int, told: Told | None = None, *, without: frozenset[Without] = frozenset(),
    more: frozenset[str] | None = None,
) -> Outcome:  # fmt: skip
    """`simulate` what the seed draws; `more`: of these instead of those that it draws, see `variants`."""
    drawn = draw(seed)
    if more is not None:
        drawn = msgspec.structs.replace(drawn, more=more)
    return simulate(drawn, told=told, without=without)
