"""Addresses and settings: wrong ones are refused before anything starts."""

from __future__ import annotations

import logging
import socket
import time

import pytest

from state.errors import ConfigError, EventLogError
from streamproc.eventlog.contract import TopicPartition
from streamproc.eventlog.kafka import KafkaLog
from streamproc.eventlog.kafka._aiokafka import MetadataRequest, check
from streamproc.eventlog.kafka.settings import Settings, parse_url
from tests.eventlog.kafka.kit import Told, records


def test_an_address() -> None:
    assert parse_url("kafka://a:9092,b.example:9093") == "a:9092,b.example:9093"
    assert KafkaLog.from_url("kafka://a:9092").url == "kafka://a:9092"


@pytest.mark.parametrize(
    "url", ["kafka://", "kafka://a", "http://a:1", "kafka://a:x", "kafka://a:0", "kafka://u:p@a:1"]
)
def test_no_address(url: str) -> None:
    with pytest.raises(ConfigError, match="not a Kafka address") as refused:
        parse_url(url)
    assert "u:p" not in str(refused.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"heartbeat_interval_ms": 9_000}, "heartbeat_interval_ms"),
        ({"transaction_timeout_ms": 60_000}, "transaction_timeout_ms"),
        ({"max_batch_size": 2_000_000}, "max_batch_size"),
        ({"part_bytes": 1}, "part_bytes"),
        ({"part_bites": 1}, "part_bites"),
        ({"part_bytes": "many"}, "part_bytes"),
    ],
)
def test_a_wrong_setting_is_named(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        KafkaLog("a:1", **settings)


def test_secrets_are_not_shown() -> None:
    settings = Settings(security={"sasl_plain_password": "hunter2"})
    assert "hunter2" not in repr(settings)


def test_aiokafka_is_the_one_that_was_tested() -> None:
    check()


async def use(log: KafkaLog, part: str) -> None:
    if part == "admin":
        await log.admin().partitions("t")
    elif part == "writer":
        await log.writer("w").open()
    elif part == "reader":
        await log.reader("g", ["t"], Told(), instance="i", index=0, count=1).start()
    elif part == "appender":
        await log.appender().append([records(TopicPartition("t", 0), b"v")])
    else:
        await log.scanner().poll(10)


@pytest.mark.parametrize("part", ["admin", "writer", "reader", "appender", "scanner"])
async def test_nobody_answers(part: str) -> None:
    begun = time.monotonic()
    with pytest.raises(EventLogError, match=r"at 127\.0\.0\.1:9,127\.0\.0\.1:10.*is the broker up") as caught:
        await use(KafkaLog("127.0.0.1:9,127.0.0.1:10"), part)
    assert caught.value.retriable
    assert time.monotonic() - begun < 6


async def test_a_port_that_never_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:  # the kernel takes the connection, nobody reads
        begun = time.monotonic()
        with pytest.raises(EventLogError, match="nobody answers"):
            await KafkaLog(f"127.0.0.1:{mute.getsockname()[1]}", connect_timeout_ms=500).admin().partitions("t")
        assert time.monotonic() - begun < 2


async def test_a_log_of_the_wire_shows_no_payload(caplog: pytest.LogCaptureFixture) -> None:
    KafkaLog("127.0.0.1:9")
    with pytest.raises(EventLogError):
        await KafkaLog("127.0.0.1:9").admin().partitions("t")
    with caplog.at_level(logging.DEBUG, "aiokafka.conn"):
        logging.getLogger("aiokafka.conn").debug(
            "Request: %s", MetadataRequest(["4111111111111111"]).prepare({3: (0, 5)})
        )
    assert "4111" not in caplog.text
    assert "MetadataRequest" in caplog.text
