"""Deadlines in virtual time, under every fault: what is late by the log's own times is decided by rules alone, is
journaled so, and comes out equal when it is computed again.
"""

from __future__ import annotations

from collections import Counter

import pytest

from streamproc.runtime import engine
from tests.simulation.campaign import NEVER, simulate
from tests.simulation.deadlines import deadline_plans

pytestmark = [pytest.mark.blocking, pytest.mark.timeout(240)]
BLOCKS = 6
SEEDS = 90


@pytest.mark.parametrize("block", range(BLOCKS))
def test_what_is_late_is_decided_by_rules_alone_whatever_fails(block: int) -> None:
    seen: Counter[str] = Counter()
    for seed in range(block, SEEDS, BLOCKS):
        outcome = simulate(deadline_plans(), seed)
        assert outcome.wrong == [], f"seed {seed}: {outcome.wrong[:3]}"
        seen.update(outcome.seen)
    assert seen["answers"] / 10 < seen["late answers"] < seen["answers"] * 9 / 10
    assert seen["worlds of 1"]
    assert seen["worlds of 2"] + seen["worlds of 3"]


def test_lateness_that_is_not_journaled_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the judge, and by restores, which compute the last transaction again."""
    monkeypatch.setattr("streamproc.runtime.outputs.packed", lambda late, start, stop: b"")
    wrong = [line for seed in range(3) for line in simulate(deadline_plans(), seed).wrong]
    assert any("are late, not" in line for line in wrong)
    assert any(NEVER in line for line in wrong)


def test_a_deadline_that_is_not_kept_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """All rows are scored, however late."""
    monkeypatch.setattr(engine, "late_rows", lambda plan, rows, now_ms: None)
    assert any("expected" in line for line in simulate(deadline_plans(), 0).wrong)
