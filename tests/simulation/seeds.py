"""A seed in any process: the plan is compiled once."""

from __future__ import annotations

__all__ = ["PIPELINE", "run_seed", "simulated_plan"]

from functools import cache
from pathlib import Path

from operators.plan import Plan
from streamproc.eventlog.simulated import Without
from streamproc.language import compile_pipeline, load_pipeline
from tests.simulation.campaign import Outcome, Told, simulate

PIPELINE = Path(__file__).parents[2] / "configs" / "bench_v1" / "pipeline.yaml"


@cache
def simulated_plan() -> Plan:
    """The plan that all seeds run."""
    return compile_pipeline(load_pipeline(PIPELINE))


def run_seed(seed: int, told: Told | None = None, *, without: frozenset[Without] = frozenset()) -> Outcome:
    """`simulate` on that plan."""
    return simulate(simulated_plan(), seed, told=told, without=without)
