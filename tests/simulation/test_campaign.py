"""A thousand seeds of simulated workers under faults; a failing one names itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.campaign import reproduction
from tests.simulation.conftest import Tally
from tests.simulation.scenario import draw
from tests.simulation.seeds import run_seed

SEEDS = 1_000
BLOCK = 25
pytestmark = pytest.mark.blocking  # the simulated threads are the loop itself, and snapshots are real files


@pytest.mark.parametrize("block", range(SEEDS // BLOCK))
def test_whatever_fails_it_comes_out_as_if_nothing_had(block: int, tally: Tally) -> None:
    for seed in range(block * BLOCK, (block + 1) * BLOCK):
        outcome = run_seed(seed)
        tally.add(outcome)
        assert not outcome.wrong, f"{reproduction(seed)}\n{outcome.wrong[:3]}"


def test_each_seed_is_a_world_of_its_own() -> None:
    drawn = [draw(seed) for seed in range(200)]
    assert all(one.pods >= 2 and one.partitions >= 2 and one.records >= 300 for one in drawn)
    assert len({(str(one.settings), one.timeouts, one.actions) for one in drawn}) == len(drawn)
    assert [draw(seed) for seed in range(200)] == drawn


def test_a_seed_has_one_trace_whatever_the_hash_seed() -> None:
    seeds = (3, 11, 42)
    found = set()
    for hash_seed in ("0", "1", "random"):
        lines = [_in_a_process(seed, hash_seed) for seed in seeds]
        assert all("trace" in line for line in lines)
        found.add(tuple(lines))
    assert len(found) == 1


def _in_a_process(seed: int, hash_seed: str) -> str:
    command = [sys.executable, "-m", "tests.simulation", "--seed", str(seed)]
    environment = os.environ | {"PYTHONHASHSEED": hash_seed}
    root = Path(__file__).parents[2]
    return subprocess.run(command, cwd=root, env=environment, check=True, capture_output=True, text=True).stdout
