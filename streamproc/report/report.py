"""What a page is made of."""

from __future__ import annotations

__all__ = ["Changed", "Comparison", "Report"]

import msgspec

from models.evaluation.differences import Moved
from models.evaluation.evaluation import Evaluation, Settings


class Changed(msgspec.Struct, frozen=True):
    """A payment that two pipelines decide differently; also a line of the list beside the page.

    `direction`: stricter or milder. `fraud`: None: not known. `event_time`: ISO 8601, UTC. `rules`: that hit and are
    no shadow.
    """

    direction: str
    id: str
    event_time: str
    amount: float | None
    fraud: bool | None
    decision: str
    new_decision: str
    score: float | None
    new_score: float | None
    rules: tuple[str, ...]
    new_rules: tuple[str, ...]


class Comparison(msgspec.Struct, frozen=True):
    """With the pipeline `other`. `stricter`, `milder`: the first rows, and how many there are; `listed`: how many of
    both are in the file `beside`.
    """

    other: str
    evaluation: Evaluation
    moves: tuple[Moved, ...]
    same: int
    only_before: int
    only_after: int
    stricter: tuple[Changed, ...]
    stricter_rows: int
    milder: tuple[Changed, ...]
    milder_rows: int
    listed: int
    beside: str


class Report(msgspec.Struct, frozen=True):
    """`inputs`: names of files. `labels`: where labels came from. `first`, `last`: ms, of the payments.

    `what`: of the pipeline, as the title says it. `undecided`: rows that became dead letters; `duplicates`: rows that
    came again: neither counts anywhere.
    """

    pipeline: str
    fingerprint: str
    inputs: tuple[str, ...]
    labels: str
    first: int
    last: int
    undecided: int
    duplicates: int
    settings: Settings
    evaluation: Evaluation
    comparison: Comparison | None = None
    what: str = "Backtest"
    learned: tuple[str, ...] = ()
    """Models that learned from days which are judged here, a sentence each."""
