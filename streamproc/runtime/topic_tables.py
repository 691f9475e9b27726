"""Tables that come from topics: read to their end before a task is taken over, and followed while the worker runs.

Each worker reads them whole, from the first record on: what compaction has removed was replaced, or is no row any more.
What changes is looked up from the next batch on, and journaled with it.
"""

from __future__ import annotations

__all__ = ["TopicTables", "prepare_table_topic", "read_table_topic"]

import asyncio
from collections.abc import Callable, Sequence
from functools import partial

import structlog

from operators.live_tables import LiveTables, TableRows, TopicTable
from state.errors import ConfigError, EventLogError
from streamproc.clock import Clock
from streamproc.eventlog.contract import Admin, Chunk, EventLog, Scanner, TopicPartition, TopicSpec
from streamproc.runtime.executor import BlockingExecutor, to_its_end
from streamproc.runtime.metrics import WorkerMetrics
from streamproc.runtime.reading import stretch

_POLL_MS = 200
_QUIET_POLL_MS = 20
_AGAIN_S = 1.0
_STAYED_AGAIN_S = 10.0
"""After that what could not go by a table's rows is asked again: a registry may have been out of reach."""
_CONFIG = {"cleanup.policy": "compact", "min.compaction.lag.ms": str(7 * 86_400_000)}
"""For a week, an auditor finds each version of a row."""


async def prepare_table_topic(admin: Admin, topic: str) -> TopicPartition:
    """Make the topic of a table if it is missing.

    Raises:
        ConfigError: it cannot be one.
        EventLogError: the log cannot be reached.
    """
    await admin.ensure_topics([TopicSpec(topic, 1, _CONFIG)])
    if (found := await admin.partitions(topic)) != 1:
        raise ConfigError(f"topic {topic} has {found} partitions, that of a table has one")
    kept = (await admin.retention([topic])).get(topic)
    if kept is not None and (kept.time_ms is not None or kept.size_bytes is not None):
        raise ConfigError(
            f"topic {topic} removes old records: a table would lose rows", hint="set its cleanup.policy=compact"
        )
    return TopicPartition(topic, 0)


class _Followed:
    """A table as far as its topic was read."""

    def __init__(self, live: LiveTables, source: TopicTable) -> None:
        self.live, self.rows, self.tp = live, TableRows(source.schema), TopicPartition(source.topic, 0)
        self.may_be_empty = source.may_be_empty
        self.offset = self.put = -1
        self.table = self.rows.snapshot()
        self.faults: list[str] = []
        self.stayed = False

    def take(self, chunk: Chunk) -> None:
        """Apply records; `faults`: what is wrong with those that are refused."""
        for offset, key, value in zip(chunk.offsets, chunk.keys, chunk.values, strict=True):
            if (fault := self.rows.apply(key, value)) is not None:
                self.faults.append(f"offset {offset}: {fault}")
        self.offset = chunk.next_offset

    def build(self) -> None:
        """Make `table` what has been read; `faults`: what stays as it was all the same."""
        self.table = self.rows.snapshot()
        self.faults = self.live.prepare(self.rows)
        self.stayed = bool(self.faults)


class TopicTables:
    """The tables of all stages of a worker. Not to be used by two tasks at once, but for `watch` beside `catch_up`."""

    def __init__(
        self, log: EventLog, live: Sequence[LiveTables], executor: BlockingExecutor, *, clock: Clock,
        metrics: WorkerMetrics,
    ) -> None:  # fmt: skip
        self._log, self._executor, self._clock, self._metrics = log, executor, clock, metrics
        self._followed = [_Followed(one, table) for one in live for table in one.tables]
        self._scanner: Scanner | None = None
        self._asked = 0.0
        self._turn = asyncio.Lock()
        self._logger = structlog.get_logger("tables")

    async def catch_up(self) -> None:
        """Read all that the topics hold now; the next batch looks it up. So a task that comes from another worker sees
        no older rows than it saw there.

        Raises:
            ConfigError: a topic cannot be one of a table.
            EventLogError: the log cannot be reached.
        """
        if not self._followed:
            return
        async with self._turn:
            admin = self._log.admin()
            if self._scanner is None:
                tps = [await prepare_table_topic(admin, followed.tp.topic) for followed in self._followed]
                begins = await admin.begin_offsets(tps)
                self._scanner = self._log.scanner()
                for tp in tps:
                    self._scanner.seek(tp, begins.get(tp, 0))
            ends = await admin.end_offsets([followed.tp for followed in self._followed])
            while any(self._scanner.position(tp) < end for tp, end in ends.items()):
                await self._read(self._scanner, _POLL_MS)
            await self._put()

    async def watch(self) -> None:
        """For ever: follow the topics."""
        while self._followed:
            try:
                async with self._turn:
                    scanner = self._scanner
                    read = scanner is not None and await self._read(scanner, _POLL_MS)
                    while read and scanner is not None and await self._read(scanner, _QUIET_POLL_MS):
                        pass  # what one transaction brought is seen at once
                    if read or self._to_be_asked():
                        await self._put()
                if scanner is None:
                    await self._clock.sleep(_AGAIN_S)
                await asyncio.sleep(0)  # `catch_up` has its turn
            except EventLogError as error:
                self._logger.warning("tables cannot be followed, trying again", error=str(error))
                await self._clock.sleep(_AGAIN_S)

    def _to_be_asked(self) -> bool:
        waited = self._clock.monotonic() - self._asked
        return waited >= _STAYED_AGAIN_S and any(followed.stayed for followed in self._followed)

    async def close(self) -> None:
        """Stop reading."""
        if self._scanner is not None:
            await self._scanner.close()

    async def _read(self, scanner: Scanner, timeout_ms: int) -> bool:
        """Whether there was anything."""
        chunks = await scanner.poll(timeout_ms)
        for chunk in chunks:
            for followed in self._followed:
                if followed.tp == chunk.tp:
                    await to_its_end(self._executor.submit(partial(followed.take, chunk)))
                    self._refused(followed)
        return bool(chunks)

    def _refused(self, followed: _Followed) -> None:
        if faults := followed.faults:
            followed.faults = []
            name = followed.rows.schema.name
            self._metrics.refused_table_records.labels(name).inc(len(faults))
            self._logger.error(
                "records of a table are refused: rows of their keys stay as they were",
                table=name, topic=followed.tp.topic, records=len(faults), first=faults[0],
            )  # fmt: skip

    def _stayed(self, followed: _Followed, *, new: bool) -> None:
        """Tell what cannot go by the newest rows, and goes by those before."""
        for fault in followed.faults:
            if new:
                self._metrics.refused_table_records.labels(followed.rows.schema.name).inc()
            self._logger.error(
                "a model's roles cannot be taken, it goes on as before", reason=fault, again_in_s=_STAYED_AGAIN_S
            )
        followed.faults = []

    async def _put(self) -> None:
        """Hand over what has changed, or could not be gone by; it is put together beside the loop."""
        self._asked = self._clock.monotonic()
        for followed in self._followed:
            offset = max(followed.offset, 0)
            if offset != followed.put or followed.stayed:
                await to_its_end(self._executor.submit(followed.build))
                table = followed.table
                self._stayed(followed, new=offset != followed.put)
                followed.live.put(followed.tp.topic, table, offset)
                followed.put = offset
                self._metrics.table_rows.labels(table.name).set(len(table))
                self._metrics.table_versions.labels(table.name).inc()
                self._logger.info("table read", table=table.name, rows=len(table), offset=offset)
                if offset == 0 and not followed.may_be_empty:
                    self._logger.warning("the table's topic is empty: see `publish-table`", table=table.name)


async def read_table_topic(
    log: EventLog, topic: str, rows: TableRows, refused: Callable[[str], object] = lambda _: None
) -> None:
    """Apply all that `topic` holds now to `rows`; nothing, if there is none.

    `refused`: told of records that are none of the table's.
    """
    admin, tp = log.admin(), TopicPartition(topic, 0)
    if not await admin.partitions(topic):
        return
    begin, end = (await admin.begin_offsets([tp])).get(tp, 0), (await admin.end_offsets([tp])).get(tp, 0)
    async for chunk in stretch(log, tp, begin, end):
        for offset, key, value in zip(chunk.offsets, chunk.keys, chunk.values, strict=True):
            if (fault := rows.apply(key, value)) is not None:
                refused(f"offset {offset}: {fault}")
