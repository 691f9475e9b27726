"""The simulated pipelines with a model and a deadline."""

from __future__ import annotations

__all__ = ["DEADLINE_MS", "AmountModel", "deadline_plans"]

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from operators.plan import Plan
from streamproc.language import compile_stages, read_pipeline
from tests.oracle import late as oracle
from tests.simulation.seeds import PIPELINE, STAGES, without_a_stage

DEADLINE_MS = 80
_ADDED = f"""
deadline: {DEADLINE_MS}ms
models:
  fraud: {{file: none.onnx, features: [amount]}}
"""
_RULE = "  - {id: score, when: score > 90, then: review}\n"


class AmountModel:
    """The model of the oracle."""

    width = 1
    digest = "1" * 64

    def __init__(self, path: Path) -> None:
        self.asked = 0

    def score(self, matrix: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        self.asked += len(matrix)
        return np.where(matrix[:, 0] > oracle.ABOVE, oracle.HIGH, oracle.LOW)


def _text(path: Path) -> str:
    before, decision, after = path.read_text().partition("decision:\n")
    return before + _RULE + _ADDED + decision + after


@cache
def deadline_plans() -> Mapping[int, Sequence[Plan]]:
    """As `simulated_plans`."""
    one, three = (read_pipeline(_text(path), str(path)) for path in (PIPELINE, STAGES))
    found = {1: one, 2: without_a_stage(three), 3: three}
    return {number: compile_stages(pipeline, models=AmountModel) for number, pipeline in found.items()}
