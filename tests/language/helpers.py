"""A small right pipeline, changed by each test, and a model that needs no file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from operators.plan import Plan
from streamproc.language import compile_pipeline, compile_stages, read_pipeline

CONFIGS = Path(__file__).parents[2] / "configs"

BASE = """\
pipeline: cards
streams:
  transactions:
    id: transaction_id
    event_time: event_time
    fields:
      transaction_id: string
      card_id: string
      amount: decimal(2)
      price: float64
      country: string
      event_time: timestamp
partition_by: card_id
features:
  spend: {of: amount, aggregates: [count, sum], over: [1m, 5m]}
  jump: amount / previous(amount)
rules:
  - {id: burst, when: spend_count_1m >= 5, then: decline}
decision: {severity: [decline, review, approve], otherwise: approve, include: [amount, jump]}
"""


class FakeModel:
    """Takes any number of features and gives half of everything."""

    width = 0
    digest = "0" * 64

    def __init__(self, path: Path) -> None:
        self.path = path

    def score(self, matrix: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        return np.full(len(matrix), 50.0)


def compiled(text: str, file: str = "p.yaml") -> Plan:
    return compile_pipeline(read_pipeline(text, file), models=FakeModel)


def compiled_stages(text: str, file: str = "p.yaml") -> tuple[Plan, ...]:
    return compile_stages(read_pipeline(text, file), models=FakeModel)


def changed(*changes: tuple[str, str]) -> str:
    """BASE with each old text, which must be there once, replaced."""
    text = BASE
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text
