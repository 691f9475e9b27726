"""SIGSTOP past the session and the transaction's time-out, others take over, SIGCONT: nothing twice, nothing lost."""

from __future__ import annotations

import os
import signal
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.exactly_once.campaign import Campaign, Plan
from tests.exactly_once.pods import PARTITIONS, Pod, positions, until

pytestmark = [pytest.mark.xdist_group("campaigns"), pytest.mark.kafka, pytest.mark.slow]

SESSION_MS = 6_000  # the least that brokers take by default
IN_TRANSACTION = {5, 6, 7}


@pytest.fixture
def campaign(tmp_path: Path, kafka_bootstrap: str) -> Iterator[Campaign]:
    made = Campaign(tmp_path, f"kafka://{kafka_bootstrap}", f"stopped_{uuid.uuid4().hex[:8]}")
    yield made
    made.end_all()


def stoppable(campaign: Campaign, pod: str, instance: str) -> Pod:
    return Pod(campaign, pod, instance=instance, kafka={"session_timeout_ms": SESSION_MS})


def all_moved(campaign: Campaign, since: list[int]) -> bool:
    time.sleep(0.5)
    return all(now > before for now, before in zip(positions(campaign), since, strict=True))


@pytest.mark.timeout(300)
def test_a_worker_that_was_stopped_between_two_transactions_goes_on(campaign: Campaign) -> None:
    """In the midst of one: tests/fire/test_zombies.py."""
    with campaign.feeding(Plan(rate=500, events=8_000, seed=31)) as feeder:
        first = stoppable(campaign, "a", "one")
        first.until_more()
        other = stoppable(campaign, "b", "two")
        other.until_more()
        first.until_more()
        until(lambda: first.marks.read(0).step not in IN_TRANSACTION, first)
        first.signal(signal.SIGSTOP)
        at_stop = positions(campaign)
        until(lambda: all_moved(campaign, at_stop), other)  # also what was the stopped one's
        first.signal(signal.SIGCONT)
        first.until_more(20)
        other.until_more()
        sent = campaign.end_of(feeder)["sent"]
    for run in (other, first):
        run.stop_in_order()
    campaign.drain()
    verdict = campaign.verify(sent)
    assert verdict["ok"], verdict


@pytest.mark.timeout(300)
def test_a_stopped_worker_whose_identity_was_taken_ends(campaign: Campaign) -> None:
    with campaign.feeding(Plan(rate=500, events=6_000, seed=32)) as feeder:
        first = stoppable(campaign, "a", "one")
        first.until_more()
        until(lambda: first.marks.read(0).step in IN_TRANSACTION, first)
        first.signal(signal.SIGSTOP)
        heir = stoppable(campaign, "b", "one")
        heir.until_more(20)
        time.sleep(9)  # also past the time-out of its transaction
        before = first.commits
        first.signal(signal.SIGCONT)
        assert first.process.wait(60) == 1, campaign.logged()
        assert first.commits == before
        heir.until_more()
        sent = campaign.end_of(feeder)["sent"]
    heir.stop_in_order()
    campaign.drain()
    verdict = campaign.verify(sent)
    assert verdict["ok"], verdict


@pytest.mark.timeout(300)
def test_a_stopped_worker_of_the_same_run_keeps_its_tasks_only(campaign: Campaign) -> None:
    """It holds the locks of its tasks' state in the directory that both share: the other waits for these, and decides
    its own meanwhile.
    """
    with campaign.feeding(Plan(rate=500, events=12_000, seed=33)) as feeder:
        pod = Pod(campaign, "a", "--workers", 2, instance="one", kafka={"session_timeout_ms": SESSION_MS})
        until(lambda: min(pod.marks.read(worker).commits for worker in (0, 1)) > 20, pod)
        stopped = pod.child(1)
        os.kill(stopped, signal.SIGSTOP)
        at_stop = positions(campaign)
        time.sleep(SESSION_MS / 1000 + 3)
        theirs, commits = moved(campaign, at_stop), pod.marks.read(0).commits
        assert len(theirs) == 2, theirs
        taken_over = positions(campaign)  # the group has given all to worker 0, which waits for two locks
        time.sleep(3)
        assert moved(campaign, taken_over) == theirs
        assert pod.marks.read(0).commits > commits + 20
        os.kill(stopped, signal.SIGCONT)
        until(lambda: len(moved(campaign, taken_over)) == len(PARTITIONS), pod)
        sent = campaign.end_of(feeder)["sent"]
    pod.stop_in_order()
    campaign.drain()
    verdict = campaign.verify(sent)
    assert verdict["ok"], verdict


def moved(campaign: Campaign, since: list[int]) -> set[int]:
    """Partitions in which something was committed since."""
    time.sleep(0.2)
    return {p for p in PARTITIONS if positions(campaign)[p] > since[p]}
