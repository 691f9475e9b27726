"""The campaigns again, over many seeds: `make soak`."""

from __future__ import annotations

import random
import uuid
from pathlib import Path

import pytest

from tests.exactly_once.campaign import Campaign, Plan, assert_exactly_once, plan_kills

SEEDS = range(100, 120)


@pytest.mark.timeout(1200)
@pytest.mark.soak
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("workers", [1, 2])
def test_embedded(tmp_path: Path, seed: int, workers: int) -> None:
    plan = Plan(plan_kills(random.Random(seed), alone=workers > 1), workers=workers, seed=seed)
    assert_exactly_once(Campaign(tmp_path, f"file:{tmp_path}/log", "bench_v1").run(plan), plan)


@pytest.mark.timeout(1200)
@pytest.mark.soak
@pytest.mark.kafka
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("workers", [1, 2])
def test_kafka(tmp_path: Path, kafka_bootstrap: str, seed: int, workers: int) -> None:
    plan = Plan(plan_kills(random.Random(seed), alone=workers > 1), workers=workers, seed=seed)
    campaign = Campaign(tmp_path, f"kafka://{kafka_bootstrap}", f"soak_{uuid.uuid4().hex[:8]}")
    assert_exactly_once(campaign.run(plan), plan)
