"""A keyed table: one slot a key, its fixed fields in one row of an int64 matrix, its history in a ring.

    keys (text) --dict per task--> slot --> rows[slot, field]          header, int64 (floats by view)
                                        --> ring.entries[off + (q & mask), column]   q = position of an entry
                                        --> blobs[slot]                opaque bytes of scalar operators

All tasks of a worker share the matrices, so one call serves a batch that mixes tasks; the dictionaries are per
task, so a task's keys never meet another's. Before a batch writes, it `touch`es the slots: that marks them for the
flush, and keeps how they were until `publish` or `undo`. Two batches may be open, see `StatePart.seal`.
"""

from __future__ import annotations

__all__ = ["KeyedTable", "RowLoader", "TableSpec"]

from collections.abc import Mapping, Sequence
from itertools import repeat
from typing import Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from state.budget import bytes_of_text
from state.due import WAITS, DueTimes
from state.expiry import LAST_SEEN, StreamTimes, TaskSpan
from state.pages import grown
from state.ring import Ring, RingSpec
from state.table_changes import TableChanges

Slots = npt.NDArray[np.int64]


class TableSpec(msgspec.Struct, frozen=True):
    """Declared state of an operator.

    Args:
        name: unique in the plan and stable over releases: it is part of every stored key.
        key: the column whose text keys the table.
        fields: names of the row's int64 fields, each 0 for a new key.
        floats: those of `fields` that hold float64 (raw copies of inputs, by view).
        ring: the history kept per key, if any.
        blob: whether a key also has opaque bytes.
        ttl_ms: event time after which a key that saw no row counts as new; 0 keeps it for ever. Expiry is logical
            (`state.expiry`): the operator keeps the newest event time of the key's rows in a field `last_seen`, asks
            for stream times (`KeyedTable.stream`) and treats a key that is ttl_ms behind as new (`KeyedTable.renew`).
    """

    name: str
    key: str
    fields: tuple[str, ...]
    floats: tuple[str, ...] = ()
    ring: RingSpec | None = None
    blob: bool = False
    ttl_ms: int = 0


class RowLoader(Protocol):
    """Brings cold keys in from the row store."""

    def load(self, table: KeyedTable, task: int, keys: list[str], slots: Slots) -> None:
        """Fill the (reset) slots of those `keys` that the store of `task` knows."""
        ...

    def is_whole(self, task: int) -> bool:
        """Whether all keys of `task` are in memory, but for some that are as new."""
        ...


class KeyedTable:
    """The live rows of one `TableSpec` for all tasks of a worker."""

    _SLOTS_MIN = 1024

    def __init__(self, spec: TableSpec, loader: RowLoader | None = None) -> None:
        self.spec = spec
        self.loader = loader
        self.rows = np.zeros((self._SLOTS_MIN, max(1, len(spec.fields))), np.int64)
        self.ring = Ring(spec.ring, self) if spec.ring else None
        self.blobs: list[bytes] = []
        self.keys: list[str] = []
        self.blob_bytes = self.text_bytes = 0
        self.task_of = np.zeros(self._SLOTS_MIN, np.int32)
        self.dirty = np.zeros(self._SLOTS_MIN, np.bool_)
        self.live = np.zeros(self._SLOTS_MIN, np.bool_)
        self.cut_of = np.zeros(self._SLOTS_MIN, np.int64)  # number of the cut that holds the row and is not written
        self.used = np.zeros(self._SLOTS_MIN, np.int64)  # `generation` of the last batch that asked for the slot
        self.generation, self._cuts = 2, 0
        self.undone = 0  # batches: what else is kept of a key's history holds until the next one
        self.dirty_of = np.zeros(16, np.int64)  # dirty rows of each task that ever had keys
        self._slot_of: dict[int, dict[str, int]] = {}
        self._free: list[int] = []
        self.last_seen = next((i for i, name in enumerate(spec.fields) if name in LAST_SEEN), -1)
        self.stream = StreamTimes() if spec.ttl_ms else None
        self.due = DueTimes()
        self._times: list[DueTimes | StreamTimes] = [self.due] if WAITS in spec.fields else []
        self._times += [self.stream] if self.stream else []
        self._changes = TableChanges()
        self._sealed: TableChanges | None = None

    @property
    def floats(self) -> npt.NDArray[np.float64]:
        """The same matrix read as float64, for fields that hold raw floats."""
        return self.rows.view(np.float64)

    def index(self, field: str) -> int:
        """The matrix column of a declared field; KeyError otherwise."""
        try:
            return self.spec.fields.index(field)
        except ValueError:
            raise KeyError(f"{field} is not declared by table {self.spec.name}: {self.spec.fields}") from None

    # ---- keys

    def slots(self, tasks: Sequence[TaskSpan], keys: list[str]) -> Slots:
        """Slot of each row's key, int64 (rows,); unknown keys are loaded or created (all fields 0)."""
        found: list[int] = []
        for span in tasks:
            mine = self._slot_of.setdefault(span.task, {})
            part = keys if len(tasks) == 1 else keys[span.start : span.stop]
            own = list(map(mine.get, part, repeat(-1)))
            if -1 in own:
                self.admit(span.task, [key for key, slot in zip(part, own, strict=True) if slot < 0])
                own = list(map(mine.__getitem__, part))
            found += own
        slots = np.array(found, np.int64)
        self.used[slots] = self.generation
        return slots

    def admit(self, task: int, missing: list[str]) -> None:
        """Give slots to keys that have none: loaded where stored, else new."""
        mine = self._slot_of.setdefault(task, {})
        new = list(dict.fromkeys(missing))
        self.text_bytes += sum(map(bytes_of_text, new))
        self._reserve(len(new))
        if task >= len(self.dirty_of):
            self.dirty_of = grown(self.dirty_of, 2 * task)
        slots, reused = np.empty(len(new), np.int64), []
        free, keys, created = self._free, self.keys, self._changes.created
        for i, key in enumerate(new):
            if free:
                slot = free.pop()
                keys[slot] = key
                reused.append(slot)
            else:
                slot = len(keys)
                keys.append(key)
                if self.spec.blob:
                    self.blobs.append(b"")
            mine[key] = slots[i] = slot
            created.append((task, key, slot))
        if reused:  # those that never were used are 0
            self.rows[reused] = 0
        self.task_of[slots] = task
        self.live[slots] = True
        self.used[slots] = self.generation
        if self.ring:
            self.ring.reset(slots)
        if self.loader:
            self.loader.load(self, task, new, slots)

    def _reserve(self, count: int) -> None:
        need = len(self.keys) + count - len(self._free)
        if need > len(self.rows):
            self.reserve_slots(max(need, 2 * len(self.rows)))

    def reserve_slots(self, size: int) -> None:
        """Room for `size` keys in all. Pages never written to cost address space, not memory."""
        self.rows = grown(self.rows, size)
        self.task_of = grown(self.task_of, size)
        self.dirty, self.live = grown(self.dirty, size), grown(self.live, size)
        self.cut_of, self.used = grown(self.cut_of, size), grown(self.used, size)
        if self.ring:
            self.ring.reserve_slots(size)

    # ---- dirty rows

    def mark_dirty(self, slots: Slots) -> None:
        """The next flush writes `slots` (unique)."""
        fresh = slots[~self.dirty[slots]]
        if fresh.size:
            self.dirty[fresh] = True
            self._count_dirty(fresh, 1)

    def take_dirty(self, task: int) -> tuple[Slots, int]:
        """The dirty slots of `task`, ascending, and the number of this cut. They count as clean from now on.

        They stay in memory until `written`: the store does not have them yet.
        """
        slots: Slots = np.flatnonzero(self.dirty)
        slots = slots[self.task_of[slots] == task]
        self.dirty[slots] = False
        self.dirty_of[task : task + 1] = 0
        self._cuts += 1
        self.cut_of[slots] = self._cuts
        return slots, self._cuts

    def written(self, slots: Slots, cut: int) -> None:
        """What `take_dirty` gave is in the store, or dirty again."""
        self.cut_of[slots[self.cut_of[slots] == cut]] = 0

    def dirty_rows(self, task: int) -> int:
        """How many rows of `task` the next flush would write."""
        return self.dirty_of.item(task) if task < self.dirty_of.size else 0

    def _count_dirty(self, slots: Slots, sign: int) -> None:
        counts = np.bincount(self.task_of[slots], minlength=len(self.dirty_of))
        self.dirty_of += counts if sign > 0 else -counts

    # ---- before-images

    def touch(self, slots: Slots) -> None:
        """Keep before-images of `slots` (unique) and mark them dirty; call before the batch's first write."""
        self._changes.images.append((slots, self.rows.take(slots, axis=0)))
        self.mark_dirty(slots)

    def touched(self, before: Slots) -> None:
        """As `touch`, of a loop that marked slots dirty and kept of each: slot, head, `flushed`, fields."""
        slots = before[:, 0]
        self._changes.images.append((slots, before[:, 6:]))
        if self.ring:
            self.ring.touched(slots, before[:, 1:5], before[:, 5])

    def set_blobs(self, blobs: Mapping[int, bytes]) -> None:
        """Replace touched keys' opaque bytes, by slot."""
        before = [self.blobs[slot] for slot in blobs]
        self._changes.blobs += zip(blobs, before, strict=True)
        self.blob_bytes += sum(map(len, blobs.values())) - sum(map(len, before))
        for slot, blob in blobs.items():
            self.blobs[slot] = blob

    def put_blob(self, slot: int, blob: bytes) -> None:
        """Replace opaque bytes for good: of a key that is loaded, undone or gone."""
        self.blob_bytes += len(blob) - len(self.blobs[slot])
        self.blobs[slot] = blob

    def renew(self, slots: Slots, stream: Slots) -> None:
        """Touched keys (ring, too) that have expired at their row's stream time (ms) are as new from now on."""
        slots = slots[stream - self.rows[slots, self.last_seen] >= self.spec.ttl_ms]
        if not slots.size:
            return
        self.rows[slots] = 0
        if self.ring:
            self.ring.renew(slots)
        if self.spec.blob:
            self.set_blobs(dict.fromkeys(slots.tolist(), b""))

    def seal(self) -> None:
        """The batch is in flight: what changes from now on is the next one's."""
        for times in self._times:
            times.seal()
        self._sealed, self._changes = self._changes, TableChanges()
        if self.ring:
            self.ring.seal()

    def unseal(self) -> None:
        """The sealed batch is the newest one again."""
        assert self._sealed is not None
        assert not self._changes
        self._changes, self._sealed = self._sealed, None
        for times in self._times:
            times.unseal()
        if self.ring:
            self.ring.unseal()

    def publish(self) -> None:
        """The oldest batch committed: forget its before-images, release the ring blocks it replaced."""
        is_sealed = self._sealed is not None
        for times in self._times:
            times.publish(sealed=is_sealed)
        changes = self._changes
        if not is_sealed and (changes.images or changes.created or changes.blobs):
            self._changes = TableChanges()
        self._sealed = None
        self.generation += 1
        if self.ring is not None:
            self.ring.publish()

    def undo(self) -> None:
        """The newest batch did not commit: put everything back as it was before it.

        Rows stay marked dirty: writing an unchanged row again is harmless. Keys first seen by the batch go.
        """
        changes, self._changes = self._changes, TableChanges()
        self.undone += bool(changes)
        for times in self._times:
            times.undo()
        for slots, image in reversed(changes.images):
            self.rows[slots] = image
        for slot, blob in reversed(changes.blobs):
            self.put_blob(slot, blob)
        if self.ring:
            self.ring.undo()
        gone = [slot for task, key, slot in changes.created if self._slot_of.get(task, {}).pop(key, -1) >= 0]
        self._release(np.array(gone, np.int64))

    def _release(self, slots: Slots) -> None:
        if not slots.size:
            return
        if self.ring:
            self.ring.release(slots)
        freed = slots.tolist()
        for slot in freed:
            self.text_bytes -= bytes_of_text(self.keys[slot])
            self.keys[slot] = ""
            if self.spec.blob:
                self.put_blob(slot, b"")
        dirty = slots[self.dirty[slots]]
        if dirty.size:
            self.dirty[dirty] = False
            self._count_dirty(dirty, -1)
        self.live[slots] = False
        self.cut_of[slots] = 0
        self._free += freed

    # ---- eviction

    def evictable(self, begin: int, end: int) -> Slots:
        """Slots begin..end that may leave memory: stored as they are, and of no open batch.

        What an open batch changed is dirty. What it asked for stays too: that was after the last publish but one.
        """
        part = slice(begin, end)
        free = self.live[part] & ~self.dirty[part] & (self.cut_of[part] == 0)
        free &= self.used[part] < self.generation - 1
        return begin + np.flatnonzero(free)

    def expired(self, slots: Slots) -> Slots:
        """Those of `slots` that have expired at their tasks' present stream times; none without a ttl."""
        if not self.stream or not slots.size:
            return slots[:0]
        tasks = self.task_of[slots]
        now = np.zeros(int(tasks.max()) + 1, np.int64)
        for task in np.unique(tasks).tolist():
            now[task] = self.stream.of(task)
        gone: Slots = slots[now[tasks] - self.rows[slots, self.last_seen] >= self.spec.ttl_ms]
        return gone

    def evict(self, slots: Slots) -> None:
        """Evictable keys leave memory: the store has them, if they are not as new."""
        tasks = self.task_of[slots]
        for task in np.unique(tasks).tolist():
            mine = self._slot_of[task]
            for slot in slots[tasks == task].tolist():
                del mine[self.keys[slot]]
        self._release(slots)

    # ---- tasks

    def keys_of(self, task: int) -> dict[str, int]:
        """Key text -> slot of all live keys of a task."""
        return self._slot_of.get(task, {})

    def drop_task(self, task: int) -> None:
        """Forget a task's keys (it moved away, or its state is discarded). An open batch may hold other tasks' rows."""
        assert not self._in_batch(task), "undo or publish first: blocks would be given back twice"
        for times in self._times:
            times.drop(task)
        mine = self._slot_of.pop(task, {})
        self._release(np.fromiter(mine.values(), np.int64, len(mine)))

    def _in_batch(self, task: int) -> bool:
        """Whether rows of a task are among what changed."""
        return any(
            any(task == created for created, _, _ in changes.created)
            or any((self.task_of[slots] == task).any() for slots, _ in changes.images)
            for changes in filter(None, (self._changes, self._sealed))
        )

    @property
    def in_batch(self) -> bool:
        """Whether something changed that is neither published nor undone."""
        return bool(self._changes or self._sealed)

    @property
    def live_keys(self) -> int:
        """Keys in memory, of all tasks."""
        return len(self.keys) - len(self._free)

    @property
    def slot_count(self) -> int:
        """Slots ever used; freed ones are used again."""
        return len(self.keys)

    @property
    def used_bytes(self) -> int:
        """Memory of the live keys."""
        ring = self.ring.used_bytes if self.ring else 0
        return self.live_keys * self.key_bytes + self.text_bytes + self.blob_bytes + ring + self.due.bytes

    @property
    def key_bytes(self) -> int:
        """Memory of a key without text, ring entries and blob; 150 (measured): how it is found by its text."""
        return 8 * self.rows.shape[1] + 22 + 150 + (56 if self.ring else 0) + (56 if self.spec.blob else 0)

    def bytes_estimate(self) -> int:
        """Memory in use, in bytes, freed slots and ring blocks included."""
        arena = self.ring.blocks.end * self.ring.entries.shape[1] * 8 if self.ring else 0
        return len(self.keys) * self.key_bytes + self.text_bytes + self.blob_bytes + arena
