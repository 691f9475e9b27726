"""A thousand seeds of simulated workers under faults; a failing one names itself."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from streamproc.runtime.checkpointer import Checkpointer
from tests.simulation import __main__ as main
from tests.simulation import campaign, pod
from tests.simulation.__main__ import many
from tests.simulation.campaign import Outcome, reproduction
from tests.simulation.conftest import Tally
from tests.simulation.nemesis import Nemesis
from tests.simulation.scenario import MORE, draw
from tests.simulation.seeds import run_seed
from tests.simulation.tally import IN_STAGES, IN_WORLDS, KINDS, REACHED, RECORDS_MIN, SEEDS_TELLING, TROUBLE

ROOT = Path(__file__).parents[2]
SEEDS = 1_000
BLOCK = 20
pytestmark = [
    pytest.mark.blocking,
    pytest.mark.timeout(240),
]  # the simulated threads are the loop itself, and snapshots are real files


@pytest.mark.parametrize("block", range(SEEDS // BLOCK))
def test_whatever_fails_it_comes_out_as_if_nothing_had(block: int, tally: Tally) -> None:
    for seed in range(block * BLOCK, (block + 1) * BLOCK):
        found = run_seed(seed)
        tally.add(found)
        assert not found.wrong, f"{reproduction(seed)}\n{found.wrong[:3]}"


def test_each_seed_is_a_world_of_its_own() -> None:
    drawn = [draw(seed) for seed in range(200)]
    assert all(one.pods >= 2 and one.partitions >= 2 for one in drawn)
    assert all(one.records >= RECORDS_MIN for one in drawn)
    assert 50 <= sum(one.stages > 1 for one in drawn) <= 90
    assert all(15 <= sum(what in one.more for one in drawn) <= 70 for what in MORE)
    assert len({(str(one.settings), one.timeouts, one.actions) for one in drawn}) == len(drawn)
    assert [draw(seed) for seed in range(200)] == drawn


def test_a_seed_has_one_trace_whatever_the_hash_seed() -> None:
    seeds = (3, 4, 6, 7, 11)
    drawn = [draw(seed) for seed in seeds]
    assert {one.stages for one in drawn} == {1, 2, 3}
    assert set().union(*(one.more for one in drawn)) == MORE.keys()
    code = f"from tests.simulation.seeds import run_seed; print([run_seed(seed).trace for seed in {seeds}])"
    found = {in_a_process(hash_seed, "-c", code) for hash_seed in ("0", "1", "random")}
    assert len(found) == 1
    assert found.pop().count("'") == 2 * len(seeds)


def test_what_is_written_is_in_the_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    before = run_seed(3)
    monkeypatch.setattr(pod, "DIGEST_KEY", b"j" * 32)
    after = run_seed(3)
    assert (after.wrong, after.steps, after.virtual_s) == ([], before.steps, before.virtual_s)
    assert after.trace != before.trace


def test_the_line_of_a_seed_runs_it_again() -> None:
    _, *line = reproduction(7).split()
    assert f"trace {run_seed(7).trace}" in in_a_process("random", *line)


def test_the_line_of_a_seed_with_more_names_the_same_world(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def run(seed: int, told: object, *, more: frozenset[str] | None) -> Outcome:
        asked.append((seed, more))
        return outcome(seed)

    monkeypatch.setattr(main, "run_seed", run)
    for more in (None, frozenset[str](), frozenset({"side"}), frozenset({"deadline", "table"})):
        monkeypatch.setattr(sys, "argv", reproduction(7, more).split()[2:])
        assert main.main() == 0
        assert asked.pop() == (7, more)


def in_a_process(hash_seed: str, *arguments: str) -> str:
    environment = os.environ | {"PYTHONHASHSEED": hash_seed}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True).stdout


async def dies(*_: object) -> None:
    raise ValueError("a mistake")


def judges_nothing(*_: object) -> None:
    raise ValueError("a mistake")


@pytest.mark.parametrize(
    ("whose", "name", "how"),
    [(Nemesis, "haunt", dies), (Checkpointer, "watch", dies), (campaign, "judge", judges_nothing)],
    ids=["nemesis", "checkpointer", "judge"],
)
def test_whoever_dies_beside_the_workers_is_told(
    monkeypatch: pytest.MonkeyPatch, whose: object, name: str, how: Callable[..., object]
) -> None:
    """By the seed's outcome, so that its line is printed."""
    assert draw(3).checkpoint_s
    monkeypatch.setattr(whose, name, how)
    assert any("ValueError" in wrong and "a mistake" in wrong for wrong in run_seed(3).wrong)


def outcome(seed: int, *wrong: str, **fired: int) -> Outcome:
    seen = {"records": RECORDS_MIN, **dict.fromkeys(TROUBLE, 1)}
    return Outcome(seed, RECORDS_MIN, list(wrong), fired, seen, "", 0, 0.0)


def test_a_failed_seed_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert many([outcome(1), outcome(17, "something", "more"), outcome(18)]) == 1
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "python -m tests.simulation --seed 17"
    assert sum("--seed" in line for line in said) == 1


@pytest.mark.parametrize("what", ["records", *TROUBLE])
def test_a_seed_that_is_too_small_fails(what: str, capsys: pytest.CaptureFixture[str]) -> None:
    small = outcome(3)
    small.seen[what] -= 1
    with pytest.raises(AssertionError, match="seed 3"):
        Tally(Counter()).add(small)
    assert many([outcome(1), small]) == 1
    assert "--seed 3\n" in capsys.readouterr().out


def test_a_kind_that_never_fired_fails_a_long_run(capsys: pytest.CaptureFixture[str]) -> None:
    all_seen = dict.fromkeys((*KINDS, *REACHED, *IN_WORLDS, *IN_STAGES), 1)
    assert many([outcome(seed, **all_seen) for seed in range(SEEDS_TELLING)]) == 0
    for kind in ("pause", "pause among stages", "worlds with all of these", "call refused"):
        some_seen = {name: count for name, count in all_seen.items() if name != kind}
        assert many([outcome(seed, **some_seen) for seed in range(SEEDS_TELLING)]) == 1
        assert f"never seen: {kind}\n" in capsys.readouterr().out
    assert many([]) == 1
