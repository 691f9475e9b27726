"""Several processes on one directory, and what kill -9 leaves."""

from __future__ import annotations

import asyncio
import random
import sys
import threading
from pathlib import Path

import pytest

from streamproc.eventlog.contract import Scanner, TopicPartition, TopicSpec
from streamproc.eventlog.embedded import EmbeddedEventLog
from streamproc.eventlog.embedded.file import connect
from tests.eventlog.embedded.process import LEFT, RECORDS, RIGHT

ROOT = Path(__file__).parents[3]
FOREVER = 1_000_000


async def start(directory: Path, name: str, count: int) -> asyncio.subprocess.Process:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "tests.eventlog.embedded.process", str(directory), name, str(count)),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert await asyncio.wait_for(process.stdout.readline(), 20) == b"ready\n"
    return process


async def read(scanner: Scanner) -> dict[TopicPartition, list[str]]:
    """All there is of both topics."""
    found: dict[TopicPartition, list[str]] = {LEFT: [], RIGHT: []}
    while chunks := await scanner.poll(0):
        for chunk in chunks:
            found[chunk.tp] += [(value or b"").decode().strip() for value in chunk.values]
    return found


def whole(found: list[str]) -> dict[str, int]:
    """Transactions by process; each must be there as a whole, unmixed and in order."""
    done: dict[str, int] = {}
    for start in range(0, len(found), RECORDS):
        name = found[start].split(":", maxsplit=1)[0]
        number = done.setdefault(name, 0)
        assert found[start : start + RECORDS] == [f"{name}:{number}:{n}" for n in range(RECORDS)]
        done[name] += 1
    return done


async def test_two_processes_write_in_turns_while_a_third_reads(tmp_path: Path) -> None:
    log = EmbeddedEventLog(tmp_path)
    await log.admin().ensure_topics([TopicSpec("left", 1), TopicSpec("right", 1)])
    scanner = log.scanner()
    for tp in (LEFT, RIGHT):
        scanner.seek(tp, 0)
    writers = [await start(tmp_path, name, 60) for name in ("one", "two")]
    seen: dict[TopicPartition, list[str]] = {LEFT: [], RIGHT: []}
    async with asyncio.timeout(40):
        while min(len(values) for values in seen.values()) < 2 * 60 * RECORDS:
            for chunk in await scanner.poll(1000):
                seen[chunk.tp] += [(value or b"").decode().strip() for value in chunk.values]
        assert [await process.wait() for process in writers] == [0, 0]
    assert whole(seen[LEFT]) == whole(seen[RIGHT]) == {"one": 60, "two": 60}
    await log.close()


@pytest.mark.parametrize("seed", range(6))
async def test_a_killed_process_leaves_no_half_transaction(tmp_path: Path, seed: int) -> None:
    process = await start(tmp_path, "victim", FOREVER)
    await asyncio.sleep(0.05 + random.Random(seed).random() * 0.1)
    process.kill()
    await process.wait()
    log = EmbeddedEventLog(tmp_path)
    scanner = log.scanner()
    for tp in (LEFT, RIGHT):
        scanner.seek(tp, 0)
    found = await read(scanner)
    assert whole(found[LEFT]) == whole(found[RIGHT])
    assert whole(found[LEFT])["victim"] > 3
    heir = await start(tmp_path, "heir", 1)
    assert await heir.wait() == 0
    assert whole((await read(scanner))[LEFT]) == {"heir": 1}
    await log.close()


def test_a_log_that_many_make_at_once_is_busy_for_none_of_them(tmp_path: Path) -> None:
    errors: list[Exception] = []

    def make(path: Path, start: threading.Barrier) -> None:
        start.wait()
        try:
            connect(path, 20).close()
        except Exception as error:
            errors.append(error)

    for attempt in range(100):
        start = threading.Barrier(8)
        threads = [threading.Thread(target=make, args=(tmp_path / f"{attempt}" / "log", start)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert errors == []


async def test_many_processes_may_make_the_log_at_once(tmp_path: Path) -> None:
    processes = await asyncio.gather(*(start(tmp_path / "new", f"p{n}", 1) for n in range(4)))
    assert [await process.wait() for process in processes] == [0] * 4
    log = EmbeddedEventLog(tmp_path / "new")
    scanner = log.scanner()
    for tp in (LEFT, RIGHT):
        scanner.seek(tp, 0)
    assert whole((await read(scanner))[RIGHT]) == {f"p{n}": 1 for n in range(4)}
    await log.close()
