"""All state of a worker: every table and part, for every task it owns.

Between `publish` and the next batch, or after a batch and before its commit, `cut` copies a task's dirty rows; the
runtime writes the cut from a thread once the batch has committed:

    cut = state.cut(task, meta)            # on the loop
    cut.write(store)                       # in the flush thread; one atomic write
    cut.written()                          # on the loop: what was copied may leave memory now
    cut.restore_dirty()                    # instead, if the write failed or the batch was undone

With a budget (`memory_bytes`), `evict` keeps the tables within it: keys that the store has as they are leave memory,
the longest unused first, and come back when a row asks for them. Dirty rows, rows of a cut that is not written and
those of open batches stay, whatever the budget. No result depends on it.
"""

from __future__ import annotations

__all__ = ["FlushCut", "LoadedTask", "WorkerState"]

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from state.errors import ConfigError, StateBarrierError, StateCorruptedError
from state.part import Adopt, PartCut, Puts, StatePart
from state.persistence import Persistence, View
from state.rowformat import LAYOUT_KEY, META_KEY
from state.rowstore import RowStore
from state.table import KeyedTable, TableSpec

_STEPS = 8  # of eviction, between two batches
_OWED_MAX = 4  # steps of expiry that wait for a flush's end
_SPARE = 8  # beside a flush, an eighth of the budget may be used on top of it
_FAR_BYTES = 64 << 20


class FlushCut:
    """One task's dirty state as of one batch, with the meta row that says which batch."""

    def __init__(self, task: int, meta: bytes, layout: bytes, parts: list[PartCut]) -> None:
        self.task = task
        self.meta = meta
        self._layout = layout
        self._parts = parts

    @property
    def rows(self) -> int:
        """Dirty rows copied."""
        return sum(part.rows for part in self._parts)

    def encode(self) -> tuple[Puts, list[bytes]]:
        """What to put and what to delete, the meta row included; pure, for the flush thread."""
        puts: Puts = [(META_KEY, self.meta), (LAYOUT_KEY, self._layout)]
        deletes: list[bytes] = []
        for part in self._parts:
            more_puts, more_deletes = part.encode()
            puts += more_puts
            deletes += more_deletes
        return puts, deletes

    def write(self, store: RowStore) -> None:
        """Encode and write in one atomic batch; blocks, for the flush thread.

        Raises:
            StateCorruptedError, OSError: nothing was written; call `restore_dirty` on the loop.
        """
        puts, deletes = self.encode()
        for part in self._parts:
            deletes += part.sweep(store)
        store.write(puts, deletes)

    def written(self) -> None:
        """It is in the store; on the loop."""
        for part in self._parts:
            part.written()

    def restore_dirty(self) -> None:
        """The write did not happen: everything copied is dirty again."""
        for part in self._parts:
            part.restore_dirty()


class LoadedTask(NamedTuple):
    """What `WorkerState.load` read: the meta row, and what takes each part over."""

    meta: bytes | None
    parts: list[Adopt]


class WorkerState:
    """The tables and other parts of a plan, over all tasks of a worker. Lives on the loop.

    `views` (by table name) give the part of a table's rows that the digest covers, if not all of it. `memory_bytes`:
    what keys may take in memory before some are evicted; 0: all stay.
    """

    def __init__(
        self,
        tables: Sequence[TableSpec],
        parts: Sequence[StatePart] = (),
        views: Mapping[str, View] | None = None,
        *,
        memory_bytes: int = 0,
    ) -> None:
        views = views or {}
        self._tables = {spec.name: Persistence(spec, views.get(spec.name)) for spec in tables}
        self._parts: list[StatePart] = [*self._tables.values(), *parts]
        names = [spec.name for spec in tables] + [part.name for part in parts]
        if len(set(names)) < len(names):
            raise ConfigError(f"two tables have the same name: {sorted(n for n in names if names.count(n) > 1)[0]}")
        self._layout = {part.name: part.fingerprint.hex() for part in self._parts}
        self.memory_bytes = memory_bytes
        self.evicted = 0  # keys that left memory so far
        self._owed = 0  # steps of expiry that are due
        for table in self._tables.values():
            _reserve(table, memory_bytes)
        self._stores: dict[int, RowStore] = {}
        self._sealed = False  # a batch is in flight, another may be open on top of it
        self.lost = False
        """Whether a step came to no end: it is of no batch any more, nothing may be decided by it, nothing written."""

    def table(self, name: str) -> KeyedTable:
        """The table called `name`; KeyError says which there are."""
        try:
            return self._tables[name].table
        except KeyError:
            raise KeyError(f"no table {name}; declared are {sorted(self._tables)}") from None

    @property
    def tasks(self) -> list[int]:
        """Tasks owned now."""
        return sorted(self._stores)

    def load(self, store: RowStore) -> LoadedTask:
        """Read what is to be in memory of a store's task; may run in a thread.

        Raises:
            ConfigError: the store was written by a plan with other tables.
            StateCorruptedError: the store fails its checks: discard it.
        """
        meta, layout = store.get_many([META_KEY, LAYOUT_KEY])
        if (meta is None) != (layout is None) or (meta is None and next(store.scan(b""), None) is not None):
            raise StateCorruptedError("the store holds rows but does not say of which batch")
        if layout is not None:
            self._check_layout(layout)
        return LoadedTask(meta, [part.read(store, fresh=meta is None) for part in self._parts])

    def add_task(self, task: int, store: RowStore, loaded: LoadedTask | None = None) -> bytes | None:
        """Take a task over from its store, `loaded` before or now; returns its meta row, None if the store is new.

        Raises:
            ConfigError, StateCorruptedError: as `load`.
        """
        if task in self._stores:
            raise ValueError(f"task {task} is here already")
        loaded = loaded or self.load(store)
        self._stores[task] = store
        for adopt in loaded.parts:
            adopt(task)
        return loaded.meta

    def _check_layout(self, layout: bytes) -> None:
        try:
            stored = msgspec.json.decode(layout, type=dict[str, str])
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise StateCorruptedError("the layout row cannot be read") from error
        both = stored.keys() | self._layout.keys()
        changed = sorted(name for name in both if stored.get(name) != self._layout.get(name))
        if changed:
            raise StateBarrierError(
                f"streams, keys or features changed since this state was written (tables: {', '.join(changed)})",
                hint="no replay crosses that: run the changed pipeline under a new name, or take the change back",
            )

    def drop_task(self, task: int) -> None:
        """Forget a task's state in memory; the caller closes its store. No open batch may hold its rows."""
        del self._stores[task]
        for part in () if self.lost else self._parts:
            part.drop_task(task)

    def seal(self) -> None:
        """The batch is in flight; the next one may be computed, and undone without it."""
        self._step(lambda part: part.seal())
        self._sealed = True

    def publish(self) -> None:
        """The oldest open batch committed: its before-images go."""
        try:
            for part in self._parts:
                part.publish()
        except BaseException:
            self.lost = True
            raise
        self._sealed = False

    def undo(self) -> None:
        """The newest open batch is not to be: everything is as before it."""
        self._step(lambda part: part.undo(), reversed(self._parts))

    def undo_all(self) -> None:
        """Everything is as at the last publish. What is `lost` stays so."""
        if self.lost:
            return
        self.undo()
        if self._sealed:
            self._step(lambda part: part.unseal())
            self._sealed = False
            self.undo()

    def _step(self, step: Callable[[StatePart], None], parts: Iterable[StatePart] | None = None) -> None:
        """All parts take a step, or everything is lost: whatever it is that fails."""
        try:
            for part in self._parts if parts is None else parts:
                step(part)
        except BaseException:
            self.lost = True
            raise

    def cut(self, task: int, meta: bytes = b"") -> FlushCut:
        """Copy what is dirty of `task`; `meta` is opaque here (`FlushCut.meta` may also be set before `encode`)."""
        layout = msgspec.json.encode(self._layout, order="sorted")
        return FlushCut(task, meta, layout, [part.cut(task) for part in self._parts])

    def meta(self, task: int) -> bytes | None:
        """The meta row as stored now; None if nothing was flushed yet."""
        return self._stores[task].get_many([META_KEY])[0]

    def dirty_rows(self, task: int) -> int:
        """Rows that the next cut of `task` would copy."""
        rows = 0
        for part in self._parts:
            rows += part.dirty_rows(task)
        return rows

    @property
    def live_keys(self) -> int:
        """Keys and deduplication entries in memory."""
        return sum(part.live_keys for part in self._parts)

    @property
    def over_budget(self) -> bool:
        """Whether keys take more memory than they should; never without a budget."""
        return self._is_over(self.memory_bytes)

    @property
    def far_over_budget(self) -> bool:
        """Whether keys take twice what they should, 64 MiB more at least: what cannot be written never leaves."""
        return self._is_over(self.memory_bytes and self.memory_bytes + max(self.memory_bytes, _FAR_BYTES))

    def _is_over(self, most_bytes: int) -> bool:
        return 0 < most_bytes < sum(part.used_bytes for part in self._parts)

    def evict(self, *, is_writing: bool = False) -> int:
        """A few bounded steps while the keys take more than `memory_bytes`; how many left. Between batches.

        Some expired keys leave whatever the budget. All steps make room for as many keys as a full batch brings.
        `is_writing`: a flush has the interpreter for up to 20 ms at a time, and each step would wait for it: so only
        an eighth over the budget makes it begin, or some steps of expiry that are due: a slow disk may write always.
        """
        before = self.evicted
        most = self.memory_bytes + (self.memory_bytes // _SPARE if is_writing else 0)
        self._owed += 1
        if is_writing and self._owed < _OWED_MAX and not self._is_over(most):
            return 0
        owed, self._owed = self._owed, 0
        for part in self._parts * owed:
            self.evicted += part.expire()
        for _ in range(_STEPS if self._tables else 0):
            if not self._is_over(most):
                break
            self.evicted += max(self._tables.values(), key=lambda part: part.used_bytes).evict()
        return self.evicted - before

    def bytes_estimate(self) -> int:
        """Memory in use, in bytes."""
        return sum(part.bytes_estimate() for part in self._parts)

    def digest(self, task: int) -> str:
        """SHA-256 of the task's whole state, as hex: the same however it came about. Loads cold keys; slow.

        Raises:
            RuntimeError: within a batch.
        """
        if any(part.in_batch for part in self._parts):
            raise RuntimeError("the digest is taken between batches: publish or undo first")
        digest = hashlib.sha256()
        for part in sorted(self._parts, key=lambda part: part.name):
            digest.update(f"{len(part.name)}:{part.name}".encode())
            for piece in part.canonical(task):
                digest.update(piece)
        self.publish()  # loading made no changes
        return digest.hexdigest()


def _reserve(table: Persistence, memory_bytes: int) -> None:
    try:
        table.reserve(memory_bytes)
    except (MemoryError, OverflowError, ValueError):  # numpy's: not to be had, or not even a size
        raise ConfigError(
            "a state memory of this size cannot be reserved", hint="--state-memory: less than the machine has"
        ) from None
