"""SIGSTOP past the session and the transaction's time-out, others take over, SIGCONT: nothing twice, nothing lost."""

from __future__ import annotations

import signal
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.exactly_once.campaign import Campaign, Plan
from tests.exactly_once.pods import Pod, positions, until

pytestmark = [pytest.mark.xdist_group("campaigns"), pytest.mark.kafka, pytest.mark.slow]

SESSION_MS = 6_000  # the least that brokers take by default
IN_TRANSACTION = {5, 6, 7}


@pytest.fixture
def campaign(tmp_path: Path, kafka_bootstrap: str) -> Iterator[Campaign]:
    made = Campaign(tmp_path, f"kafka://{kafka_bootstrap}", f"stopped_{uuid.uuid4().hex[:8]}")
    yield made
    made.end_all()


def stoppable(campaign: Campaign, pod: str, instance: str) -> Pod:
    return Pod(campaign, pod, instance=instance, session_ms=SESSION_MS)


def all_moved(campaign: Campaign, since: list[int]) -> bool:
    time.sleep(0.5)
    return all(now > before for now, before in zip(positions(campaign), since, strict=True))


@pytest.mark.timeout(300)
@pytest.mark.parametrize("in_transaction", [True, False])
def test_a_stopped_worker_goes_on(campaign: Campaign, in_transaction: bool) -> None:
    with campaign.feeding(Plan(rate=500, events=8_000, seed=31)) as feeder:
        first = stoppable(campaign, "a", "one")
        first.until_more()
        other = stoppable(campaign, "b", "two")
        other.until_more()
        first.until_more()
        until(lambda: (first.marks.read(0).step in IN_TRANSACTION) is in_transaction, first)
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
