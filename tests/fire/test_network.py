"""A worker whose every byte to and from Kafka goes through a proxy that does what networks do.

While a fault lasts: no spin, bounded memory and files, /ready says no where nothing can be decided. After it: ready
again, no lag, and every decision once (feeder and verifier have a way of their own).
"""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.exactly_once.campaign import Campaign, Plan
from tests.exactly_once.pods import Pod, ends, positions, until
from tests.fire.proxy import DOWN, UP, Proxy, Rule
from tests.fire.vitals import Vitals, is_ready
from tests.kafka.broker import free_port
from tests.kafka.shared import Address

pytestmark = [pytest.mark.xdist_group("network"), pytest.mark.kafka, pytest.mark.slow]

RATE = 500
HEALED_SECONDS_MAX = 30.0
SHARE_MAX = 0.5
MEMORY_MB_MAX = 150.0
FILES_MAX = 60
HASTY = {
    "request_timeout_ms": 3_000,
    "call_timeout_ms": 4_000,
    "connect_timeout_ms": 2_000,
    "session_timeout_ms": 6_000,
}
"""Time-outs that fit into a test."""
Fault = Callable[[Proxy], None]


def ruled(rule: Rule, *ways: str) -> Fault:
    return lambda proxy: proxy.set(rule, *ways)


STOPS: dict[str, Fault] = {
    "refused": lambda proxy: proxy.refuse(),
    "held up": ruled(Rule(held=True), UP),
    "held down": ruled(Rule(held=True), DOWN),
    "lost up": ruled(Rule(lost=True), UP),
    "lost down": ruled(Rule(lost=True), DOWN),
}
"""Nothing can be decided while they last."""
HURTS: dict[str, Fault] = {
    "reset": lambda proxy: proxy.reset(),
    "cut": ruled(Rule(cut=True), UP),
    "delayed up": ruled(Rule(delay_s=0.3), UP),
    "delayed down": ruled(Rule(delay_s=0.3), DOWN),
    "slow up": ruled(Rule(bytes_per_s=20_000), UP),
    "slow down": ruled(Rule(bytes_per_s=20_000), DOWN),
}


@pytest.fixture
def campaign(tmp_path: Path, kafka_address: Address) -> Iterator[Campaign]:
    made = Campaign(tmp_path, f"kafka://{kafka_address.bootstrap}", f"net_{uuid.uuid4().hex[:8]}")
    yield made
    made.end_all()


@pytest.fixture
def proxy(kafka_address: Address) -> Iterator[Proxy]:
    door = kafka_address.doors[0]
    with Proxy(door.advertised, door.port) as made:
        yield made


class Subject:
    """A pod behind the proxy, and what is demanded of it."""

    def __init__(self, campaign: Campaign, proxy: Proxy, address: Address) -> None:
        self.port = free_port()
        way = ("--log", f"kafka://127.0.0.1:{address.doors[0].advertised}", "--metrics-port", self.port)
        self.pod = Pod(campaign, "a", *way, kafka=HASTY)
        self.campaign, self.proxy = campaign, proxy

    @property
    def ready(self) -> bool:
        return is_ready(self.port)

    def until_well(self) -> None:
        """I8: it decides again, and says so."""
        wanted = self.pod.commits + 10
        until(lambda: self.pod.commits >= wanted and self.ready, self.pod, within_s=HEALED_SECONDS_MAX)

    def bear(self, name: str, fault: Fault, vitals: Vitals, seconds: float = 2.0) -> None:
        """A fault, its end, and what must follow."""
        vitals.cpu_share()
        begun = time.monotonic()
        fault(self.proxy)
        if name in STOPS:
            until(lambda: not self.ready, self.pod)
        time.sleep(max(0.0, begun + seconds - time.monotonic()))
        share = vitals.cpu_share()
        self.proxy.heal()
        healed = time.monotonic()
        self.until_well()
        print(f"{name}: {share:.2f} of a processor, well {time.monotonic() - healed:.1f} s after", flush=True)
        if name in STOPS:
            assert share < SHARE_MAX, f"{name}: it spins"


def judge(campaign: Campaign, subject: Subject, sent: int, vitals: Vitals) -> None:
    until(lambda: positions(campaign) == ends(campaign), subject.pod, within_s=HEALED_SECONDS_MAX)
    rss_mb, files = vitals.first
    print(f"memory {rss_mb:.0f} MB, at most {vitals.rss_mb_max:.0f}; files {files}, at most {vitals.files_max}")
    assert vitals.rss_mb_max < rss_mb + MEMORY_MB_MAX
    assert vitals.files_max < files + FILES_MAX
    assert vitals.files < files + 10
    subject.pod.stop_in_order()
    verdict = campaign.verify(sent)  # before any drain: all was decided under way
    assert verdict["ok"], verdict


@pytest.mark.timeout(400)
def test_every_fault_of_a_network(campaign: Campaign, proxy: Proxy, kafka_address: Address) -> None:
    """In random order, so that each comes in some phase of the one before; the first while the worker starts."""
    faults = list((STOPS | HURTS).items())
    random.Random(71).shuffle(faults)
    with campaign.feeding(Plan(rate=RATE, events=RATE * 20, seed=71)) as feeder:
        proxy.refuse()
        subject = Subject(campaign, proxy, kafka_address)
        time.sleep(2)
        proxy.heal()
        subject.until_well()
        with Vitals(subject.pod.child()) as vitals:
            for name, fault in faults:
                subject.bear(name, fault, vitals)
            sent = campaign.end_of(feeder)["sent"]
            judge(campaign, subject, sent, vitals)
