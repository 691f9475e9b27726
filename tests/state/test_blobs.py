"""The contract of blob stores: simulated, a directory, and S3 (a real server process)."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from state.blobs import BlobStore, DirectoryBlobs, check_blobs
from state.errors import BlobMissingError, BlobStoreError, ConfigError
from state.memory import MemoryBlobs
from state.objectstore import open_blobs
from tests.state.s3 import SECRET


@pytest.fixture(params=["memory", "directory", "s3"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> BlobStore:
    if request.param == "memory":
        return MemoryBlobs(random.Random(1))
    if request.param == "directory":
        return open_blobs(f"file:{tmp_path / 'blobs'}")
    store: BlobStore = request.getfixturevalue("s3")
    return store


def test_reads_what_was_put(blobs: BlobStore, tmp_path: Path) -> None:
    blobs.put("a/b/one", b"first")
    blobs.put("a/b/one", b"")
    big = random.Random(2).randbytes(11 << 20)  # more than one part
    (tmp_path / "big").write_bytes(big)
    blobs.put("a/two-~x=1%2", tmp_path / "big")
    assert blobs.get("a/b/one") == b"".join(blobs.stream("a/b/one")) == b""
    assert blobs.get("a/two-~x=1%2") == b"".join(blobs.stream("a/two-~x=1%2")) == big


def test_only_one_creates(blobs: BlobStore) -> None:
    assert blobs.create("a/x", b"mine")
    assert not blobs.create("a/x", b"other")
    assert blobs.get("a/x") == b"mine"
    blobs.delete(["a/x"])
    assert blobs.create("a/x", b"other")


def test_of_many_at_once_one_creates(blobs: BlobStore) -> None:
    won = []

    def create(number: int) -> None:
        if blobs.create("a/x", b"%d" % number):
            won.append(number)

    threads = [threading.Thread(target=create, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [b"%d" % number for number in won] == [blobs.get("a/x")]


def test_lists_a_folder(blobs: BlobStore) -> None:
    before_ms = time.time() * 1000
    for name in ("a/x/2", "a/x/10", "a/xy", "a/x/d/1", "b/1"):
        blobs.put(name, name.encode())
    found = blobs.list_blobs("a/x/")
    assert [(blob.name, blob.size) for blob in found] == [("a/x/10", 6), ("a/x/2", 5), ("a/x/d/1", 7)]
    assert blobs.list_blobs("none/") == []
    assert [blob.name for blob in blobs.list_blobs("")] == ["a/x/10", "a/x/2", "a/x/d/1", "a/xy", "b/1"]
    assert blobs.head("a/x/2") == found[1]
    if not isinstance(blobs, MemoryBlobs):
        assert all(abs(blob.modified_ms - before_ms) < 20_000 for blob in found)


def test_s3_lists_and_deletes_more_than_a_page(s3: BlobStore) -> None:
    names = [f"p/{number:04d}" for number in range(1005)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: s3.put(name, b""), names))
    assert [blob.name for blob in s3.list_blobs("p/")] == names
    s3.delete(names)
    assert s3.list_blobs("p/") == []


def test_an_absent_blob_has_an_error_of_its_own(blobs: BlobStore) -> None:
    assert blobs.head("a/none") is None
    with pytest.raises(BlobMissingError, match="a/none"):
        blobs.get("a/none")
    with pytest.raises(BlobMissingError):
        next(iter(blobs.stream("a/none")))
    blobs.put("a/x", b"1")
    blobs.delete(["a/none", "a/x", "a/none2"])
    assert blobs.head("a/x") is None
    blobs.delete([])


def test_a_sound_store_passes_the_check(blobs: BlobStore) -> None:
    check_blobs(blobs)
    assert blobs.list_blobs("check/") == []


def test_a_store_that_overwrites_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    blobs = MemoryBlobs(random.Random(1))

    def overwrite(name: str, content: bytes) -> bool:
        blobs.put(name, content)
        return True

    monkeypatch.setattr(blobs, "create", overwrite)
    with pytest.raises(ConfigError, match="only if absent"):
        check_blobs(blobs)


def test_a_store_that_lists_late_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    blobs = MemoryBlobs(random.Random(1))
    monkeypatch.setattr(blobs, "list_blobs", lambda prefix: [])
    with pytest.raises(ConfigError, match="does not list"):
        check_blobs(blobs)


# ---- addresses


def test_addresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    for url in (f"file:{tmp_path}/a", f"file://{tmp_path}/a", f"{tmp_path}/a"):
        found = open_blobs(url)
        assert isinstance(found, DirectoryBlobs)
        assert found.directory == tmp_path / "a"
    for url in ("s3://bucket/prefix", "gs://bucket/prefix", "az://container/prefix"):
        assert repr(open_blobs(url)) == f"ObjectStoreBlobs({url[:2]})"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("file:", "names no directory"),
        ("s3://", "names no bucket"),
        ("ftp://host/x", "no known kind"),
        ("s3://key:hunter2@bucket/x", "more than a bucket"),
        ("az://container/x?sig=hunter2", "more than a bucket"),
    ],
)
def test_wrong_addresses_are_refused_without_quoting_them(url: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        open_blobs(url)
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))


def test_missing_settings_are_a_configuration_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME", raising=False)
    with pytest.raises(ConfigError, match="az: checkpoint store's settings"):
        open_blobs("az://container/prefix")


# ---- S3's failures


def test_an_absent_bucket_is_not_an_absent_blob(s3: BlobStore) -> None:
    nowhere = open_blobs("s3://no-such-bucket/x")
    for call in (
        lambda: nowhere.put("a", b""),
        lambda: nowhere.get("a"),
        lambda: nowhere.list_blobs("a/"),
        lambda: nowhere.delete(["a"]),
    ):
        with pytest.raises(BlobStoreError, match="s3: cannot") as caught:
            call()
        assert not isinstance(caught.value, BlobMissingError)
        assert not caught.value.retriable
    with pytest.raises(ConfigError, match="cannot be used"):
        check_blobs(nowhere)


def test_an_unreachable_store_is_retriable_and_tells_no_secret(s3: BlobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setattr("state.objectstore._RETRY", {"max_retries": 1})
    down = open_blobs("s3://bucket/prefix")
    with pytest.raises(BlobStoreError, match="s3: cannot create: no answer") as caught:
        down.create("a", b"")
    assert caught.value.retriable
    text = "".join(traceback.format_exception(caught.value)) + repr(down)
    assert SECRET not in text
    assert "127.0.0.1" not in text


def test_a_silent_server_times_out_and_does_not_hold_the_interpreter(
    s3: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections, and never answers
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setattr("state.objectstore._RETRY", {"max_retries": 0})
        monkeypatch.setattr("state.objectstore._TIMEOUT", timedelta(seconds=1))
        hung = open_blobs("s3://bucket/prefix")
        for call in (lambda: hung.put("a", b""), lambda: hung.get("a"), lambda: next(iter(hung.stream("a")))):
            with ThreadPoolExecutor(1) as pool:
                call_ends = pool.submit(call)
                turns = 0
                while not call_ends.done():
                    time.sleep(0.01)
                    turns += 1
                assert turns > 20
                with pytest.raises(BlobStoreError, match="no answer"):
                    call_ends.result()


def test_a_lost_answer_to_a_creation_is_told_from_a_loss(s3: BlobStore) -> None:
    assert s3.create("a/x", b"mine")
    assert s3.create("a/x", b"mine")  # as a repetition of one's own request looks
    assert not s3.create("a/x", b"other")


# ---- a directory's failures


def test_a_killed_upload_is_not_seen_and_goes_after_a_day(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; from state.blobs import DirectoryBlobs\n"
        "os.fsync = lambda fd: os.kill(os.getpid(), signal.SIGKILL)\n"
        "DirectoryBlobs.__init__ = lambda self, d: self.__dict__.update(directory=d, _uploads=d / '.uploads')\n"
        "DirectoryBlobs(Path(sys.argv[1])).put('a/x', b'1')"
    )
    blobs = DirectoryBlobs(tmp_path)
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, check=False)
    assert killed.returncode == -9, killed.stderr
    assert blobs.list_blobs("a/") == []
    (left,) = (tmp_path / ".uploads").iterdir()
    DirectoryBlobs(tmp_path)
    assert left.exists()
    os.utime(left, (time.time() - 90_000,) * 2)
    DirectoryBlobs(tmp_path)
    assert not left.exists()


def test_a_full_directory_fails_and_leaves_nothing(tmp_path: Path) -> None:
    code = """
import resource, signal, sys
from pathlib import Path
from state.blobs import DirectoryBlobs
from state.errors import BlobStoreError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
blobs = DirectoryBlobs(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, resource.RLIM_INFINITY))
try:
    blobs.put("a/x", bytes(1 << 20))
except BlobStoreError as error:
    print(error, error.retriable)
print(blobs.list_blobs("a/"), list((blobs.directory / ".uploads").iterdir()))
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == ["blob directory: cannot put: File too large True", "[] []"], done.stderr


def test_a_name_cannot_leave_the_directory(tmp_path: Path) -> None:
    blobs = DirectoryBlobs(tmp_path / "blobs")
    for name in ("../x", "/x", "a//b", "a/../../x", ".uploads/x", "a/.b", "", "a\0"):
        with pytest.raises(ValueError, match="not a blob's name"):
            blobs.put(name, b"")
