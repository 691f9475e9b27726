"""What a task has decided, decided again by another plan: of journaled input, without emitting anything.

1. the caller puts the state in place: that of a checkpoint, or an empty one
2. the journal is read from the checkpoint's own record on, which must be the one that the state is of
3. input comes in the journal's order, many journal records joined into one batch: without what was refused then; rows
   that were late are late, tables are as far as they had been read
4. beside the rows, as they are decided now, come the journal's feature blocks: what was decided then
"""

from __future__ import annotations

__all__ = ["Again", "DecideAgain"]

from collections.abc import AsyncIterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from operators.batch import TaskTick
from state.errors import ConfigError
from streamproc.eventlog.contract import Chunk, EventLog, TopicPartition
from streamproc.runtime.deadline import unpacked
from streamproc.runtime.engine import Engine
from streamproc.runtime.executor import BlockingExecutor, to_its_end
from streamproc.runtime.journal import JournalEntry, decode_entry, rejected_of
from streamproc.runtime.reading import MergedFeed, stretch
from streamproc.runtime.replay import accepted
from streamproc.runtime.results import Judged
from streamproc.runtime.rows import Rows, TaskInput
from streamproc.runtime.stored_state import LocalMeta
from streamproc.runtime.tables_then import TablesThen

_ROWS = 8192


class Again(NamedTuple):
    """A batch of one task. `offsets`, `times` (the log's, ms), `values`: the records of the stream that is decided;
    `judged` are the rows among them that can be decided now. `blocks`: of the journal, for the same records. `at`: the
    journal's next offset.
    """

    offsets: npt.NDArray[np.int64]
    times: npt.NDArray[np.int64]
    values: Sequence[bytes | None]
    judged: Judged
    blocks: Sequence[bytes]
    at: int


class _Record(NamedTuple):
    offset: int
    entry: JournalEntry
    chain: bytes
    block: bytes


class DecideAgain:
    """Decides tasks of one stage again, one after the other; each call of `run` needs the task's state in the engine.

    `tables`: as they were; None: the plan has none that change.
    """

    def __init__(self, engine: Engine, log: EventLog, tables: TablesThen | None, executor: BlockingExecutor) -> None:
        self._engine, self._log, self._tables, self._executor = engine, log, tables, executor
        self._topic = engine.plan.stream.topic

    async def run(self, task: int, start: LocalMeta | None, end: int) -> AsyncIterator[Again]:
        """Batch by batch, up to the journal's offset `end`. `start`: what the state is of; None: it is empty, and the
        journal is read from the first record on whose input the log still has.

        Raises:
            ConfigError: the journal does not have the record that the state is of.
            InputGoneError: the log has not all of the input any more.
            StateCorruptedError: the journal cannot be read.
            EventLogError: the log failed.
        """
        feed = MergedFeed(self._log, task)
        pending: list[_Record] = []
        rows = 0
        try:
            async for record in self._records(task, start, end):
                if pending and (rows >= _ROWS or self._is_apart(pending[-1].entry, record.entry)):
                    yield await self._batch(task, feed, pending)
                    pending, rows = [], 0
                pending.append(record)
                rows += sum(wanted.stop - wanted.start for wanted in record.entry.ranges)
            if pending:
                yield await self._batch(task, feed, pending)
        finally:
            await feed.close()

    @staticmethod
    def _is_apart(one: JournalEntry, other: JournalEntry) -> bool:
        """Whether two entries cannot be of one batch: a clock's tick comes behind its rows, tables change between."""
        return one.tick is not None or other.tick is not None or one.tables != other.tables

    async def _records(self, task: int, start: LocalMeta | None, end: int) -> AsyncIterator[_Record]:
        tp, admin = TopicPartition(self._engine.plan.topics.journal, task), self._log.admin()
        inputs = [TopicPartition(stream.topic, task) for stream in self._engine.plan.streams]
        begins = {at.topic: offset for at, offset in (await admin.begin_offsets(inputs)).items()}
        begin = (await admin.begin_offsets([tp])).get(tp, 0)
        if start is not None and start.journal_offset < begin:
            raise ConfigError(f"the journal of task {task} begins behind its checkpoint", hint="a shorter --since")
        first = start
        async for chunk in stretch(self._log, tp, begin if start is None else start.journal_offset, end):
            for record in _of(chunk):
                if first is not None:
                    if (record.entry.sequence, record.chain) != (first.sequence, first.chain):
                        raise ConfigError(f"the checkpoint of task {task} is not of this log")
                    first = None
                elif start is not None or _is_kept(record.entry, begins):
                    yield record

    async def _batch(self, task: int, feed: MergedFeed, records: Sequence[_Record]) -> Again:
        entries = [record.entry for record in records]
        chunks = await feed.read([wanted for entry in entries for wanted in entry.ranges])
        if self._tables is not None:
            await to_its_end(self._executor.submit(partial(self._tables.put, entries[0].tables)))
        rows, mine = self._rows(task, chunks, entries)
        judged = self._engine.judge(rows, attempts_max=max(1, rows.size))  # nobody waits
        self._engine.publish()
        self._engine.make_room()
        return Again(
            np.array([offset for chunk in mine for offset in chunk.offsets], np.int64),
            np.array([time for chunk in mine for time in chunk.timestamps], np.int64),
            [value for chunk in mine for value in chunk.values],
            judged,
            [record.block for record in records if record.block],
            records[-1].offset + 1,
        )

    def _rows(
        self, task: int, chunks: Sequence[Chunk], entries: Sequence[JournalEntry]
    ) -> tuple[Rows, Sequence[Chunk]]:
        """The batch's rows, and the records of the stream that is decided."""
        tp = TopicPartition(self._topic, task)
        gathered = None
        if chunks:
            (given,), _, gathered = self._engine.gather([TaskInput(task, tp, list(chunks))])
            chunks = accepted(given.chunks, rejected_of(entries))
        rows = self._engine.read([TaskInput(task, tp, list(chunks))] if chunks else [])
        rows.gathered = gathered
        if (tick := entries[-1].tick) is not None:
            rows.ticks = (TaskTick(task, tick),)
        rows.late = self._late(rows, entries)
        return rows, [chunk for chunk in chunks if chunk.tp == tp]

    def _late(self, rows: Rows, entries: Sequence[JournalEntry]) -> npt.NDArray[np.bool_] | None:
        """The rows that were late, where the plan asks."""
        if not self._engine.plan.decision.deadline_ms or not any(entry.late for entry in entries):
            return None
        parts = [unpacked(entry.late, len(entry.actions)) for entry in entries]
        late = np.concatenate(
            [
                np.zeros(len(entry.actions), np.bool_) if part is None else part
                for part, entry in zip(parts, entries, strict=True)
            ]
        )
        return late if len(late) == rows.size else None  # else other records can be read now than then


def _of(chunk: Chunk) -> list[_Record]:
    """Records of the journal."""
    found = []
    for i, offset in enumerate(chunk.offsets):
        entry, _, chain = decode_entry(chunk.headers[i] if chunk.headers else [])
        found.append(_Record(offset, entry, chain, chunk.values[i] or b""))
    return found


def _is_kept(entry: JournalEntry, begins: Mapping[str, int]) -> bool:
    """Whether the log still has the entry's input."""
    return all(wanted.start >= begins.get(wanted.topic, 0) for wanted in entry.ranges)
