"""Scale-out and scale-in: who leaves hands its partitions over at once, and a pod that comes and goes harms nothing."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from streamproc.eventlog.kafka.settings import Settings
from tests.exactly_once.campaign import Campaign, Plan
from tests.exactly_once.pods import Pod, ends, positions, until
from tests.fire.report import Running

pytestmark = [pytest.mark.xdist_group("campaigns"), pytest.mark.kafka]

SESSION_S = Settings().session_timeout_ms / 1000
TOGGLE_S = 2.0
RATE = 500
LAG_SECONDS_MAX = 20.0


@pytest.fixture
def campaign(tmp_path: Path, kafka_bootstrap: str) -> Iterator[Campaign]:
    made = Campaign(tmp_path, f"kafka://{kafka_bootstrap}", f"joins_{uuid.uuid4().hex[:8]}")
    yield made
    made.end_all()


def still(campaign: Campaign, since: list[int]) -> list[int]:
    """Partitions in which nothing was committed since."""
    return [p for p, (now, then) in enumerate(zip(positions(campaign), since, strict=True)) if now == then]


@pytest.mark.timeout(240)
@pytest.mark.parametrize("leave", [True, False])
def test_who_leaves_hands_over_at_once(campaign: Campaign, leave: bool) -> None:
    """Without it the partitions wait for a restart: half the session's time-out tells the two apart."""
    with campaign.feeding(Plan(rate=RATE, events=6_000, seed=51)) as feeder:
        stays, goes = Pod(campaign, "stays"), Pod(campaign, "goes", *(["--leave"] if leave else []))
        stays.until_more()
        goes.until_more(10)
        goes.stop_in_order()
        at_stop, stopped = positions(campaign), time.monotonic()
        while (waiting := still(campaign, at_stop)) and time.monotonic() - stopped < SESSION_S / 2:
            time.sleep(0.05)
        seconds = time.monotonic() - stopped
        print(f"leave={leave}: partitions {waiting} without an owner after {seconds:.1f} s")
        assert len(waiting) == (0 if leave else 2)
        sent = campaign.end_of(feeder)["sent"]
        until(lambda: positions(campaign) == ends(campaign), stays)
    stays.stop_in_order()
    verdict = campaign.verify(sent)
    assert verdict["ok"], verdict


@pytest.mark.timeout(300)
@pytest.mark.slow
@pytest.mark.parametrize(
    "seconds", [20, pytest.param(60, marks=[pytest.mark.soak, pytest.mark.matrix("join and leave")])]
)
def test_a_pod_joins_and_leaves_every_two_seconds(campaign: Campaign, seconds: int, running: Running) -> None:
    """Every other visit lasts until it has committed ten times; the others may end in mid-join, or before."""
    lives: list[int] = []
    with campaign.feeding(Plan(rate=RATE, events=RATE * seconds, seed=52)) as feeder:
        stays = Pod(campaign, "stays")
        stays.until_more()
        begun, before = time.monotonic(), stays.commits
        while time.monotonic() - begun < seconds or len(lives) <= seconds / TOGGLE_S / 10:  # slow machines visit seldom
            at, visitor = time.monotonic(), Pod(campaign, "comes", "--leave")
            commits = visitor.commits
            hurried = len(lives) % 2 == 1
            if not hurried:
                visitor.until_more(10)
            time.sleep(max(0.0, at + TOGGLE_S - time.monotonic()))
            visitor.stop_in_order(early=hurried)
            lives.append(visitor.commits - commits)
            time.sleep(TOGGLE_S)
        assert stays.process.poll() is None, campaign.logged()
        sent = campaign.end_of(feeder)["sent"]
        ended = time.monotonic()
        until(lambda: positions(campaign) == ends(campaign), stays)
    lag_s = time.monotonic() - ended
    print(f"visits' commits {lives}, the other's {stays.commits - before}, no lag after {lag_s:.1f} s")
    stays.stop_in_order()
    running.events = sent
    verdict = campaign.verify(sent)  # before any drain: all was decided under way
    assert verdict["ok"], verdict
    assert lag_s < LAG_SECONDS_MAX
    assert min(lives[::2]) >= 10
    assert stays.commits - before > seconds
