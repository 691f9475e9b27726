"""Stages side by side under the campaign's faults: each row is gathered and decided once, as if nothing had failed."""

from __future__ import annotations

import pytest

from tests.simulation.seeds import run_beside
from tests.simulation.tally import small

SEEDS, BLOCK = 60, 2
FORMS = {
    "call before": {"call"},
    "call behind": {"call", "behind"},
    "call within": {"call", "within"},
    "chain": {"call", "chain"},
    "call within a chain": {"call", "within", "chain"},
    "call alone": {"call", "alone"},
    "call last": {"call", "last"},
    "call between": {"call", "between"},
}
FORM_SEEDS = {form: seed for seed, form in enumerate(FORMS)}
"""More of each by hand: `run_beside(seed, more=...)`."""
pytestmark = [pytest.mark.blocking, pytest.mark.timeout(240)]


@pytest.mark.parametrize("block", range(SEEDS // BLOCK))
def test_whatever_fails_each_row_is_gathered_once(block: int) -> None:
    for seed in range(block * BLOCK, (block + 1) * BLOCK):
        found = run_beside(seed)
        wrong = found.wrong + small(found.seen)
        assert not wrong, f"seed {seed}\n{wrong[:3]}"


@pytest.mark.parametrize("form", FORMS)
def test_with_calls_and_longer_branches_too(form: str) -> None:
    found = run_beside(FORM_SEEDS[form], more=frozenset(FORMS[form]))
    assert not found.wrong, f"seed {FORM_SEEDS[form]}\n{found.wrong[:3]}"
    assert found.seen["call answered"] > 10
