"""A worker whose every byte to and from Kafka goes through a proxy that does what networks do.

While a fault lasts: no spin, bounded memory and files, /ready says no where nothing can be decided. After it: ready
again, no lag, and every decision once (feeder and verifier have a way of their own).
"""

from __future__ import annotations

import os
import random
import signal
import time
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.exactly_once.campaign import Campaign
from tests.exactly_once.pods import until
from tests.exactly_once.victim import order_stop
from tests.fire.proxy import DOWN, UP, Proxy, Rule
from tests.fire.subject import HASTY, Subject
from tests.fire.trial import RATE, trial
from tests.kafka.shared import Address

pytestmark = [pytest.mark.xdist_group("network"), pytest.mark.kafka, pytest.mark.slow]

REQUESTS = {0: "Produce", 24: "AddPartitionsToTxn", 25: "AddOffsetsToTxn", 26: "EndTxn"}
REQUESTS |= {28: "TxnOffsetCommit", 12: "Heartbeat", 22: "InitProducerId"}
INIT_PRODUCER_ID, END_TXN, TXN_OFFSET_COMMIT = 22, 26, 28
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


def go_through(faults: list[tuple[str, Fault]], subject: Subject, proxy: Proxy, sent: Callable[[], int]) -> None:
    """One after the other, each in whatever phase of the recovery from the one before; then the verdict."""
    with subject.vitals as vitals:
        for name, fault in faults:
            subject.bear(name, partial(fault, proxy), proxy.heal, vitals, stops=name in STOPS)
        subject.judge(sent(), vitals)


@pytest.mark.timeout(400)
def test_every_fault_of_a_network(campaign: Campaign, proxy: Proxy) -> None:
    """In random order; the first while the worker starts."""
    faults = list((STOPS | HURTS).items())
    random.Random(71).shuffle(faults)
    with trial(campaign, "network", 71) as going:
        proxy.refuse()
        subject = Subject(campaign, proxy.url, HASTY, going.running)
        time.sleep(2)
        proxy.heal()
        subject.until_well()
        go_through(faults, subject, proxy, going.sent)


def end_refused(answer: bytes) -> int:
    """The error code in an answer to EndTxn."""
    return int.from_bytes(answer[12:14], "big")


def offsets_refused(answer: bytes) -> int:
    """The error code of the first partition in an answer to TxnOffsetCommit."""
    name_bytes = answer[14] - 1
    return int.from_bytes(answer[15 + name_bytes + 5 :][:2], "big")


def come_late(
    api_key: int, point: str, subject: Subject, proxy: Proxy, cause: Callable[[], None] = lambda: None
) -> bytes:
    """The broker's answer to a request that was held back past its time-out, until the worker has given it up and
    stands in another transaction's midst. `cause`: what makes the worker send one.
    """
    subject.running.faults[f"{REQUESTS[api_key]} late"] += 1
    proxy.catch(api_key)
    cause()
    until(lambda: proxy.caught, subject.pod)
    subject.until_well()
    order_stop(subject.pod.path, point)
    until(subject.pod.stands, subject.pod)
    try:
        return proxy.deliver()
    finally:
        subject.pod.signal(signal.SIGCONT)


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    ("api_key", "code"),
    [(END_TXN, end_refused), pytest.param(TXN_OFFSET_COMMIT, offsets_refused, marks=pytest.mark.soak)],
)
def test_a_request_comes_while_a_later_transaction_is_open(
    campaign: Campaign, proxy: Proxy, api_key: int, code: Callable[[bytes], int]
) -> None:
    """What it meant to end, or to add offsets to, is long over: only a new epoch keeps it from what is open now."""
    with trial(campaign, "late request", 72, RATE * 8) as going:
        subject = Subject(campaign, proxy.url, HASTY, going.running)
        subject.until_started()
        with subject.vitals as vitals:
            refused = code(come_late(api_key, "produced", subject, proxy))
            subject.until_well()
            subject.judge(going.sent(), vitals)
            assert refused, "a broker took it"


@pytest.mark.timeout(240)
def test_the_opening_of_a_writer_comes_late(campaign: Campaign, proxy: Proxy) -> None:
    """The broker takes our own late request for a newer owner: the group knows better, so the worker goes on."""
    with trial(campaign, "late request", 73, RATE * 8) as going:
        subject = Subject(campaign, proxy.url, HASTY, going.running)
        subject.until_started()
        come_late(INIT_PRODUCER_ID, "produced", subject, proxy, lambda: os.kill(subject.pod.child(), signal.SIGKILL))
        subject.until_well()
        with subject.vitals as vitals:
            subject.judge(going.sent(), vitals)
