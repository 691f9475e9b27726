"""kill -9 under load at each of the points K1-K8, at starts and at random, on both real logs.

In the end the local state is thrown away, and every card is called up on what the last checkpoints and the log restore.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.exactly_once.campaign import Campaign, Plan, assert_exactly_once, checkpointed
from tests.exactly_once.kills import POINTS, plan_kills

pytestmark = [pytest.mark.xdist_group("campaigns"), pytest.mark.slow]  # one at a time: each wants the machine

KILLS = 20


@pytest.fixture(params=["file", pytest.param("kafka", marks=pytest.mark.kafka)])
def campaign(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Campaign]:
    url = f"file:{tmp_path}/log"
    if request.param == "kafka":
        url = f"kafka://{request.getfixturevalue('kafka_bootstrap')}"
    made = Campaign(tmp_path, url, f"kills_{uuid.uuid4().hex[:8]}", *checkpointed(tmp_path))
    yield made
    made.end_all()


@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", [1])
def test_kills_at_every_point(campaign: Campaign, seed: int) -> None:
    plan = Plan(plan_kills(random.Random(seed), KILLS), seed=seed, roll_call=True)
    report = campaign.run(plan)
    assert_exactly_once(report, plan)
    assert all(report.by_name[point] > 0 for point in (*POINTS, "start", "random"))
