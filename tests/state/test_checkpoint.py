"""Checkpoints: written incrementally, restored whole or not at all, every kind of damage found."""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from state.blobs import BlobStore
from state.checkpoint import Checkpoints, Cut, Manifest
from state.errors import BlobStoreError, StateCorruptedError
from state.manifest import decode, encode
from state.memory import MemoryBlobs
from state.objectstore import open_blobs
from state.rocksdb import RocksRowStores
from tests.state.s3 import environment, make_bucket
from tests.state.stores import make_stores

Tree = dict[str, bytes]
FIRST: Tree = {"db/000001.sst": b"rows" * 2000, "db/CURRENT": b"MANIFEST-1\n", "tables/lists": b"a,b"}
SECOND: Tree = {"db/000001.sst": b"rows" * 2000, "db/000002.sst": b"more", "db/CURRENT": b"MANIFEST-2\n"}


def cut(sequence: int) -> Cut:
    return Cut(sequence=sequence, chain=b"\xfe" * 32, position=sequence * 10, state_fingerprint="f1", meta=b"\x00\xff")


def plant(directory: Path, tree: Tree) -> Path:
    for name, content in tree.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return directory


def tree(directory: Path) -> Tree:
    return {
        path.relative_to(directory).as_posix(): path.read_bytes() for path in directory.rglob("*") if path.is_file()
    }


@pytest.fixture
def blobs() -> MemoryBlobs:
    return MemoryBlobs(random.Random(1))


@pytest.fixture
def checkpoints(blobs: MemoryBlobs) -> Checkpoints:
    return Checkpoints(blobs, "card-fraud")


def named(blobs: MemoryBlobs, folder: str) -> list[str]:
    return [name for name in sorted(blobs.blobs) if f"/{folder}/" in name]


# ---- the round trip


def test_what_is_written_is_restored(checkpoints: Checkpoints, tmp_path: Path) -> None:
    written = checkpoints.write(3, cut(41), plant(tmp_path / "work", FIRST))
    assert (written.files_sent, written.bytes_sent) == (3, sum(map(len, FIRST.values())))
    (found,) = checkpoints.checkpoints(3).found
    assert found == written.manifest
    assert (found.cut, found.task, found.pipeline) == (cut(41), 3, "card-fraud")
    checkpoints.restore(found, tmp_path / "new" / "restored")
    assert tree(tmp_path / "new") == {f"restored/{name}": content for name, content in FIRST.items()}
    checkpoints.verify(found)


def test_a_directory_without_files_is_no_checkpoint(checkpoints: Checkpoints, tmp_path: Path) -> None:
    """It was taken away: an empty checkpoint would count as the newest whole one."""
    with pytest.raises(FileNotFoundError, match="no files"):
        checkpoints.write(3, cut(41), tmp_path / "gone")
    assert not checkpoints.checkpoints(3).found


def test_the_newest_comes_first_and_tasks_and_pipelines_do_not_meet(blobs: MemoryBlobs, tmp_path: Path) -> None:
    plant(tmp_path, FIRST)
    for sequence in (9, 100, 10):
        Checkpoints(blobs, "a").write(0, cut(sequence), tmp_path)
    Checkpoints(blobs, "a").write(1, cut(7), tmp_path)
    Checkpoints(blobs, "a/task-00000.b%~ü").write(0, cut(8), tmp_path)
    assert [found.cut.sequence for found in Checkpoints(blobs, "a").checkpoints(0).found] == [100, 10, 9]
    assert [found.cut.sequence for found in Checkpoints(blobs, "a").checkpoints(1).found] == [7]
    (other,) = Checkpoints(blobs, "a/task-00000.b%~ü").checkpoints(0).found
    Checkpoints(blobs, "a/task-00000.b%~ü").verify(other)


def test_an_unchanged_file_is_not_sent_again(checkpoints: Checkpoints, blobs: MemoryBlobs, tmp_path: Path) -> None:
    checkpoints.write(0, cut(1), plant(tmp_path / "1", FIRST))
    again = Checkpoints(blobs, "card-fraud").write(0, cut(2), plant(tmp_path / "2", SECOND))  # another process
    assert (again.files_sent, again.bytes_sent) == (2, 4 + 11)
    checkpoints.restore(again.manifest, tmp_path / "restored")
    assert tree(tmp_path / "restored") == SECOND
    assert len(named(blobs, "files")) == 5


def test_a_hard_link_is_not_read_again(
    checkpoints: Checkpoints, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints.write(0, cut(1), plant(tmp_path / "1", FIRST))
    (tmp_path / "2").mkdir()
    (tmp_path / "2" / "x.sst").hardlink_to(tmp_path / "1" / "db" / "000001.sst")
    monkeypatch.setattr("state.checkpoint._digest", lambda path: pytest.fail("read again"))
    assert checkpoints.write(0, cut(2), tmp_path / "2").files_sent == 0


def test_equal_files_are_one_blob(checkpoints: Checkpoints, blobs: MemoryBlobs, tmp_path: Path) -> None:
    written = checkpoints.write(0, cut(1), plant(tmp_path / "work", {"a": b"same", "b": b"same", "c": b""}))
    assert written.files_sent == len(named(blobs, "files")) == 2
    checkpoints.restore(written.manifest, tmp_path / "restored")
    assert tree(tmp_path / "restored") == {"a": b"same", "b": b"same", "c": b""}


@pytest.mark.parametrize("kind", ["memory", "rocksdb"])
@pytest.mark.parametrize("place", ["memory", "directory", "s3"])
def test_a_store_goes_through_a_blob_store(
    kind: str, place: str, tmp_path: Path, s3_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs: BlobStore = MemoryBlobs(random.Random(1))
    if place == "directory":
        blobs = open_blobs(str(tmp_path / "blobs"))
    elif place == "s3":
        make_bucket(s3_address, f"checkpoints-{kind}")
        for name, value in environment(s3_address).items():
            monkeypatch.setenv(name, value)
        blobs = open_blobs(f"s3://checkpoints-{kind}/prod")
    checkpoints = Checkpoints(blobs, "card-fraud", keep=2, grace_ms=0)
    stores = make_stores(kind, tmp_path / "state")
    store = stores.open(5)
    rows: dict[bytes, bytes] = {}
    rng = random.Random(3)
    for number in range(4):
        more = {b"%06d" % rng.randrange(10**6): rng.randbytes(200) for _ in range(2000)}
        rows |= more
        store.write(list(more.items()), [])
        (tmp_path / f"work{number}").mkdir()
        store.snapshot(tmp_path / f"work{number}" / "db")
        written = checkpoints.write(5, cut(number), tmp_path / f"work{number}")
        collected = checkpoints.collect(5)
        assert len(collected.kept) == min(number + 1, 2)
        if kind == "rocksdb" and number == 2:  # the fourth may be compacted with the others
            assert written.bytes_sent < written.manifest.bytes_total / 2
    store.write([(b"after", b"")], [])
    store.close()
    newest = checkpoints.checkpoints(5).found[0]
    checkpoints.restore(newest, tmp_path / "restored")
    stores.install(5, tmp_path / "restored" / "db")
    assert dict(stores.open(5).scan(b"")) == rows
    stores.close()


# ---- damage


def first_and_second(checkpoints: Checkpoints, tmp_path: Path) -> tuple[Manifest, Manifest]:
    one = checkpoints.write(0, cut(1), plant(tmp_path / "1", FIRST))
    two = checkpoints.write(0, cut(2), plant(tmp_path / "2", SECOND))
    return one.manifest, two.manifest


def blob_of(blobs: MemoryBlobs, manifest: Manifest, path: str) -> str:
    (blob,) = [file.blob for file in manifest.files if file.path == path]
    return next(name for name in blobs.blobs if name.endswith(blob))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (MemoryBlobs.flip_bit, "file db/000002.sst does not have its digest"),
        (MemoryBlobs.truncate, "file db/000002.sst is cut short"),
        (lambda blobs, name: blobs.put(name, blobs.get(name) + b"x"), "file db/000002.sst is too long"),
        (lambda blobs, name: blobs.delete([name]), "file db/000002.sst is missing"),
    ],
)
def test_a_damaged_file_is_found_and_the_next_older_checkpoint_is_whole(
    damage: Callable[[MemoryBlobs, str], None],
    message: str,
    checkpoints: Checkpoints,
    blobs: MemoryBlobs,
    tmp_path: Path,
) -> None:
    one, two = first_and_second(checkpoints, tmp_path)
    damage(blobs, blob_of(blobs, two, "db/000002.sst"))
    with pytest.raises(StateCorruptedError, match=message) as caught:
        checkpoints.restore(two, tmp_path / "restored")
    assert caught.value.task == 0
    with pytest.raises(StateCorruptedError, match=message):
        checkpoints.verify(two)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "2"]
    checkpoints.restore(one, tmp_path / "restored")
    assert tree(tmp_path / "restored") == FIRST


def test_a_file_found_damaged_is_sent_again(checkpoints: Checkpoints, blobs: MemoryBlobs, tmp_path: Path) -> None:
    _, two = first_and_second(checkpoints, tmp_path)
    blobs.flip_bit(blob_of(blobs, two, "db/000001.sst"))
    with pytest.raises(StateCorruptedError):
        checkpoints.verify(two)
    three = checkpoints.write(0, cut(3), tmp_path / "2")
    assert three.files_sent == 1
    checkpoints.verify(three.manifest)


def test_a_stored_file_of_another_size_is_not_taken(
    checkpoints: Checkpoints, blobs: MemoryBlobs, tmp_path: Path
) -> None:
    one = checkpoints.write(0, cut(1), plant(tmp_path / "1", FIRST)).manifest
    blobs.truncate(blob_of(blobs, one, "db/000001.sst"))
    assert checkpoints.write(0, cut(2), tmp_path / "1").files_sent == 1


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_any_damage_to_a_manifest_is_reported_and_the_others_are_listed(data: st.DataObject) -> None:
    manifest = Manifest(version=1, pipeline="p", task=0, name=f"{2:020d}-{2:016x}", cut=cut(2), files=())
    older = Manifest(version=1, pipeline="p", task=0, name=f"{1:020d}-{1:016x}", cut=cut(1), files=())
    sound = encode(manifest)
    at = data.draw(st.integers(0, len(sound) - 1))
    damaged = bytearray(sound)
    if data.draw(st.booleans()):
        damaged[at] ^= 1 << data.draw(st.integers(0, 7))
    else:
        del damaged[at:]
    blobs = MemoryBlobs(random.Random(1))
    blobs.put(f"p/task-00000/manifests/{manifest.name}", bytes(damaged))
    blobs.put(f"p/task-00000/manifests/{older.name}", encode(older))
    listing = Checkpoints(blobs, "p").checkpoints(0)
    assert listing.found == [older]
    assert [bad.name for bad in listing.unreadable] == [manifest.name]


def resealed(sound: bytes, **changes: object) -> bytes:
    """A manifest with other content and a right digest: what a program could have written."""
    record = json.loads(sound)["record"] | changes
    body = json.dumps(record).encode()
    return b'{"sha256":"%s","record":%s}' % (hashlib.sha256(body).hexdigest().encode(), body)


ENTRY = {"path": "x", "size": 0, "sha256": "0" * 64, "blob": "0" * 64 + "-" + "1" * 16}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pipeline": "other"}, "is of pipeline 'other', task 0"),
        ({"task": 1}, "is of pipeline 'p', task 1"),
        ({"name": "00000000000000000009-0000000000000009"}, "was written as"),
        ({"version": 2}, "has version 2, this release knows 1"),
        ({"more": 1}, "cannot be read"),
        ({"files": [ENTRY | {"path": "../../etc/cron.d/x"}]}, "outside its directory"),
        ({"files": [ENTRY | {"path": "/etc/x"}]}, "outside its directory"),
        ({"files": [ENTRY, ENTRY]}, "names a file twice"),
        ({"files": [ENTRY | {"sha256": "1" * 64}]}, "names an impossible blob"),
        ({"files": [ENTRY | {"blob": "../manifests/x"}]}, "names an impossible blob"),
        ({"files": [ENTRY | {"size": -1}]}, "names an impossible blob"),
    ],
)
def test_a_foreign_manifest_is_reported(changes: dict[str, object], message: str) -> None:
    manifest = Manifest(version=1, pipeline="p", task=0, name=f"{2:020d}-{2:016x}", cut=cut(2), files=())
    assert decode(resealed(encode(manifest)), Manifest, "it") == manifest
    blobs = MemoryBlobs(random.Random(1))
    blobs.put(f"p/task-00000/manifests/{manifest.name}", resealed(encode(manifest), **changes))
    blobs.put("p/task-00000/manifests/README.txt", b"hello")
    listing = Checkpoints(blobs, "p").checkpoints(0)
    assert listing.found == []
    ((name, reason),) = listing.unreadable
    assert name == manifest.name
    assert message in reason


def test_a_foreign_file_of_a_right_name_is_found(checkpoints: Checkpoints, blobs: MemoryBlobs, tmp_path: Path) -> None:
    one, two = first_and_second(checkpoints, tmp_path)
    blobs.put(blob_of(blobs, two, "db/CURRENT"), blobs.get(blob_of(blobs, one, "db/CURRENT")))
    with pytest.raises(StateCorruptedError, match="file db/CURRENT does not have its digest"):
        checkpoints.restore(two, tmp_path / "restored")


def test_a_reported_checkpoint_names_no_content(checkpoints: Checkpoints, blobs: MemoryBlobs, tmp_path: Path) -> None:
    _, two = first_and_second(checkpoints, tmp_path)
    blobs.put(named(blobs, "manifests")[0], b'{"sha256": "4111111111111111", "record": {"version": 4111111111111111}}')
    blobs.put(blob_of(blobs, two, "db/CURRENT"), b"4111111111111111")
    (bad,) = checkpoints.checkpoints(0).unreadable
    with pytest.raises(StateCorruptedError) as caught:
        checkpoints.restore(two, tmp_path / "restored")
    assert "4111" not in bad.reason + "".join(traceback.format_exception(caught.value))


# ---- failures while at work


@pytest.mark.parametrize("happened", [False, True])
@pytest.mark.parametrize("verb", ["put", "list", "create", "delete"])
def test_a_failure_while_writing_leaves_the_older_checkpoint(
    verb: str, happened: bool, checkpoints: Checkpoints, blobs: MemoryBlobs, tmp_path: Path
) -> None:
    one = checkpoints.write(0, cut(1), plant(tmp_path / "1", FIRST)).manifest
    blobs.fail(verb, happened=happened)
    plant(tmp_path / "2", SECOND)
    if verb == "delete":  # the intent's: the checkpoint stands
        checkpoints.write(0, cut(2), tmp_path / "2")
    else:
        with pytest.raises(BlobStoreError, match=f"simulated: cannot {verb}"):
            checkpoints.write(0, cut(2), tmp_path / "2")
        if verb == "create" and happened:
            assert [found.cut.sequence for found in checkpoints.checkpoints(0).found] == [2, 1]
    assert checkpoints.checkpoints(0).found[-1] == one
    three = checkpoints.write(0, cut(3), tmp_path / "2").manifest
    for manifest in checkpoints.checkpoints(0).found:
        checkpoints.verify(manifest)
    again = Checkpoints(blobs, "card-fraud", keep=1, grace_ms=0)
    again.collect(0)
    again.collect(0)
    assert again.checkpoints(0).found == [three]
    assert len(named(blobs, "files")) == len(SECOND)
    assert named(blobs, "intents") == named(blobs, "sweeps") == []


def test_a_long_upload_keeps_its_intent_young(
    checkpoints: Checkpoints, blobs: MemoryBlobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("state.checkpoint._REFRESH_BYTES", 100)
    puts: list[str] = []
    blobs.before = lambda verb, name: puts.append(name.split("/")[2]) if verb == "put" else None
    checkpoints.write(0, cut(1), plant(tmp_path, {f"{i}": bytes([i]) * 60 for i in range(6)}))
    assert puts == ["intents", "files", "files", "intents", "files", "files", "intents", "files", "files"]


def test_a_failing_store_is_not_a_damaged_checkpoint(
    checkpoints: Checkpoints, blobs: MemoryBlobs, tmp_path: Path
) -> None:
    _, two = first_and_second(checkpoints, tmp_path)
    blobs.fail("get")
    with pytest.raises(BlobStoreError, match="simulated"):
        checkpoints.restore(two, tmp_path / "restored")
    checkpoints.restore(two, tmp_path / "restored")
    with pytest.raises(FileExistsError):
        checkpoints.restore(two, tmp_path / "restored")
    with pytest.raises(ValueError, match="before the first transaction"):
        checkpoints.write(0, cut(-1), tmp_path / "2")


def test_a_restore_killed_anywhere_leaves_nothing_or_everything(tmp_path: Path) -> None:
    code = """
import os, signal, sys
from pathlib import Path
from state.checkpoint import Checkpoints
from state.objectstore import open_blobs
countdown = int(sys.argv[2])
def dying(call):
    def step(*args, **more):
        global countdown
        countdown -= 1
        if countdown < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*args, **more)
    return step
checkpoints = Checkpoints(open_blobs(sys.argv[1] + "/blobs"), "p")
os.fsync, os.rename, os.mkdir = dying(os.fsync), dying(os.rename), dying(os.mkdir)
(newest,) = checkpoints.checkpoints(0).found
checkpoints.restore(newest, Path(sys.argv[1]) / "restored")
"""
    Checkpoints(open_blobs(str(tmp_path / "blobs")), "p").write(0, cut(1), plant(tmp_path / "work", FIRST))
    deaths = 0
    for countdown in range(50):
        command = [sys.executable, "-c", code, str(tmp_path), str(countdown)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        restored = tmp_path / "restored"
        if restored.exists():
            assert tree(restored) == FIRST
        if done.returncode == 0:
            break
        assert done.returncode == -9, done.stderr
        deaths += 1
        if restored.exists():
            break  # only the sync of the folder above was missing
    assert deaths > 8
    assert not (tmp_path / "restored.partial").exists()


def test_a_writer_killed_anywhere_leaves_whole_checkpoints(tmp_path: Path) -> None:
    class Killed(BaseException):
        pass

    plant(tmp_path / "1", FIRST)
    plant(tmp_path / "2", SECOND)
    for steps in range(100):
        blobs = MemoryBlobs(random.Random(1))
        Checkpoints(blobs, "p").write(0, cut(1), tmp_path / "1")
        left = iter(range(steps))

        def count(verb: str, name: str, left: Iterator[int] = left) -> None:
            if next(left, None) is None:
                raise Killed

        blobs.before = count
        finished = True
        try:
            Checkpoints(blobs, "p").write(0, cut(2), tmp_path / "2")
        except Killed:
            finished = False
        blobs.before = lambda verb, name: None
        after = Checkpoints(blobs, "p")
        for found in after.checkpoints(0).found:
            after.verify(found)
        assert len(after.checkpoints(0).found) >= 1 + finished
        if finished:
            return
    pytest.fail("never finished")


def test_a_snapshot_of_rocksdb_is_hard_links(tmp_path: Path) -> None:
    stores = RocksRowStores(tmp_path / "state")
    store = stores.open(0)
    store.write([(b"%d" % i, b"x" * 100) for i in range(1000)], [])
    store.snapshot(tmp_path / "snapshot")
    live = {path.stat().st_ino for path in stores.path(0).glob("*.sst")}
    copied = {path.stat().st_ino for path in (tmp_path / "snapshot").glob("*.sst")}
    assert copied
    assert copied <= live
    assert os.stat(tmp_path).st_dev == os.stat(tmp_path / "state").st_dev
    stores.close()
