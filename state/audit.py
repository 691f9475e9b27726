"""What lies in a task's row store, counted; and whether all of it can be read and fits together.

Counting needs no plan: kinds of rows and tables' names stand in the stored keys (`state.rowformat`,
`state.segment_store`). Checking reads each row as a worker would. Nothing here tells a key or a value.
"""

from __future__ import annotations

__all__ = ["Survey", "TableCount", "damages", "survey"]

import struct
from collections.abc import Iterator, Sequence
from itertools import islice

import msgspec
import numpy as np

from state.errors import ConfigError, StateCorruptedError
from state.held import HELD_ROWS
from state.part import StatePart
from state.persistence import Persistence
from state.rowformat import CHUNK, LAYOUT_KEY, META_KEY
from state.rowstore import RowStore
from state.table import TableSpec

_BATCH = 1024
_ROW, _CHUNK, _SEGMENTS, _TIME, _HELD = b"r", b"c", b"d", b"t", b"g"
_STATE_HEAD = 9  # version and fingerprint before the numbers of a deduplication state row


class TableCount(msgspec.Struct):
    """Stored rows of a table: `keys` have one each, `chunks` hold older ring entries; `bytes` of keys and values."""

    name: str
    keys: int = 0
    chunks: int = 0
    bytes: int = 0


class Survey(msgspec.Struct):
    """A store's rows by kind. `meta`: what a flush stored beside them, None before the first one. `held`: rows of which
    parts are missing.
    """

    meta: bytes | None = None
    tables: dict[str, TableCount] = {}
    entries: int = 0
    held: int = 0

    @property
    def rows(self) -> int:
        """Rows and chunks of all tables."""
        return sum(table.keys + table.chunks for table in self.tables.values())


def survey(store: RowStore) -> Survey:
    """Count what is stored; reads all of it.

    Raises:
        StateCorruptedError, OSError: it cannot be read to the end.
    """
    found = Survey()
    for key, value in store.scan(b""):
        if key == META_KEY:
            found.meta = value
        elif (name := _name(key)) is None:
            continue  # the layout, or what `damages` tells of
        elif key[:1] == _SEGMENTS:
            found.entries += _entries(key[2 + key[1] :], value)
        elif key[:1] == _HELD:
            found.held += key.startswith(HELD_ROWS)
        else:
            table = found.tables.setdefault(name, TableCount(name))
            table.keys += key[:1] == _ROW
            table.chunks += key[:1] == _CHUNK
            table.bytes += len(key) + len(value)
    return found


def _name(key: bytes) -> str | None:
    """The table that a stored key is of; None if it is of no known kind."""
    if key[:1] not in (_ROW, _CHUNK, _SEGMENTS, _TIME, _HELD) or len(key) < 2 + key[1]:
        return None
    return key[2 : 2 + key[1]].decode("utf-8", "replace")


def _entries(kind: bytes, value: bytes) -> int:
    """Deduplication entries that are still in the log, by the state row."""
    if kind != b"s" or len(value) < _STATE_HEAD + 16:
        return 0
    first, stop = struct.unpack_from("<qq", value, _STATE_HEAD)
    return max(0, int(stop - first))


def damages(store: RowStore, tables: Sequence[TableSpec], parts: Sequence[StatePart]) -> Iterator[str]:
    """What is wrong with a store that a plan of these tables and (unused) parts wrote, a line each; none: all is well.

    Raises:
        ConfigError: a plan with other tables wrote it.
        OSError: the disk failed.
    """
    try:
        meta, layout = store.get_many([META_KEY, LAYOUT_KEY])
        if meta is None and layout is None and next(store.scan(b""), None) is None:
            return  # before the first flush
        if meta is None or layout is None:
            yield "it does not say of which batch its rows are"
            return
        persisted = [Persistence(spec) for spec in tables]
        _check_layout(layout, [*persisted, *parts])
    except StateCorruptedError as error:
        yield str(error)
        return
    for part in parts:
        try:
            part.read(store, fresh=False)(0)
        except StateCorruptedError as error:
            yield str(error)
    for table in persisted:
        table.read(store, fresh=False)(0)
        if table.table.stream:
            table.table.stream.drop(0)  # expired rows that no sweep has come by yet are read, too
        yield from _of_table(table, store)
    yield from _of_strangers(store, {part.name for part in (*persisted, *parts)})


def _check_layout(layout: bytes, parts: Sequence[StatePart]) -> None:
    try:
        stored = msgspec.json.decode(layout, type=dict[str, str])
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise StateCorruptedError("the layout row cannot be read") from None
    if stored != {part.name: part.fingerprint.hex() for part in parts}:
        raise ConfigError(
            "streams, keys or features changed since this state was written",
            hint="give the pipeline that wrote it",
        )


def _of_table(table: Persistence, store: RowStore) -> Iterator[str]:
    """Rows by the thousand, as a batch would load them; those of a bad thousand one by one."""
    bad, chunks, reason = 0, 0, ""
    try:
        keys = (key for key, _ in store.scan(table.format.row_prefix))
        while batch := list(islice(keys, _BATCH)):
            try:
                chunks += _read(table, batch)
            except (StateCorruptedError, UnicodeDecodeError):
                for key in batch:
                    try:
                        chunks += _read(table, [key])
                    except (StateCorruptedError, UnicodeDecodeError) as error:
                        bad += 1
                        reason = str(error) if isinstance(error, StateCorruptedError) else "a key is no text"
        stored = sum(1 for _ in store.scan(table.format.chunk_prefix))
    except StateCorruptedError as error:
        yield f"table {table.name}: {error}"
        return
    if bad:
        yield f"table {table.name}: {bad} rows cannot be read ({reason.removeprefix(f'table {table.name}: ')})"
    elif stored > chunks:
        yield f"table {table.name}: {stored - chunks} ring chunks belong to no row"


def _read(table: Persistence, stored: list[bytes]) -> int:
    """Load rows with all their chunks, and forget them; how many chunks they have."""
    try:
        keys = [table.format.row_key_text(key) for key in stored]
        table.table.admit(0, keys)
        if table.table.ring is None:
            return 0
        mine = table.table.keys_of(0)
        heads = table.table.ring.heads[[mine[key] for key in keys]]
        full = heads[:, table.table.ring.STOP] // CHUNK
        return int(np.maximum(full - heads[:, table.table.ring.START] // CHUNK, 0).sum())
    finally:
        table.table.publish()
        table.table.drop_task(0)


def _of_strangers(store: RowStore, names: set[str]) -> Iterator[str]:
    """Rows that no part of the plan would ever read."""
    unknown = 0
    try:
        for key, _ in store.scan(b""):
            unknown += key not in (META_KEY, LAYOUT_KEY) and _name(key) not in names
    except StateCorruptedError as error:
        yield str(error)
        return
    if unknown:
        yield f"{unknown} rows are of no table of the plan"
