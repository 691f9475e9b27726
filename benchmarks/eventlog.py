"""The embedded event log: what a commit costs, and what a record costs to write and to read.

Run as `python -m benchmarks.eventlog [DIRECTORY]`; the directory decides which disk is measured.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from pathlib import Path

from streamproc.eventlog.contract import (
    AssignmentListener,
    CommittedOffset,
    Membership,
    OutputRecords,
    TopicPartition,
    TopicSpec,
)
from streamproc.eventlog.embedded import EmbeddedEventLog

RECORD_BYTES = 260
CHUNK_RECORDS = (1, 64, 2000)
COMMITS = {1: 2000, 64: 1000, 2000: 300}
INPUT = TopicPartition("input", 0)
OUTPUT = TopicPartition("output", 0)


class _Assigned(AssignmentListener):
    membership: Membership

    async def on_revoked(self, partitions: frozenset[TopicPartition]) -> None: ...
    async def on_assigned(self, partitions: frozenset[TopicPartition], membership: Membership) -> None:
        self.membership = membership


def records(count: int) -> OutputRecords:
    """`count` records of 260 bytes that do not repeat."""
    values: list[bytes | None] = [os.urandom(RECORD_BYTES - 16) for _ in range(count)]
    keys: list[bytes | None] = [os.urandom(16) for _ in range(count)]
    return OutputRecords(OUTPUT, keys, values, 1_700_000_000_000)


async def measure(directory: Path, chunk: int) -> dict[str, float]:
    """Transactions of one chunk and one offset, then reading all of it back."""
    log = EmbeddedEventLog(directory / f"chunks-of-{chunk}")
    await log.admin().ensure_topics([TopicSpec("input", 1), TopicSpec("output", 1)])
    listener = _Assigned()
    reader = log.reader("bench", ["input"], listener, instance="bench-0", index=0, count=1)
    await reader.start()
    await reader.poll(0)
    writer = log.writer("bench-0")
    await writer.open()
    commits, seconds = COMMITS[chunk], []
    output = records(chunk)
    started = time.perf_counter()
    for number in range(commits):
        begun = time.perf_counter()
        await writer.begin()
        await writer.append([output])
        await writer.offsets({INPUT: CommittedOffset(number, "journal 4711 0123456789abcdef")}, listener.membership)
        await writer.delivered()
        await writer.commit()
        seconds.append(time.perf_counter() - begun)
    written = time.perf_counter() - started
    read = await _read_all(log, commits * chunk)
    await log.close()
    seconds.sort()
    return {
        "chunk_records": chunk,
        "write_us_per_record": written / commits / chunk * 1e6,
        "read_us_per_record": read / commits / chunk * 1e6,
        "commit_ms_p50": seconds[commits // 2] * 1e3,
        "commit_ms_p99": seconds[commits * 99 // 100] * 1e3,
        "commit_ms_max": seconds[-1] * 1e3,
    }


async def _read_all(log: EmbeddedEventLog, expected: int) -> float:
    scanner = log.scanner()
    scanner.seek(OUTPUT, 0)
    started, found = time.perf_counter(), 0
    while found < expected:
        found += sum(len(chunk.offsets) for chunk in await scanner.poll(1000))
    return time.perf_counter() - started


async def measure_hand_over(directory: Path, rounds: int = 500) -> dict[str, float]:
    """From before an append to a waiting scanner of another connection having it, as between two processes."""
    here, there = EmbeddedEventLog(directory / "hand-over"), EmbeddedEventLog(directory / "hand-over")
    await here.admin().ensure_topics([TopicSpec("output", 1)])
    appender, scanner, output = here.appender(), there.scanner(), records(1)
    scanner.seek(OUTPUT, 0)
    seconds = []
    for _ in range(rounds):
        poll = asyncio.create_task(scanner.poll(5000))
        await asyncio.sleep(0.002)
        started = time.perf_counter()
        await appender.append([output])
        await poll
        seconds.append(time.perf_counter() - started)
    await here.close()
    await there.close()
    seconds.sort()
    return {"hand_over_ms_p50": seconds[rounds // 2] * 1e3, "hand_over_ms_p99": seconds[rounds * 99 // 100] * 1e3}


async def measure_idle(directory: Path, seconds: float = 5.0) -> dict[str, float]:
    """CPU of a reader that waits for nothing, once it has settled."""
    log = EmbeddedEventLog(directory / "idle")
    await log.admin().ensure_topics([TopicSpec("output", 1)])
    scanner = log.scanner()
    scanner.seek(OUTPUT, 0)
    await scanner.poll(1000)
    started = time.process_time()
    deadline = time.perf_counter() + seconds
    while (left := deadline - time.perf_counter()) > 0:
        await scanner.poll(min(200, int(left * 1000) + 1))
    used = time.process_time() - started
    await log.close()
    return {"idle_cpu_percent": used / seconds * 100}


def run(directory: Path) -> list[dict[str, float]]:
    """All of it; `directory` must be empty."""
    results = [asyncio.run(measure(directory, chunk)) for chunk in CHUNK_RECORDS]
    return [*results, asyncio.run(measure_hand_over(directory)), asyncio.run(measure_idle(directory))]


def main() -> None:
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as directory:
        for result in run(Path(directory)):
            print("  ".join(f"{name} {value:.3g}" for name, value in result.items()))


if __name__ == "__main__":
    main()
