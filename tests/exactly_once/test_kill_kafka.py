"""kill -9 under load on Kafka: 20 times, at least 200,000 events, and every decision is there once."""

from __future__ import annotations

import random
import uuid
from pathlib import Path

import pytest

from tests.exactly_once.campaign import Campaign, Plan, assert_exactly_once, plan_kills

pytestmark = pytest.mark.xdist_group("campaigns")  # one at a time: each wants the machine


@pytest.mark.timeout(900)
@pytest.mark.slow
@pytest.mark.kafka
def test_twenty_kills(tmp_path: Path, kafka_bootstrap: str) -> None:
    plan = Plan(plan_kills(random.Random(2)), seed=2)
    name = f"kills_{uuid.uuid4().hex[:8]}"
    assert_exactly_once(Campaign(tmp_path, f"kafka://{kafka_bootstrap}", name).run(plan), plan)
