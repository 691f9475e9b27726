"""The row store and the blob store in memory, for tests and simulation, and the faults that disks and networks have.

A `MemoryDisk` outlives the `MemoryRowStores` (worker processes) that use it. A killed process loses nothing that was
written; when the machine crashes, a suffix of the batches that were not synced is lost, its length drawn from the
seeded generator. A flipped bit is found when the row is read, as RocksDB's block checksums would; a torn batch when the
store is opened.

`MemoryBlobs` is one bucket, shared by all simulated processes. A flipped bit in it is not found by reading.
"""

from __future__ import annotations

__all__ = ["MemoryBlobs", "MemoryDisk", "MemoryRowStore", "MemoryRowStores"]

import random
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from state.blobs import Blob
from state.errors import BlobMissingError, BlobStoreError, StateCorruptedError, StateLockedError

_T = TypeVar("_T")
_Row = tuple[bytes, int]  # value, checksum
_Batch = tuple[list[tuple[bytes, bytes]], list[bytes]]
_SNAPSHOT = "rows.msgpack"


class _Volume:
    """What one task has on the disk: synced rows, and batches that only the page cache has."""

    def __init__(self) -> None:
        self.synced: dict[bytes, _Row] = {}
        self.unsynced: list[_Batch] = []
        self.rows: dict[bytes, _Row] = {}  # both together
        self.torn = False

    def write(self, batch: _Batch, *, sync: bool) -> None:
        _apply(self.rows, batch)
        self.unsynced.append(batch)
        if sync:
            self.sync()

    def sync(self) -> None:
        for batch in self.unsynced:
            _apply(self.synced, batch)
        self.unsynced.clear()

    def crash(self, kept: int) -> None:
        """The first `kept` unsynced batches reached the disk, the others did not."""
        del self.unsynced[kept:]
        self.sync()
        self.rows = dict(self.synced)


class MemoryDisk:
    """The disk of one simulated machine; all chance comes from `rng`."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._holder: dict[int, MemoryRowStores] = {}
        self._failing: list[tuple[OSError, bool]] = []
        self.volumes: dict[int, _Volume] = {}
        self.fired: Counter[str] = Counter()

    def crash(self, *, tear: bool = False) -> None:
        """The machine stops: stores are dead, locks are gone, a suffix of each task's unsynced batches is lost.

        `tear`: the first lost batch of each task is half on the disk, and the store can no longer be opened.
        """
        for volume in self.volumes.values():
            kept = self._rng.randint(0, len(volume.unsynced))
            lost = len(volume.unsynced) - kept
            self.fired["lost_write"] += lost
            volume.torn = volume.torn or (tear and lost > 0)
            self.fired["torn_write"] += tear and lost > 0
            volume.crash(kept)
        for stores in dict.fromkeys(self._holder.values()):
            stores.kill()

    def flip_bit(self, task: int) -> bool:
        """Damage one stored row of `task`; False if it has none."""
        rows = self.volumes[task].rows if task in self.volumes else {}
        if not rows:
            return False
        key = self._rng.choice(sorted(rows))
        value, checksum = rows[key]
        damaged = bytearray(value or b"\0")
        damaged[self._rng.randrange(len(damaged))] ^= 1 << self._rng.randrange(8)
        rows[key] = self.volumes[task].synced[key] = (bytes(damaged), checksum)
        self.fired["bit_flip_row"] += 1
        return True

    def fail_write(self, error: OSError, *, stored: bool = False) -> None:
        """The next write raises `error`; `stored`: the batch reached the disk all the same."""
        self._failing.append((error, stored))

    def heal(self) -> None:
        """No more failing writes."""
        self._failing.clear()

    def acquire(self, task: int, stores: MemoryRowStores) -> _Volume:
        """Lock and return a task's volume."""
        if task in self._holder:
            raise StateLockedError(
                f"the state of task {task} is held by another process",
                hint="stop that worker, or give this one a state directory of its own",
            )
        self._holder[task] = stores
        return self.volumes.setdefault(task, _Volume())

    def release(self, task: int) -> None:
        """Give up a task's lock."""
        del self._holder[task]

    def write(self, task: int, batch: _Batch, *, sync: bool) -> None:
        """Write, unless a failure was ordered."""
        if self._failing:
            error, stored = self._failing.pop(0)
            self.fired["failed_write_stored" if stored else "failed_write"] += 1
            if stored:
                self.volumes[task].write(batch, sync=sync)
            raise error
        self.volumes[task].write(batch, sync=sync)


class MemoryRowStore:
    """The rows of one task; made by `MemoryRowStores.open`."""

    def __init__(self, stores: MemoryRowStores, task: int, volume: _Volume) -> None:
        self._stores = stores
        self._task = task
        self._volume: _Volume | None = volume

    @property
    def _rows(self) -> dict[bytes, _Row]:
        if self._volume is None:
            raise OSError(f"the store of task {self._task} is closed")
        return self._volume.rows

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Values in the order of `keys`; None where absent."""
        rows = self._rows
        return [_checked(key, rows[key]) if key in rows else None for key in keys]

    def write(self, puts: Sequence[tuple[bytes, bytes]], deletes: Sequence[bytes]) -> None:
        """All or nothing; deletes apply before puts."""
        assert self._rows is not None
        self._stores.disk.write(self._task, (list(puts), list(deletes)), sync=self._stores.sync)

    def scan(self, prefix: bytes, after: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Pairs whose key begins with `prefix` and is greater than `after`, in key order, as of the call."""
        rows = self._rows
        picked = [(key, rows[key]) for key in sorted(rows) if key.startswith(prefix) and key > after]
        return ((key, _checked(key, row)) for key, row in picked)

    def snapshot(self, directory: Path) -> None:
        """All rows, as one file in the new `directory`."""
        pairs = list(self.scan(b""))
        directory.mkdir()
        (directory / _SNAPSHOT).write_bytes(msgspec.msgpack.encode(pairs))

    def close(self) -> None:
        """Sync, close and give up the task's lock; idempotent."""
        if self._volume is not None:
            self._volume.sync()
            self._stores.closed(self._task)
            self.die()

    def die(self) -> None:
        """Every further call fails."""
        self._volume = None


class MemoryRowStores:
    """The stores of one simulated worker process."""

    def __init__(self, disk: MemoryDisk, *, sync: bool = True) -> None:
        self.disk = disk
        self.sync = sync
        self._open: dict[int, MemoryRowStore] = {}

    def open(self, task: int) -> MemoryRowStore:
        """Open or make a task's store; ConfigError if another process holds it."""
        if task in self._open:
            raise ValueError(f"task {task} is open already")
        volume = self.disk.acquire(task, self)
        if volume.torn:
            self.disk.release(task)
            raise StateCorruptedError("simulated: the store's log is torn")
        store = self._open[task] = MemoryRowStore(self, task, volume)
        return store

    def discard(self, task: int) -> None:
        """Forget a closed store's rows."""
        if task in self._open:
            raise ValueError(f"task {task} is open: close its store first")
        self.disk.acquire(task, self)
        del self.disk.volumes[task]
        self.disk.release(task)

    def install(self, task: int, directory: Path) -> None:
        """Replace a closed store by the snapshot in `directory`."""
        self.discard(task)
        try:
            pairs = msgspec.msgpack.decode((directory / _SNAPSHOT).read_bytes(), type=list[tuple[bytes, bytes]])
        except msgspec.DecodeError as error:
            raise StateCorruptedError("the snapshot cannot be read") from error
        volume = self.disk.volumes[task] = _Volume()
        volume.write((pairs, []), sync=True)

    def close(self) -> None:
        """Close every open store."""
        for store in list(self._open.values()):
            store.close()

    def kill(self) -> None:
        """The process dies: its stores are dead, its locks are free, the page cache lives on."""
        for task, store in list(self._open.items()):
            store.die()
            self.closed(task)

    def closed(self, task: int) -> None:
        """A store was closed."""
        del self._open[task]
        self.disk.release(task)


class MemoryBlobs:
    """A bucket. All chance comes from `rng`; `now_ms` is the store's clock, by default one tick an operation.

    `before` is called with each operation's verb and name (the first one's, of several): simulations switch or kill
    processes there. An operation is one moment, a listing too.
    """

    def __init__(self, rng: random.Random, now_ms: Callable[[], int] | None = None) -> None:
        self._rng = rng
        self._now_ms = now_ms or self._count
        self._operations = 0
        self._failing: dict[str, list[tuple[BlobStoreError, bool]]] = {}
        self.blobs: dict[str, tuple[bytes, int]] = {}  # content, time
        self.before: Callable[[str, str], None] = lambda verb, name: None
        self.fired: Counter[str] = Counter()

    # ---- faults

    def fail(self, verb: str, *, happened: bool = False, retriable: bool = True) -> None:
        """The next `verb` (put, create, get, head, list, delete) raises; `happened`: only its answer is lost."""
        error = BlobStoreError(f"simulated: cannot {verb}", retriable=retriable)
        self._failing.setdefault(verb, []).append((error, happened))

    def heal(self) -> None:
        """No more failures."""
        self._failing.clear()

    def flip_bit(self, name: str) -> None:
        """Damage a blob, which must not be empty."""
        content, time = self.blobs[name]
        damaged = bytearray(content)
        damaged[self._rng.randrange(len(damaged))] ^= 1 << self._rng.randrange(8)
        self.blobs[name] = (bytes(damaged), time)
        self.fired["bit_flip_blob"] += 1

    def truncate(self, name: str) -> None:
        """Cut a blob, which must not be empty, short."""
        content, time = self.blobs[name]
        self.blobs[name] = (content[: self._rng.randrange(len(content))], time)
        self.fired["torn_blob"] += 1

    # ---- the store

    def put(self, name: str, content: bytes | Path) -> None:
        """Overwrites."""
        data = content if isinstance(content, bytes) else content.read_bytes()
        self._do("put", name, lambda: self._store(name, data))

    def create(self, name: str, content: bytes) -> bool:
        """Only if there is none."""
        return self._do("create", name, lambda: name not in self.blobs and self._store(name, content))

    def get(self, name: str) -> bytes:
        """The whole content."""
        return self._do("get", name, lambda: self._content(name))

    def stream(self, name: str) -> Iterator[bytes]:
        """In pieces of 1000 bytes."""
        content = self.get(name)
        for at in range(0, len(content), 1000):
            yield content[at : at + 1000]

    def head(self, name: str) -> Blob | None:
        """Size and time."""
        return self._do("head", name, lambda: self._blob(name) if name in self.blobs else None)

    def list_blobs(self, prefix: str) -> list[Blob]:
        """All below the folder, at one moment."""
        return self._do(
            "list", prefix, lambda: [self._blob(name) for name in sorted(self.blobs) if name.startswith(prefix)]
        )

    def delete(self, names: Sequence[str]) -> None:
        """One after the other."""
        for name in names:
            self._do("delete", name, lambda name=name: self.blobs.pop(name, None))  # type: ignore[misc]

    def _do(self, verb: str, name: str, operation: Callable[[], _T]) -> _T:
        self.before(verb, name)
        if self._failing.get(verb):
            error, happened = self._failing[verb].pop(0)
            self.fired["blob_lost_reply" if happened else "blob_lost_request"] += 1
            if happened:
                operation()
            raise error
        return operation()

    def _store(self, name: str, content: bytes) -> bool:
        self.blobs[name] = (content, self._now_ms())
        return True

    def _content(self, name: str) -> bytes:
        if name not in self.blobs:
            raise BlobMissingError(name)
        return self.blobs[name][0]

    def _blob(self, name: str) -> Blob:
        content, time = self.blobs[name]
        return Blob(name, len(content), time)

    def _count(self) -> int:
        self._operations += 1
        return self._operations


def _apply(rows: dict[bytes, _Row], batch: _Batch) -> None:
    puts, deletes = batch
    for key in deletes:
        rows.pop(key, None)
    for key, value in puts:
        rows[key] = (value, zlib.crc32(value, zlib.crc32(key)))


def _checked(key: bytes, row: _Row) -> bytes:
    value, checksum = row
    if zlib.crc32(value, zlib.crc32(key)) != checksum:
        raise StateCorruptedError("simulated: a row's checksum is wrong")
    return value
