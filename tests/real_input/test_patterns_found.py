"""The shipped patterns on generated payments: planted frauds are found, and hardly anything else."""

from __future__ import annotations

import pytest

from benchmarks.patterns_found import KIND_OF, START_MS, Found, count
from streamproc.services.generator import GeneratorOptions

EVENTS = 10_000


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Found]:
    options = GeneratorOptions(events=EVENTS, seed=3, fraud_share=0.06, start_ms=START_MS)
    return count(options, tmp_path_factory.mktemp("patterns"))


@pytest.mark.timeout(120)
@pytest.mark.parametrize("pattern", KIND_OF)
def test_a_pattern_finds_what_was_planted(pattern: str, found: dict[str, Found]) -> None:
    said = found[pattern]
    assert said.planted >= 5
    assert said.found >= 0.8 * said.planted
    assert said.false_alarms <= EVENTS * 0.0002
