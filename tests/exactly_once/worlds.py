"""What campaigns run: a pipeline, traffic for it without end, and who judges what came of it."""

from __future__ import annotations

__all__ = ["BENCH", "BESIDE", "DEADLINE_MS", "ROOT", "World"]

from pathlib import Path
from typing import NamedTuple

from tests.exactly_once import beside, traffic

ROOT = Path(__file__).parents[2]
DEADLINE_MS = 80
"""Of a live payment: after an outage all that waits is late."""


class World(NamedTuple):
    """`head`: what the pipeline's file begins with, and what stands there instead, but for the name.

    `traffic`, `verifier`: modules; `cards`: what a roll call calls up; `rate_min`: events a second, however slow a
    start is: so many that a kill meets some.
    """

    pipeline: Path
    head: tuple[str, str]
    traffic: str
    verifier: str
    cards: int
    rate_min: float

    def named(self, name: str) -> str:
        """The pipeline's text under another name."""
        old, new = self.head
        text = self.pipeline.read_text()
        assert old in text
        return text.replace(old, f"pipeline: {name}\n{new}")


BENCH = World(
    ROOT / "configs" / "bench_v1" / "pipeline.yaml", ("pipeline: bench_v1\n", f"deadline: {DEADLINE_MS}ms\n"),
    traffic.__name__, "tests.exactly_once.verify", traffic.CARDS, 500.0,
)  # fmt: skip
BESIDE = World(
    ROOT / "tests" / "simulation" / "beside.yaml", ("pipeline: beside\n", "partitions: 2\n"),
    beside.__name__, "tests.exactly_once.verify_stages", beside.CARDS, 20.0,
)  # fmt: skip
"""Stages side by side. Its oracle looks at all rows of a key for each: a few ten thousand are enough."""
