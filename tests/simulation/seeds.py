"""A seed in any process: the plan is compiled once."""

from __future__ import annotations

__all__ = [
    "BESIDE_YAML",
    "PIPELINE",
    "STAGES",
    "beside_plans",
    "run_beside",
    "run_seed",
    "simulated_plans",
    "without_a_stage",
]

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import msgspec

from operators.plan import Plan
from streamproc.eventlog.simulated import Without
from streamproc.language import compile_stages, load_pipeline
from streamproc.language.model import Pipeline
from tests.simulation.campaign import Outcome, Told, simulate
from tests.simulation.scenario import BESIDE, draw_beside

PIPELINE = Path(__file__).parents[2] / "configs" / "bench_v1" / "pipeline.yaml"
STAGES = Path(__file__).parent / "stages.yaml"
BESIDE_YAML = Path(__file__).parent / "beside.yaml"


@cache
def simulated_plans() -> Mapping[int, Sequence[Plan]]:
    """The plans that seeds run, by the number of their stages."""
    three = load_pipeline(STAGES)
    one, two = load_pipeline(PIPELINE), without_a_stage(three)
    return {1: compile_stages(one), 2: compile_stages(two), 3: compile_stages(three)}


def without_a_stage(three: Pipeline) -> Pipeline:
    """The one of three stages without its second."""
    first, _, last = three.stages
    return msgspec.structs.replace(three, stages=(first, last))


def run_seed(seed: int, told: Told | None = None, *, without: frozenset[Without] = frozenset()) -> Outcome:
    """`simulate` on those plans."""
    return simulate(simulated_plans(), seed, told=told, without=without)


@cache
def beside_plans() -> Sequence[Plan]:
    """The plans of stages side by side."""
    return compile_stages(load_pipeline(BESIDE_YAML))


def run_beside(seed: int, told: Told | None = None, *, without: frozenset[Without] = frozenset()) -> Outcome:
    """`simulate` on these."""
    return simulate({BESIDE: beside_plans()}, seed, told=told, without=without, drawn=draw_beside)
