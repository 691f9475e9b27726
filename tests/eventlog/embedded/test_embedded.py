"""Bounds, sharing out, fencing a share, errors in our terms, and the wait for news."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from state.errors import ConfigError, EventLogError, FencedError, TaskMigratedError
from streamproc.eventlog.contract import CommittedOffset, OutputRecords, TopicPartition, TopicSpec
from streamproc.eventlog.embedded import EmbeddedEventLog
from streamproc.eventlog.embedded.file import FILE_NAME, connect, translate
from tests.eventlog.clients import Recorder, flat, out, transact

TP = TopicPartition("t", 0)


async def make(directory: Path, partitions: int = 1) -> EmbeddedEventLog:
    log = EmbeddedEventLog(directory)
    await log.admin().ensure_topics([TopicSpec("t", partitions), TopicSpec("u", partitions)])
    return log


async def test_the_url_names_the_directory(tmp_path: Path) -> None:
    log = EmbeddedEventLog.from_url(f"file:{tmp_path}/deep/down")
    assert log.url == f"file:{tmp_path}/deep/down"
    await log.admin().ensure_topics([TopicSpec("t", 1)])
    assert (tmp_path / "deep/down" / FILE_NAME).exists()
    await log.close()
    for wrong in ("file:", "kafka://localhost"):
        with pytest.raises(ConfigError):
            EmbeddedEventLog.from_url(wrong)


async def test_records_survive_a_restart(tmp_path: Path) -> None:
    log = await make(tmp_path)
    await log.appender().append([out(TP, b"1", b"2")])
    await log.close()
    log = await make(tmp_path)
    await log.appender().append([out(TP, b"3")])
    scanner = log.scanner()
    scanner.seek(TP, 1)
    (chunk,) = await scanner.poll(0)
    assert list(chunk.offsets) == [1, 2]
    assert flat([chunk]) == [b"2", b"3"]
    await log.close()


async def test_workers_share_partitions_out_by_index(tmp_path: Path) -> None:
    log = await make(tmp_path, 5)
    shares = []
    for index in range(2):
        recorder = Recorder()
        reader = log.reader("g", ["t", "u"], recorder, instance=f"i{index}", index=index, count=2)
        await reader.start()
        assert await reader.poll(0) == []
        shares.append(recorder.assigned)
    assert shares[0] == {TopicPartition(topic, p) for topic in "tu" for p in (0, 2, 4)}
    assert shares[1] == {TopicPartition(topic, p) for topic in "tu" for p in (1, 3)}
    with pytest.raises(ConfigError):
        log.reader("g", ["t"], Recorder(), instance="i", index=2, count=2)
    missing = log.reader("g", ["t", "absent"], Recorder(), instance="i", index=0, count=1)
    with pytest.raises(ConfigError, match="absent"):
        await missing.start()
    await log.close()


async def joined(log: EmbeddedEventLog, instance: str, index: int, count: int) -> Recorder:
    recorder = Recorder()
    reader = log.reader("g", ["t"], recorder, instance=instance, index=index, count=count)
    await reader.start()
    await reader.poll(0)
    return recorder


async def commit(log: EmbeddedEventLog, member: Recorder, partition: int) -> None:
    writer = log.writer(f"w-{time.monotonic_ns()}")
    await writer.open()
    offsets = {TopicPartition("t", partition): CommittedOffset(1, "")}
    await transact(writer, offsets=offsets, membership=member.membership)


async def test_a_restart_fences_its_own_instance_only(tmp_path: Path) -> None:
    log = await make(tmp_path, 2)
    zombie, neighbour = await joined(log, "i0", 0, 2), await joined(log, "i1", 1, 2)
    heir = await joined(log, "i0", 0, 2)
    await commit(log, neighbour, 1)
    await commit(log, heir, 0)
    with pytest.raises(FencedError):
        await commit(log, zombie, 0)
    await log.close()


async def test_another_number_of_workers_takes_partitions_away(tmp_path: Path) -> None:
    log = await make(tmp_path, 3)
    third = await joined(log, "i2", 2, 3)
    await commit(log, third, 2)
    first = await joined(log, "i0", 0, 2)
    await commit(log, first, 2)
    with pytest.raises(TaskMigratedError, match="t-2 was handed to another member"):
        await commit(log, third, 2)
    await log.close()


async def test_who_left_cannot_commit(tmp_path: Path) -> None:
    log = await make(tmp_path)
    recorder = Recorder()
    reader = log.reader("g", ["t"], recorder, instance="i", index=0, count=1)
    await reader.start()
    await reader.poll(0)
    await reader.close(leave=True)
    with pytest.raises(TaskMigratedError, match="has left"):
        await commit(log, recorder, 0)
    await log.close()


async def test_one_poll_is_bounded_by_bytes(tmp_path: Path) -> None:
    await (await make(tmp_path)).close()
    log = EmbeddedEventLog(tmp_path, poll_bytes_max=10_000)
    for n in range(100):
        await log.appender().append([out(TP, *(b"%d" % n + bytes(498) for _ in range(2)))])
    scanner = log.scanner()
    scanner.seek(TP, 0)
    sizes = []
    while chunks := await scanner.poll(0):
        sizes.append(sum(len(chunk.values) for chunk in chunks))
    assert sum(sizes) == 200
    assert max(sizes) <= 22
    await log.close()


async def test_a_big_append_is_stored_in_bounded_chunks(tmp_path: Path) -> None:
    log = await make(tmp_path)
    headers = [[("n", b"%d" % n)] for n in range(3000)]
    await log.appender().append([out(TP, *(bytes(n) for n in range(3000)), headers=headers)])
    scanner = log.scanner()
    scanner.seek(TP, 0)
    chunks = []
    while found := await scanner.poll(0):
        chunks += found
    assert [len(v or b"") for v in flat(chunks)] == list(range(3000))
    assert [h for chunk in chunks for h in chunk.headers or ()] == headers
    with sqlite3.connect(tmp_path / FILE_NAME) as db:
        assert db.execute("SELECT max(bytes) <= 524288, min(base_offset) FROM readable_chunks").fetchone() == (1, 0)
    db.close()
    await log.close()


async def test_a_record_of_8_mib_is_refused(tmp_path: Path) -> None:
    log = await make(tmp_path)
    await log.appender().append([out(TP, bytes((8 << 20) - 100))])
    with pytest.raises(EventLogError, match="more than") as refused:
        await log.appender().append([out(TP, b"small"), out(TP, b"next", bytes(8 << 20))])
    assert not refused.value.retriable
    assert await log.admin().end_offsets([TP]) == {TP: 1}
    with pytest.raises(ValueError, match="differ"):
        await log.appender().append([OutputRecords(TP, [b"k"], [], 0)])
    await log.close()


async def test_a_busy_log_is_retriable(tmp_path: Path) -> None:
    await (await make(tmp_path)).close()
    log = EmbeddedEventLog(tmp_path, busy_timeout_s=0.05)
    assert await log.admin().partitions("t") == 1
    db = sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None)
    db.execute("BEGIN IMMEDIATE")
    with pytest.raises(EventLogError, match="another process is writing") as busy:
        await log.appender().append([out(TP, b"1")])
    assert busy.value.retriable
    assert await log.admin().end_offsets([TP]) == {TP: 0}
    db.execute("ROLLBACK")
    db.close()
    await log.appender().append([out(TP, b"1")])
    await log.close()


async def test_a_full_disk_is_not_retriable_and_leaves_nothing(tmp_path: Path) -> None:
    log = await make(tmp_path)
    await log.appender().append([out(TP, b"1")])
    await log._thread.run(lambda store: store._db.execute("PRAGMA max_page_count = 20").close())
    with pytest.raises(EventLogError, match="disk is full") as full:
        await log.appender().append([out(TP, b"small"), out(TP, bytes(1 << 20))])
    assert not full.value.retriable
    await log._thread.run(lambda store: store._db.execute("PRAGMA max_page_count = 1000000").close())
    await log.appender().append([out(TP, b"2")])
    assert await log.admin().end_offsets([TP]) == {TP: 2}
    await log.close()


@pytest.mark.parametrize(
    ("name", "retriable", "words"),
    [
        ("SQLITE_BUSY", True, "another process"),
        ("SQLITE_BUSY_SNAPSHOT", True, "another process"),
        ("SQLITE_IOERR_WRITE", False, "disk failed"),
        ("SQLITE_FULL", False, "free space"),
        ("SQLITE_CORRUPT", False, "backup"),
        ("SQLITE_ERROR", False, "boom"),
    ],
)
def test_every_error_of_sqlite_becomes_ours(name: str, retriable: bool, words: str) -> None:
    error = sqlite3.OperationalError("boom")
    error.sqlite_errorcode = getattr(sqlite3, name)
    ours = translate(error, Path("x"))
    assert ours.retriable is retriable
    assert words in str(ours)


async def test_foreign_files_are_left_alone(tmp_path: Path) -> None:
    db = sqlite3.connect(tmp_path / FILE_NAME)
    db.execute("CREATE TABLE theirs (x)")
    db.close()
    before = (tmp_path / FILE_NAME).read_bytes()
    log = EmbeddedEventLog(tmp_path)
    with pytest.raises(ConfigError, match="another program"):
        await log.admin().partitions("t")
    await log.close()
    assert (tmp_path / FILE_NAME).read_bytes() == before


def test_another_process_may_make_the_file_between_two_looks_at_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, path = sqlite3.connect, tmp_path / FILE_NAME

    class Interrupted(sqlite3.Connection):
        def execute(self, sql: str, *given: Any) -> sqlite3.Cursor:
            if sql == "PRAGMA user_version":
                monkeypatch.setattr(sqlite3, "connect", real)
                with contextlib.suppress(sqlite3.OperationalError):  # it waits for its turn, which is as good
                    connect(path, 0.0).close()
            return super().execute(sql, *given)

    monkeypatch.setattr(sqlite3, "connect", partial(real, factory=Interrupted))
    connect(path, 1.0).close()
    connect(path, 1.0).close()


async def test_a_later_format_is_refused(tmp_path: Path) -> None:
    await (await make(tmp_path)).close()
    db = sqlite3.connect(tmp_path / FILE_NAME)
    db.execute("PRAGMA user_version = 99")
    db.close()
    log = EmbeddedEventLog(tmp_path)
    with pytest.raises(ConfigError, match="format 99"):
        await log.admin().partitions("t")
    await log.close()


async def test_damage_is_told(tmp_path: Path) -> None:
    log = await make(tmp_path)
    for _ in range(50):
        await log.appender().append([out(TP, bytes(10_000))])
    await log.close()
    file = tmp_path / FILE_NAME
    content = bytearray(file.read_bytes())
    content[8192:-8192] = b"\xaa" * (len(content) - 2 * 8192)
    file.write_bytes(content)
    log = EmbeddedEventLog(tmp_path)
    scanner = log.scanner()
    scanner.seek(TP, 0)
    with pytest.raises(EventLogError, match="backup") as damaged:
        await scanner.poll(100)
    assert not damaged.value.retriable
    await log.close()
    file.write_bytes(b"no database at all" * 1000)
    log = EmbeddedEventLog(tmp_path)
    with pytest.raises(EventLogError, match="name another directory"):
        await log.admin().partitions("t")
    await log.close()


async def test_no_directory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    log = EmbeddedEventLog(tmp_path / "file" / "log")
    with pytest.raises(ConfigError, match="directory"):
        await log.admin().partitions("t")
    await log.close()


async def test_a_closed_log_refuses(tmp_path: Path) -> None:
    log = await make(tmp_path)
    scanner = log.scanner()
    scanner.seek(TP, 0)
    waiting = asyncio.create_task(scanner.poll(10_000))
    await asyncio.sleep(0.02)
    await log.close()
    await log.close()
    with pytest.raises(EventLogError, match="closed"):
        await waiting
    with pytest.raises(EventLogError, match="closed"):
        await scanner.poll(0)
    never_used = EmbeddedEventLog(tmp_path / "never")
    await never_used.close()
    assert not (tmp_path / "never").exists()


async def test_a_missing_partition_is_named(tmp_path: Path) -> None:
    log = await make(tmp_path)
    scanner = log.scanner()
    scanner.seek(TopicPartition("t", 7), 0)
    with pytest.raises(EventLogError, match="no topic t with a partition 7"):
        await scanner.poll(100)
    with pytest.raises(EventLogError, match="no topic x"):
        await log.admin().end_offsets([TopicPartition("x", 0)])
    await log.close()


async def test_finished_waits_do_not_pile_up(tmp_path: Path) -> None:
    log = await make(tmp_path)
    scanner = log.scanner()
    scanner.seek(TP, 0)
    for _ in range(50):
        assert await scanner.poll(1) == []
    await asyncio.sleep(0.05)
    assert len(log._thread._standing) <= 1
    await log.close()


async def test_a_cancelled_commit_is_whole_or_absent(tmp_path: Path) -> None:
    log = await make(tmp_path)
    u = TopicPartition("u", 0)
    for n in range(30):
        writer = log.writer("w")
        await writer.open()
        task = asyncio.create_task(transact(writer, out(TP, b"%d" % n), out(u, b"%d" % n)))
        await asyncio.sleep(0.0001 * (n % 5))
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    found = await log.admin().end_offsets([TP, u])
    assert found[TP] == found[u]
    await log.close()


async def test_news_of_another_connection_come_within_milliseconds(tmp_path: Path) -> None:
    here, there = await make(tmp_path), EmbeddedEventLog(tmp_path)
    scanner = there.scanner()
    scanner.seek(TP, 0)
    await scanner.poll(1)
    waits = []
    for _ in range(20):
        poll = asyncio.create_task(scanner.poll(5000))
        await asyncio.sleep(0.005)
        await here.appender().append([out(TP, b"1")])
        begun = time.perf_counter()
        assert len(await poll) == 1
        waits.append(time.perf_counter() - begun)
    assert sorted(waits)[10] < 0.02
    await here.close()
    await there.close()
