"""Two workers on one log: kills of the group, and of one worker alone (then the other finishes and `run` ends)."""

from __future__ import annotations

import random
import uuid
from pathlib import Path

import pytest

from tests.exactly_once.campaign import Campaign, Plan, assert_exactly_once, checkpointed
from tests.exactly_once.kills import plan_kills

pytestmark = [
    pytest.mark.xdist_group("campaigns"),  # one at a time: each wants the machine
    pytest.mark.soak,  # its short form: tests/fire/test_kill_points.py
    pytest.mark.matrix("kills of one of two workers"),
]

WORKERS = 2
KILLS = 8


def plan(seed: int) -> Plan:
    kills = plan_kills(random.Random(seed), KILLS, alone=True)
    return Plan(kills, events=50_000, workers=WORKERS, seed=seed)


@pytest.mark.timeout(600)
def test_two_workers_embedded(tmp_path: Path) -> None:
    given = plan(3)
    report = Campaign(tmp_path, f"file:{tmp_path}/log", "bench_v1", *checkpointed(tmp_path)).run(given)
    assert_exactly_once(report, given)


@pytest.mark.timeout(900)
@pytest.mark.kafka
def test_two_workers_kafka(tmp_path: Path, kafka_bootstrap: str) -> None:
    given = plan(4)
    name = f"two_{uuid.uuid4().hex[:8]}"
    report = Campaign(tmp_path, f"kafka://{kafka_bootstrap}", name, *checkpointed(tmp_path)).run(given)
    assert_exactly_once(report, given)
