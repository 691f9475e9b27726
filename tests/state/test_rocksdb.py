"""What only RocksDB has: locks, damage on the disk, a full disk."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from state.errors import ConfigError, StateCorruptedError
from state.rocksdb import LINKS, RocksRowStore, RocksRowStores

PAIRS = [(b"key%05d" % i, bytes([i % 256]) * 100) for i in range(3000)]


def filled(directory: Path) -> RocksRowStores:
    stores = RocksRowStores(directory)
    store = stores.open(0)
    store.write(PAIRS, [])
    store.close()
    return stores


def test_another_process_is_refused(tmp_path: Path) -> None:
    stores = RocksRowStores(tmp_path)
    stores.open(3)
    code = (
        "import sys; from pathlib import Path; from state.rocksdb import RocksRowStores\n"
        "RocksRowStores(Path(sys.argv[1])).open(3)"
    )
    other = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert other.returncode == 1
    assert f"task 3 in {tmp_path} is held by process {os.getpid()}" in other.stderr
    assert "stop that worker" in other.stderr
    stores.close()
    RocksRowStores(tmp_path).open(3).close()


def test_one_process_cannot_share_it_either(tmp_path: Path) -> None:
    stores = RocksRowStores(tmp_path)
    stores.open(3)
    with pytest.raises(ConfigError, match="held by process"):
        RocksRowStores(tmp_path).open(3)
    stores.close()


def test_a_damaged_table_is_found_by_reading_and_scanning(tmp_path: Path) -> None:
    stores = filled(tmp_path)
    for path in stores.path(0).glob("*.sst"):
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    store = stores.open(0)
    with pytest.raises(StateCorruptedError):
        store.get_many([key for key, _ in PAIRS])
    with pytest.raises(StateCorruptedError):
        list(store.scan(b""))
    store.close()


@pytest.mark.parametrize("victim", ["MANIFEST-*", "CURRENT"])
def test_a_damaged_catalogue_is_found_at_open(tmp_path: Path, victim: str) -> None:
    stores = filled(tmp_path)
    for path in stores.path(0).glob(victim):
        os.truncate(path, 5)
    with pytest.raises(StateCorruptedError):
        stores.open(0)
    stores.discard(0)
    assert list(stores.open(0).scan(b"")) == []
    stores.close()


def test_a_manifest_with_a_flipped_bit_does_not_empty_the_state(tmp_path: Path) -> None:
    """RocksDB takes what follows the damage for an unfinished write, and removes tables that it does not know."""
    stores = filled(tmp_path / "left")
    (manifest,) = stores.path(0).glob("MANIFEST-*")
    refused = 0
    for at in range(manifest.stat().st_size):
        shutil.copytree(tmp_path / "left", tmp_path / f"{at}")
        content = bytearray(manifest.read_bytes())
        content[at] ^= 0x10
        (tmp_path / f"{at}" / "task-00000" / manifest.name).write_bytes(content)
        copy = RocksRowStores(tmp_path / f"{at}")
        try:
            assert list(copy.open(0).scan(b"")) == sorted(PAIRS)
        except StateCorruptedError:
            refused += 1
        copy.close()
    assert refused > 20


def test_a_torn_log_loses_whole_batches_only(tmp_path: Path) -> None:
    stores = RocksRowStores(tmp_path / "live")
    store = stores.open(0)
    for batch in range(5):
        store.write([(b"%d-%d" % (batch, i), b"x" * 50) for i in range(100)], [])
    crashed = RocksRowStores(tmp_path / "crashed")
    subprocess.run(["cp", "-r", str(stores.path(0)), str(crashed.path(0))], check=True)
    stores.close()
    log = max(crashed.path(0).glob("*.log"), key=lambda path: path.stat().st_size)
    os.truncate(log, log.stat().st_size * 7 // 10)
    found = [key.split(b"-")[0] for key, _ in crashed.open(0).scan(b"")]
    assert {batch: found.count(batch) for batch in set(found)} == {b"%d" % i: 100 for i in range(3)}
    crashed.close()


def test_two_discarded_stores_are_kept(tmp_path: Path) -> None:
    stores = RocksRowStores(tmp_path)
    for _ in range(4):
        stores.open(0).close()
        stores.discard(0)
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_dir()) == [f"task-00000.discarded-{n}" for n in (3, 4)]


def test_a_full_disk_fails_the_write_and_heals(tmp_path: Path) -> None:
    code = """
import resource, signal, sys
from pathlib import Path
from typing import Any
from state.rocksdb import LINKS, RocksRowStore, RocksRowStores
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
store = RocksRowStores(Path(sys.argv[1])).open(0)
store.write([(b"a", b"1")], [])
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, resource.RLIM_INFINITY))
try:
    store.write([(b"b%d" % i, bytes(1000)) for i in range(1000)], [])
except OSError as error:
    print("refused", store.get_many([b"a"]))
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
store.write([(b"c", b"3")], [])
print(store.get_many([b"a", b"c"]), len(list(store.scan(b"b"))))
store.close()
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == ["refused [b'1']", "[b'1', b'3'] 0"], done.stderr


def killed(directory: Path) -> RocksRowStores:
    """What a killed process leaves: two tables, and a log of 20 batches behind them; each batch says its number."""
    live = RocksRowStores(directory / "live")
    store = live.open(0)
    for number in range(1, 61):
        store.write([(b"m", b"%d" % number), (b"n%03d" % number, b"x" * 50)], [])
        if number in (20, 40):
            store.snapshot(directory / f"snapshot-{number}")
    left = RocksRowStores(directory / "left")
    subprocess.run(["cp", "-r", str(live.path(0)), str(left.path(0))], check=True)
    live.close()
    return left


def check_whole(stores: RocksRowStores) -> int:
    """Every batch up to the one that the store says was the last; that number. Else it must be refused."""
    store = stores.open(0)
    try:
        last = int(store.get_many([b"m"])[0] or 0)
        assert [key for key, _ in store.scan(b"n")] == [b"n%03d" % number for number in range(1, last + 1)]
        return last
    finally:
        store.close()


def test_a_manifest_without_its_end_is_not_believed(tmp_path: Path) -> None:
    """RocksDB takes it for the end of an unfinished write, and opens old tables with the newest log: rows are missing
    in between, and the meta row says that they are there.
    """
    killed(tmp_path)
    refused = whole = 0
    (manifest,) = (tmp_path / "left" / "task-00000").glob("MANIFEST-*")
    for cut in range(0, manifest.stat().st_size, 7):
        shutil.copytree(tmp_path / "left", tmp_path / f"cut-{cut}")
        os.truncate(tmp_path / f"cut-{cut}" / "task-00000" / manifest.name, manifest.stat().st_size - cut)
        try:
            assert check_whole(RocksRowStores(tmp_path / f"cut-{cut}")) == 60
            whole += 1
        except StateCorruptedError:
            refused += 1
    assert whole < 6
    assert refused > 20


def test_a_lost_table_or_log_is_found_or_loses_the_last_batches_only(tmp_path: Path) -> None:
    killed(tmp_path)
    for path in sorted((tmp_path / "left" / "task-00000").iterdir()):
        copy = tmp_path / f"without-{path.name}"
        shutil.copytree(tmp_path / "left", copy)
        (copy / "task-00000" / path.name).unlink()
        try:
            last = check_whole(RocksRowStores(copy))
        except StateCorruptedError:
            assert path.suffix == ".sst" or path.name.startswith(("MANIFEST", "CURRENT")), path.name
        else:
            assert last == (40 if path.suffix == ".log" else 60)


def test_links_reach_back_as_far_as_any_log(tmp_path: Path) -> None:
    """After thousands of small batches, too; nobody sees them."""
    stores = RocksRowStores(tmp_path, sync=False)
    store = stores.open(0)
    for number in range(2 * LINKS + 7):
        store.write([(b"m", b"%d" % number)], [])
    store.close()
    store = stores.open(0)
    assert list(store.scan(b"")) == [(b"m", b"%d" % (2 * LINKS + 6))]
    store.write([(b"n", b"")], [b"m"])
    assert list(store.scan(b"")) == [(b"n", b"")]
    stores.close()


def test_a_lock_that_cannot_say_who_holds_it_is_held_and_given_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a full disk the holder's number finds no room; a lock left behind would make the worker wait for itself."""
    stores = RocksRowStores(tmp_path)

    def no_space(*_: object) -> int:
        raise OSError(errno.ENOSPC, "no space")

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", no_space)
        stores.open(0).close()
        stores.open(0)
    with pytest.raises(ConfigError, match="held by process"):
        RocksRowStores(tmp_path).open(0)
    stores.close()
    RocksRowStores(tmp_path).open(0).close()


def test_what_is_stored_can_be_read_while_no_write_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that failed closes the store to open it anew, which may fail too."""
    stores = RocksRowStores(tmp_path)
    store = stores.open(0)
    store.write([(b"a", b"1")], [])

    def no_space() -> None:
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(store, "_failed", True)
    monkeypatch.setattr(store, "_open", no_space)
    for _ in range(2):
        with pytest.raises(OSError, match="no space"):
            store.write([(b"b", b"2")], [])
        assert store.get_many([b"a", b"b"]) == [b"1", None]
        assert list(store.scan(b"")) == [(b"a", b"1")]
    monkeypatch.undo()
    monkeypatch.setattr(store, "_failed", True)
    store.write([(b"b", b"2")], [])
    assert store.get_many([b"a", b"b"]) == [b"1", b"2"]
    stores.close()


def test_a_disk_that_nothing_can_be_read_from_fails_a_sweep_and_heals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A flush sweeps before it writes: a scan is what first meets a store that could not be opened again."""
    stores = RocksRowStores(tmp_path)
    store = stores.open(0)
    store.write([(b"a", b"1")], [])

    def fails() -> None:
        raise OSError(errno.EIO, "input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(store, "_open", fails)
        patched.setattr(store, "_look", fails)
        store._failed = True
        for _ in range(2):
            with pytest.raises(OSError, match="input/output"):
                store.write([(b"b", b"2")], [])
            with pytest.raises(OSError, match="input/output"):
                store.scan(b"")
    assert list(store.scan(b"")) == [(b"a", b"1")]
    assert not store._failed
    store.write([(b"b", b"2")], [])
    assert list(store.scan(b"")) == [(b"a", b"1"), (b"b", b"2")]
    stores.close()


def test_a_damaged_store_that_does_not_close_either_is_damaged() -> None:
    class Broken:
        def iter(self) -> Any:
            raise StateCorruptedError("a block's checksum")

        def close(self) -> None:
            raise Exception("Corruption: it cannot be flushed")

    broken: Any = Broken
    with pytest.raises(StateCorruptedError, match="checksum"):
        RocksRowStore(broken, broken, sync=False, had_tables=False, release=lambda: None)


def test_damage_met_while_reading_leaves_nothing_open(tmp_path: Path) -> None:
    """The error is still at hand when the store is discarded, as in a restore."""
    stores = RocksRowStores(tmp_path)
    store = stores.open(0)
    store.write(PAIRS, [])
    store.snapshot(tmp_path / "copy")  # a table on the disk
    store.close()
    table = max(stores.path(0).glob("*.sst"))
    content = bytearray(table.read_bytes())
    content[len(content) // 2] ^= 4
    table.write_bytes(content)
    store = stores.open(0)
    with pytest.raises(StateCorruptedError) as caught:
        list(store.scan(b"key"))
    store.close()
    stores.discard(0)
    fresh = stores.open(0)
    assert list(fresh.scan(b"key")) == []
    fresh.close()
    assert "Corruption" in str(caught.value)
