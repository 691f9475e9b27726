"""What fuzzing found, each by its name; the language's are in test_language, Kafka's in test_logs."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import msgspec
import numpy as np
import pytest

from operators.block import block_records, read_block
from state import manifest
from state.errors import EventLogError, StateCorruptedError
from streamproc.eventlog.contract import OutputRecords, TopicPartition, TopicSpec
from streamproc.eventlog.embedded import EmbeddedEventLog
from streamproc.eventlog.embedded.codec import unpack
from streamproc.eventlog.embedded.file import FILE_NAME
from streamproc.runtime.journal import JournalHead, decode_entry
from tests.fuzz.kit import bounded, traced
from tests.fuzz.test_stored import BLOCK, BODY, FILE, IDS, MANIFEST, ROWS, read_ids, read_state

ROW = next(key for key in ROWS if key.startswith(b"r\x05spend"))


def with_ring(start: int, stop: int) -> dict[bytes, bytes]:
    """One stored row of two fields says that its ring goes from `start` to `stop`."""
    at = len(ROWS[ROW].split(ROWS[ROW][9:25])[0]) + 16  # version and fingerprint, then the fields
    bounds = np.array([start, stop], "<i8").tobytes()
    return {**ROWS, ROW: ROWS[ROW][:at] + bounds + ROWS[ROW][at + 16 :]}


@pytest.mark.parametrize(("start", "stop"), [(0, 2**40), (0, 2**62), (0, 2**20), (5, 4), (-1, 3), (2**62, -(2**62))])
def test_ring_bounds_are_believed_only_if_the_entries_are_there(start: int, stop: int) -> None:
    """FUZZ=state:1: 16 TiB were asked for."""
    with traced(), bounded(3_000), pytest.raises(StateCorruptedError):
        read_state(with_ring(start, stop))


def test_a_journal_record_that_is_not_unicode() -> None:
    """FUZZ=journal:2."""
    with pytest.raises(StateCorruptedError):
        decode_entry([("journal", BODY.replace(b"cards.in", b"cards\xffin")), ("chain", bytes(32))])


def test_a_head_whose_chain_is_cut_short() -> None:
    """FUZZ=head:21."""
    with pytest.raises(StateCorruptedError):
        JournalHead.parse(f"1:5:4:{'07' * 17}")


@pytest.mark.parametrize("headers", [[], [[]]])
def test_a_packed_chunk_with_fewer_headers_than_records(headers: list[object]) -> None:
    """FUZZ=packed:547."""
    with pytest.raises(EventLogError):
        unpack(msgspec.msgpack.encode(([b"k"] * 2, [b"v"] * 2, 0, headers)))


def test_a_packed_chunk_with_a_time_beyond_int64_or_without_unicode() -> None:
    with pytest.raises(EventLogError):
        unpack(msgspec.msgpack.encode(([b"k"], [b"v"], 2**64 - 1, None)))
    good = msgspec.msgpack.encode(([b"k"], [b"v"], 0, [[("name", b"x")]]))
    with pytest.raises(EventLogError):
        unpack(good.replace(b"name", b"n\xffme"))


@pytest.mark.parametrize("name", [b"decision", b"rules", b"offset", b"score"])
def test_a_block_with_another_column(name: bytes) -> None:
    """FUZZ=block:677."""
    changed = BLOCK.replace(name, name[:-1] + b"X")
    try:
        block_records(read_block(changed))
    except StateCorruptedError:
        return
    assert name in {b"offset", b"score"}, "a column that the reader knows by name"


def test_a_manifest_that_names_a_file_below_a_file() -> None:
    """A restore would fail as if the disk had, and no older checkpoint be tried."""
    files = tuple(msgspec.structs.replace(FILE, path=path) for path in ("db", "db/x"))
    changed = manifest.decode(manifest.encode(msgspec.structs.replace(MANIFEST, files=files)), manifest.Manifest, "m")
    with pytest.raises(StateCorruptedError, match="a folder too"):
        manifest.check(changed, manifest.Folder("cards", 3), MANIFEST.name)


def test_segments_of_ids_that_go_back() -> None:
    key = next(key for key in IDS if key.endswith(b"s") and key.startswith(b"d"))
    row = bytearray(IDS[key])
    row[-16:] = np.array([0, 2**40], "<i8").tobytes()
    with pytest.raises(StateCorruptedError, match="segments"):
        read_ids({**IDS, key: bytes(row)})


@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM chunks WHERE id & 0xFFFFFFFFFF = 2",
        "DELETE FROM chunks WHERE id & 0xFFFFFFFFFF = 0",
        "DELETE FROM chunks",
        "UPDATE chunks SET count = 1 WHERE id & 0xFFFFFFFFFF = 2",
        "UPDATE chunks SET payload = '' WHERE id & 0xFFFFFFFFFF = 2",
    ],
)
async def test_a_chunk_is_missing_in_the_embedded_log(tmp_path: Path, damage: str) -> None:
    """FUZZ=sqlite:47; a poll must not pass over what is gone, nor wait for it."""
    tp = TopicPartition("t", 0)
    log = EmbeddedEventLog(tmp_path)
    await log.admin().ensure_topics([TopicSpec("t", 1, {})])
    for _ in range(3):
        await log.appender().append([OutputRecords(tp, [b"k"] * 2, [b"v"] * 2, 0)])
    await log.close()
    with sqlite3.connect(tmp_path / FILE_NAME) as db:
        db.execute(damage)
    db.close()
    log = EmbeddedEventLog(tmp_path)
    scanner = log.scanner()
    scanner.seek(tp, 0)
    with pytest.raises(EventLogError, match="damaged"):
        await scanner.poll(0)
    await log.close()
