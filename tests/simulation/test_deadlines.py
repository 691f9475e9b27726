"""Deadlines in virtual time, under every fault: what is late by the log's own times is decided by rules alone, is
journaled so, and comes out equal when it is computed again.
"""

from __future__ import annotations

from collections import Counter

import msgspec
import pytest

from streamproc.runtime import engine
from tests.simulation.campaign import NEVER, Outcome, reproduction, simulate
from tests.simulation.scenario import MORE, draw
from tests.simulation.seeds import run_seed

pytestmark = [pytest.mark.blocking, pytest.mark.timeout(240)]
BLOCKS = 6
SEEDS = 102


def more_of(seed: int) -> frozenset[str]:
    """A deadline; each second of a block has a table that changes, too, and a call if there is a stage before."""
    all_of_them = MORE.keys() - ({"call"} if draw(seed).stages == 1 else set())
    return frozenset({"deadline"} if seed // BLOCKS % 2 == 0 else all_of_them)


def world(seed: int) -> Outcome:
    return run_seed(seed, more=more_of(seed))


@pytest.mark.parametrize("block", range(BLOCKS))
def test_what_is_late_is_decided_by_rules_alone_whatever_fails(block: int) -> None:
    seen: Counter[str] = Counter()
    for seed in range(block, SEEDS, BLOCKS):
        outcome = world(seed)
        assert outcome.wrong == [], f"{reproduction(seed, more_of(seed))}\n{outcome.wrong[:3]}"
        seen.update(outcome.seen)
    for kind in ("worlds with all of these", "tables changed under decisions", "call past_deadline"):
        assert seen[kind], kind
    assert seen["answers"] / 10 < seen["late answers"] < seen["answers"] * 9 / 10
    assert seen["worlds of 1"]
    assert seen["worlds of 2"] + seen["worlds of 3"]


def test_lateness_that_is_not_journaled_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the judge, and by restores, which compute the last transaction again."""
    monkeypatch.setattr("streamproc.runtime.outputs.packed", lambda late, start, stop: b"")
    drawn = [msgspec.structs.replace(draw(seed), more=frozenset({"deadline"})) for seed in range(9)]
    wrong = [line for one in drawn for line in simulate(one).wrong]
    assert any("are late, not" in line for line in wrong)
    assert any(NEVER in line for line in wrong)


def test_a_deadline_that_is_not_kept_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """All rows are scored, however late."""
    monkeypatch.setattr(engine, "late_rows", lambda plan, rows, now_ms: None)
    assert any("expected" in line for line in world(0).wrong)
