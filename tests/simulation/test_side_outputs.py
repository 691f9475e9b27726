"""Side outputs under every fault: each has a copy of the decisions that are its own, once, in order."""

from __future__ import annotations

from collections import Counter

import msgspec
import pytest

from tests.simulation.campaign import Outcome, simulate
from tests.simulation.scenario import draw

pytestmark = [pytest.mark.blocking, pytest.mark.timeout(240)]
SEEDS = 16


def world(seed: int) -> Outcome:
    return simulate(msgspec.structs.replace(draw(seed), more=frozenset({"side"})))


def test_copies_come_once_whatever_fails() -> None:
    seen: Counter[str] = Counter()
    for seed in range(SEEDS):
        outcome = world(seed)
        assert outcome.wrong == [], f"seed {seed}: {outcome.wrong[:3]}"
        seen.update(outcome.seen)
    assert seen["copies"] > 200
    assert seen["failed transactions"]
    assert seen["worlds of 2"] + seen["worlds of 3"]
