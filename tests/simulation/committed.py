"""What a simulated log holds that is committed, past all clients."""

from __future__ import annotations

__all__ = ["Record", "committed_records", "digest", "input_end"]

import hashlib
from typing import NamedTuple

from streamproc.eventlog.contract import Headers, TopicPartition
from streamproc.eventlog.simulated import SimulatedCluster
from streamproc.eventlog.simulated.partition import Ending


class Record(NamedTuple):
    """A committed record."""

    offset: int
    value: bytes
    timestamp: int
    headers: Headers
    key: bytes | None = None


def input_end(cluster: SimulatedCluster, tp: TopicPartition) -> int:
    """Behind the last record that is committed, or may still be: what follows marks transactions."""
    partition = cluster._partition(tp)
    for batch in reversed(partition.batches):
        if batch.records is not None and (batch.transaction is None or batch.transaction.ending is not Ending.ABORTED):
            return batch.end
    return partition.begin


def committed_records(cluster: SimulatedCluster, tp: TopicPartition) -> list[Record]:
    """All records but those of transactions that are not committed."""
    out = []
    for batch in cluster._partition(tp).batches:
        records = batch.records
        if records is None or (batch.transaction is not None and batch.transaction.ending is not Ending.COMMITTED):
            continue
        headers = records.headers or [[] for _ in records.keys]
        for i, (key, value, header) in enumerate(zip(records.keys, records.values, headers, strict=True)):
            out.append(Record(batch.base + i, value or b"", records.timestamp_ms, header, key))
    return out


def digest(cluster: SimulatedCluster) -> str:
    """Of every byte that the log holds, what was aborted, too."""
    found = hashlib.blake2b(digest_size=16)
    for tp, partition in sorted(cluster._partitions.items()):
        found.update(f"{tp}\n".encode())
        for batch in partition.batches:
            ending = batch.transaction and batch.transaction.ending
            parts = batch.records and (batch.records.keys, batch.records.values, batch.records.headers)
            found.update(f"{batch.base} {ending} {parts}\n".encode())
    return found.hexdigest()
