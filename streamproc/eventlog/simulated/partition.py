"""A partition of the simulated log: batches of records, the transactions that wrote them, and what a poll brings."""

from __future__ import annotations

__all__ = ["Batch", "Ending", "Partition", "Transaction", "chunk_of", "pieces", "size_of"]

from collections.abc import Iterator, Sequence
from enum import Enum

import msgspec

from streamproc.eventlog.contract import Chunk, CommittedOffset, Headers, OutputRecords, TopicPartition


class Ending(Enum):
    """How a transaction ended, if it did."""

    OPEN = "open"
    COMMITTED = "committed"
    ABORTED = "aborted"


class Transaction(msgspec.Struct, eq=False):
    """`markers`: how many partitions and groups are still to be told of its end; 0 while it is open."""

    ending: Ending = Ending.OPEN
    markers: int = 0
    first: dict[TopicPartition, int] = {}
    offsets: dict[str, dict[TopicPartition, CommittedOffset]] = {}


class Batch(msgspec.Struct, eq=False):
    """Records with one append; a marker is a batch of one offset and no records."""

    base: int
    records: OutputRecords | None
    transaction: Transaction | None = None

    @property
    def end(self) -> int:
        return self.base + (1 if self.records is None else len(self.records.keys))


class Partition(msgspec.Struct, eq=False):
    """`open`: transactions whose marker is still to come."""

    begin: int = 0
    batches: list[Batch] = []
    open: list[Transaction] = []

    @property
    def end(self) -> int:
        return self.batches[-1].end if self.batches else self.begin

    def append(self, records: OutputRecords | None, transaction: Transaction | None) -> int:
        """The offset of the last record."""
        self.batches.append(Batch(self.end, records, transaction))
        return self.end - 1


def size_of(records: OutputRecords) -> int:
    """Bytes of keys and values."""
    return sum(len(key or b"") + len(value or b"") for key, value in zip(records.keys, records.values, strict=True))


def pieces(records: OutputRecords, bytes_max: int) -> Iterator[OutputRecords]:
    """The same records, in pieces that one poll may bring."""
    half = len(records.keys) // 2
    if half == 0 or size_of(records) <= bytes_max:
        yield records
        return
    for part in (slice(0, half), slice(half, None)):
        headers = records.headers and records.headers[part]
        piece = OutputRecords(records.tp, records.keys[part], records.values[part], records.timestamp_ms, headers)
        yield from pieces(piece, bytes_max)


def chunk_of(tp: TopicPartition, batches: Sequence[Batch], position: int, following: int) -> Chunk:
    """The batches' records from `position` on."""
    offsets: list[int] = []
    keys: list[bytes | None] = []
    values: list[bytes | None] = []
    timestamps: list[int] = []
    headers: list[Headers] = []
    for batch in batches:
        records = batch.records
        assert records is not None
        skip = max(0, position - batch.base)
        offsets += range(batch.base + skip, batch.end)
        keys += records.keys[skip:]
        values += records.values[skip:]
        timestamps += [records.timestamp_ms] * (len(records.keys) - skip)
        headers += [[] for _ in records.keys[skip:]] if records.headers is None else records.headers[skip:]
    return Chunk(tp, offsets, keys, values, timestamps, following, headers if any(headers) else None)
