"""kill -9 under load on the embedded log: 20 times, at least 200,000 events, and every decision is there once."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.exactly_once.campaign import Campaign, Plan, Report, plan_kills


def assert_exactly_once(report: Report, plan: Plan) -> None:
    """Nothing wrong, and the campaign was none in name only."""
    verdict = report.verdict
    assert verdict["ok"], verdict
    assert verdict["records"] == report.sent >= plan.events
    assert verdict["decisions"] + verdict["dead_letters"] == report.sent
    assert min(verdict["dead_letters"], verdict["repeated"]) > report.sent / 2_000
    assert min(verdict["actions"].get(action, 0) for action in ("approve", "review", "decline")) > report.sent / 100
    assert report.kills == report.under_feed == len(plan.kills)
    assert report.busy * 2 >= report.kills, f"too few kills past step 1 with work at hand: {report.by_step}"
    assert report.in_transaction >= 3, f"too few kills in steps 5-7: {report.by_step}"


@pytest.mark.timeout(600)
@pytest.mark.slow
def test_twenty_kills(tmp_path: Path) -> None:
    plan = Plan(plan_kills(random.Random(1)))
    report = Campaign(tmp_path, f"file:{tmp_path}/log", "bench_v1").run(plan)
    assert_exactly_once(report, plan)
