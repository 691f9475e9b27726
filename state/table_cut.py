"""What a flush of a table copies and writes, and what it sweeps from the store.

A cut is made on the loop between two batches and only copies arrays; `TableCut.encode` slices bytes, in the flush
thread. A cut may be taken before the batch's transaction has committed, but is written only once it has; cuts of
one task are written one after the other. So its stream time is final when it is written: stored rows that had expired
by then, and are not among those of the cut, have expired for every row to come, and go in the same write.
"""

from __future__ import annotations

__all__ = ["Sweep", "TableCut"]

from collections.abc import Collection
from itertools import islice
from operator import itemgetter

import numpy as np
import numpy.typing as npt

from state.expiry import NEVER
from state.part import Puts
from state.ring import Ring
from state.rowformat import CHUNK, RowFormat
from state.rowstore import RowStore
from state.table import KeyedTable, Slots

I64 = npt.NDArray[np.int64]
_SWEPT = 4096  # stored rows that a flush looks at, or twice as many as it writes


class Sweep:
    """Goes round over the stored rows of one task, some at each flush. Lives in the flush thread."""

    def __init__(self, row_format: RowFormat, last_seen: int) -> None:
        self._format = row_format
        self._last_seen = last_seen
        self._after = b""

    def next(self, store: RowStore, limit: int, kept: Collection[bytes], count: int) -> list[bytes]:
        """What to delete of the next `count` rows: rows last seen at `limit` (ms) or before, and their chunks.

        Rows of `kept` are about to be written.
        """
        form, fields = self._format, len(self._format.spec.fields)
        gone: list[bytes] = []
        pairs = list(islice(store.scan(form.row_prefix, self._after), count))
        self._after = pairs[-1][0] if len(pairs) == count else b""
        for key, value in pairs:
            if form.field(value, self._last_seen) > limit or key in kept:
                continue
            gone.append(key)
            if form.spec.ring:
                start, stop = form.field(value, fields), form.field(value, fields + 1)
                form.check_bounds(np.array([start]), np.array([stop]))
                gone += [form.chunk_key(key, number) for number in range(start // CHUNK, stop // CHUNK)]
        return gone


class TableCut:
    """A copy of one table's dirty rows; `encode` gives their stored form."""

    def __init__(self, row_format: RowFormat, table: KeyedTable, task: int, sweep: Sweep) -> None:
        self._format = row_format
        self._table = table
        self._sweep = sweep
        self._stream_time = table.stream.of(task) if table.stream else NEVER
        self._task = task
        self._slots, self._number = table.take_dirty(task)
        picked = self._slots.tolist()
        self._keys: list[str] = _pick(table.keys, picked)
        self._header = table.rows[self._slots, : len(table.spec.fields)]
        self._blobs: list[bytes] = _pick(table.blobs, picked) if table.spec.blob else []
        self._ring = _RingCut(row_format, table.ring, self._slots) if table.ring else None

    @property
    def rows(self) -> int:
        """Dirty rows copied."""
        return len(self._slots)

    def encode(self) -> tuple[Puts, list[bytes]]:
        """Rows and chunks to put, chunks to delete; runs in the flush thread."""
        time: Puts = []
        if self._stream_time > NEVER:
            time.append((self._format.time_key, self._stream_time.to_bytes(8, "little", signed=True)))
        if not self._keys:
            return time, []
        keys = self._format.row_keys(self._keys)
        header, tails = [self._header], list[bytes]()
        puts, deletes = Puts(), list[bytes]()
        if self._ring:
            header.append(self._ring.bounds)
            puts, deletes = self._ring.encode_chunks(keys)
            tails = self._ring.encode_tails()
        if self._blobs:
            header.append(np.array([[len(blob)] for blob in self._blobs], np.int64))
        values = self._format.pack_rows(np.hstack(header), tails, self._blobs)
        return time + puts + list(zip(keys, values, strict=True)), deletes

    def sweep(self, store: RowStore) -> list[bytes]:
        """What the next stored rows leave behind that had expired as of this cut; runs in the flush thread."""
        if self._stream_time == NEVER:
            return []
        kept = set(self._format.row_keys(self._keys))
        limit = self._stream_time - self._table.spec.ttl_ms
        return self._sweep.next(store, limit, kept, max(_SWEPT, 2 * len(self._keys)))

    def written(self) -> None:
        """The store has it: the keys may leave memory."""
        self._table.written(self._slots, self._number)

    def restore_dirty(self) -> None:
        """The write did not happen: the rows are dirty again. Keys that an undo took away stay away."""
        self._table.written(self._slots, self._number)
        mine = self._table.keys_of(self._task)
        same = [mine.get(key) == slot for key, slot in zip(self._keys, self._slots.tolist(), strict=True)]
        alive = np.array(same, np.bool_)
        self._table.mark_dirty(self._slots[alive])
        if self._ring:
            self._ring.restore(self._slots, alive)


class _RingCut:
    """Copies of the entries above `flushed`, cut into full chunks and tails."""

    def __init__(self, row_format: RowFormat, ring: Ring, slots: Slots) -> None:
        self._format = row_format
        self._ring = ring
        heads = ring.heads[slots]
        self.bounds = heads[:, Ring.START :]
        start, stop = heads[:, Ring.START], heads[:, Ring.STOP]
        self._flushed, self._chunks = ring.flushed[slots], ring.chunks[slots]
        full = stop // CHUNK
        self._begin = np.maximum(start, np.minimum(self._flushed // CHUNK, full) * CHUNK)
        self._entries = ring.entries[ring.spans(slots, self._begin, stop)]
        ring.flushed[slots] = stop
        ring.chunks[slots, Ring.KEPT] = np.minimum(start // CHUNK, full)
        ring.chunks[slots, Ring.STORED] = full

    def _offsets(self) -> tuple[I64, I64, I64]:
        """Of each row, in entries: where its copy begins, where its tail begins, where it ends."""
        stop = self.bounds[:, 1]
        ends = np.cumsum(stop - self._begin)
        tails = ends - (stop - np.maximum(self._begin, stop // CHUNK * CHUNK))
        return ends - (stop - self._begin), tails, ends

    def encode_tails(self) -> list[bytes]:
        """Entries after the last full chunk, of each row."""
        size = self._format.entry_bytes
        data = self._entries.tobytes()
        _, tails, ends = self._offsets()
        return [data[a:b] for a, b in zip((tails * size).tolist(), (ends * size).tolist(), strict=True)]

    def encode_chunks(self, keys: list[bytes]) -> tuple[Puts, list[bytes]]:
        """Full chunks that are new or changed, and the keys of chunks that expired."""
        form = self._format
        full = self.bounds[:, 1] // CHUNK
        offsets = self._offsets()[0]
        puts: Puts = []
        for row in np.flatnonzero(self._begin < full * CHUNK).tolist():
            at, position = int(offsets[row]), int(self._begin[row])
            for number in range(position // CHUNK, int(full[row])):
                end = at + (number + 1) * CHUNK - position
                entries = self._entries[at:end].tobytes()
                puts.append((form.chunk_key(keys[row], number), form.pack_chunk(position % CHUNK, entries)))
                at, position = end, (number + 1) * CHUNK
        gone = np.minimum(self.bounds[:, 0] // CHUNK, self._chunks[:, Ring.STORED])
        deletes = []
        for row in np.flatnonzero(self._chunks[:, Ring.KEPT] < gone).tolist():
            expired = range(int(self._chunks[row, Ring.KEPT]), int(gone[row]))
            deletes += [form.chunk_key(keys[row], number) for number in expired]
        for row in np.flatnonzero(self._chunks[:, Ring.STORED] > full).tolist():  # of an expired life of the key
            left = range(max(int(self._chunks[row, Ring.KEPT]), int(full[row])), int(self._chunks[row, Ring.STORED]))
            deletes += [form.chunk_key(keys[row], number) for number in left]
        return puts, deletes

    def restore(self, slots: Slots, alive: npt.NDArray[np.bool_]) -> None:
        """What is stored is what was stored before the cut; its chunks may be, too, although the write failed."""
        mine = slots[alive]
        self._ring.flushed[mine] = np.minimum(self._ring.flushed[mine], self._flushed[alive])
        before, full = self._chunks[alive], self.bounds[alive, 1] // CHUNK
        self._ring.chunks[mine, Ring.KEPT] = before[:, Ring.KEPT]
        self._ring.chunks[mine, Ring.STORED] = np.maximum(before[:, Ring.STORED], full)


def _pick(values: list[str] | list[bytes], at: list[int]) -> list:  # type: ignore[type-arg]
    if len(at) < 2:
        return [values[i] for i in at]
    return list(itemgetter(*at)(values))
