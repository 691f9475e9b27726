"""SIGSTOP past the session and the transaction's time-out, others take over, SIGCONT: nothing twice, nothing lost."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from streamproc.eventlog.contract import TopicPartition
from streamproc.eventlog.kafka import KafkaLog
from tests.exactly_once.campaign import Campaign, Plan
from tests.exactly_once.marks import Marks

pytestmark = [pytest.mark.xdist_group("campaigns"), pytest.mark.kafka, pytest.mark.slow]

SESSION_MS = 6_000  # the least that brokers take by default
PARTITIONS = range(4)
PATIENCE_S = 90.0
IN_TRANSACTION = {5, 6, 7}


@pytest.fixture
def campaign(tmp_path: Path, kafka_bootstrap: str) -> Iterator[Campaign]:
    made = Campaign(tmp_path, f"kafka://{kafka_bootstrap}", f"stopped_{uuid.uuid4().hex[:8]}")
    yield made
    made.end_all()


class Run:
    """One `run` of one worker, on a pod (a state directory) of its own."""

    def __init__(self, campaign: Campaign, pod: str, instance: str) -> None:
        path = campaign.directory / f"marks-{pod}"
        given = ["--instance", instance, "--state", campaign.directory / f"state-{pod}"]
        self.campaign = campaign
        self.process: subprocess.Popen[str] = campaign.start(path, *given, session_ms=SESSION_MS)
        self.marks = Marks(path)

    @property
    def commits(self) -> int:
        return self.marks.read(0).commits

    def signal(self, number: int) -> None:
        os.killpg(self.process.pid, number)

    def until_more(self, commits: int = 5) -> None:
        wanted = self.commits + commits
        until(lambda: self.commits >= wanted, self)

    def stop_in_order(self) -> None:
        assert self.process.poll() is None, self.campaign.logged()
        self.process.terminate()
        assert self.process.wait(60) == 0, self.campaign.logged()


def until(reached: Callable[[], bool], *alive: Run) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not reached():
        for run in alive:
            assert run.process.poll() is None, run.campaign.logged()
        assert time.monotonic() < deadline, "it does not come to it"
        time.sleep(0.002)


def positions(campaign: Campaign) -> list[int]:
    """The group's committed offsets."""

    async def fetch() -> list[int]:
        log = KafkaLog.from_url(campaign.log_url)
        tps = [TopicPartition(f"{campaign.pipeline}.transactions", p) for p in PARTITIONS]
        found = await log.admin().committed(campaign.pipeline, tps)
        await log.close()
        return [found[tp].offset if tp in found else 0 for tp in tps]

    return asyncio.run(fetch())


def all_moved(campaign: Campaign, since: list[int]) -> bool:
    time.sleep(0.5)
    return all(now > before for now, before in zip(positions(campaign), since, strict=True))


@pytest.mark.timeout(300)
@pytest.mark.parametrize("in_transaction", [True, False])
def test_a_stopped_worker_goes_on(campaign: Campaign, in_transaction: bool) -> None:
    with campaign.feeding(Plan(rate=500, events=8_000, seed=31)) as feeder:
        first = Run(campaign, "a", "one")
        first.until_more()
        other = Run(campaign, "b", "two")
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
        first = Run(campaign, "a", "one")
        first.until_more()
        until(lambda: first.marks.read(0).step in IN_TRANSACTION, first)
        first.signal(signal.SIGSTOP)
        heir = Run(campaign, "b", "one")
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
