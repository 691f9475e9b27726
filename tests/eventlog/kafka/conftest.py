"""A log on the shared broker, and a topic of one's own."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from streamproc.eventlog.contract import TopicPartition, TopicSpec
from streamproc.eventlog.kafka import KafkaLog
from tests.eventlog.kafka.kit import unique


@pytest.fixture
async def log(kafka_bootstrap: str) -> AsyncIterator[KafkaLog]:
    log = KafkaLog(kafka_bootstrap, heartbeat_interval_ms=300)
    yield log
    await log.close()


@pytest.fixture
async def topic(log: KafkaLog) -> str:
    """Two partitions."""
    name = unique("topic")
    await log.admin().ensure_topics([TopicSpec(name, 2)])
    return name


@pytest.fixture
def tp(topic: str) -> TopicPartition:
    return TopicPartition(topic, 0)
