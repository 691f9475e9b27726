"""Workers that stand still or are cut off past their session while others take over, and then come back to life.

None is the owner of anything then: what it still sends is refused (a journal of two owners would break), and it goes
on as a fresh member.
"""

from __future__ import annotations

import os
import signal
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.exactly_once.campaign import Campaign, Plan
from tests.exactly_once.pods import Pod, ends, positions, until
from tests.exactly_once.victim import order_stop
from tests.fire.proxy import UP, Proxy, Rule
from tests.fire.subject import HASTY, HEALED_SECONDS_MAX
from tests.kafka.shared import Address

pytestmark = [pytest.mark.xdist_group("network"), pytest.mark.kafka, pytest.mark.slow]

RATE = 500
ROUNDS = [("4", "6"), ("produced", "ending")]
"""K2 and K4, then K3 and K5: where the two zombies stop."""


@pytest.fixture
def campaign(tmp_path: Path, kafka_address: Address) -> Iterator[Campaign]:
    made = Campaign(tmp_path, f"kafka://{kafka_address.bootstrap}", f"zombies_{uuid.uuid4().hex[:8]}")
    yield made
    made.end_all()


def until_others_have_all(campaign: Campaign, *alive: Pod) -> None:
    """Every partition is decided by somebody who lives."""
    since = positions(campaign)

    def all_moved() -> bool:
        time.sleep(0.3)
        return all(now > before for now, before in zip(positions(campaign), since, strict=True))

    until(all_moved, *alive, within_s=HEALED_SECONDS_MAX)


def judge(campaign: Campaign, sent: int, *pods: Pod) -> None:
    until(lambda: positions(campaign) == ends(campaign), *pods, within_s=HEALED_SECONDS_MAX)
    for pod in pods:
        pod.stop_in_order()
    verdict = campaign.verify(sent)
    assert verdict["ok"], verdict


@pytest.mark.timeout(300)
def test_workers_that_stand_still_at_every_point(campaign: Campaign) -> None:
    with campaign.feeding(Plan(rate=RATE, events=RATE * 20, seed=81)) as feeder:
        one, two, heir = (Pod(campaign, name, kafka=HASTY) for name in ("one", "two", "heir"))
        for pod in (one, two, heir):
            pod.until_more()
        for points in ROUNDS:
            for zombie, point in zip((one, two), points, strict=True):
                order_stop(zombie.path, point)
            until(lambda: one.stands() and two.stands(), one, two)
            until_others_have_all(campaign, heir)
            commits = one.commits, two.commits
            for zombie in (one, two):
                os.kill(zombie.child(), signal.SIGCONT)
            for zombie in (one, two):
                zombie.until_more(10)
            print(f"stopped at {points}, after {commits} commits; now {one.commits, two.commits}", flush=True)
        sent = campaign.end_of(feeder)["sent"]
        judge(campaign, sent, one, two, heir)


@pytest.mark.timeout(240)
def test_a_worker_that_is_cut_off(campaign: Campaign, kafka_address: Address) -> None:
    """What it sent before it was given up arrives long after."""
    door = kafka_address.doors[0]
    with Proxy(door.advertised, door.port) as proxy, campaign.feeding(Plan(rate=RATE, events=8_000, seed=82)) as feeder:
        cut_off = Pod(campaign, "cut-off", "--log", proxy.url, kafka=HASTY)
        heir = Pod(campaign, "heir", kafka=HASTY)
        for pod in (cut_off, heir, cut_off):
            pod.until_more(10)
        until(lambda: cut_off.marks.read(0).step in {5, 6, 7}, cut_off)
        proxy.set(Rule(held=True), UP)
        until_others_have_all(campaign, cut_off, heir)
        proxy.heal()
        cut_off.until_more(10)
        sent = campaign.end_of(feeder)["sent"]
        judge(campaign, sent, cut_off, heir)
