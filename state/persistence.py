"""A keyed table in row stores: loads cold keys by one multi-get, copies dirty rows for the flush.

What `cut` copies: `state.table_cut`. Keys leave memory by `evict` (they make room) and `expire` (their ttl is over);
`load` brings back what the store has of them, and is not asked to bring back what has expired.
"""

from __future__ import annotations

__all__ = ["Persistence", "View"]

import os
from collections.abc import Callable, Iterator
from itertools import islice

import numpy as np
import numpy.typing as npt

from state.due import DUE, WAITS
from state.errors import StateCorruptedError
from state.part import Adopt
from state.ring import Ring
from state.rowformat import CHUNK, RowFormat
from state.rowstore import RowStore
from state.table import KeyedTable, Slots, TableSpec
from state.table_cut import Sweep, TableCut

I64 = npt.NDArray[np.int64]
View = Callable[[KeyedTable, Slots], tuple[I64, I64]]  # fields (rows, any number) and ring starts of slots
_LOAD_MAX = 4096  # rows asked for at once
_WINDOW = 1 << 15  # slots that a step of eviction looks at
_EVICTED = 1 << 11  # keys that it evicts at most: 1 to 3 ms
_ROUNDS = 64  # over all slots in a ttl, where batches are small: keys stay so much longer than they might at most


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
        self._hand = self._expiry_hand = 0
        self._round_begun = self._round_from = 0  # of the hand's rounds: how far time had gone on, and must
        self._sweeps: dict[int, Sweep] = {}

    @property
    def name(self) -> str:
        """The table's name."""
        return self.table.spec.name

    @property
    def fingerprint(self) -> bytes:
        """Of the table's spec."""
        return self.format.fingerprint

    def read(self, store: RowStore, *, fresh: bool) -> Adopt:
        """Rows come in as they are asked for; a `fresh` task's store is not asked until some have left."""
        time = store.get_many([self.format.time_key])[0] if self.table.stream and not fresh else None
        if time is not None and len(time) != 8:
            raise self.format.corrupted("the stream time is cut short")
        due = [] if fresh else self._stored_timers(store)

        def adopt(task: int) -> None:
            self._stores[task] = store
            self._sweeps[task] = Sweep(self.format, self.table.last_seen)
            if not fresh:
                self._cold.add(task)
            self.table.due.load(task, due)
            if self.table.stream and time is not None:
                self.table.stream.put(task, int.from_bytes(time, "little", signed=True))

        return adopt

    def _stored_timers(self, store: RowStore) -> list[tuple[int, str]]:
        """(due, key) of all stored rows that wait, if rows of this table do."""
        form, fields = self.format, self.format.spec.fields
        if WAITS not in fields:
            return []
        found: list[tuple[int, str]] = []
        pairs = store.scan(form.row_prefix)
        while portion := list(islice(pairs, _LOAD_MAX)):
            header, _ = form.unpack_rows([value for _, value in portion])
            due = header[:, fields.index(DUE)].tolist()
            waits: list[int] = np.flatnonzero(header[:, fields.index(WAITS)]).tolist()
            found += [(due[at], form.row_key_text(portion[at][0])) for at in waits]
        return found

    def drop_task(self, task: int) -> None:
        """Forget a task's keys."""
        self._stores.pop(task, None)
        self._cold.discard(task)
        self._sweeps.pop(task, None)
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

    def reserve(self, size_bytes: int) -> None:
        """Address space for all that `size_bytes` can hold, so that arrays need not grow (and be copied) one day."""
        table, ring = self.table, self.table.ring
        least = table.key_bytes + (ring.least_bytes if ring else 0)
        table.reserve_slots(max(len(table.rows), size_bytes // least))
        if ring:
            ring.reserve_entries(max(len(ring.entries), size_bytes // (8 * ring.entries.shape[1])))

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
        self._evict(slots)
        if table.ring:
            table.ring.tidy()
        return len(slots)

    def expire(self) -> int:
        """A bounded step: expired keys among the next slots leave memory; how many did. Between batches.

        The hand goes round over all slots, and rests until stream time is a part of the ttl on since it began. The
        store still has them, until a flush comes by (`Sweep`); `load` does not bring them back.
        """
        table, stream = self.table, self.table.stream
        if stream is None or stream.gone_on < self._round_from:
            return 0
        begin = self._expiry_hand
        if begin == 0:
            self._round_begun = stream.gone_on
        self._expiry_hand = begin + _EVICTED
        if self._expiry_hand >= table.slot_count:
            self._expiry_hand = 0
            self._round_from = self._round_begun + max(1, table.spec.ttl_ms // _ROUNDS)
        slots = table.expired(table.evictable(begin, min(begin + _EVICTED, table.slot_count)))
        self._evict(slots)
        return len(slots)

    def _evict(self, slots: Slots) -> None:
        if slots.size:
            self._cold.update(np.unique(self.table.task_of[slots[self._has_state(slots)]]).tolist())
            self.table.evict(slots)

    def _has_state(self, slots: Slots) -> npt.NDArray[np.bool_]:
        """Which keys are not as new."""
        table = self.table
        if table.ring:
            return np.ones(len(slots), np.bool_)
        blobs = [table.spec.blob and bool(table.blobs[slot]) for slot in slots.tolist()]
        return np.logical_or(np.array(blobs, np.bool_), table.rows[slots].any(axis=1))

    def is_whole(self, task: int) -> bool:
        """See `RowLoader`."""
        return task not in self._cold

    # ---- loading

    def load(self, table: KeyedTable, task: int, keys: list[str], slots: Slots) -> None:
        """Fill the (reset) slots of those `keys` that the store of `task` knows.

        Raises:
            StateCorruptedError: a stored row or chunk is damaged.
        """
        if task not in self._cold:
            return
        try:
            self._load(table, task, keys, slots)
        except StateCorruptedError as error:
            error.task = task
            raise
        except OSError as error:  # what cannot be read is as good as damaged: the task is restored, or says why not
            lost = StateCorruptedError(f"table {table.spec.name} cannot be read: {os.strerror(error.errno or 0)}")
            lost.task = task
            raise lost from error

    def _load(self, table: KeyedTable, task: int, keys: list[str], slots: Slots) -> None:
        store = self._stores[task]
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
        if table.ring:
            self.format.check_bounds(*header[:, fields : fields + 2].T)
        if table.stream:
            fits = table.stream.before(task) - header[:, table.last_seen] < table.spec.ttl_ms
            if not fits.all():
                self._leave(slots[~fits], header[~fits])
                kept = np.flatnonzero(fits)
                slots, header = slots[kept], header[kept]
                stored_keys, rests = [stored_keys[i] for i in kept.tolist()], [rests[i] for i in kept.tolist()]
        if fields:
            table.rows[slots] = header[:, :fields]
        if table.ring:
            rests = self._load_ring(store, stored_keys, slots, header[:, fields : fields + 2], rests)
        self._load_blobs(slots, header, rests)

    def _leave(self, slots: Slots, header: I64) -> None:
        """Expired keys are as new. Their chunks may be swept any moment, or else go when the key is flushed anew."""
        if self.table.ring:
            start, stop = header[:, len(self.table.spec.fields) :][:, :2].T
            self.table.ring.chunks[slots, Ring.STORED] = stop // CHUNK
            self.table.ring.chunks[slots, Ring.KEPT] = np.minimum(start, stop) // CHUNK

    def _load_ring(
        self, store: RowStore, keys: list[bytes], slots: Slots, bounds: I64, rests: list[bytes]
    ) -> list[bytes]:
        """Install rings and fill them; returns what follows each row's tail."""
        ring = self.table.ring
        assert ring
        starts, stops = bounds[:, 0], bounds[:, 1]
        full = stops // CHUNK  # chunks below this number are full
        begins = np.maximum(starts, full * CHUNK)
        sizes = ((stops - begins) * self.format.entry_bytes).tolist()
        if any(len(rest) < size for rest, size in zip(rests, sizes, strict=True)):
            raise self.format.corrupted("a row's ring tail is cut short")
        tails = b"".join([rest[:size] for rest, size in zip(rests, sizes, strict=True)])
        chunked = np.flatnonzero(starts < full * CHUNK)
        chunks = self._chunks(store, [keys[i] for i in chunked.tolist()], starts[chunked], full[chunked])
        ring.install(slots, starts, stops)  # only now: there is as much as the bounds say
        ring.chunks[slots, Ring.KEPT] = np.minimum(starts // CHUNK, full)
        ring.chunks[slots, Ring.STORED] = full
        self._fill(ring, tails, slots, begins, stops)
        self._fill(ring, chunks, slots[chunked], starts[chunked], full[chunked] * CHUNK)
        return [rest[size:] for rest, size in zip(rests, sizes, strict=True)]

    def _chunks(self, store: RowStore, keys: list[bytes], starts: I64, full: I64) -> bytes:
        """Entries from `starts` to the last full chunk of each key, one after the other.

        Asked for in portions: where bounds are wrong, the first missing chunk ends it.
        """
        parts: list[bytes] = []
        wanted = (
            (self.format.chunk_key(key, number), max(start - number * CHUNK, 0))
            for key, start, end in zip(keys, starts.tolist(), full.tolist(), strict=True)
            for number in range(start // CHUNK, end)
        )
        while portion := list(islice(wanted, _LOAD_MAX)):
            values = store.get_many([key for key, _ in portion])
            parts += [self.format.unpack_chunk(value, first) for value, (_, first) in zip(values, portion, strict=True)]
        return b"".join(parts)

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
        return TableCut(self.format, self.table, task, self._sweeps[task])

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
        gone = np.isin(slots, table.expired(slots))
        if table.stream:
            yield table.stream.of(task).to_bytes(8, "little", signed=True)
        if self.view:
            fields, starts = self.view(table, slots)
        for i, (name, slot) in enumerate(zip(names, slots.tolist(), strict=True)):
            blob = table.blobs[slot] if table.spec.blob else b""
            if gone[i] or not (used[i] or blob):
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
