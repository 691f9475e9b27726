"""The logs' own formats: Kafka's record batches and answers, the embedded log's file."""

from __future__ import annotations

import asyncio
import io
import random
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from state.errors import ConfigError, EventLogError
from streamproc.eventlog.contract import OutputRecords, TopicPartition, TopicSpec
from streamproc.eventlog.embedded import EmbeddedEventLog
from streamproc.eventlog.embedded.file import FILE_NAME
from streamproc.eventlog.kafka import wire
from tests.fuzz.kafka_records import batch, read
from tests.fuzz.kit import fuzz, mutant, traced, wanted

ROOT = Path(__file__).parents[2]
TP = TopicPartition("t", 0)


def parsed(first: int, count: int) -> None:
    command = [sys.executable, "-m", "tests.fuzz.kafka_records", str(first), str(count)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.returncode, done.stdout[-500:], done.stderr[-1500:])
    assert "taken" in done.stdout or "refused" in done.stdout


def test_kafka_record_batches() -> None:
    parsed(0, 1500)


@pytest.mark.soak
@pytest.mark.matrix("fuzzing")
@pytest.mark.timeout(900)
def test_many_kafka_record_batches() -> None:
    parsed(1_000_000, 100_000)


def test_a_header_whose_name_is_not_unicode_names_the_place() -> None:
    """Any producer can write one, and the broker takes it: an error of ours, with the offset, not a crash."""
    from tests.fuzz.kafka_records import sealed

    good = batch(0)
    with pytest.raises(EventLogError, match="before offset 3 cannot be parsed") as caught:
        read(sealed(good.replace(b"name", b"n\xff\xfee")), 0)
    assert not caught.value.retriable


ANSWERS: list[tuple[Any, tuple[Any, ...]]] = [
    (wire._TxnOffsetCommitResponse, (0, [("topic", [(0, 0, {}), (1, 25, {})], {})], {})),
    (wire._OffsetFetchResponse, (0, [("topic", [(0, 7, -1, "1:2:3", 0, {})], {})], 0, {})),
    (wire._HeartbeatResponse, (0, 27)),
    (wire._LeaveGroupResponse, (0, 0, [("member", "instance", 0)])),
]
_AIOKAFKAS = (ValueError, UnicodeDecodeError, struct.error, IndexError, TypeError)
"""What aiokafka's reading loop turns into a closed connection, and so into a retriable error of ours."""


@pytest.mark.parametrize(("kind", "fields"), ANSWERS, ids=[kind.__name__ for kind, _ in ANSWERS])
def test_kafka_answers(kind: Any, fields: tuple[Any, ...]) -> None:
    """A damaged answer is refused: no hang over a count of billions, no memory beyond what came."""
    good = kind.SCHEMA.encode(fields)
    assert kind.SCHEMA.decode(io.BytesIO(good)) == fields
    with traced():
        fuzz(kind.__name__, [good], lambda data: kind.decode(io.BytesIO(data)), _AIOKAFKAS, count=500)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small embedded log, closed."""
    made = tmp_path_factory.mktemp("log")

    async def write() -> None:
        log = EmbeddedEventLog(made)
        await log.admin().ensure_topics([TopicSpec("t", 1, {})])
        appender = log.appender()
        for i in range(6):
            await appender.append([OutputRecords(TP, [b"k"] * 9, [b"v%d" % i * 90] * 9, i, [[("h", b"x")]] * 9)])
        await log.close()

    asyncio.run(write())
    return made


async def walk(path: Path) -> int:
    """Read all, and write one."""
    log = EmbeddedEventLog(path, busy_timeout_s=0.05)
    count = 0
    try:
        begin, end = [(await bounds([TP]))[TP] for bounds in (log.admin().begin_offsets, log.admin().end_offsets)]
        scanner = log.scanner()
        scanner.seek(TP, begin)
        for _ in range(60):
            if scanner.position(TP) >= end:
                break
            for chunk in await scanner.poll(0):
                assert len(chunk.offsets) == len(chunk.keys) == len(chunk.values) == len(chunk.timestamps)
                assert chunk.headers is None or len(chunk.headers) == len(chunk.offsets)
                count += len(chunk.offsets)
        await log.appender().append([OutputRecords(TP, [b"k"], [b"v"], 0)])
    finally:
        await log.close()
    return count


@pytest.mark.blocking
def test_the_embedded_logs_file(directory: Path, tmp_path: Path) -> None:
    good = (directory / FILE_NAME).read_bytes()
    path = tmp_path / "log"
    found = []
    for seed in wanted("sqlite", range(150)):
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir()
        (path / FILE_NAME).write_bytes(mutant(random.Random(f"sqlite:{seed}"), [good]))
        try:
            found.append(asyncio.run(walk(path)))
        except (EventLogError, ConfigError):
            found.append(-1)
        except Exception as error:
            error.add_note(f"reproduce: FUZZ=sqlite:{seed} pytest tests/fuzz")
            raise
    assert len(found) < 2 or {-1, 54} <= set(found)
