"""Stages side by side under the campaign's faults: each row is gathered and decided once, as if nothing had failed."""

from __future__ import annotations

import pytest

from tests.simulation.seeds import run_beside
from tests.simulation.tally import small

SEEDS, BLOCK = 60, 2
pytestmark = [pytest.mark.blocking, pytest.mark.timeout(240)]


@pytest.mark.parametrize("block", range(SEEDS // BLOCK))
def test_whatever_fails_each_row_is_gathered_once(block: int) -> None:
    for seed in range(block * BLOCK, (block + 1) * BLOCK):
        found = run_beside(seed)
        wrong = found.wrong + small(found.seen)
        assert not wrong, f"seed {seed}\n{wrong[:3]}"
