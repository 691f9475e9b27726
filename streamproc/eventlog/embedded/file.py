"""The SQLite file of a log: its schema, opening it, and SQLite's errors in our terms."""

from __future__ import annotations

__all__ = ["FILE_NAME", "TURN_S", "connect", "is_busy", "translate"]

import sqlite3
import time
from pathlib import Path

from state.errors import ConfigError, EventLogError

FILE_NAME = "log.sqlite3"
APPLICATION_ID = 0x5350_4C47
"""Tells our files from others: "SPLG"."""
FORMAT = 1

_PAGE_BYTES = 8192
_CHECKPOINT_PAGES = 1000
TURN_S = 0.0005
"""Between two attempts while another holds the file: a commit takes one. SQLite's own handler waits up to 100 ms."""

# chunks.id = partitions.id << 40 | base offset: one b-tree, appended to at each partition's end.
_SCHEMA = (
    "CREATE TABLE topics (name TEXT PRIMARY KEY, partitions INTEGER NOT NULL, config TEXT NOT NULL) WITHOUT ROWID",
    """CREATE TABLE partitions (
        id INTEGER PRIMARY KEY, topic TEXT NOT NULL, partition INTEGER NOT NULL,
        begin_offset INTEGER NOT NULL DEFAULT 0, next_offset INTEGER NOT NULL DEFAULT 0, UNIQUE (topic, partition))""",
    "CREATE TABLE chunks (id INTEGER PRIMARY KEY, count INTEGER NOT NULL, payload BLOB NOT NULL)",
    "CREATE TABLE writers (transactional_id TEXT PRIMARY KEY, epoch INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE TABLE groups (name TEXT PRIMARY KEY, generation INTEGER NOT NULL) WITHOUT ROWID",
    """CREATE TABLE members (
        group_name TEXT NOT NULL, instance TEXT NOT NULL, generation INTEGER NOT NULL,
        PRIMARY KEY (group_name, instance)) WITHOUT ROWID""",
    """CREATE TABLE group_partitions (
        group_name TEXT NOT NULL, partition_id INTEGER NOT NULL REFERENCES partitions,
        owner_generation INTEGER, next_offset INTEGER, metadata TEXT,
        PRIMARY KEY (group_name, partition_id)) WITHOUT ROWID""",
    """CREATE VIEW readable_chunks AS
        SELECT topic, partition, chunks.id & 0xFFFFFFFFFF AS base_offset, count, length(payload) AS bytes
        FROM chunks JOIN partitions ON partitions.id = chunks.id >> 40""",
    f"PRAGMA application_id = {APPLICATION_ID}",
    f"PRAGMA user_version = {FORMAT}",
)

_RETRIABLE = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL}
_WHAT_TO_DO = {
    sqlite3.SQLITE_FULL: "the disk is full: free space and start again",
    sqlite3.SQLITE_IOERR: "the disk failed: check it and start again",
    sqlite3.SQLITE_CORRUPT: "the file is damaged: restore the directory from a backup",
    sqlite3.SQLITE_NOTADB: "this is no event log, or a damaged one: name another directory, or restore a backup",
    sqlite3.SQLITE_READONLY: "the directory must be writable for this user",
    sqlite3.SQLITE_CANTOPEN: "the directory must exist on a local disk and be writable for this user",
    sqlite3.SQLITE_PERM: "the directory must be writable for this user",
}


def translate(error: sqlite3.Error, path: Path) -> EventLogError:
    """SQLite's error as ours: retriable if another process holds the file, else with what to do."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in _RETRIABLE:
        return EventLogError(f"{path}: another process is writing", retriable=True)
    hint = _WHAT_TO_DO.get(code)
    return EventLogError(f"{path}: {error}" + (f" ({hint})" if hint else ""))


def connect(path: Path, busy_timeout_s: float) -> sqlite3.Connection:
    """Open the log's file, or make it.

    Raises:
        ConfigError: the directory cannot be made, or the file is another program's or another format's.
        sqlite3.Error: see `translate`.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot make the directory of the event log: {error}", hint="name another one") from error
    deadline = time.monotonic() + busy_timeout_s
    while True:
        connection = sqlite3.connect(path, timeout=busy_timeout_s, isolation_level=None)
        try:
            _prepare(connection, path)
        except BaseException as error:
            connection.close()
            # SQLite does not wait for its turn where waiting could be a deadlock: two that change the journal's mode.
            if not is_busy(error) or time.monotonic() > deadline:
                raise
        else:
            return connection
        time.sleep(TURN_S)


def is_busy(error: BaseException) -> bool:
    """Whether another connection, of any process, has its turn."""
    return isinstance(error, sqlite3.OperationalError) and error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    connection.execute("BEGIN")  # another process may make it between two looks
    try:
        is_ours = _is_ours(connection, path)
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
    if not is_ours:
        _create(connection, path)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")


def _is_ours(connection: sqlite3.Connection, path: Path) -> bool:
    """False: it is empty."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (file_format,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application == APPLICATION_ID and file_format == FORMAT:
        return True
    if application == APPLICATION_ID:
        raise ConfigError(f"{path} has format {file_format}, this program reads {FORMAT}", hint="use its own version")
    if application or tables:
        raise ConfigError(f"{path} belongs to another program", hint="name another directory")
    return False


def _create(connection: sqlite3.Connection, path: Path) -> None:
    connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("BEGIN IMMEDIATE")
    try:
        if not _is_ours(connection, path):  # another process may have been faster
            for statement in _SCHEMA:
                connection.execute(statement)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
