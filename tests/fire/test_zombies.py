"""Workers that stand still or are cut off past their session while others take over, and then come back to life.

None is the owner of anything then: what it still sends is refused (a journal of two owners would break), and it goes
on as a fresh member.
"""

from __future__ import annotations

import os
import signal
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.exactly_once.campaign import Campaign
from tests.exactly_once.pods import Pod, ends, positions, until
from tests.exactly_once.victim import order_stop
from tests.fire.proxy import UP, Proxy, Rule
from tests.fire.subject import HASTY, HEALED_SECONDS_MAX, judge
from tests.fire.trial import Trial, trial
from tests.kafka.shared import Address

pytestmark = [pytest.mark.xdist_group("network"), pytest.mark.kafka, pytest.mark.slow]

ROUNDS = [("4", "4"), ("produced", "6"), ("ending", "ending")]
"""K2; K3 and K4; K5: where the two zombies stop. At K2 nobody has to wait for the end of their transactions: there
nothing but the generation keeps them out.
"""
PATIENT = HASTY | {"transaction_timeout_ms": 10_000}
"""Their transactions outlive their sessions: else the broker's own abort would be all that keeps them out."""


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


def end(going: Trial, *pods: Pod) -> None:
    sent, campaign = going.sent(), going.campaign
    until(lambda: positions(campaign) == ends(campaign), *pods, within_s=HEALED_SECONDS_MAX)
    for pod in pods:
        pod.stop_in_order()
    judge(campaign, sent, going.running)


def stand_still(campaign: Campaign, points: Sequence[str], zombies: Sequence[Pod], heir: Pod) -> None:
    """Each at its point, until the heir has everything; then they come back to life, and take part again."""
    for zombie, point in zip(zombies, points, strict=True):
        order_stop(zombie.path, point)
    until(lambda: all(zombie.stands() for zombie in zombies), *zombies)
    until_others_have_all(campaign, heir)
    commits = [zombie.commits for zombie in zombies]
    for zombie in zombies:
        os.kill(zombie.child(), signal.SIGCONT)
    for zombie in zombies:
        zombie.until_more(10)
    print(f"stopped at {points}, after {commits} commits; now {[z.commits for z in zombies]}", flush=True)


@pytest.mark.timeout(300)
def test_workers_that_stand_still_at_every_point(campaign: Campaign) -> None:
    with trial(campaign, "zombies", 81) as going:
        one, two, heir = (Pod(campaign, name, kafka=PATIENT) for name in ("one", "two", "heir"))
        for pod in (one, two, heir):
            pod.until_more()
        for points in ROUNDS:
            stand_still(campaign, points, (one, two), heir)
            going.running.faults.update(f"stopped at {point}" for point in points)
        end(going, one, two, heir)


@pytest.mark.timeout(240)
def test_a_worker_that_is_cut_off(campaign: Campaign, kafka_address: Address) -> None:
    """What it sent before it was given up arrives long after."""
    door = kafka_address.doors[0]
    with Proxy(door.advertised, door.port) as proxy, trial(campaign, "cut off", 82, 8_000) as going:
        cut_off = Pod(campaign, "cut-off", "--log", proxy.url, kafka=PATIENT)
        heir = Pod(campaign, "heir", kafka=PATIENT)
        for pod in (cut_off, heir, cut_off):
            pod.until_more(10)
        until(lambda: cut_off.marks.read(0).step in {5, 6, 7}, cut_off)
        going.running.faults["cut off"] += 1
        proxy.set(Rule(held=True), UP)
        until_others_have_all(campaign, cut_off, heir)
        proxy.heal()
        cut_off.until_more(10)
        end(going, cut_off, heir)
