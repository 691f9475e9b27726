"""Every mechanism of the table is missed when it is gone."""

from __future__ import annotations

import subprocess
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from unittest import mock

import pytest

from streamproc.runtime.partition_task import PartitionTask
from tests.simulation import ablation_table
from tests.simulation.ablation_table import fails_without, faults_of, recorded
from tests.simulation.ablations import ABLATIONS, SEEDS, Ablation, caught_by
from tests.simulation.seeds import run_seed

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.blocking, pytest.mark.timeout(400)]
SIMULATED = [one for one in ABLATIONS if one.test is None]
NAMED = sorted({one.test for one in ABLATIONS if one.test is not None})


def test_the_table_is_complete() -> None:
    assert {name: seed is None for name, seed in recorded().items()} == {
        one.mechanism: one.test is not None for one in ABLATIONS
    }


@pytest.mark.parametrize("ablation", SIMULATED, ids=lambda one: one.mechanism)
def test_the_simulation_notices(ablation: Ablation) -> None:
    """By the seed of the table, or, if the program has changed since, by another one."""
    seed = recorded()[ablation.mechanism]
    assert seed is not None
    assert seed < SEEDS
    assert caught_by(ablation, [seed, *range(SEEDS)])


def test_a_switch_leaves_nothing_behind() -> None:
    seed = 5
    before = run_seed(seed)
    assert before.wrong == []
    for ablation in SIMULATED:
        with ablation.off():
            pass
    assert run_seed(seed) == before


def test_a_switch_that_fails_itself_is_noticed_by_nobody() -> None:
    """Such as one that patches a method of which the arguments have changed since."""

    def commits_of(self: PartitionTask, head: object) -> object:
        raise AssertionError

    def off() -> AbstractContextManager[object]:
        return mock.patch.object(PartitionTask, "commits_of", commits_of)

    assert caught_by(Ablation("a slip", "", off), [0]) is None
    test = "tests/simulation/test_streams.py::test_in_whatever_order_they_were_taken_decisions_equal_the_oracle[0]"
    assert not fails_without(Ablation("a slip", "", off, test))


def test_a_test_that_notices_nothing_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    test = "tests/runtime/test_topic_tables.py::test_catching_up_reads_what_was_committed_before[0]"
    monkeypatch.setattr(ablation_table, "ABLATIONS", [Ablation("nothing", "", nullcontext, test)])
    assert faults_of(test) == ["without nothing: NOBODY NOTICES"]
    assert faults_of(f"{test}, which is not there") == [f"{test}, which is not there fails as it is"]


@pytest.mark.parametrize("test", NAMED, ids=lambda test: test.rpartition("::")[2])
def test_a_named_test_notices(test: str) -> None:
    """Each mechanism that names it, one by one."""
    command = [sys.executable, "-m", "tests.simulation.ablation_table", "--test", test]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "")
