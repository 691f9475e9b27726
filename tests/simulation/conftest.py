"""What the seeds of a test session have seen, gathered from all of its processes by `tests/conftest.py`."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.conftest import SIMULATION
from tests.simulation import tally
from tests.simulation.campaign import Outcome


class Tally:
    """Adds to what this process reports at its end."""

    def __init__(self, seeds: Counter[str]) -> None:
        self._all = seeds

    def add(self, outcome: Outcome) -> None:
        """One more seed, its faults, and what its workers did."""
        assert tally.small(outcome.seen) == [], f"seed {outcome.seed}"
        self._all["seeds"] += 1
        self._all.update(outcome.fired)
        self._all.update(outcome.seen)


@pytest.fixture(scope="session", name="tally")
def _tally(pytestconfig: pytest.Config) -> Tally:
    return Tally(pytestconfig.stash[SIMULATION])
