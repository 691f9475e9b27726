"""kill -9 under load on the embedded log: 20 times, at least 200,000 events, and every decision is there once."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.exactly_once.campaign import Campaign, Plan, assert_exactly_once, plan_kills

pytestmark = pytest.mark.xdist_group("campaigns")  # one at a time: each wants the machine


@pytest.mark.timeout(600)
@pytest.mark.slow
def test_twenty_kills(tmp_path: Path) -> None:
    plan = Plan(plan_kills(random.Random(1)))
    assert_exactly_once(Campaign(tmp_path, f"file:{tmp_path}/log", "bench_v1").run(plan), plan)
