"""Tables from topics as they were at some time: each as far as its topic had been read then."""

from __future__ import annotations

__all__ = ["TablesThen"]

from collections.abc import Sequence
from typing import NamedTuple

from operators.live_tables import LiveTables, TableRows, TopicTable
from state.errors import ConfigError
from streamproc.eventlog.contract import EventLog, TopicPartition
from streamproc.runtime.reading import stretch


class _Record(NamedTuple):
    offset: int
    key: bytes | None
    value: bytes | None


class _Table:
    """A table's records, and its rows as far as some of them go."""

    def __init__(self, source: TopicTable, records: list[_Record]) -> None:
        self.source, self._records = source, records
        self._end = records[-1].offset + 1 if records else 0
        self._taken = 0
        self.offset = -1
        self.rows = TableRows(source.schema)

    def go_to(self, offset: int | None) -> bool:
        """What the records before `offset` say (None: all); whether that is something else than now."""
        wanted = self._end if offset is None else offset
        if wanted == self.offset:
            return False
        if wanted < self.offset:
            self.rows, self._taken = TableRows(self.source.schema), 0
        while self._taken < len(self._records) and self._records[self._taken].offset < wanted:
            _, key, value = self._records[self._taken]
            self.rows.apply(key, value)  # what a worker refused is refused again
            self._taken += 1
        self.offset = wanted
        return True


class TablesThen:
    """The tables of a plan. What compaction has removed since is missing from them: a week's versions are kept."""

    def __init__(self, live: LiveTables, tables: Sequence[_Table]) -> None:
        self._live, self._tables = live, tables

    @staticmethod
    async def read(log: EventLog, live: LiveTables) -> TablesThen:
        """All records of the topics, as they are now.

        Raises:
            ConfigError: a topic is missing.
            EventLogError: the log cannot be read.
        """
        return TablesThen(live, [_Table(source, await _records(log, source.topic)) for source in live.tables])

    def put(self, versions: Sequence[tuple[str, int]]) -> None:
        """From now on tables are looked up as they were at `versions` (topic, offset); one that is not there, as it is
        now. Blocks: a model may have to be opened.

        Raises:
            ConfigError: one of the models that were at work cannot be.
        """
        known = dict(versions)
        for table in self._tables:
            topic = table.source.topic
            if table.go_to(known.get(topic)):
                if faults := self._live.prepare(table.rows):
                    raise ConfigError(f"it cannot be decided as then: {faults[0]}", hint="is the registry whole?")
                self._live.put(topic, table.rows.snapshot(), table.offset)
        self._live.apply()


async def _records(log: EventLog, topic: str) -> list[_Record]:
    admin, tp = log.admin(), TopicPartition(topic, 0)
    if not await admin.partitions(topic):
        raise ConfigError(f"there is no topic {topic}", hint="a worker of the pipeline makes it")
    begin, end = (await admin.begin_offsets([tp]))[tp], (await admin.end_offsets([tp]))[tp]
    return [
        _Record(*record)
        async for chunk in stretch(log, tp, begin, end)
        for record in zip(chunk.offsets, chunk.keys, chunk.values, strict=True)
    ]
