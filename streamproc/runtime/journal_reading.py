"""The journal of a task, read from any of its records on."""

from __future__ import annotations

__all__ = ["Found", "journal_records", "locate_all", "newest_entry"]

from collections.abc import AsyncIterator, Callable, Mapping
from typing import NamedTuple

from state.errors import StateCorruptedError
from streamproc.eventlog.contract import EventLog, Scanner, TopicPartition
from streamproc.runtime.journal import JournalEntry, decode_entry
from streamproc.runtime.reading import POLL_MS, Silence

_TAIL = 64


class Found(NamedTuple):
    """A journal record: its offset, what it says, the chain after it, the bytes that the chain is of, and its block."""

    offset: int
    entry: JournalEntry
    chain: bytes
    body: bytes
    block: bytes


async def locate_all(log: EventLog, wanted: Mapping[TopicPartition, tuple[int, int]]) -> dict[TopicPartition, int]:
    """The offsets of journal records known to be committed: of each partition (where to begin, sequence).

    Raises:
        StateCorruptedError: one is not there.
    """
    return {tp: await _locate(log, tp, start, sequence) for tp, (start, sequence) in wanted.items()}


async def _locate(log: EventLog, journal: TopicPartition, start: int, sequence: int) -> int:
    scanner = log.scanner()
    begin = (await log.admin().begin_offsets([journal])).get(journal, 0)
    try:
        async for found in journal_records(log, scanner, journal, max(start, begin)):
            if found.entry.sequence == sequence:
                return found.offset
    finally:
        await scanner.close()
    raise StateCorruptedError(f"journal record {sequence} was committed and cannot be found")


async def journal_records(
    log: EventLog, scanner: Scanner, tp: TopicPartition, start: int, go_on: Callable[[], None] = lambda: None
) -> AsyncIterator[Found]:
    """All journal records from `start` to the end as it is now; `go_on` may raise before each poll."""
    end = (await log.admin().end_offsets([tp])).get(tp, 0)
    scanner.seek(tp, start)
    silence = Silence(tp)
    while scanner.position(tp) < end:
        go_on()
        chunks = await scanner.poll(POLL_MS)
        silence.check(chunks)
        for chunk in chunks:
            for i, offset in enumerate(chunk.offsets):
                entry, body, after = decode_entry(chunk.headers[i] if chunk.headers else [])
                yield Found(offset, entry, after, body, chunk.values[i] or b"")


async def newest_entry(log: EventLog, tp: TopicPartition) -> JournalEntry | None:
    """What the last record of a journal's partition says; None: it has no records.

    Raises:
        EventLogError: the log cannot be read.
    """
    admin = log.admin()
    begin, end = (await admin.begin_offsets([tp]))[tp], (await admin.end_offsets([tp]))[tp]
    tail = _TAIL
    while begin < end:
        start = max(begin, end - tail)
        found: JournalEntry | None = None
        scanner = log.scanner()
        try:
            async for record in journal_records(log, scanner, tp, start):
                found = record.entry
        finally:
            await scanner.close()
        if found is not None or start == begin:
            return found
        tail *= 8  # nothing but marks of transactions, or aborted ones
    return None
