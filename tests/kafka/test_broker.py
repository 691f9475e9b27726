"""The broker the other Kafka tests rely on."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from tests.kafka.broker import Broker, BrokerError

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(400)]
LISTED_SECONDS = 30
"""So long may brokers take to tell each other of a topic."""


async def create_topic(bootstrap: str, name: str) -> list[str]:
    """Create a topic of two partitions, and list all topics."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name, num_partitions=2, replication_factor=1)])
        async with asyncio.timeout(LISTED_SECONDS):
            found = list[str]()
            while name not in found:
                found = list(await admin.list_topics())
        return found
    finally:
        await admin.close()


async def test_a_topic_can_be_created(kafka_bootstrap: str) -> None:
    assert "test-broker" in await create_topic(kafka_bootstrap, "test-broker")


@pytest.mark.slow
@pytest.mark.usefixtures("kafka_installed")
async def test_topics_survive_kill_and_restart(tmp_path: Path) -> None:
    broker = Broker(tmp_path)
    await asyncio.to_thread(broker.start)
    try:
        await create_topic(broker.bootstrap, "before")
        await asyncio.to_thread(broker.kill)
        assert not broker.running
        await asyncio.to_thread(broker.start)
        assert {"before", "after"} <= set(await create_topic(broker.bootstrap, "after"))
        await asyncio.to_thread(broker.restart)
        assert {"before", "after", "last"} <= set(await create_topic(broker.bootstrap, "last"))
    finally:
        await asyncio.to_thread(broker.stop)


def test_what_is_missing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.kafka.broker.JARS", tmp_path / "nowhere")
    with pytest.raises(BrokerError, match="missing"):
        Broker(tmp_path / "data").start()


@pytest.mark.usefixtures("kafka_installed")
def test_a_taken_port_is_said(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(BrokerError, match=f"port {port}"):
            Broker(tmp_path, port).start()
