"""Side outputs under every fault: each has a copy of the decisions that are its own, once, in order."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.simulation.campaign import reproduction
from tests.simulation.seeds import run_seed

pytestmark = [pytest.mark.blocking, pytest.mark.timeout(240)]
SEEDS = 16
MORE = frozenset({"side"})


def test_copies_come_once_whatever_fails() -> None:
    seen: Counter[str] = Counter()
    for seed in range(SEEDS):
        outcome = run_seed(seed, more=MORE)
        assert outcome.wrong == [], f"{reproduction(seed, MORE)}\n{outcome.wrong[:3]}"
        seen.update(outcome.seen)
    assert seen["copies"] > 200
    assert seen["failed transactions"]
    assert seen["worlds of 2"] + seen["worlds of 3"]
