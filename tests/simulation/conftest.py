"""What the seeds of a test session have seen, gathered from all of its processes by `tests/conftest.py`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import pytest

from tests.conftest import SIMULATION


class Tally:
    """Adds to what this process reports at its end."""

    def __init__(self, seeds: Counter[str]) -> None:
        self._all = seeds

    def add(self, fired: Mapping[str, int]) -> None:
        """One more seed and its faults."""
        self._all["seeds"] += 1
        self._all.update(fired)


@pytest.fixture(scope="session")
def tally(pytestconfig: pytest.Config) -> Tally:
    return Tally(pytestconfig.stash[SIMULATION])
