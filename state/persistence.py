"""A keyed table in row stores: loads cold keys by one multi-get, copies dirty rows for the flush.

`cut` runs on the loop between two batches and only copies arrays; `TableCut.encode` slices bytes, in the flush
thread. A cut may be taken before the batch's transaction has committed, but is written only once it has; cuts of
one task are written one after the other.
"""

from __future__ import annotations

__all__ = ["Persistence", "TableCut", "View"]

from collections.abc import Callable, Iterator
from operator import itemgetter

import numpy as np
import numpy.typing as npt

from state.errors import StateCorruptedError
from state.part import Puts
from state.ring import Ring
from state.rowformat import CHUNK, RowFormat
from state.rowstore import RowStore
from state.table import KeyedTable, Slots, TableSpec

I64 = npt.NDArray[np.int64]
View = Callable[[KeyedTable, Slots], tuple[I64, I64]]  # fields (rows, any number) and ring starts of slots
_LOAD_MAX = 4096  # keys loaded at once when all of a task's keys are wanted
_WINDOW = 1 << 15  # slots that a step of eviction looks at
_EVICTED = 1 << 11  # keys that it evicts at most: 1 to 3 ms


class Persistence:
    """Owns one `KeyedTable` and its stored form: a `StatePart`, and the table's `RowLoader`.

    `view` is for operators that expire ring entries lazily, so that `start` and some fields depend on where batches
    were cut: it gives the fields and starts that do not, for the digest.
    """

    def __init__(self, spec: TableSpec, view: View | None = None) -> None:
        self.view = view
        self.format = RowFormat(spec)
        self.table = KeyedTable(spec, self)
        self._stores: dict[int, RowStore] = {}
        self._cold: set[int] = set()  # tasks that may have keys which are not in memory
        self._hand = 0

    @property
    def name(self) -> str:
        """The table's name."""
        return self.table.spec.name

    @property
    def fingerprint(self) -> bytes:
        """Of the table's spec."""
        return self.format.fingerprint

    def add_task(self, task: int, store: RowStore, *, fresh: bool) -> None:
        """Take a task over; all keys of a `fresh` task are in memory, so its store is not asked until some left."""
        self._stores[task] = store
        if not fresh:
            self._cold.add(task)

    def drop_task(self, task: int) -> None:
        """Forget a task's keys."""
        self._stores.pop(task, None)
        self._cold.discard(task)
        self.table.drop_task(task)

    def seal(self) -> None:
        """The batch is in flight, the next one begins."""
        self.table.seal()

    def unseal(self) -> None:
        """The sealed batch is the newest one again."""
        self.table.unseal()

    def publish(self) -> None:
        """The oldest open batch committed."""
        self.table.publish()

    def undo(self) -> None:
        """The newest open batch is not to be."""
        self.table.undo()

    @property
    def in_batch(self) -> bool:
        """Whether there is something to publish or undo."""
        return self.table.in_batch

    def dirty_rows(self, task: int) -> int:
        """Rows that a cut would copy."""
        return self.table.dirty_rows(task)

    @property
    def live_keys(self) -> int:
        """Keys in memory, of all tasks."""
        return self.table.live_keys

    def bytes_estimate(self) -> int:
        """Memory in use, in bytes."""
        return self.table.bytes_estimate()

    # ---- eviction

    @property
    def used_bytes(self) -> int:
        """Memory of the keys in memory."""
        return self.table.used_bytes

    def evict(self) -> int:
        """A bounded step: the longest unused of the next slots leave memory; how many did. Between batches.

        The hand goes round over all slots: each window loses its oldest sixteenth, so what is evicted is about
        the least recently used sixteenth of all.
        """
        table = self.table
        begin = self._hand if self._hand < table.slot_count else 0
        self._hand = begin + _WINDOW
        slots = table.evictable(begin, min(self._hand, table.slot_count))
        if len(slots) > _EVICTED:
            slots = slots[np.argpartition(table.used[slots], _EVICTED)[:_EVICTED]]
        if slots.size:
            self._cold.update(np.unique(table.task_of[slots]).tolist())
            table.evict(slots)
        if table.ring:
            table.ring.tidy()
        return len(slots)

    # ---- loading

    def load(self, table: KeyedTable, task: int, keys: list[str], slots: Slots) -> None:
        """Fill the (reset) slots of those `keys` that the store of `task` knows.

        Raises:
            StateCorruptedError: a stored row or chunk is damaged.
        """
        if task not in self._cold:
            return
        try:
            self._load(table, self._stores[task], keys, slots)
        except StateCorruptedError as error:
            error.task = task
            raise

    def _load(self, table: KeyedTable, store: RowStore, keys: list[str], slots: Slots) -> None:
        stored_keys = self.format.row_keys(keys)
        found = store.get_many(stored_keys)
        known = [i for i, value in enumerate(found) if value is not None]
        if not known:
            return
        if len(known) < len(keys):
            slots = slots[known]
            stored_keys = [stored_keys[i] for i in known]
        header, rests = self.format.unpack_rows([value for value in found if value is not None])
        fields = len(table.spec.fields)
        if fields:
            table.rows[slots] = header[:, :fields]
        if table.ring:
            rests = self._load_ring(store, stored_keys, slots, header[:, fields : fields + 2], rests)
        self._load_blobs(slots, header, rests)

    def _load_ring(
        self, store: RowStore, keys: list[bytes], slots: Slots, bounds: I64, rests: list[bytes]
    ) -> list[bytes]:
        """Install rings and fill them; returns what follows each row's tail."""
        ring = self.table.ring
        assert ring
        starts, stops = bounds[:, 0], bounds[:, 1]
        if not ((starts >= 0) & (starts <= stops)).all():
            raise self.format.corrupted("a ring has impossible bounds")
        ring.install(slots, starts, stops)
        full = stops // CHUNK  # chunks below this number are full
        ring.chunks[slots, Ring.KEPT] = np.minimum(starts // CHUNK, full)
        ring.chunks[slots, Ring.STORED] = full
        begins = np.maximum(starts, full * CHUNK)
        sizes = ((stops - begins) * self.format.entry_bytes).tolist()
        if any(len(rest) < size for rest, size in zip(rests, sizes, strict=True)):
            raise self.format.corrupted("a row's ring tail is cut short")
        tails = b"".join([rest[:size] for rest, size in zip(rests, sizes, strict=True)])
        self._fill(ring, tails, slots, begins, stops)
        chunked = np.flatnonzero(starts < full * CHUNK)
        if chunked.size:
            self._load_chunks(ring, store, [keys[i] for i in chunked.tolist()], slots[chunked])
        return [rest[size:] for rest, size in zip(rests, sizes, strict=True)]

    def _load_chunks(self, ring: Ring, store: RowStore, keys: list[bytes], slots: Slots) -> None:
        starts = ring.heads[slots, Ring.START]
        ends = ring.chunks[slots, Ring.STORED] * CHUNK
        wanted, firsts = [], []
        for key, start, end in zip(keys, starts.tolist(), ends.tolist(), strict=True):
            for number in range(start // CHUNK, end // CHUNK):
                wanted.append(self.format.chunk_key(key, number))
                firsts.append(max(start - number * CHUNK, 0))
        values = store.get_many(wanted)
        parts = [self.format.unpack_chunk(value, first) for value, first in zip(values, firsts, strict=True)]
        self._fill(ring, b"".join(parts), slots, starts, ends)

    @staticmethod
    def _fill(ring: Ring, data: bytes, slots: Slots, begins: I64, ends: I64) -> None:
        if data:
            entries = np.frombuffer(data, "<i8").reshape(-1, ring.entries.shape[1])
            ring.entries[ring.spans(slots, begins, ends)] = entries

    def _load_blobs(self, slots: Slots, header: I64, rests: list[bytes]) -> None:
        if not self.table.spec.blob:
            if any(rests):
                raise self.format.corrupted("a row is too long")
            return
        for slot, size, rest in zip(slots.tolist(), header[:, -1].tolist(), rests, strict=True):
            if len(rest) != size:
                raise self.format.corrupted("a row's blob is cut short")
            self.table.put_blob(slot, rest)

    # ---- flushing

    def cut(self, task: int) -> TableCut:
        """Copy the task's dirty rows and new ring entries, and count them as clean."""
        return TableCut(self.format, self.table, task)

    # ---- whole state

    def canonical(self, task: int) -> Iterator[bytes]:
        """Key, fields, live ring entries and blob of every key that is not as new, by key; loads cold keys."""
        self._load_all(task)
        table, ring = self.table, self.table.ring
        mine = table.keys_of(task)
        names = sorted(mine)
        slots = np.array([mine[name] for name in names], np.int64)
        fields = table.rows[slots, : len(table.spec.fields)]
        starts, stops = ring.heads[slots, Ring.START :].T if ring else np.zeros((2, len(slots)), np.int64)
        used = fields.any(axis=1) | (stops > 0)
        if self.view:
            fields, starts = self.view(table, slots)
        for i, (name, slot) in enumerate(zip(names, slots.tolist(), strict=True)):
            blob = table.blobs[slot] if table.spec.blob else b""
            if not (used[i] or blob):
                continue
            text = name.encode("utf-8", "surrogatepass")
            yield len(text).to_bytes(4, "big") + text + fields[i].tobytes()
            yield np.array((starts[i], stops[i], len(blob)), np.int64).tobytes() + blob
            if ring:
                yield ring.entries[ring.spans(slots[i : i + 1], starts[i : i + 1], stops[i : i + 1])].tobytes()

    def _load_all(self, task: int) -> None:
        if task not in self._cold:
            return
        store = self._stores[task]
        mine = self.table.keys_of(task)
        texts = (self.format.row_key_text(key) for key, _ in store.scan(self.format.row_prefix))
        cold = [text for text in texts if text not in mine]
        for at in range(0, len(cold), _LOAD_MAX):
            self.table.admit(task, cold[at : at + _LOAD_MAX])


class TableCut:
    """A copy of one table's dirty rows; `encode` gives their stored form."""

    def __init__(self, row_format: RowFormat, table: KeyedTable, task: int) -> None:
        self._format = row_format
        self._table = table
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
        if not self._keys:
            return [], []
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
        return puts + list(zip(keys, values, strict=True)), deletes

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
        return puts, deletes

    def restore(self, slots: Slots, alive: npt.NDArray[np.bool_]) -> None:
        """What is stored is what was stored before the cut."""
        mine = slots[alive]
        self._ring.flushed[mine] = np.minimum(self._ring.flushed[mine], self._flushed[alive])
        self._ring.chunks[mine] = self._chunks[alive]


def _pick(values: list[str] | list[bytes], at: list[int]) -> list:  # type: ignore[type-arg]
    if len(at) < 2:
        return [values[i] for i in at]
    return list(itemgetter(*at)(values))
