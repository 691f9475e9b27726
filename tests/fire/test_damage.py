"""What lies on the disk is damaged at a start: found, said, and the next older state taken; decisions are right."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from state.errors import StateCorruptedError
from state.rocksdb import RocksRowStores
from state.rowformat import META_KEY
from tests.exactly_once.readers import open_reader
from tests.fire.bench import PARTITIONS, Subject
from tests.fire.report import Running

pytestmark = [pytest.mark.matrix("damage"), pytest.mark.xdist_group("fire-disk"), pytest.mark.timeout(300)]

Damage = Callable[[Path], None]
TASK = "task-00001"
ALWAYS_LOUD = ("sst", "MANIFEST", "CURRENT")
"""Loud, unless what is left may be believed: a MANIFEST without its last edits is that of an older state. A log's end
may be lost to a crash, and the other files are made anew.
"""


def truncated(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    for at in range(len(data) // 7, len(data), max(1, len(data) // 5)):
        data[at] ^= 0x10
    path.write_bytes(data)


def deleted(path: Path) -> None:
    path.unlink()


def cut_short(path: Path) -> None:
    """Without its last record: what an unsynced rename or a bad restore leaves."""
    os.truncate(path, max(0, path.stat().st_size - 30))


KINDS: dict[str, Damage] = {"truncated": truncated, "flipped": flipped, "deleted": deleted, "cut": cut_short}
FILES = ("*.sst", "*.log", "MANIFEST-*", "CURRENT", "OPTIONS-*")


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
    """A run with checkpoints, killed after the last of them had newer flushes behind it."""
    home = tmp_path_factory.mktemp("killed")
    subject = Subject(home, "--checkpoints", f"file:{home}/blobs", "--checkpoint-seconds", "1")
    subject.feed(4_000)
    subject.start()

    def checkpoints() -> int:
        return len(list((home / "blobs").glob(f"*/{TASK}/manifests/*")))

    while checkpoints() < 2:  # what is flushed with a batch goes into the next one
        subject.feed(2_000)
        subject.until_decided()
    subject.feed(2_000)
    subject.until_decided()
    subject.until(lambda: bool(list(subject.campaign.state.glob(f"*/{TASK}/*.log"))))
    assert subject.process is not None
    os.killpg(subject.process.pid, signal.SIGKILL)
    subject.process.wait()
    yield subject
    subject.close()


@pytest.fixture
def again(killed: Subject, tmp_path: Path, running: Running) -> Callable[..., Subject]:
    """A copy of all that it left, with 2,000 more records to decide; with or without the checkpoints."""
    home = killed.campaign.directory.parent

    def copy(name: str, *, checkpoints: bool) -> Subject:
        target = tmp_path / name
        for part in ("log", "blobs", "run/state"):
            shutil.copytree(home / part, target / part)
        given = ("--checkpoints", f"file:{target}/blobs") if checkpoints else ()
        subject = Subject(target, *given, running=running)
        subject.sent = killed.sent
        subject.feed(2_000)
        return subject

    return copy


def rows_of(subject: Subject) -> dict[tuple[int, bytes], bytes]:
    """I3: every key's row and ring chunks, as stored after a clean end; see test_stop_and_loss."""
    stores = RocksRowStores(subject.campaign.state / subject.campaign.pipeline)
    rows: dict[tuple[int, bytes], bytes] = {}
    for task in range(PARTITIONS):
        store = stores.open(task)
        rows |= {(task, key): value for key, value in store.scan(b"") if key[:1] in (b"r", b"c")}
    stores.close()
    return rows


@pytest.fixture(scope="module")
def wanted(killed: Subject, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[int, bytes], bytes]:
    """The state of a twin that nothing ever happened to."""
    home = tmp_path_factory.mktemp("twin")
    twin = Subject(home)
    twin.feed(killed.sent + 2_000)
    twin.finish()
    return rows_of(twin)


def check(subject: Subject, wanted: dict[tuple[int, bytes], bytes]) -> str:
    """It ends well, decisions and state are right; what it said."""
    said = subject.finish().stderr
    rows = rows_of(subject)
    assert rows.keys() == wanted.keys()
    different = [key for key in wanted if rows[key] != wanted[key]]
    assert len(different) * 100 < len(wanted), different[:5]
    return said


def spoil(subject: Subject, pattern: str, damage: Damage, *, below: Path | None = None) -> None:
    folder = below or subject.campaign.state / subject.campaign.pipeline / TASK
    found = sorted(folder.glob(pattern))
    assert found, pattern
    damage(max(found, key=lambda path: path.stat().st_size))


SHORT = [("*.sst", "flipped"), ("MANIFEST-*", "cut")]
LONG = [(files, kind) for files in FILES for kind in KINDS if (files, kind) not in SHORT]


def stored(subject: Subject, aside: Path) -> dict[bytes, bytes] | None:
    """What RocksDB finds in a copy of the task's directory; None if it is not whole."""
    shutil.copytree(subject.campaign.state / subject.campaign.pipeline / TASK, aside / TASK)
    stores = RocksRowStores(aside)
    try:
        try:
            return dict(stores.open(int(TASK[-5:])).scan(b""))
        finally:
            stores.close()
    except StateCorruptedError:
        return None


def is_believable(found: dict[bytes, bytes] | None, whole: dict[bytes, bytes] | None) -> bool:
    """All of it, or what was all of it at an older position: that is replayed from. Never empty, which looks new."""
    if found is None or whole is None or META_KEY not in found:
        return False
    return found == whole or found[META_KEY] != whole[META_KEY]


def damaged_file(
    again: Callable[..., Subject], wanted: dict[tuple[int, bytes], bytes], files: str, kind: str, *, checkpoints: bool
) -> None:
    subject = again("again", checkpoints=checkpoints)
    home = subject.campaign.directory.parent
    whole = stored(subject, home / "whole")
    spoil(subject, files, KINDS[kind])
    found = stored(subject, home / "spoiled")
    said = check(subject, wanted)
    loud = "local state discarded" in said
    if any(name in files for name in ALWAYS_LOUD):
        assert loud or is_believable(found, whole), said
    if "OPTIONS" in files:
        assert not loud, said
    assert "checkpoint" not in said, "none of them is damaged"
    subject.close()


@pytest.mark.parametrize(("files", "kind"), SHORT)
def test_a_damaged_file_of_the_state(
    again: Callable[..., Subject], wanted: dict[tuple[int, bytes], bytes], files: str, kind: str
) -> None:
    """Without checkpoints: from the journal's beginning."""
    damaged_file(again, wanted, files, kind, checkpoints=False)


@pytest.mark.soak
@pytest.mark.parametrize("checkpoints", [False, True])
@pytest.mark.parametrize(("files", "kind"), LONG)
def test_any_damaged_file_of_the_state(
    again: Callable[..., Subject], wanted: dict[tuple[int, bytes], bytes], files: str, kind: str, checkpoints: bool
) -> None:
    damaged_file(again, wanted, files, kind, checkpoints=checkpoints)


def newest(subject: Subject, what: str) -> Path:
    """The newest manifest of the task, or the largest file that belongs to it."""
    folder = subject.campaign.directory.parent / "blobs" / "bench_v1" / TASK
    manifest = max(path for path in (folder / "manifests").iterdir())
    if what == "manifest":
        return manifest
    named = manifest.read_text()
    return max((path for path in (folder / "files").iterdir() if path.name in named), key=lambda p: p.stat().st_size)


@pytest.mark.parametrize(
    ("what", "kind"),
    [
        ("blob", "truncated"),
        *[
            pytest.param(what, kind, marks=pytest.mark.soak)
            for what, kind in [
                ("manifest", "flipped"), ("manifest", "truncated"), ("manifest", "deleted"), ("blob", "flipped"),
                ("blob", "deleted"),
            ]
        ],
    ],
)  # fmt: skip
def test_a_damaged_checkpoint(
    again: Callable[..., Subject], wanted: dict[tuple[int, bytes], bytes], what: str, kind: str
) -> None:
    """The state directory is lost, the newest checkpoint damaged: the next older one is taken, loudly."""
    subject = again("again", checkpoints=True)
    shutil.rmtree(subject.campaign.state / subject.campaign.pipeline / TASK)
    KINDS[kind](newest(subject, what))
    said = check(subject, wanted)
    if (what, kind) != ("manifest", "deleted"):
        assert "checkpoint passed over: it is damaged" in said or "checkpoints cannot be read" in said, said
    assert said.count("local state discarded") == 0, said
    subject.close()


@pytest.mark.soak
def test_everything_is_damaged_and_the_journal_is_left(
    again: Callable[..., Subject], wanted: dict[tuple[int, bytes], bytes]
) -> None:
    subject = again("again", checkpoints=True)
    home = subject.campaign.directory.parent
    for path in [*(home / "blobs").glob("*/*/*/*"), *(home / "run" / "state").glob("*/task-*/*.sst")]:
        flipped(path)
    said = check(subject, wanted)
    assert said.count("local state discarded") + said.count("checkpoint") >= PARTITIONS
    subject.close()


def test_a_damaged_log_is_refused_with_what_to_do(again: Callable[..., Subject]) -> None:
    """The embedded log's file: nothing is decided from what may be wrong."""
    subject = again("again", checkpoints=False)
    path = subject.campaign.directory.parent / "log" / "log.sqlite3"
    topic = f"{subject.campaign.pipeline}.transactions"
    before = open_reader(subject.campaign.log_url).committed(subject.campaign.pipeline, topic)
    whole = path.read_bytes()
    data = bytearray(whole)
    for at in range(8192, len(data), 8192):
        data[at] ^= 0xFF  # the kind of each page
    path.write_bytes(data)
    refused = subject.campaign.command("--until-end")
    assert refused.returncode in (1, 2), refused.stderr
    assert "restore" in refused.stderr.strip().splitlines()[-1], refused.stderr
    path.write_bytes(whole)
    assert open_reader(subject.campaign.log_url).committed(subject.campaign.pipeline, topic) == before
    subject.finish()
    subject.close()
