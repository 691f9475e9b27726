"""The row store on RocksDB: one database a task, in `DIR/task-00003/`. The only importer of rocksdict.

All databases of a process share one block cache and one write-buffer manager. A write is one WriteBatch, so it is
in the store whole or not at all; with `sync` it is on the disk when `write` returns.

rocksdict (0.3) keeps the interpreter lock while it writes a batch, but not while it syncs the log or flushes: so
a batch is written unsynced (1 us a row of 400 bytes under the lock) and the log is synced by a call of its own. Keep
batches at a few thousand rows where latency counts.

RocksDB does not see that its MANIFEST lost its end, or that a log is gone: it opens with older tables and newer logs,
without what lay between, or empty. So each batch is numbered, by a key of its own that no reader sees; the numbers of
the last `LINKS` batches are kept, and there must be no gap in them when the store is opened; nor may there be none of
them where tables lay.
"""

from __future__ import annotations

__all__ = ["LINKS", "RocksRowStore", "RocksRowStores"]

import contextlib
import errno
import fcntl
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from operator import itemgetter
from pathlib import Path
from typing import cast

from rocksdict import (
    AccessType,
    BlockBasedOptions,
    Cache,
    Checkpoint,
    DbClosedError,
    DBCompressionType,
    DBRecoveryMode,
    Options,
    Rdict,
    WriteBatch,
    WriteBufferManager,
)

from state.budget import Shares
from state.errors import ConfigError, StateCorruptedError, StateLockedError

_DISCARDED_MAX = 2
LINKS = 1024
_LINK = b"\xff\xfflink"  # behind all rows
_TASK = re.compile(r"task-\d{5}")


class RocksRowStore:
    """The rows of one task; made by `RocksRowStores.open`."""

    def __init__(
        self, open_database: Callable[[], Rdict], look: Callable[[], Rdict], *, sync: bool, had_tables: bool,
        release: Callable[[], None],
    ) -> None:  # fmt: skip
        self._open = open_database
        self._look = look
        self._sync = sync
        self._release = release
        self._reopening = threading.Lock()
        self._failed = False
        self._closed = False
        self._db = open_database()
        try:
            self._last = self._check_links()
            if had_tables and not self._last:
                raise StateCorruptedError("RocksDB does not know the tables that lay there: its MANIFEST is damaged")
        except BaseException:
            with contextlib.suppress(Exception):  # a damaged database may not close either
                self._db.close()
            raise

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Values in the order of `keys`; None where absent."""
        wanted = keys if isinstance(keys, list) else list(keys)
        try:
            try:
                return cast("list[bytes | None]", self._db.get(wanted))
            except DbClosedError:
                with self._reopening:  # another thread puts a failed store right
                    return cast("list[bytes | None]", self._db.get(wanted))
        except Exception as error:
            raise _mapped(error) from error

    def write(self, puts: Sequence[tuple[bytes, bytes]], deletes: Sequence[bytes]) -> None:
        """All or nothing; deletes come first, so that a put of the same key stands.

        After an OSError the store is reopened by the next write; a batch whose sync failed may then turn out to be
        stored, whole. While the disk takes no write, what is stored can still be read.

        Raises:
            StateCorruptedError: the store is damaged.
            OSError: no space, input/output error.
        """
        if self._failed:
            self._reopen()
        batch = WriteBatch(raw_mode=True)
        for key in deletes:
            batch.delete(key)
        ordered = sorted(puts, key=itemgetter(0))  # neighbours are written in half the time, all of it under the lock
        for key, value in ordered:
            batch.put(key, value)
        number = self._last + 1
        batch.put(_link(number), b"")
        if number > LINKS:
            batch.delete(_link(number - LINKS))
        try:
            self._db.write(batch)
            if self._sync:
                self._db.flush_wal(True)
            if number % (LINKS // 2) == 0:
                self._db.flush(False)  # so that no log is longer than the numbers reach back
        except Exception as error:
            self._failed = True
            raise _mapped(error) from error
        self._last = number

    def scan(self, prefix: bytes, after: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Pairs whose key begins with `prefix` and is greater than `after`, in key order, as of the call."""
        try:
            cursor = self._db.iter()
        except DbClosedError:
            if self._failed:  # it was closed to be opened anew, which another thread is at, or has not come to
                self._reopen()
            cursor = self._db.iter()
        cursor.seek(max(prefix, after + b"\0" if after else b""))

        def pairs() -> Iterator[tuple[bytes, bytes]]:
            nonlocal cursor
            try:
                while cursor.valid():
                    key: bytes = cursor.key()
                    if not key.startswith(prefix) or key.startswith(_LINK):
                        return
                    yield key, cursor.value()
                    cursor.next()
                cursor.status()  # a cursor also ends where a block is damaged
            except Exception as error:
                raise _mapped(error) from error
            finally:
                del cursor  # an error keeps this frame, and a cursor its database open

        return pairs()

    def snapshot(self, directory: Path) -> None:
        """A consistent copy in the new `directory`: hard links, and a copy of the log (same file system)."""
        try:
            self._db.flush(True)  # leaves the checkpoint, which holds the interpreter lock, little to do
            Checkpoint(self._db).create_checkpoint(str(directory))
        except Exception as error:
            raise _mapped(error) from error

    def close(self) -> None:
        """Flush, close and give up the task's lock; idempotent."""
        if self._closed:
            return
        self._closed = True
        try:
            with contextlib.suppress(DbClosedError):
                self._db.close()
        except Exception as error:
            raise _mapped(error) from error
        finally:
            self._release()

    def _reopen(self) -> None:
        with self._reopening:
            with contextlib.suppress(Exception):  # it already failed; what counts is whether it opens again
                self._db.close()
            try:
                self._db = self._open()
            except OSError:
                with contextlib.suppress(OSError, StateCorruptedError):
                    self._db = self._look()  # reading needs no space
                raise
            self._last = self._check_links()
            self._failed = False

    def _check_links(self) -> int:
        """The number of the last batch.

        Raises:
            StateCorruptedError: one of those before it is missing.
        """
        numbers: list[int] = []
        cursor = self._db.iter()
        cursor.seek(_LINK)
        try:
            while cursor.valid() and (key := cursor.key()).startswith(_LINK):
                numbers.append(int.from_bytes(key[len(_LINK) :], "big"))
                cursor.next()
            cursor.status()
        except Exception as error:
            raise _mapped(error) from error
        finally:
            del cursor  # see `scan`
        last = numbers[-1] if numbers else 0
        if numbers != list(range(max(1, last - LINKS + 1), last + 1)):
            raise StateCorruptedError("a batch before the last one is missing: RocksDB lost a table or a log")
        return last


class RocksRowStores:
    """The databases of one worker process, under `directory`.

    Args:
        directory: made if missing.
        sync: whether a write is on the disk when it returns.
        cache_bytes: block cache shared by all databases; memtables are charged to it too.
        write_buffer_bytes: memtables of all databases together.
    """

    def __init__(
        self, directory: Path, *, sync: bool = True, cache_bytes: int = 256 << 20, write_buffer_bytes: int = 24 << 20
    ) -> None:
        self.directory = directory
        self._sync = sync
        self._cache = Cache(cache_bytes)
        self._buffer_bytes = min(write_buffer_bytes, 64 << 20)  # of one database; it takes memory in eighths of that
        self._buffers = WriteBufferManager.new_write_buffer_manager_with_cache(write_buffer_bytes, False, self._cache)
        self._open: dict[int, RocksRowStore] = {}
        self._locks: dict[int, int] = {}
        directory.mkdir(parents=True, exist_ok=True)

    @classmethod
    def within(cls, directory: Path, memory: Shares, *, sync: bool = True) -> RocksRowStores:
        """Those that take RocksDB's share of a budget."""
        return cls(directory, sync=sync, cache_bytes=memory.cache, write_buffer_bytes=memory.write_buffers)

    def path(self, task: int) -> Path:
        """Where the task's database lies."""
        return self.directory / f"task-{task:05d}"

    def open(self, task: int) -> RocksRowStore:
        """Open or make the task's database; it stays locked until closed.

        Raises:
            ConfigError: another process holds the task's directory.
            StateCorruptedError: the database cannot be opened: discard it.
            OSError: no space, no permission, too many open files.
        """
        return self._opened(task, AccessType.read_write())

    def look(self, task: int) -> RocksRowStore:
        """Open the task's database to read it only: nothing of it changes, not even what a crash left unfinished.

        It is locked all the same: a worker that writes and compacts would take files away from below the reader.

        Raises:
            ConfigError, StateCorruptedError, OSError: as `open`; there must be one.
        """
        if not self.path(task).is_dir():
            raise StateCorruptedError(f"there is no database of task {task}")
        return self._opened(task, AccessType.read_only(False))

    def _opened(self, task: int, access: AccessType) -> RocksRowStore:
        if task in self._open:
            raise ValueError(f"task {task} is open already")
        self._lock(task)
        try:
            store = RocksRowStore(
                lambda: self._database(task, access), lambda: self._database(task, AccessType.read_only(False)),
                sync=self._sync, had_tables=any(self.path(task).glob("*.sst")), release=lambda: self._closed(task),
            )  # fmt: skip
        except BaseException:
            self._unlock(task)
            raise
        self._open[task] = store
        return store

    def tasks(self) -> list[int]:
        """Tasks that have a database here, readable or not."""
        return sorted(int(path.name[5:]) for path in self.directory.glob("task-*") if _TASK.fullmatch(path.name))

    def bytes_on_disk(self, task: int) -> int:
        """Size of the files of the task's database."""
        return sum(path.stat().st_size for path in self.path(task).rglob("*") if path.is_file())

    def discard(self, task: int) -> None:
        """Move the closed database aside, to `task-00003.discarded-N`; the newest two are kept."""
        self._lock_closed(task)
        try:
            self._set_aside(task)
        finally:
            self._unlock(task)

    def install(self, task: int, directory: Path) -> None:
        """Put a snapshot in a closed database's place; `directory` is moved, what was there is set aside."""
        self._lock_closed(task)
        try:
            self._set_aside(task)
            shutil.move(directory, self.path(task))
        finally:
            self._unlock(task)

    def close(self) -> None:
        """Close every open store."""
        for store in list(self._open.values()):
            store.close()

    def _database(self, task: int, access: AccessType) -> Rdict:
        options = self._options()
        try:
            # Named once more as a column family: else rocksdict opens an existing database with stored options
            # and a block cache of its own.
            families = {"default": self._options()}
            return Rdict(str(self.path(task)), options, column_families=families, access_type=access)
        except Exception as error:
            raise _mapped(error, opening=True) from error

    def _options(self) -> Options:
        blocks = BlockBasedOptions()
        blocks.set_block_cache(self._cache)
        blocks.set_bloom_filter(10, False)
        blocks.set_cache_index_and_filter_blocks(True)
        blocks.set_pin_l0_filter_and_index_blocks_in_cache(True)
        options = Options(raw_mode=True)
        options.create_if_missing(True)
        options.set_block_based_table_factory(blocks)
        options.set_write_buffer_manager(self._buffers)
        options.set_write_buffer_size(self._buffer_bytes)
        options.set_paranoid_checks(True)
        options.set_wal_recovery_mode(DBRecoveryMode.point_in_time())
        options.set_compression_type(DBCompressionType.lz4())
        options.set_max_background_jobs(2)
        options.set_keep_log_file_num(2)
        options.set_max_log_file_size(1 << 20)
        return options

    def _set_aside(self, task: int) -> None:
        aside = self.discarded(task)
        if self.path(task).exists():
            number = 1 + (self._number(aside[-1]) if aside else 0)
            target = self.directory / f"{self.path(task).name}.discarded-{number}"
            self.path(task).rename(target)
            aside.append(target)
        for old in aside[:-_DISCARDED_MAX]:
            shutil.rmtree(old)

    def _lock_closed(self, task: int) -> None:
        if task in self._open:
            raise ValueError(f"task {task} is open: close its store first")
        self._lock(task)

    def _lock(self, task: int) -> None:
        path = self.directory / f"{self.path(task).name}.lock"
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(fd, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(fd)
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise
            raise StateLockedError(
                f"the state of task {task} in {self.directory} is held by process {holder}",
                hint="stop that worker, or give this one a state directory of its own",
            ) from None
        with contextlib.suppress(OSError):  # a full disk: we hold it, whether it says so or not
            os.ftruncate(fd, 0)
            os.pwrite(fd, str(os.getpid()).encode(), 0)
        self._locks[task] = fd

    def _unlock(self, task: int) -> None:
        os.close(self._locks.pop(task))

    def _closed(self, task: int) -> None:
        del self._open[task]
        self._unlock(task)

    def discarded(self, task: int) -> list[Path]:
        """Databases of the task that were set aside, oldest first."""
        return sorted(self.directory.glob(f"{self.path(task).name}.discarded-*"), key=self._number)

    @staticmethod
    def _number(path: Path) -> int:
        return int(path.name.rpartition("-")[2])


def _link(number: int) -> bytes:
    return _LINK + number.to_bytes(8, "big")


def _mapped(error: Exception, *, opening: bool = False) -> Exception:
    """Our error for one of rocksdict's, which are plain Exceptions that begin with RocksDB's status."""
    if isinstance(error, StateCorruptedError | ConfigError | OSError | ValueError):
        return error
    text = re.split(r"\bkeys?\b", str(error))[0][:200]  # some messages quote keys
    missing = opening and ("No such file" in text or text.startswith(("Invalid argument", "Not found")))
    if text.startswith("Corruption") or missing:
        return StateCorruptedError(f"RocksDB: {text}")
    if "No space left" in text:
        return OSError(errno.ENOSPC, f"RocksDB: {text}")
    return OSError(errno.EIO, f"RocksDB: {text}")
