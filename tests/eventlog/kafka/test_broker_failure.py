"""A broker that dies and comes back."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from state.errors import EventLogError
from streamproc.eventlog.contract import CommittedOffset, TopicPartition, TopicSpec
from streamproc.eventlog.kafka import KafkaLog
from tests.eventlog.kafka.kit import append, join, opened, polling, read_values, records
from tests.kafka.broker import Broker

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.timeout(150)]


@pytest.mark.usefixtures("kafka_bootstrap")  # skipped where there is no broker
async def test_a_restart_in_mid_transaction(tmp_path: Path) -> None:
    broker = Broker(tmp_path)
    await asyncio.to_thread(broker.start)
    log = KafkaLog(broker.bootstrap, call_timeout_ms=3_000)
    source, sink = TopicPartition("in", 0), TopicPartition("out", 0)
    try:
        await log.admin().ensure_topics([TopicSpec("in", 1), TopicSpec("out", 1)])
        reader, told = await join(log, "group", ["in"])
        writer = await opened(log, "worker-0")
        await writer.begin()
        await writer.append([records(sink, b"first")])
        await writer.offsets({source: CommittedOffset(1, "")}, told.member)
        await writer.delivered()
        await asyncio.to_thread(broker.kill)
        with pytest.raises(EventLogError) as caught:
            await writer.commit()
        assert caught.value.retriable
        await writer.abandon()
        await asyncio.to_thread(broker.start)

        # The reader heals by itself; the writer's successor settles what was open.
        async with polling(reader):
            async with asyncio.timeout(60):
                while True:
                    successor = log.writer("worker-0")
                    try:
                        await successor.open()
                        break
                    except EventLogError as error:
                        assert error.retriable  # noqa: PT017
                        await successor.abandon()
            assert await read_values(log, sink) == []
            assert await reader.committed([source]) == {}
            await successor.begin()
            await successor.append([records(sink, b"second")])
            await successor.offsets({source: CommittedOffset(2, "")}, told.member)
            await successor.commit()
        assert await read_values(log, sink) == [b"second"]
        assert (await reader.committed([source]))[source].offset == 2
        reader.resume(source, 0)
        await append(log, records(source, b"new"))
        async with asyncio.timeout(20):
            while not (chunks := await reader.poll(200)):
                pass
        assert chunks[0].values == [b"new"]
        await successor.abandon()
        await reader.close(leave=True)
    finally:
        await log.close()
        await asyncio.to_thread(broker.kill)
