"""A plain, idempotent producer: every record once and in order, visible as soon as the log has it."""

from __future__ import annotations

__all__ = ["KafkaAppender"]

import asyncio
from collections.abc import Sequence

from state.errors import EventLogError
from streamproc.eventlog.contract import OutputRecords
from streamproc.eventlog.kafka.client import bounded
from streamproc.eventlog.kafka.producer import Producer, confirm
from streamproc.eventlog.kafka.settings import Settings


class KafkaAppender:
    """Keeps the contract's `Appender`. Several appends may be under way at once.

    A broker that is away for less than `call_timeout_ms` is waited for. After an error it is not known which records
    of that append the log has, and the appender refuses further ones.
    """

    def __init__(self, bootstrap: str, settings: Settings) -> None:
        self._bootstrap = bootstrap
        self._settings = settings
        self._producer: Producer | None = None
        self._starting = asyncio.Lock()
        self._queueing = asyncio.Lock()
        self._closed = False

    async def append(self, outputs: Sequence[OutputRecords]) -> None:
        producer = await self._started()
        try:
            async with self._queueing:  # appends that wait together keep their order; only queueing is in turn
                deliveries = await bounded(producer.send(outputs), self._settings.call_timeout_ms, "appending")
            await bounded(confirm(deliveries), self._settings.call_timeout_ms, "appending")
        except EventLogError:
            await self.close()
            raise

    async def close(self) -> None:
        self._closed = True
        if self._producer is not None:
            await self._producer.kill()  # nothing is under way that an append does not wait for

    async def _started(self) -> Producer:
        async with self._starting:
            if self._closed:
                raise EventLogError("Kafka: this appender is closed, or has failed: make a new one")
            if self._producer is None:
                producer = Producer(self._bootstrap, self._settings)
                try:
                    await bounded(producer.start(), self._settings.call_timeout_ms, "opening an appender")
                except BaseException:
                    await producer.kill()
                    raise
                self._producer = producer
            return self._producer
