"""Bad, repeated, shuffled and late records in earnest amounts: dead letters say why, decisions equal the oracle's."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from state.errors import EventLogError
from streamproc.cli.compose import open_log
from streamproc.cli.feeder import Sender
from streamproc.cli.options import load_stages
from streamproc.clock import SystemClock
from streamproc.eventlog.contract import OutputRecords, TopicPartition
from streamproc.runtime.topics import prepare_topics
from tests.exactly_once.readers import open_reader
from tests.fire.bench import PARTITIONS, Subject
from tests.fire.report import Running
from tests.fire.spoiled import CARD_NUMBER, POISON, Spoiled, spoiled

pytestmark = [
    pytest.mark.matrix("traffic"),
    pytest.mark.xdist_group("fire-disk"),
    pytest.mark.timeout(300),
    pytest.mark.blocking,
]


@pytest.fixture(params=["file", pytest.param("kafka", marks=[pytest.mark.kafka, pytest.mark.soak])])
def subject(request: pytest.FixtureRequest, tmp_path: Path, running: Running) -> Iterator[Subject]:
    """On both logs; Kafka's in the long form."""
    url = f"kafka://{request.getfixturevalue('kafka_bootstrap')}" if request.param == "kafka" else ""
    made = Subject(tmp_path, url=url, name=f"fire_{uuid.uuid4().hex[:8]}", running=running)
    yield made
    made.close()


def append(subject: Subject, traffic: Spoiled) -> None:
    async def send() -> None:
        plan = load_stages(str(subject.campaign.yaml))[0]
        log = open_log(subject.campaign.log_url)
        sender = Sender(plan.stream.topic, await prepare_topics(log, plan), log.appender(), SystemClock(), None)
        rows: list[Any] = traffic.rows  # tombstones too
        for at in range(0, len(rows), 1_000):
            await sender.send(rows[at : at + 1_000], traffic.keys[at : at + 1_000])
        await sender.close()
        await log.close()

    asyncio.run(send())
    subject.sent += len(traffic.rows)


def letters(subject: Subject) -> Counter[str]:
    """Dead letters by reason."""
    reader = open_reader(subject.campaign.log_url)
    topic = f"{subject.campaign.pipeline}.dead_letters"
    values = [json.loads(record.value) for p in range(PARTITIONS) for record in reader.read(topic, p)]
    assert all(CARD_NUMBER not in json.dumps(value) for value in values)  # four of its digits are in some digest
    return Counter(value["reason"] for value in values)


def check(subject: Subject, traffic: Spoiled) -> None:
    """All of it by one run that never restarts, equal to the oracle."""
    append(subject, traffic)
    done = subject.finish()
    assert "worker died" not in done.stderr
    found = letters(subject)
    for kind, count in traffic.done.items():
        if kind in POISON:
            assert sum(found[reason] for reason in POISON[kind][1]) >= count, (kind, found)


def test_one_percent_of_poison(subject: Subject) -> None:
    """Every kind; neighbours are decided as if it were not there, which the oracle knows nothing else of."""
    traffic = spoiled(1, 6_000, poison=0.01)
    assert set(POISON) <= set(traffic.done)
    check(subject, traffic)


def test_a_tenth_repeated_shuffled_and_late(subject: Subject) -> None:
    traffic = spoiled(2, 8_000, disorder=0.1)
    assert min(traffic.done[kind] for kind in ("repeated", "shuffled", "late")) > 600
    check(subject, traffic)


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(10, 16))
def test_all_of_it_at_once(subject: Subject, seed: int) -> None:
    check(subject, spoiled(seed, 40_000, poison=0.01, disorder=0.1))


def test_ten_megabytes_are_refused_at_the_producer(tmp_path: Path, running: Running) -> None:
    """No log of ours takes such a record; seven megabytes it takes, and they become a dead letter."""
    subject = Subject(tmp_path, running=running)
    subject.feed(2_000)
    tp = TopicPartition("bench_v1.transactions", 0)

    async def send(size: int) -> None:
        log = open_log(subject.campaign.log_url)
        try:
            await log.appender().append([OutputRecords(tp, [b"k"], [b'"' + b"x" * size + b'"'], 0)])
        finally:
            await log.close()

    with pytest.raises(EventLogError, match="more than 8388608"):
        asyncio.run(send(10_000_000))
    asyncio.run(send(7_000_000))
    subject.sent += 1
    subject.finish()
    assert letters(subject)["too_large"] == 1
    subject.close()
