"""Bytes of a key: in memory and as it is stored, from the declared tables and how many events a key has a day.

Sizes are those that the state counts itself by (`KeyedTable.key_bytes`, `RowFormat`), not a second opinion.
"""

from __future__ import annotations

__all__ = ["ID_BYTES", "key_state", "memory_bytes", "stored_bytes"]

import math

from operators.windows.layout import Layout
from state.arena import BLOCK_MIN
from state.budget import bytes_of_text
from state.rowformat import CHUNK, RowFormat
from state.table import KeyedTable, TableSpec
from streamproc.language.costing.prediction import KeyState
from streamproc.language.items import KEY_TEXT

DAY_MS = 86_400_000
ID_BYTES = 43
"""Of an id that is remembered: 33 of its entry, 10 of its place in a half-full index."""
EXAMPLE_KEY = "card-000001234567"
"""What a key is taken to look like: its length counts."""


def memory_bytes(spec: TableSpec, entries: int, key: str = EXAMPLE_KEY) -> int:
    """Bytes in memory of a key with so many entries of history; a ring's block is a power of two."""
    fixed = KeyedTable(spec).key_bytes + bytes_of_text(key)
    if spec.ring is None or not entries:
        return fixed
    block = 1 << math.ceil(math.log2(max(entries, BLOCK_MIN)))
    return fixed + block * 8 * len(spec.ring.columns)


def stored_bytes(spec: TableSpec, entries: int, key: str = EXAMPLE_KEY) -> int:
    """Bytes of the key's row and chunks in the row store, stored keys included, before RocksDB packs them."""
    form = RowFormat(spec)
    row_key = form.row_keys([key])[0]
    chunks, tail = divmod(entries, CHUNK)
    row = len(row_key) + form.row_bytes + tail * form.entry_bytes
    chunk = len(form.chunk_key(row_key, 0)) + len(RowFormat.pack_chunk(0, b"")) + CHUNK * form.entry_bytes
    return row + chunks * chunk


def key_state(layout: Layout, rate: float) -> KeyState:
    """What a key of `rate` events a day keeps, once its longest window is full."""
    spec = layout.table
    kept_ms = layout.horizon * layout.unit
    entries = max(1, math.ceil(rate * kept_ms / DAY_MS))
    if layout.precision:
        entries = min(entries, layout.horizon + 1)
    entries = min(entries, layout.spec.max_entries)
    return KeyState(
        table=spec.name,
        key=layout.spec.key.removeprefix(KEY_TEXT),
        kept_ms=kept_ms,
        entries=entries,
        entry_bytes=8 * layout.width,
        bytes=memory_bytes(spec, entries),
        stored_bytes=stored_bytes(spec, entries),
        ttl_ms=spec.ttl_ms,
    )
