"""Mutated fetch answers through our reader, in a process of its own: the parser is compiled code, it may die.

`python -m tests.fuzz.kafka_records FIRST COUNT`: prints how many answers were taken and how many refused.
"""

from __future__ import annotations

import random
import struct
import sys
from collections import Counter

from aiokafka.consumer.fetcher import READ_COMMITTED, PartitionRecords
from aiokafka.record._crc32c import crc as crc32c
from aiokafka.record.memory_records import MemoryRecords

from state.errors import EventLogError
from streamproc.eventlog.contract import TopicPartition
from streamproc.eventlog.kafka._aiokafka import DefaultRecordBatchBuilder
from streamproc.eventlog.kafka.fetch import read_chunk
from tests.fuzz.kit import bounded, mutant, traced, wanted

TP = TopicPartition("in", 0)
_CRC_AT, _ATTRIBUTES_AT = 17, 21


def batch(codec: int, *, transactional: bool = False, count: int = 3) -> bytes:
    """A record batch as a broker sends it."""
    builder = DefaultRecordBatchBuilder(2, codec, transactional, 7, 0, 0, 1 << 20)
    for i in range(count):
        headers = [("name", b"value"), ("nothing", None)] if i % 2 else []
        key = None if i == 2 else b"k%d" % i
        assert builder.append(i, 1_600_000_000_000 + i, key, b'{"amount":%d}' % i, headers) is not None
    return bytes(builder.build())


def corpus() -> list[bytes]:
    """Plain, gzip, transactional, several batches, the last one cut off as a broker may."""
    plain = batch(0)
    return [plain, batch(1), batch(0, transactional=True), plain + batch(0, count=20), plain + batch(1)[:40]]


def sealed(data: bytes) -> bytes:
    """The first batch's length and checksum put right: the damage lies behind them."""
    if len(data) < 61:
        return data
    out = bytearray(data)
    out[8:12] = struct.pack(">i", len(data) - 12)
    out[_CRC_AT:_ATTRIBUTES_AT] = struct.pack(">I", crc32c(bytes(out[_ATTRIBUTES_AT:])))
    return bytes(out)


def read(data: bytes, seed: int) -> int:
    """As `ChunkFetcher.drain` reads one partition's answer."""
    aborted = [(7, 0)] if seed % 5 == 0 else None
    fetched = PartitionRecords(TP, MemoryRecords(data), aborted, seed % 3, None, None, False, READ_COMMITTED)
    chunk = read_chunk(TP, fetched)
    if chunk is None:
        return 0
    columns = (chunk.offsets, chunk.keys, chunk.values, chunk.timestamps)
    assert len({len(column) for column in columns}) == 1
    assert all(value is None or type(value) is bytes for value in (*chunk.keys, *chunk.values))
    return len(chunk.offsets)


def main(first: int, count: int) -> None:
    good = corpus()
    found: Counter[str] = Counter()
    with traced():
        for seed in wanted("kafka", range(first, first + count)):
            data = mutant(random.Random(f"kafka:{seed}"), good)
            if seed % 2:
                data = sealed(data)
            try:
                with bounded(len(data)):
                    read(data, seed)
                found["taken"] += 1
            except EventLogError:
                found["refused"] += 1
            except BaseException:
                print(f"reproduce: FUZZ=kafka:{seed} pytest tests/fuzz; {data!r}", flush=True)
                raise
    print(dict(found))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
