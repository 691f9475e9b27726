"""The Kafka client: what a transaction costs and lasts, and what a record costs to read and to append.

Run as `python -m benchmarks.kafka_client 127.0.0.1:9092` against a broker of one's own (`make kafka`). CPU is this
process's; the broker shares the machine, so walls are those of a full small machine.
"""

from __future__ import annotations

import asyncio
import os
import resource
import sys
import time
import uuid

from streamproc.eventlog.contract import CommittedOffset, Headers, Membership, OutputRecords, TopicPartition, TopicSpec
from streamproc.eventlog.kafka import KafkaLog

RECORD_BYTES = 260
READ_RECORDS = 300_000
TRANSACTIONS = 500
TIME_MS = 1_700_000_000_000


class Assigned:
    """Waits for the first assignment."""

    def __init__(self) -> None:
        self.membership: Membership | None = None

    async def on_revoked(self, partitions: frozenset[TopicPartition]) -> None: ...
    async def on_assigned(self, partitions: frozenset[TopicPartition], membership: Membership) -> None:
        self.membership = membership


class Clock:
    """Wall and CPU since it was made."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), _cpu()

    @property
    def wall(self) -> float:
        return time.perf_counter() - self._wall

    @property
    def cpu(self) -> float:
        return _cpu() - self._cpu


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _records(tp: TopicPartition, count: int, headers: Headers | None = None) -> OutputRecords:
    keys: list[bytes | None] = [os.urandom(16) for _ in range(count)]
    values: list[bytes | None] = [os.urandom(RECORD_BYTES - 16) for _ in range(count)]
    return OutputRecords(tp, keys, values, TIME_MS, None if headers is None else [headers] * count)


def _name(word: str) -> str:
    return f"bench-{word}-{uuid.uuid4().hex[:8]}"


async def transactions(bootstrap: str, tasks: int, topics: int, pause_ms: float = 0) -> dict[str, float]:
    """One record to each of `tasks` x `topics` partitions, and an offset for each task, in one transaction."""
    log = KafkaLog(bootstrap)
    source, group = _name("in"), _name("group")
    names = [_name(f"out{number}") for number in range(topics)]
    await log.admin().ensure_topics([TopicSpec(name, tasks) for name in (source, *names)])
    told = Assigned()
    reader = log.reader(group, [source], told, instance="bench-0", index=0, count=1)
    await reader.start()
    while told.membership is None:
        await reader.poll(100)
    polling = asyncio.create_task(_poll(reader.poll))
    writer = log.writer(group)
    await writer.open()
    outputs = [_records(TopicPartition(name, task), 1) for name in names for task in range(tasks)]
    seconds: list[float] = []
    clock = Clock()
    for number in range(TRANSACTIONS + 50):
        if number == 50:  # warm by now
            clock = Clock()
        begun = time.perf_counter()
        await writer.begin()
        await writer.append(outputs)
        offsets = {TopicPartition(source, task): CommittedOffset(number, "x" * 40) for task in range(tasks)}
        await writer.offsets(offsets, told.membership)
        await writer.delivered()
        await writer.commit()
        if number >= 50:
            seconds.append(time.perf_counter() - begun)
        if pause_ms:
            await asyncio.sleep(pause_ms / 1000)
    cpu = clock.cpu
    polling.cancel()
    await writer.abandon()
    await reader.close(leave=True)
    await log.close()
    seconds.sort()
    return {
        "partitions": tasks * topics,
        "pause_ms": pause_ms,
        "p50_ms": seconds[len(seconds) // 2] * 1e3,
        "p99_ms": seconds[len(seconds) * 99 // 100] * 1e3,
        "max_ms": seconds[-1] * 1e3,
        "cpu_us_per_transaction": cpu / TRANSACTIONS * 1e6,
    }


async def _poll(poll: object) -> None:
    while True:
        await poll(200)  # type: ignore[operator]


async def appending(bootstrap: str, topic: str, per_append: int = 2_000, partitions: int = 4) -> dict[str, float]:
    """`READ_RECORDS` records to the partitions of `topic`, `per_append` to each at a time."""
    log = KafkaLog(bootstrap)
    await log.admin().ensure_topics([TopicSpec(topic, partitions)])
    appender = log.appender()
    outputs = [_records(TopicPartition(topic, number), per_append) for number in range(partitions)]
    await appender.append(outputs)
    clock = Clock()
    rounds = READ_RECORDS // (per_append * partitions)
    for _ in range(rounds):
        await appender.append(outputs)
    wall, cpu = clock.wall, clock.cpu
    await appender.close()
    await log.close()
    return _per_record(rounds * per_append * partitions, wall, cpu) | {"per_append": per_append}


async def reading(bootstrap: str, topic: str, part_bytes: int, partitions: int = 4) -> dict[str, float]:
    """All of `topic` by a group reader."""
    log = KafkaLog(bootstrap, part_bytes=part_bytes)
    told = Assigned()
    reader = log.reader(_name("group"), [topic], told, instance="bench-0", index=0, count=1)
    await reader.start()
    while told.membership is None:
        await reader.poll(100)
    tps = [TopicPartition(topic, number) for number in range(partitions)]
    total = sum((await log.admin().end_offsets(tps)).values())
    clock = Clock()
    for tp in tps:
        reader.resume(tp, 0)
    count, polls, slowest = 0, 0, 0.0
    while count < total:
        chunks = await reader.poll(1000)
        polls += 1
        count += sum(len(chunk.offsets) for chunk in chunks)
        slowest = max(slowest, sum(len(chunk.offsets) for chunk in chunks))
    wall, cpu = clock.wall, clock.cpu
    await reader.close(leave=True)
    await log.close()
    return _per_record(total, wall, cpu) | {
        "part_bytes": part_bytes,
        "records_per_poll": total / polls,
        "most_in_a_poll": slowest,
    }


async def scanning(bootstrap: str, topic: str, part_bytes: int, partitions: int = 4) -> dict[str, float]:
    """All of `topic` by a scanner."""
    log = KafkaLog(bootstrap, scan_part_bytes=part_bytes)
    tps = [TopicPartition(topic, number) for number in range(partitions)]
    ends = await log.admin().end_offsets(tps)
    scanner = log.scanner()
    for tp in tps:
        scanner.seek(tp, 0)
    clock = Clock()
    count = 0
    while any(scanner.position(tp) < end for tp, end in ends.items()):
        count += sum(len(chunk.offsets) for chunk in await scanner.poll(1000))
    wall, cpu = clock.wall, clock.cpu
    await scanner.close()
    await log.close()
    return _per_record(count, wall, cpu) | {"scan_part_bytes": part_bytes}


def _per_record(count: int, wall: float, cpu: float) -> dict[str, float]:
    return {
        "records": count,
        "records_per_s": count / wall,
        "cpu_us_per_record": cpu / count * 1e6,
        "wall_us_per_record": wall / count * 1e6,
    }


async def measure(bootstrap: str) -> list[tuple[str, dict[str, float]]]:
    """Everything, in the order of the report."""
    topic = _name("records")
    found = [
        ("transaction", await transactions(bootstrap, 1, 1)),
        ("transaction", await transactions(bootstrap, 4, 2)),
        ("transaction", await transactions(bootstrap, 4, 2, pause_ms=5)),
        ("append", await appending(bootstrap, _name("big"), per_append=2_000)),
        ("append", await appending(bootstrap, topic, per_append=100)),
    ]
    found += [("read", await reading(bootstrap, topic, kib * 1024)) for kib in (256, 512, 1024) for _ in range(2)]
    found += [("scan", await scanning(bootstrap, topic, kib * 1024)) for kib in (1024, 4096, 8192)]
    return found


def main() -> None:
    """Print a line a measurement."""
    bootstrap = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:9092"
    for name, figures in asyncio.run(measure(bootstrap)):
        print(f"{name:<12}" + "  ".join(f"{key}={value:,.6g}" for key, value in figures.items()))


if __name__ == "__main__":
    main()
